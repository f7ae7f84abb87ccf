"""The bell on a real server: rings, cancels, free slots, and what is left of them without Redis."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.queue import bell as bell_module
from langgraph_serverless.queue import slots, worker_function
from langgraph_serverless.queue.bell import MOST_TOKENS, BellListener, RedisBell
from langgraph_serverless.queue.slots import SlotBoard
from langgraph_serverless.queue.worker_function import WorkerFunction
from langgraph_serverless.settings import Settings


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
        self.asked = 0
        self.broken = False
        self.takes = 0.0
        assert bell.function is not None
        bell.function.__dict__["client"] = self

    def invoke(self, **arguments: Any) -> None:
        self.asked += 1
        if self.takes:
            time.sleep(self.takes)
        if self.broken:
            raise RuntimeError("throttled")
        self.calls.append(arguments)

    @property
    def tickets(self) -> list[str]:
        return [json.loads(call["Payload"])["ticket"] for call in self.calls]


def ringing(redis: Redis | None, prefix: str, **options: Any) -> tuple[RedisBell, Lambda]:
    """A bell that invokes, and what it invokes."""
    bell = RedisBell(redis, prefix, WorkerFunction("worker", **{"start": 60.0, **options}))
    return bell, Lambda(bell)


async def test_a_worker_is_told_the_build_of_who_wakes_it(redis: Redis, prefix: str, settings: Settings) -> None:
    manifest = Manifest.of({})
    deployed = settings.replace(worker_function_name="worker", redis_key_prefix=prefix)
    container = ApiContainer(deployed, manifest=manifest)
    function = Lambda(container.bell)
    await container.bell.ring()
    assert [json.loads(call["Payload"])["build"] for call in function.calls] == [manifest.short_hash]
    await container.aclose()


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
    bell, client = ringing(redis, prefix)
    board = SlotBoard(redis, prefix)
    await board.publish("one", 3, 30)
    await bell.ring()
    assert client.calls == []
    await board.publish("one", 0, 30)
    assert (await board.workers(), await board.free_workers()) == (1, 0)
    await bell.ring()
    (call,) = client.calls
    assert (call["FunctionName"], call["InvocationType"]) == ("worker", "Event")
    assert json.loads(call["Payload"])["reason"] == "bell"


async def test_functions_are_invoked_for_as_many_runs_as_they_take(redis: Redis, prefix: str) -> None:
    bell, client = ringing(redis, prefix, jobs=10)
    for _ in range(25):
        await bell.ring()
    assert len(client.calls) == 3
    await bell.ring(100)
    assert len(client.calls) == 13
    # who has come speaks for itself: here are 5 slots, and 5 that the other invocations still have
    board = SlotBoard(redis, prefix)
    await board.publish("one", 5, 30, ticket=client.tickets[0])
    await bell.ring(10)
    assert len(client.calls) == 13
    await bell.ring()
    assert len(client.calls) == 14
    assert len(set(client.tickets)) == 14


async def test_a_ring_counts_the_slots_that_are_free(redis: Redis, prefix: str) -> None:
    bell, client = ringing(redis, prefix, jobs=10)
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
        bell, client = ringing(each, prefix, jobs=10, most=3)
        await bell.ring(1000)
        assert len(client.calls) == 3


async def test_no_more_workers_are_invoked_than_there_may_be(redis: Redis, away: Redis, prefix: str) -> None:
    """Lambda would keep the others back, and let them start when nothing is left to do."""
    bell, client = ringing(redis, prefix, jobs=10, limit=5)
    board = SlotBoard(redis, prefix)
    await board.publish("full", 0, 30)
    for _ in range(3):
        await bell.ring(1000)
        await bell.ring(1000, again=True)
    assert len(client.calls) == 4
    for number, ticket in enumerate(client.tickets):
        await board.publish(f"w{number}", 0, 30, ticket=ticket)
    await bell.ring(1000, again=True)
    assert len(client.calls) == 4
    await board.withdraw("w1")
    await bell.ring(1000, again=True)
    assert len(client.calls) == 5
    for each in (away, None):
        bell, client = ringing(each, prefix, jobs=10, limit=5)
        await bell.ring(1000)
        assert len(client.calls) == 5


async def test_who_is_on_the_way_takes_whatever_waits(redis: Redis, prefix: str) -> None:
    bell, client = ringing(redis, prefix, jobs=10)
    await bell.ring(10)
    await bell.ring(10, again=True)
    assert len(client.calls) == 1, "for these it has been invoked"
    await bell.ring(21, again=True)
    assert len(client.calls) == 3
    await bell.ring(9)
    assert len(client.calls) == 3, "the third one has room for nine more"


async def test_functions_that_do_not_come_are_invoked_one_at_a_time(redis: Redis, prefix: str) -> None:
    """As while Lambda keeps them back, or the project cannot be imported."""
    bell, client = ringing(redis, prefix, jobs=1, start=0.03)
    assert bell.function is not None
    await bell.ring(4)
    assert len(client.calls) == 4
    await asyncio.sleep(0.1)
    bell.function.start = 60.0
    for _ in range(3):
        await bell.ring(4, again=True)
    assert len(client.calls) == 5
    await SlotBoard(redis, prefix).publish("one", 0, 30, ticket=client.tickets[-1])  # it has come
    await bell.ring(4, again=True)
    assert len(client.calls) == 9


async def test_a_ticket_whose_worker_leaves_without_a_word_more_is_gone(redis: Redis, prefix: str) -> None:
    bell, client = ringing(redis, prefix, jobs=10)
    await bell.ring()
    await SlotBoard(redis, prefix).withdraw("nobody", *client.tickets)
    await bell.ring()
    assert len(client.calls) == 2


async def test_an_answer_that_was_lost_is_given_again(redis: Redis, prefix: str) -> None:
    """Redis's client sends a script once more whose answer did not come."""
    bell, client = ringing(redis, prefix, jobs=10)
    script: Any = bell._script
    lost: list[Any] = []

    async def twice(**call: Any) -> Any:
        lost.append(await script(**call))
        return await script(**call)

    bell._script = twice  # type: ignore[assignment]
    await bell.ring(15)
    assert [ticket.decode() for ticket in lost[0]] == client.tickets
    assert len(client.calls) == 2


async def test_runs_that_cannot_begin_invoke_nobody(redis: Redis, prefix: str, listener: BellListener) -> None:
    bell, client = ringing(redis, prefix)
    await bell.ring(3, invoke=False)
    assert client.calls == []
    assert await listener.wait(1)


async def test_without_redis_a_process_invokes_for_the_runs_it_rings_for(away: Redis, prefix: str) -> None:
    for redis in (None, away):
        bell, client = ringing(redis, prefix, jobs=10)
        for _ in range(25):
            await bell.ring()
        assert len(client.calls) == 3
        await bell.ring(16)
        assert len(client.calls) == 5
        await bell.ring(50, again=True)
        assert len(client.calls) == 5
        await bell.ring(51, again=True)
        assert len(client.calls) == 6


async def test_an_invocation_that_fails_fails_nobody_and_is_not_counted_on(
    redis: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    for each in (None, redis):
        bell, client = ringing(each, prefix, jobs=10)
        client.broken = True
        with caplog.at_level(logging.INFO):
            caplog.clear()
            await bell.ring(200)
            assert client.asked == 4, "not one after the other for all twenty"
            await bell.ring()
            assert client.asked == 5
            client.broken = False
            await bell.ring()
            await bell.ring(9)
        assert len(client.calls) == 1
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_nobody_waits_long_for_a_lambda_that_hangs(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a VPC without a way to it."""
    monkeypatch.setattr(worker_function, "_SILENCE", 0.02)
    bell, client = ringing(redis, prefix, jobs=1)
    client.broken, client.takes = True, 0.05
    await bell.ring(20)
    asked = client.asked
    assert asked == 4
    for _ in range(5):
        await bell.ring(20)
    assert client.asked == asked


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


async def test_nobody_waits_long_for_a_redis_that_hangs(
    silent: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(bell_module._SOON, slots._SOON) <= 1.0
    assert bell_module._DIAGNOSIS <= 3.0
    for module, name in ((bell_module, "_SOON"), (slots, "_SOON"), (bell_module, "_DIAGNOSIS")):
        monkeypatch.setattr(module, name, 0.3)
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
