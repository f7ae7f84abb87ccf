"""The hub on a real server: order, resuming, many readers on two connections, slow readers, outages."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.domain.events import DELAYED, Event, end_marker, is_gap
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.hub import EventHub
from langgraph_serverless.streaming.keys import events_key
from langgraph_serverless.streaming.log import RedisEventLog
from langgraph_serverless.streaming.reader import BATCH_BYTES, MOST_EVENTS, Reader

PREFIX = f"test-{uuid.uuid4().hex[:8]}"
SETTINGS = Settings(stream_retention=60, run_timeout=60)
END = end_marker(status="success", output={"n": 1})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedValkey, Path, str]]:
    """A Valkey of this module's own: the tests stop and empty it."""
    folder = tmp_path_factory.mktemp("hub")
    valkey = EmbeddedValkey(folder)
    yield valkey, folder, valkey.start()
    valkey.stop()


def client(uri: str, name: str) -> Redis:
    return Redis.from_url(
        uri, client_name=name, retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), 1), socket_connect_timeout=1
    )


@pytest.fixture
async def redis(server: tuple[EmbeddedValkey, Path, str]) -> AsyncIterator[Redis]:
    connection = client(server[2], "writer")
    yield connection
    await connection.aclose()


@pytest.fixture
async def hub(server: tuple[EmbeddedValkey, Path, str]) -> AsyncIterator[EventHub]:
    connection = client(server[2], "hub")
    made = EventHub(connection, PREFIX, keepalive=0.2)
    yield made
    await made.aclose()
    await connection.aclose()


@pytest.fixture
def log(redis: Redis) -> RedisEventLog:
    return RedisEventLog(redis, PREFIX, SETTINGS)


def lease() -> Lease:
    return Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)


def numbered(first: int, last: int) -> list[Event]:
    return [Event("custom", b"%d" % number) for number in range(first, last + 1)]


async def collect(events: AsyncIterator[Sequence[Event]], into: list[Event] | None = None) -> list[Event]:
    """Everything up to the end marker."""
    found = [] if into is None else into
    async with asyncio.timeout(30), aclosing(events) as batches:  # type: ignore[type-var]
        async for batch in batches:
            found.extend(batch)
    return found


def numbers(events: Sequence[Event]) -> list[int]:
    assert events[-1].is_end
    return [int(event.data) for event in events[:-1]]


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def readers(hub: EventHub, of: Lease) -> list[Reader]:
    return list(hub._readers.get(events_key(PREFIX, of.run_id).encode(), ()))


async def connections(redis: Redis, name: str) -> int:
    return sum(1 for entry in await redis.client_list() if entry["name"] == name)


async def test_replay_then_live_in_order_up_to_the_end(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 3))
    found: list[Event] = []
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0"), found))
    await until(lambda: len(found) == 3)
    for number in range(4, 10):
        await log.append(mine, numbered(number, number))
    await log.append(mine, [END])
    assert numbers(await reading) == list(range(1, 10))
    assert found[-1].data == END.data


async def test_a_reader_may_come_before_the_first_event(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0")))
    await until(lambda: hub._readers)
    await log.append(mine, [*numbered(1, 2), END])
    assert numbers(await reading) == [1, 2]


async def test_cut_at_every_event_and_resumed_there_is_no_gap_and_no_repeat(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 200))
    await log.append(mine, [END])
    everything = await collect(hub.read(mine.run_id, "0-0"))
    for cut in range(201):
        after = everything[cut - 1].id if cut else "0-0"
        rest = await collect(hub.read(mine.run_id, after))
        assert [event.id for event in rest] == [event.id for event in everything[cut:]]


async def test_from_now_on_leaves_out_what_was_there(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 3))
    found: list[Event] = []
    ticks = 0

    async def read() -> None:
        nonlocal ticks
        async for batch in hub.read(mine.run_id, "$"):
            found.extend(batch)
            ticks += not batch

    reading = asyncio.create_task(read())
    await until(lambda: ticks)
    await log.append(mine, [*numbered(4, 5), END])
    await reading
    assert numbers(found) == [4, 5]


async def test_from_now_on_of_a_run_that_is_over_ends(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, [*numbered(1, 3), END])
    assert numbers(await collect(hub.read(mine.run_id, "$"))) == []


@pytest.mark.parametrize("before", [True, False])
async def test_waiting_for_the_end_gives_nothing_else(hub: EventHub, log: RedisEventLog, before: bool) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 3))
    if before:
        await log.append(mine, [END])
    found: list[Event] = []
    reading = asyncio.create_task(collect(hub.end(mine.run_id), found))
    if not before:
        await until(lambda: hub._readers)
        await log.append(mine, numbered(4, 5))
        await log.append(mine, [END])
    await reading
    assert [event.data for event in found] == [END.data]


async def test_who_waits_for_the_end_looks_at_nothing_twice(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    """What is there may be large, and there may be many who wait."""
    mine = lease()
    await log.append(mine, [Event("values", b"x" * 1_000_000)])
    reading = asyncio.create_task(collect(hub.end(mine.run_id)))
    await until(lambda: any(reader._position for reader in readers(hub, mine)))
    # the subscription may have come after the first look, and then there is another one
    await until(lambda: hub.connected)
    await redis.config_resetstat()
    sent = (await redis.info("stats"))["total_net_output_bytes"]
    looks = 0
    while looks < 5:
        looks = (await redis.info("commandstats")).get("cmdstat_xrevrange", {}).get("calls", 0)
        await asyncio.sleep(0.05)
    assert (await redis.info("stats"))["total_net_output_bytes"] - sent < 1_100_000
    # a log that has begun anew may end with a lower id
    await redis.flushall()
    await log.append(mine, [END])
    assert [event.data for event in await reading] == [END.data]


async def test_an_event_reaches_a_waiting_reader_at_once(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    arrived: list[float] = []

    async def read() -> None:
        async for batch in hub.read(mine.run_id, "0-0"):
            arrived.extend([time.perf_counter()] * len(batch))

    reading = asyncio.create_task(read())
    await until(lambda: hub._readers)
    took = []
    for number in range(50):
        started = time.perf_counter()
        await log.append(mine, numbered(number, number))
        await until(lambda expected=number: len(arrived) > expected)
        took.append(arrived[-1] - started)
    await log.append(mine, [END])
    await reading
    # includes the append; generous, as the machine is shared
    assert sorted(took)[25] < 0.02, sorted(took)


async def test_silence_gives_empty_batches(hub: EventHub) -> None:
    started = time.monotonic()
    events = hub.read(uuid.uuid4(), "0-0")
    assert [await anext(events) for _ in range(3)] == [(), (), ()]
    assert time.monotonic() - started < 2
    await events.aclose()  # type: ignore[attr-defined]
    assert not hub._readers


async def test_who_has_to_wait_for_others_is_told_so(hub: EventHub, log: RedisEventLog) -> None:
    mine, going = lease(), asyncio.Event()
    fetch = hub._fetch

    async def slow_fetch(wanted: Sequence[Reader]) -> None:
        await going.wait()
        await fetch(wanted)

    hub._fetch = slow_fetch  # type: ignore[method-assign]
    await log.append(mine, [*numbered(1, 2), END])
    batches = hub.read(mine.run_id, "0-0")
    async with asyncio.timeout(10):
        while await anext(batches) is not DELAYED:
            pass  # it has not connected yet
        assert await anext(batches) is DELAYED
        going.set()
        assert numbers(await collect(batches)) == [1, 2]
    idle = hub.read(lease().run_id, "0-0")
    async with asyncio.timeout(10):
        while await anext(idle) is DELAYED:
            pass  # but who has been served and gets nothing is not
    await idle.aclose()  # type: ignore[attr-defined]


async def test_five_hundred_readers_share_two_connections(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    leases = [lease() for _ in range(500)]
    reading = [asyncio.create_task(collect(hub.read(mine.run_id, "0-0"))) for mine in leases]
    await until(lambda: len(hub._readers) == 500)
    for mine in leases:
        await log.append(mine, numbered(1, 2))
    assert await connections(redis, "hub") <= 2
    for mine in reversed(leases):
        await log.append(mine, [*numbered(3, 4), END])
    results = await asyncio.gather(*reading)
    assert all(numbers(events) == [1, 2, 3, 4] for events in results)
    assert await connections(redis, "hub") <= 2
    assert not hub._readers


async def test_readers_of_one_run_all_get_everything(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    reading = [asyncio.create_task(collect(hub.read(mine.run_id, "0-0"))) for _ in range(50)]
    for number in range(1, 301):
        await log.append(mine, numbered(number, number))
    await log.append(mine, [END])
    for events in await asyncio.gather(*reading):
        assert numbers(events) == list(range(1, 301))


async def test_a_slow_reader_holds_one_batch_and_nobody_up(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    slow = hub.read(mine.run_id, "0-0")
    first = asyncio.create_task(anext(slow))
    large = b'"' + b"x" * 20_000 + b'"'
    for _ in range(20):
        await log.append(mine, [Event("values", large)] * 20)
    await log.append(mine, [END])
    quick = await collect(hub.read(mine.run_id, "0-0"))
    assert len(quick) == 401
    (reader,) = hub._readers[f"{PREFIX}:run:{{{mine.run_id}}}:events".encode()]
    assert sum(len(event.data) for event in reader._batch) <= BATCH_BYTES
    found = list(await first)
    async for batch in slow:
        found.extend(batch)
        assert sum(len(event.data) for event in batch) <= BATCH_BYTES
    assert [event.id for event in found] == [event.id for event in quick]


async def test_large_events_after_many_small_ones_come_in_small_batches(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 3000))
    await log.append(mine, [Event("values", b"x" * size) for size in (30_000, 30_000, 30_000, 200_000, 10) * 40])
    await log.append(mine, [END])
    names: list[str] = []
    async for batch in hub.read(mine.run_id, "0-0"):
        names.extend(event.name for event in batch)
        assert len(batch) == 1 or sum(len(event.data) for event in batch) <= BATCH_BYTES
    assert names == ["custom"] * 3000 + ["values"] * 200 + ["__end__"]


async def test_of_large_events_a_reader_holds_one(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    large = b"x" * 300_000
    await log.append(mine, [Event("values", large)] * 5)
    batches = hub.read(mine.run_id, "0-0")
    found: list[Event] = []
    while len(found) < 2:
        found += await anext(batches)
    # there is more, and more comes
    await log.append(mine, [Event("values", large), END])
    quick = await collect(hub.read(mine.run_id, "0-0"))
    assert [bool(reader._batch) for reader in readers(hub, mine)] == [False]
    await collect(batches, found)
    assert found == quick


async def test_slow_readers_hold_a_large_event_together(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, [Event("custom", b"0"), Event("values", b"x" * 1_000_000), END])
    found: list[Event] = []
    slow = [hub.read(mine.run_id, "0-0") for _ in range(20)]
    for batches in slow:  # one after the other, so that they do not share a fetch
        async for batch in batches:
            found.extend(batch)
            if batch and batch[-1].name == "values":
                break
    held = [event for event in found if event.name == "values"]
    assert len(held) == 20
    assert len({id(event.data) for event in held}) == 1
    for batches in slow:
        assert [event.name for event in await collect(batches)] == ["__end__"]
    del held, found, batch, batches, slow
    assert not hub._large


@pytest.fixture
def small_log(redis: Redis) -> RedisEventLog:
    return RedisEventLog(redis, PREFIX, SETTINGS.replace(stream_max_events=100))


async def test_who_falls_behind_what_was_cut_off_is_told(hub: EventHub, small_log: RedisEventLog) -> None:
    mine = lease()
    slow = hub.read(mine.run_id, "0-0")
    quick = asyncio.create_task(collect(hub.read(mine.run_id, "0-0")))
    await small_log.append(mine, numbered(0, 9))
    found = list(await anext(slow))
    while not found:
        found = list(await anext(slow))
    for number in range(10, 1000, 10):
        await small_log.append(mine, numbered(number, number + 9))
        await until(lambda last=number + 9: any(r._next == last + 1 for r in readers(hub, mine)))
    await small_log.append(mine, [END])
    assert numbers(await quick) == list(range(1000)), "who was there all the time hears nothing of it"
    await collect(slow, found)
    gaps = [at for at, event in enumerate(found) if is_gap(event)]
    assert [event.name for event in found[-2:]] == ["__gap__", "__end__"], "it gives the state an id"
    assert len(gaps) == 2
    assert numbers([*found[: gaps[0]], END]) == list(range(gaps[0]))
    after = numbers([*found[gaps[0] + 1 : -2], END])
    assert after == list(range(after[0], 1000))
    assert 900 <= after[0] < 920


async def test_resumed_at_an_id_that_was_cut_off_begins_with_a_gap(hub: EventHub, small_log: RedisEventLog) -> None:
    mine = lease()
    key = events_key(PREFIX, mine.run_id)
    ids: list[str] = []
    for first in range(0, 300, 50):
        await small_log.append(mine, numbered(first, first + 49))
        ids += [entry_id.decode() for entry_id, _ in (await small_log._redis.xrange(key))[-50:]]
    await small_log.append(mine, [END])
    kept = 300 - (await small_log._redis.xlen(key) - 2)
    for at in (-1, 0, 100, kept - 2, kept - 1, kept, 250, 299):
        found = await collect(hub.read(mine.run_id, ids[at] if at >= 0 else "0-0"))
        # one that was cut off itself may have been the last of these
        assert (found[0].name == "__gap__" and not found[0].data) is (at < kept), at
        assert numbers([event for event in found if not is_gap(event)]) == list(range(max(kept, at + 1), 300))
        # whoever goes on at an id may have been told of the gap, and then have lost the connection
        assert is_gap(found[-2])
        assert await collect(hub.read(mine.run_id, found[-2].id)) == [found[-1]], "it has the state"


async def test_joined_from_now_on_nothing_is_missing(hub: EventHub, small_log: RedisEventLog) -> None:
    mine = lease()
    for first in range(0, 300, 50):
        await small_log.append(mine, numbered(first, first + 49))
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "$")))
    await until(lambda: any(reader._next for reader in readers(hub, mine)))
    await small_log.append(mine, numbered(300, 303))
    await small_log.append(mine, [END])
    assert numbers(await reading) == [300, 301, 302, 303]


async def test_a_large_log_comes_in_batches_of_bounded_size(hub: EventHub, log: RedisEventLog) -> None:
    mine = lease()
    await log.append(mine, numbered(1, 3500))
    await log.append(mine, [END])
    sizes = []
    found: list[Event] = []
    async for batch in hub.read(mine.run_id, "0-0"):
        sizes.append(len(batch))
        found.extend(batch)
    assert numbers(found) == list(range(1, 3501))
    assert max(sizes) <= MOST_EVENTS


async def test_flushall_in_the_middle_loses_no_later_event(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    found: list[Event] = []
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0"), found))
    await log.append(mine, numbered(1, 5))
    await until(lambda: len(found) == 5)
    await redis.flushall()
    assert not await hub.exists(mine.run_id)
    await log.append(mine, numbered(6, 9))
    await log.append(mine, [END])
    events = await reading
    assert [at for at, event in enumerate(events) if is_gap(event)] == [5, 10]
    assert numbers([event for event in events if not is_gap(event)]) == list(range(1, 10))


@pytest.mark.parametrize("live", [True, False])
async def test_a_log_that_begins_anew_with_lower_ids_is_read_from_its_start(
    hub: EventHub, log: RedisEventLog, redis: Redis, live: bool
) -> None:
    """As after a switch to a server whose clock is behind: no later event has an id after the reader's position."""
    mine = lease()
    key = f"{PREFIX}:run:{{{mine.run_id}}}:events"
    found: list[Event] = []
    if live:
        reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0"), found))
    await log.append(mine, numbered(1, 2))
    ahead = f"{2**43}-7"
    await redis.xadd(key, {"n": "custom", "d": "3"}, id=ahead)
    if live:
        await redis.publish(key, "")
        await until(lambda: len(found) == 3)
    await redis.flushall()
    await log.append(mine, numbered(4, 5))
    if not live:
        reading = asyncio.create_task(collect(hub.read(mine.run_id, ahead), found))
    await until(lambda: len(found) == (6 if live else 3))
    await log.append(mine, [END])
    events = await reading
    assert [event.name for event in events[-5:]] == ["__gap__", "custom", "custom", "__gap__", "__end__"]
    assert [event.data for event in events[-4:-2]] == [b"4", b"5"]


async def test_a_switch_to_an_older_copy_repeats_nothing(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    """As after a failover to a replica that lagged: the log ends before the reader's position, and has not begun anew."""
    mine = lease()
    key, fence = (f"{PREFIX}:run:{{{mine.run_id}}}:{name}" for name in ("events", "fence"))
    found: list[Event] = []
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0"), found))
    await log.append(mine, numbered(1, 5))
    await until(lambda: len(found) == 5)
    await redis.xdel(key, found[3].id, found[4].id)
    await redis.hset(fence, "next", "3")
    (reader,) = hub._readers[key.encode()]
    for entry in await redis.client_list():
        if entry["name"] == "hub":
            await redis.client_kill_filter(_id=entry["id"])
    await until(lambda: reader._position == found[2].id)
    await log.append(mine, numbered(6, 7))
    await log.append(mine, [END])
    events = await reading
    assert numbers([event for event in events if not is_gap(event)]) == [1, 2, 3, 4, 5, 6, 7]
    assert [at for at, event in enumerate(events) if is_gap(event)] == [5, 8]


async def test_a_connection_that_is_killed_loses_nothing(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    reading = asyncio.create_task(collect(hub.read(mine.run_id, "0-0")))
    for number in range(1, 201):
        if number % 20 == 0:
            for entry in await redis.client_list():
                if entry["name"] == "hub":
                    await redis.client_kill_filter(_id=entry["id"])
        await log.append(mine, numbered(number, number))
        await asyncio.sleep(0.002)
    await log.append(mine, [END])
    assert numbers(await reading) == list(range(1, 201))


async def test_a_restart_in_the_middle_is_a_pause(
    hub: EventHub, log: RedisEventLog, server: tuple[EmbeddedValkey, Path, str]
) -> None:
    valkey = server[0]
    mine = lease()
    found: list[Event] = []
    ticks = 0

    async def read() -> None:
        nonlocal ticks
        async for batch in hub.read(mine.run_id, "0-0"):
            found.extend(batch)
            ticks += not batch

    reading = asyncio.create_task(read())
    await log.append(mine, numbered(1, 5))
    await until(lambda: len(found) == 5 and hub.connected)
    await asyncio.to_thread(valkey.stop)
    with pytest.raises(UnavailableError):
        await log.append(mine, numbered(6, 8))
    with pytest.raises(UnavailableError):
        await hub.exists(mine.run_id)
    before = ticks
    await until(lambda: ticks > before + 2)
    assert not hub.connected
    await asyncio.to_thread(valkey.start)
    # what was appended while the server was away goes out by itself
    await until(lambda: len(found) == 8)
    await log.append(mine, [END])
    async with asyncio.timeout(10):
        await reading
    assert numbers(found) == list(range(1, 9))
    await until(lambda: hub.connected)


async def test_where_one_that_reads_from_now_on_begins(hub: EventHub, log: RedisEventLog, redis: Redis) -> None:
    mine = lease()
    assert await hub.newest(mine.run_id) == "0-0"
    await log.append(mine, numbered(1, 3))
    before = await hub.newest(mine.run_id)
    assert before is not None
    await log.append(mine, [*numbered(4, 5), END])
    assert numbers(await collect(hub.read(mine.run_id, before))) == [4, 5]
    assert await hub.newest(mine.run_id) is None, "nothing comes any more"
    away = EventHub(Redis.from_url("redis://127.0.0.1:1", retry=Retry(ExponentialBackoff(cap=0.01), 0)), PREFIX)
    with pytest.raises(UnavailableError):
        await away.newest(mine.run_id)
