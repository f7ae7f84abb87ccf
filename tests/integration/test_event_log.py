"""The event log on a real server: order, fence, retries without repeats, bounds, retention."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_serverless.domain.events import Event, end_marker
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming import log as log_module
from langgraph_serverless.streaming.log import RedisEventLog

PREFIX = f"test-{uuid.uuid4().hex[:8]}"
SETTINGS = Settings(stream_max_events=1000, stream_retention=60, run_timeout=600)


def lease(epoch: int = 1, run_id: uuid.UUID | None = None) -> Lease:
    return Lease(run_id=run_id or uuid.uuid4(), token=uuid.uuid4(), epoch=epoch)


def numbered(first: int, last: int) -> list[Event]:
    return [Event("custom", b"%d" % number) for number in range(first, last + 1)]


def key(of: Lease) -> str:
    return f"{PREFIX}:run:{{{of.run_id}}}:events"


async def stored(redis: Redis, of: Lease) -> list[int | str]:
    """The numbers of the events, and the names of those that have none."""
    entries = await redis.xrange(key(of))
    return [int(fields[b"d"]) if fields[b"d"].isdigit() else fields[b"n"].decode() for _, fields in entries]


@pytest.fixture
async def redis(redis_uri: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_uri)
    yield client
    for name in [name async for name in client.scan_iter(f"{PREFIX}:*")]:
        await client.delete(name)  # one by one, as in a cluster
    await client.aclose()


@pytest.fixture
def log(redis: Redis) -> RedisEventLog:
    return RedisEventLog(redis, PREFIX, SETTINGS)


class Cut:
    """Fails calls of the append script: before Redis sees them, or after."""

    def __init__(self, log: RedisEventLog, *, landed: bool, hangs: bool = False) -> None:
        self.calls, self._hangs = 0, hangs
        self._script: Any = log._append
        self.landed = landed
        self.broken = True
        log._append = self  # type: ignore[assignment]

    async def __call__(self, **arguments: Any) -> Any:
        self.calls += 1
        if not self.broken:
            return await self._script(**arguments)
        if self._hangs:
            async with asyncio.timeout(arguments["patience"]):
                await asyncio.sleep(60)
        if self.landed:
            await self._script(**arguments)
        raise RedisConnectionError("cut")


async def test_events_keep_order_names_and_data(log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    await log.append(mine, [Event("metadata", b"{}"), Event("values|child:1", b'{"a":1}')])
    await log.append(mine, [Event("updates", b"[]")])
    entries = await redis.xrange(key(mine))
    assert [(fields[b"n"], fields[b"d"]) for _, fields in entries] == [
        (b"metadata", b"{}"),
        (b"values|child:1", b'{"a":1}'),
        (b"updates", b"[]"),
    ]
    ids = [tuple(map(int, entry_id.split(b"-"))) for entry_id, _ in entries]
    assert ids == sorted(set(ids))


async def test_an_earlier_epoch_is_refused_and_writes_nothing(redis: Redis) -> None:
    old, new = RedisEventLog(redis, PREFIX, SETTINGS), RedisEventLog(redis, PREFIX, SETTINGS)
    first = lease(1)
    second = lease(2, first.run_id)
    await old.append(first, numbered(1, 2))
    await old.seal(first)
    await new.append(second, numbered(3, 3))
    with pytest.raises(LeaseLostError):
        await old.append(first, numbered(90, 91))
    await new.append(second, numbered(4, 4))
    assert await stored(redis, first) == [1, 2, 3, 4]


async def test_an_earlier_epoch_of_the_same_process_is_refused(log: RedisEventLog, redis: Redis) -> None:
    first = lease(1)
    await log.append(first, numbered(1, 1))
    await log.append(lease(2, first.run_id), numbered(2, 2))
    with pytest.raises(LeaseLostError):
        await log.append(first, numbered(90, 90))
    assert await stored(redis, first) == [1, "__gap__", 2], "nobody knows whether the first one had more to say"


@pytest.mark.parametrize("landed", [False, True])
async def test_what_an_outage_held_up_goes_out_once_and_in_order(
    log: RedisEventLog, redis: Redis, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    monkeypatch.setattr(log_module, "PAUSE_AFTER_FAILURE", 0.0)
    mine = lease()
    await log.append(mine, numbered(1, 3))
    cut = Cut(log, landed=landed)
    for events in (numbered(4, 6), numbered(7, 7)):
        with pytest.raises(UnavailableError):
            await log.append(mine, events)
    cut.broken = False
    await log.append(mine, numbered(8, 9))
    assert await stored(redis, mine) == list(range(1, 10))


async def test_after_a_failure_appends_do_not_wait_for_redis(log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    cut = Cut(log, landed=False)
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(1, 1))
    cut.broken = False
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(2, 2))
    assert await stored(redis, mine) == []
    # the end marker is the last chance, so it tries whatever the clock says
    await log.append(mine, [end_marker(status="success", output={})])
    assert [fields[b"n"] for _, fields in await redis.xrange(key(mine))] == [b"custom", b"custom", b"__end__"]


@pytest.mark.parametrize("landed", [False, True])
async def test_what_an_outage_held_up_goes_out_by_itself(
    log: RedisEventLog, redis: Redis, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    monkeypatch.setattr(log_module, "PAUSE_AFTER_FAILURE", 0.01)
    mine = lease()
    cut = Cut(log, landed=landed)
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(1, 3))
    with pytest.raises(UnavailableError):
        await log.append(mine, [end_marker(status="success", output=None)])
    cut.broken = False
    async with asyncio.timeout(10):
        while log._tails:
            await asyncio.sleep(0.01)
    names = [fields[b"n"] for _, fields in await redis.xrange(key(mine))]
    assert names == [b"custom"] * 3 + [b"__end__"]


async def test_an_outage_that_outlasts_the_memory_leaves_a_gap_and_the_stream_goes_on(
    log: RedisEventLog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "MOST_UNSENT_BYTES", 10)
    monkeypatch.setattr(log_module, "PAUSE_AFTER_FAILURE", 0.0)
    mine = lease()
    await log.append(mine, numbered(1, 2))
    cut = Cut(log, landed=False)
    for events in (numbered(10, 19), numbered(20, 29), numbered(30, 30)):
        with pytest.raises(UnavailableError):
            await log.append(mine, events)
    cut.broken = False
    await log.append(mine, numbered(31, 31))
    await log.append(mine, [end_marker(status="success", output={})])
    assert await stored(redis, mine) == [1, 2, "__gap__", 30, 31, "__gap__", "__end__"]
    assert log._tails == {}


async def test_one_append_waits_for_a_log_that_hangs(
    log: RedisEventLog, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "LONGEST_CALL", 0.2)
    leases = [lease() for _ in range(10)]
    cut = Cut(log, landed=False, hangs=True)
    for mine in leases:
        for events in (numbered(1, 2), [end_marker(status="success", output=None)]):
            with pytest.raises(UnavailableError):
                await log.append(mine, events)
    assert cut.calls == 1
    cut.broken, log._silent_until = False, 0.0
    async with asyncio.timeout(10):
        while log._tails:
            await asyncio.sleep(0.01)
    for mine in leases:
        assert await stored(redis, mine) == [1, 2, "__end__"]


async def test_a_redis_that_went_back_leaves_a_gap(log: RedisEventLog, redis: Redis) -> None:
    """As a replica that takes over without the last writes."""
    mine = lease()
    fence = key(mine).replace(":events", ":fence")
    await log.append(mine, numbered(1, 3))
    before = await redis.dump(fence)
    await log.append(mine, numbered(4, 6))
    await redis.restore(fence, 0, before, replace=True)
    for entry_id, _ in (await redis.xrange(key(mine)))[3:]:
        await redis.xdel(key(mine), entry_id)
    await log.append(mine, numbered(7, 8))
    assert await stored(redis, mine) == [1, 2, 3, "__gap__", 7, 8]


async def test_owners_that_hand_over_leave_no_gap(log: RedisEventLog, redis: Redis) -> None:
    first = lease(1)
    await log.seal(first)  # it had nothing to say
    for epoch, number in ((2, 1), (3, 2), (4, 3)):
        owner, theirs = lease(epoch, first.run_id), RedisEventLog(redis, PREFIX, SETTINGS)
        await theirs.append(owner, numbered(number, number))
        await theirs.seal(owner)
        assert theirs._tails == {}
    assert await stored(redis, first) == [1, 2, 3]
    # the fifth takes the run and dies before it says anything
    await log.append(lease(6, first.run_id), numbered(4, 4))
    assert await stored(redis, first) == [1, 2, 3, "__gap__", 4]


async def test_entries_are_numbered_from_owner_to_owner_and_go_on_after_a_loss(
    log: RedisEventLog, redis: Redis
) -> None:
    first = lease(1)
    await log.append(first, numbered(1, 3))
    await log.seal(first)
    second = lease(2, first.run_id)
    await log.append(second, numbered(4, 5))
    assert [int(fields[b"i"]) for _, fields in await redis.xrange(key(first))] == [0, 1, 2, 3, 4]
    await redis.flushall()
    await log.append(second, numbered(6, 6))
    assert await stored(redis, first) == ["__gap__", 6]
    after = [int(fields[b"i"]) for _, fields in await redis.xrange(key(first))]
    assert after[0] > 4
    assert after == [after[0], after[0] + 1]


async def test_the_end_is_right_behind_the_last_event(log: RedisEventLog, redis: Redis) -> None:
    first, second = lease(), lease()
    await log.append(first, numbered(1, 2))
    (last, _), *_ = await redis.xrevrange(key(first), count=1)
    # the thread's next run begins before the worker of this one gets to its end
    await log.append(second, numbered(1, 1))
    await log.append(first, [end_marker(status="success", output=None)])
    (end, _), *_ = await redis.xrevrange(key(first), count=1)
    milliseconds, number = map(int, last.split(b"-"))
    assert end == b"%d-%d" % (milliseconds, number + 1)
    (begun, _), *_ = await redis.xrange(key(second), count=1)
    assert int(end.split(b"-")[0]) <= int(begun.split(b"-")[0])


@pytest.mark.parametrize("back", [True, False])
async def test_a_hand_over_during_an_outage_sends_what_was_held_up_or_leaves_a_gap(
    log: RedisEventLog, redis: Redis, back: bool
) -> None:
    mine = lease(1)
    await log.append(mine, numbered(1, 2))
    cut = Cut(log, landed=False)
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(3, 4))
    sealing = asyncio.create_task(log.seal(mine))
    await asyncio.sleep(0.05)
    cut.broken = not back
    async with asyncio.timeout(10):
        await sealing
    cut.broken = False
    await asyncio.sleep(0.6)  # longer than the pause after a failure: what was given up is not sent by itself any more
    await RedisEventLog(redis, PREFIX, SETTINGS).append(lease(2, mine.run_id), numbered(5, 5))
    assert await stored(redis, mine) == ([1, 2, 3, 4, 5] if back else [1, 2, "__gap__", 5])
    assert log._tails == {}


async def test_whoever_is_killed_with_events_held_up_leaves_a_gap(log: RedisEventLog, redis: Redis) -> None:
    mine = lease(1)
    await log.append(mine, numbered(1, 2))
    Cut(log, landed=False)
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(3, 4))
    await log.aclose()  # it takes them along
    later = RedisEventLog(redis, PREFIX, SETTINGS)
    await later.append(lease(2, mine.run_id), numbered(5, 5))
    await later.append(lease(2, mine.run_id), [end_marker(status="success", output={})])
    assert await stored(redis, mine) == [1, 2, "__gap__", 5, "__gap__", "__end__"]


async def test_a_sealed_log_that_is_lost_leaves_a_gap(log: RedisEventLog, redis: Redis) -> None:
    mine = lease(1)
    await log.append(mine, numbered(1, 2))
    await log.seal(mine)
    await redis.delete(key(mine))  # evicted
    await log.append(lease(2, mine.run_id), numbered(3, 3))
    assert await stored(redis, mine) == ["__gap__", 3]


async def test_a_long_queue_goes_out_in_pieces(log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 730))
    assert await stored(redis, mine) == list(range(1, 731))


@pytest.mark.parametrize("batch", [1, 7, 500])
async def test_the_number_of_events_is_bounded(redis: Redis, batch: int) -> None:
    log = RedisEventLog(redis, PREFIX, SETTINGS.replace(stream_max_events=100))
    mine = lease()
    for first in range(1, 1001, batch):
        await log.append(mine, numbered(first, min(first + batch - 1, 1000)))
    numbers = await stored(redis, mine)
    assert 85 <= len(numbers) <= 100
    assert numbers == list(range(1001 - len(numbers), 1001))
    await log.append(mine, [end_marker(status="success", output={})])
    assert (await stored(redis, mine))[-3:] == [1000, "__gap__", "__end__"]


async def test_the_size_of_the_log_is_bounded(redis: Redis) -> None:
    log = RedisEventLog(redis, PREFIX, SETTINGS.replace(stream_max_bytes=160_000))
    mine = lease()
    sizes = []
    for size in (10, 3000, 100_000, 200, 159_999, 1_000_000, 50, 7000, 20):
        for _ in range(30):
            await log.append(mine, [Event("values", b"x" * size)] * 3)
            entries = await redis.xrange(key(mine))
            assert len(entries[-1][1][b"d"]) == size, "the newest one stays, however large"
            sizes.append(sum(len(fields[b"d"]) for _, fields in entries))
            assert sizes[-1] <= 160_000 or len(entries) == 1
    assert min(sizes[-30:]) > 140_000, "no more is cut off than has to be"


async def test_a_log_of_the_version_before_is_bounded_as_well(redis: Redis) -> None:
    """It has counted nothing."""
    log = RedisEventLog(redis, PREFIX, SETTINGS.replace(stream_max_events=100))
    mine = lease()
    await log.append(mine, numbered(1, 90))
    await redis.hdel(key(mine).replace(":events", ":fence"), "kept", "segments")
    for number in range(91, 301):
        await log.append(mine, numbered(number, number))
        assert await redis.xlen(key(mine)) <= 100
    assert (await stored(redis, mine))[-1] == 300


async def test_flushall_in_the_middle_starts_the_log_anew(log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 5))
    await redis.delete(key(mine), key(mine).replace(":events", ":fence"))
    await log.append(mine, numbered(6, 7))
    names = [fields[b"n"] for _, fields in await redis.xrange(key(mine))]
    assert names == [b"__gap__", b"custom", b"custom"], "readers are told that they may have missed something"
    await log.append(mine, numbered(8, 8))
    assert len(await redis.xrange(key(mine))) == 4, "once"
    later = lease(2, mine.run_id)
    await redis.delete(key(mine), key(mine).replace(":events", ":fence"))
    await log.append(later, numbered(1, 1))
    assert [fields[b"n"] for _, fields in await redis.xrange(key(mine))] == [b"__gap__", b"custom"]


async def test_events_of_a_live_run_outlive_its_longest_silence_and_then_the_retention(
    log: RedisEventLog, redis: Redis
) -> None:
    mine = lease()
    fence = key(mine).replace(":events", ":fence")
    await log.append(mine, numbered(1, 1))
    for name in (key(mine), fence):
        assert 660 <= await redis.ttl(name) <= 660 * 9 / 8 + 1
    await log.append(mine, [end_marker(status="success", output=None)])
    for name in (key(mine), fence):
        assert 0 < await redis.ttl(name) <= 60
    await log.expire(mine.run_id, 5)
    for name in (key(mine), fence):
        assert 0 < await redis.ttl(name) <= 5


async def test_somebody_else_may_end_the_log_of_the_same_epoch(log: RedisEventLog, redis: Redis) -> None:
    """A request that deletes a live run closes its stream with the epoch of the worker."""
    mine = lease(1)
    await log.append(mine, numbered(1, 5))
    other = Lease(run_id=mine.run_id, token=uuid.UUID(int=0), epoch=1)
    await RedisEventLog(redis, PREFIX, SETTINGS).append(other, [end_marker(status="interrupted", output=None)])
    names = [fields[b"n"] for _, fields in await redis.xrange(key(mine))]
    assert names == [b"custom"] * 5 + [b"__end__"]


async def test_nothing_is_remembered_of_ended_and_lost_runs(log: RedisEventLog) -> None:
    mine, lost = lease(), lease(1)
    await log.append(mine, [end_marker(status="success", output=None)])
    await RedisEventLog(log._redis, PREFIX, SETTINGS).append(lease(2, lost.run_id), numbered(1, 1))
    with pytest.raises(LeaseLostError):
        await log.append(lost, numbered(1, 1))
    assert log._tails == {}


async def test_no_server_is_unavailable() -> None:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = Redis.from_url("redis://127.0.0.1:1", retry=Retry(NoBackoff(), 0))
    away = RedisEventLog(client, PREFIX, SETTINGS)
    with pytest.raises(UnavailableError):
        await away.append(lease(), numbered(1, 1))
    with pytest.raises(UnavailableError):
        await away.expire(uuid.uuid4(), 1)
    await client.aclose()
