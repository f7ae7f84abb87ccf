"""The way from a run to the event log: order, batches, back-pressure, the fence."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import pytest

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.execution import sink as module
from langgraph_serverless.execution.sink import EventSink

LEASE = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)


class Log:
    """Appends only when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails: Exception | None = None

    async def append(self, lease: Lease, events: Sequence[Event]) -> None:
        await self.open.wait()
        if self.fails is not None:
            raise self.fails
        self.batches.append([event.name for event in events])

    async def expire(self, run_id: uuid.UUID, seconds: float) -> None:
        raise AssertionError("not the sink's business")


def events(count: int, start: int = 0) -> list[Event]:
    return [Event(str(number), b"{}") for number in range(start, start + count)]


async def test_a_model_s_first_word_goes_at_once_with_what_was_before_it_and_the_rest_in_batches_in_order() -> None:
    log = Log()
    sink = EventSink(log, LEASE, on_lost=lambda: None)
    await sink.emit(Event("metadata", b"{}"))
    await asyncio.sleep(0)
    assert log.batches == [], "it waits for company"
    await sink.emit(Event("messages", b"{}"))
    await asyncio.sleep(0)
    assert log.batches == [["metadata", "messages"]]
    log.open.clear()
    for event in events(5, start=1):
        await sink.emit(event)
        await asyncio.sleep(0)
    log.open.set()
    await sink.drain()
    assert [name for batch in log.batches[1:] for name in batch] == ["1", "2", "3", "4", "5"]
    assert len(log.batches) == 2


async def test_what_nothing_follows_goes_out_by_itself() -> None:
    log = Log()
    sink = EventSink(log, LEASE, on_lost=lambda: None)
    async with asyncio.timeout(10):
        for number in range(3):
            await sink.emit(Event(str(number), b"{}"))
            while len(log.batches) <= number:
                await asyncio.sleep(module.GATHER / 4)


async def test_nothing_is_sent_for_a_lease_that_may_be_over() -> None:
    log, lost, held = Log(), asyncio.Event(), True
    sink = EventSink(log, LEASE, on_lost=lost.set, held=lambda: held)
    await sink.emit(Event("0", b"{}"))
    await sink.drain()
    held = False
    await sink.emit(Event("1", b"{}"))
    await sink.drain()
    assert log.batches == [["0"]]
    assert lost.is_set()


async def test_a_graph_that_is_faster_than_the_log_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    monkeypatch.setattr(module, "MAX_BATCH", 4)
    log = Log()
    log.open.clear()
    sink = EventSink(log, LEASE, on_lost=lambda: None)

    async def produce() -> None:
        for event in events(50):
            await sink.emit(event)

    producer = asyncio.create_task(produce())
    for _ in range(200):
        await asyncio.sleep(0)
    assert not producer.done()
    log.open.set()
    await asyncio.wait_for(producer, 5)
    await sink.drain()
    assert [name for batch in log.batches for name in batch] == [str(number) for number in range(50)]


async def test_large_events_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 300)
    log = Log()
    log.open.clear()
    sink = EventSink(log, LEASE, on_lost=lambda: None)
    emitted = 0

    async def produce() -> None:
        nonlocal emitted
        for number in range(100):
            await sink.emit(Event(str(number), b"x" * 100))
            emitted += 1

    producer = asyncio.create_task(produce())
    for _ in range(500):
        await asyncio.sleep(0)
    assert emitted <= 14, "memory grows with what the graph says"
    log.open.set()
    await asyncio.wait_for(producer, 5)
    await sink.drain()
    assert [name for batch in log.batches for name in batch] == [str(number) for number in range(100)]
    assert max(map(len, log.batches)) <= 3


async def test_a_fault_of_the_log_does_not_hold_up_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    log = Log()
    log.open.clear()
    log.fails = ArithmeticError("nobody foresaw it")
    sink = EventSink(log, LEASE, on_lost=lambda: None)

    async def produce() -> None:
        for event in events(10):
            await sink.emit(event)

    producer = asyncio.create_task(produce())
    for _ in range(50):
        await asyncio.sleep(0)
    log.open.set()
    await asyncio.wait_for(producer, 5)
    await sink.drain()


async def test_a_refused_append_tells_the_run_and_drops_the_rest() -> None:
    log = Log()
    log.fails = LeaseLostError("gone")
    lost: list[bool] = []
    sink = EventSink(log, LEASE, on_lost=lambda: lost.append(True))
    for event in events(3):
        await sink.emit(event)
    await sink.drain()
    await sink.emit(Event("late", b"{}"))
    await sink.drain()
    assert lost == [True]
    assert log.batches == []


async def test_without_a_log_events_go_nowhere() -> None:
    sink = EventSink(None, LEASE, on_lost=lambda: None)
    await sink.emit(Event("0", b"{}"))
    await sink.drain()
