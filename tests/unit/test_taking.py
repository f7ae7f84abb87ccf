"""When a worker looks at the queue: whenever it may find what its last look has not, and not otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from langgraph_serverless.persistence.queue_rows import Look
from langgraph_serverless.services import taking
from langgraph_serverless.services.taking import Taker
from langgraph_serverless.settings import Settings

SLOTS, POLL = 3, 5.0
RUN: Any = SimpleNamespace(about={}, handoffs=0)


class Queue:
    """Has as many runs as are put there, of which ``trial`` are for their last attempt."""

    def __init__(self, *, limited: bool = False) -> None:
        self.limited = limited
        self.runs = self.trial = 0
        self.due: float | None = None
        self.again = False

    async def look(self, *, limit: int, on_trial: bool, **_: Any) -> Look:
        if self.again:
            return Look(runs=(), again=True)
        have = self.trial if on_trial else self.runs
        found = min(have, limit)
        if on_trial:
            self.trial -= found
        else:
            self.runs -= found
        return Look(runs=[RUN] * found, due=self.due)


class Jobs:
    """Runs that go on until they are ended."""

    def __init__(self) -> None:
        self.live = self.ended = 0

    def __len__(self) -> int:
        return self.live

    def __iter__(self) -> Any:
        return iter(())

    def begin(self, *_: Any, **__: Any) -> None:
        self.live += 1

    def end(self) -> None:
        self.live -= 1
        self.ended += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(taking, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def taker_on(queue: Queue, *, deaf: bool = False) -> tuple[Taker, Jobs]:
    settings = Settings(
        database_uri="postgresql://nobody@127.0.0.1/nowhere", n_jobs_per_worker=SLOTS, poll_interval=POLL
    )
    jobs: Any = Jobs()
    nobody: Any = SimpleNamespace(nudge=lambda: None)
    anything: Any = queue
    return Taker(worker_id="w", settings=settings, queue=anything, jobs=jobs, heartbeat=nobody, deaf=deaf), jobs


async def test_it_looks_at_first_after_a_ring_and_now_and_then(clock: SimpleNamespace) -> None:
    taker, _ = taker_on(Queue())
    assert taker.due
    await taker.take()
    assert not taker.due
    assert taker.seconds == pytest.approx(POLL)
    taker.look_again()
    assert taker.due
    await taker.take()
    assert not taker.due
    clock.now += POLL
    assert taker.due


async def test_the_end_of_a_run_is_a_cause_only_if_all_slots_were_filled(clock: SimpleNamespace) -> None:
    queue = Queue()
    taker, jobs = taker_on(queue)
    queue.runs = SLOTS - 1
    assert await taker.take() == SLOTS - 1
    jobs.end()
    assert not taker.due
    queue.runs = 5
    assert await taker.take() == 2
    assert not taker.due, "there is no slot"
    clock.now += POLL
    assert not taker.due
    jobs.end()
    assert taker.due
    assert await taker.take() == 1
    jobs.end()
    assert taker.due


async def test_a_slot_that_a_trial_has_filled_counts(clock: SimpleNamespace) -> None:
    queue = Queue()
    taker, jobs = taker_on(queue)
    queue.runs, queue.trial = SLOTS - 1, 1
    assert await taker.take() == SLOTS
    jobs.end()
    assert taker.due


@pytest.mark.parametrize(("limited", "deaf"), [(True, False), (False, True)])
async def test_where_nobody_rings_for_what_may_begin_every_end_is_a_cause(
    clock: SimpleNamespace, limited: bool, deaf: bool
) -> None:
    """A group has room again; or there is no Redis."""
    queue = Queue(limited=limited)
    taker, jobs = taker_on(queue, deaf=deaf)
    queue.runs = 1
    await taker.take()
    assert not taker.due
    jobs.end()
    assert taker.due
    await taker.take()
    assert not taker.due


async def test_a_delayed_run_is_looked_for_when_it_is_due(clock: SimpleNamespace) -> None:
    queue = Queue()
    taker, _ = taker_on(queue)
    queue.due = 1.5
    await taker.take()
    assert taker.seconds == pytest.approx(1.5)
    clock.now += 1.4
    assert not taker.due
    clock.now += 0.2
    assert taker.due
    queue.due = -1.0  # it is due and cannot be taken yet
    await taker.take()
    assert taker.seconds == pytest.approx(taking.SOON)
    queue.due = 1e6
    clock.now += taking.SOON
    await taker.take()
    assert taker.seconds == pytest.approx(POLL)


async def test_who_has_met_another_worker_looks_again_soon(clock: SimpleNamespace) -> None:
    queue = Queue()
    taker, _ = taker_on(queue)
    queue.again = True
    await taker.take()
    assert not taker.due
    assert taker.seconds == pytest.approx(taking.SOON)


async def test_what_happens_during_a_look_makes_another_one(clock: SimpleNamespace) -> None:
    queue = Queue()
    taker, jobs = taker_on(queue)
    look = queue.look

    async def meanwhile(**arguments: Any) -> Look:
        taker.look_again()
        return await look(**arguments)

    queue.look = meanwhile  # type: ignore[method-assign]
    await taker.take()
    assert taker.due

    async def ends(**arguments: Any) -> Look:
        jobs.end()
        return await look(**arguments)

    queue.look, queue.runs = look, SLOTS  # type: ignore[method-assign]
    await taker.take()
    jobs.end()
    queue.look, queue.runs = ends, 1  # type: ignore[method-assign]
    await taker.take()
    assert taker.due, "a slot has become free that was not looked with"
