"""The bell on a real server: rings, cancels, free slots, and what is left of them without Redis."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from langgraph_serverless.queue import bell as bell_module
from langgraph_serverless.queue.bell import MOST_TOKENS, BellListener, RedisBell, SlotBoard


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def redis(redis_uri: str, prefix: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_uri, client_name=prefix)
    yield client
    keys = [name async for name in client.scan_iter(f"{prefix}:*")]
    if keys:
        await client.delete(*keys)
    await client.aclose()


@pytest.fixture
async def away() -> AsyncIterator[Redis]:
    """A client of a server that is not there."""
    client = Redis.from_url("redis://127.0.0.1:1", retry=Retry(NoBackoff(), 0))
    yield client
    await client.aclose()


@pytest.fixture
async def listener(redis: Redis, prefix: str) -> AsyncIterator[BellListener]:
    made = BellListener(redis, prefix)
    yield made
    await made.aclose()


class Lambda:
    """Stands in for boto3's client."""

    def __init__(self, bell: RedisBell) -> None:
        self.calls: list[dict[str, Any]] = []
        self.broken = False
        bell.__dict__["_lambda"] = self

    def invoke(self, **arguments: Any) -> None:
        if self.broken:
            raise RuntimeError("throttled")
        self.calls.append(arguments)


async def test_a_ring_wakes_a_waiting_worker_at_once(redis: Redis, prefix: str, listener: BellListener) -> None:
    waiting = asyncio.create_task(listener.wait(20))
    bell = RedisBell(redis, prefix)
    started = time.monotonic()
    await bell.ring()
    assert await waiting
    assert time.monotonic() - started < 2


async def test_a_ring_waits_for_a_worker(redis: Redis, prefix: str, listener: BellListener) -> None:
    await RedisBell(redis, prefix).ring()
    assert await listener.wait(1)
    assert not await listener.wait(0.05)


async def test_rings_for_several_runs_wake_several_workers(redis: Redis, prefix: str) -> None:
    workers = [BellListener(redis, prefix) for _ in range(3)]
    waiting = [asyncio.create_task(worker.wait(20)) for worker in workers]
    await RedisBell(redis, prefix).ring(3)
    assert all(await asyncio.gather(*waiting))
    for worker in workers:
        await worker.aclose()


async def test_rings_that_nobody_hears_are_bounded(redis: Redis, prefix: str) -> None:
    bell = RedisBell(redis, prefix)
    await bell.ring(5000)
    await bell.ring(10)
    await bell.ring(0)
    (key,) = [name async for name in redis.scan_iter(f"{prefix}:*")]
    assert await redis.llen(key) == MOST_TOKENS


async def test_a_wait_that_is_cancelled_leaves_the_listener_usable(
    redis: Redis, prefix: str, listener: BellListener
) -> None:
    waiting = asyncio.create_task(listener.wait(20))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await RedisBell(redis, prefix).ring()
    # the broken-off wait may still take one ring with it
    if not await listener.wait(0.5):
        await RedisBell(redis, prefix).ring()
        assert await listener.wait(1)


async def test_a_listener_whose_connection_was_cut_hears_again(
    redis: Redis, prefix: str, listener: BellListener
) -> None:
    waiting = asyncio.create_task(listener.wait(0.5))
    await asyncio.sleep(0.05)
    mine = await redis.client_id()
    for entry in await redis.client_list():
        if entry["name"] == prefix and int(entry["id"]) != mine:
            await redis.client_kill_filter(_id=entry["id"])
    assert not await waiting
    await RedisBell(redis, prefix).ring()
    assert await listener.wait(1)


async def test_cancels_reach_every_worker_and_survive_a_cut(redis: Redis, prefix: str) -> None:
    heard: list[list[list[uuid.UUID]]] = [[], []]

    async def hear(into: list[list[uuid.UUID]]) -> None:
        async for ids in BellListener(redis, prefix).cancels():
            into.append(ids)  # noqa: PERF401 - seen while it goes on

    async def subscribed(count: int) -> None:
        async with asyncio.timeout(10):
            while (await redis.pubsub_numsub(f"{prefix}:{{queue}}:cancel"))[0][1] != count:
                await asyncio.sleep(0.01)

    async def hears(count: int) -> None:
        async with asyncio.timeout(10):
            while not all(len(into) == count for into in heard):
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(hear(into)) for into in heard]
    bell = RedisBell(redis, prefix)
    first, second = [uuid.uuid4(), uuid.uuid4()], [uuid.uuid4()]
    await subscribed(2)
    await bell.cancel(first)
    await bell.cancel([])
    await hears(1)
    for entry in await redis.client_list(_type="pubsub"):
        if entry["name"] == prefix:
            await redis.client_kill_filter(_id=entry["id"])
    await subscribed(0)
    await subscribed(2)
    await bell.cancel(second)
    await hears(2)
    assert heard == [[first, second], [first, second]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_without_redis_rings_are_nothing(prefix: str) -> None:
    bell = RedisBell(None, prefix)
    await bell.ring()
    await bell.cancel([uuid.uuid4()])


async def test_an_outage_is_logged_once_and_fails_nobody(
    away: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    bell, listener, board = RedisBell(away, prefix), BellListener(away, prefix), SlotBoard(away, prefix)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await bell.ring()
            await bell.cancel([uuid.uuid4()])
        assert len(caplog.records) == 1
    started = time.monotonic()
    # the caller polls, so the wait must not be shorter for the outage
    assert not await listener.wait(0.2)
    assert time.monotonic() - started >= 0.19
    await board.publish("w", 1, 1)
    await board.withdraw("w")
    assert await board.free_workers() == 0


async def test_slots_are_published_and_expire(redis: Redis, prefix: str) -> None:
    board = SlotBoard(redis, prefix)
    await board.publish("one", 3, 30)
    await board.publish("two", 1, 30)
    await board.publish("full", 0, 30)
    await board.publish("short", 1, 0.02)
    assert await board.free_workers() >= 2
    await board.withdraw("two")
    async with asyncio.timeout(5):
        while await board.free_workers() != 1:
            await asyncio.sleep(0.01)


async def test_a_function_is_invoked_only_if_no_worker_has_a_slot(redis: Redis, prefix: str) -> None:
    bell = RedisBell(redis, prefix, worker_function_name="worker")
    client = Lambda(bell)
    board = SlotBoard(redis, prefix)
    await board.publish("one", 3, 30)
    await bell.ring()
    assert client.calls == []
    await board.publish("one", 0, 30)
    await bell.ring()
    assert client.calls == [
        {"FunctionName": "worker", "InvocationType": "Event", "Payload": b'{"reason":"bell"}'},
    ]


async def test_functions_are_invoked_for_as_many_runs_as_they_take(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell_module, "STARTING", 60_000)
    bell = RedisBell(redis, prefix, worker_function_name="worker", jobs_per_worker=10)
    client = Lambda(bell)
    for _ in range(25):
        await bell.ring()
    assert len(client.calls) == 3
    await bell.ring(100)
    assert len(client.calls) == 13
    # functions that have started speak for themselves
    board = SlotBoard(redis, prefix)
    await board.publish("one", 5, 30)
    await board.publish("one", 0, 30)
    await bell.ring()
    assert len(client.calls) == 14


async def test_a_ring_counts_the_slots_that_are_free(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell_module, "STARTING", 60_000)
    bell = RedisBell(redis, prefix, worker_function_name="worker", jobs_per_worker=10)
    client = Lambda(bell)
    board = SlotBoard(redis, prefix)
    await board.publish("one", 1, 30)
    await board.publish("two", 4, 30)
    await bell.ring(35)  # 30 of them find no slot
    assert len(client.calls) == 3
    await bell.ring()
    assert len(client.calls) == 4, "those slots have been given away"
    await bell.ring(9)
    assert len(client.calls) == 4, "and this one has room"
    await board.publish("one", 3, 30)
    await bell.ring(2)
    assert await board.free_workers() == 1
    await bell.ring()
    assert await board.free_workers() == 0
    assert len(client.calls) == 4


async def test_one_ring_invokes_no_more_than_it_may(redis: Redis, away: Redis, prefix: str) -> None:
    for each in (redis, away, None):
        bell = RedisBell(each, prefix, worker_function_name="worker", jobs_per_worker=10, most_invocations=3)
        client = Lambda(bell)
        await bell.ring(1000)
        assert len(client.calls) == 3


async def test_a_ring_for_runs_that_were_rung_for_waits_for_who_is_on_the_way(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell_module, "STARTING", 60_000)
    bell = RedisBell(redis, prefix, worker_function_name="worker", jobs_per_worker=10)
    client = Lambda(bell)
    await bell.ring(10)
    await bell.ring(10, again=True)
    assert len(client.calls) == 1
    await SlotBoard(redis, prefix).publish("one", 1, 30)  # it has come
    await bell.ring(10, again=True)
    assert len(client.calls) == 2


async def test_without_redis_every_ring_invokes_the_function(away: Redis, prefix: str) -> None:
    for redis in (None, away):
        bell = RedisBell(redis, prefix, worker_function_name="worker", jobs_per_worker=10)
        client = Lambda(bell)
        await bell.ring()
        await bell.ring(11)
        assert len(client.calls) == 3


async def test_an_invocation_that_fails_fails_nobody(
    redis: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    bell = RedisBell(None, prefix, worker_function_name="worker")
    client = Lambda(bell)
    client.broken = True
    with caplog.at_level(logging.INFO):
        await bell.ring()
        await bell.ring()
        client.broken = False
        await bell.ring()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.fixture
async def silent() -> AsyncIterator[Redis]:
    """A client of a server that takes everything and answers nothing, as one that hangs or is cut off."""
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis.from_url(f"redis://127.0.0.1:{port}", socket_timeout=30.0)
    yield client
    await client.aclose()
    server.close()
    for writer in writers:
        writer.close()


async def test_nobody_waits_long_for_a_redis_that_hangs(silent: Redis, prefix: str) -> None:
    bell = RedisBell(silent, prefix)
    board = SlotBoard(silent, prefix)
    async with asyncio.timeout(10):
        await bell.ring()
        await board.publish("worker", 1, 1)
        assert await bell.trouble() == "Redis does not answer"
    began = time.monotonic()
    for _ in range(20):
        await bell.ring()
        await bell.cancel([uuid.uuid4()])
    assert time.monotonic() - began < 1, "one waits for the silence, and not each"
