"""The heartbeat thread: what it does with each answer, and with none."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from langgraph_serverless.domain.runs import CancelAction, CancelRequest, Lease
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.queue.loop_watch import LoopWatch

INTERVAL, DURATION = 0.02, 0.4


class Database:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.held: dict[uuid.UUID, CancelRequest | None] = {}
        self.away = False
        self.beats = 0
        self.seconds: list[float] = []

    def beat(self, leases: Sequence[Lease], duration: float) -> Mapping[uuid.UUID, CancelRequest | None]:
        self.beats += 1
        self.seconds.append(duration)
        if self.away:
            raise ConnectionError("away")
        return {lease.run_id: self.held[lease.run_id] for lease in leases if lease.run_id in self.held}


class Run:
    def __init__(self, database: Database) -> None:
        self.lease = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)
        database.held[self.lease.run_id] = None
        self.lost = threading.Event()
        self.cancelled = threading.Event()
        self.requests: list[CancelRequest] = []

    def on_cancel(self, request: CancelRequest) -> None:
        self.requests.append(request)
        self.cancelled.set()


@contextmanager
def beating(database: Database, *, interval: float = INTERVAL) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(database.beat, interval=interval, duration=DURATION)
    heartbeat.start()
    yield heartbeat
    heartbeat.stop()


def hold(heartbeat: Heartbeat, run: Run) -> None:
    assert heartbeat.hold(run.lease, since=time.monotonic(), on_lost=run.lost.set, on_cancel=run.on_cancel)


def test_a_held_lease_is_extended_and_nothing_else_happens() -> None:
    database = Database()
    run = Run(database)
    with beating(database) as heartbeat:
        hold(heartbeat, run)
        assert not run.lost.wait(INTERVAL * 10)
    assert database.beats >= 3
    assert set(database.seconds) == {DURATION}


def test_who_has_stood_still_knows_that_its_lease_may_be_over_before_it_has_asked() -> None:
    heartbeat = Heartbeat(Database().beat, interval=INTERVAL, duration=DURATION)
    new, old, gone = (Run(Database()) for _ in range(3))
    now = time.monotonic()
    for run in (new, old, gone):
        assert heartbeat.hold(run.lease, since=now, on_lost=run.lost.set, on_cancel=run.on_cancel)
    heartbeat.release(gone.lease)
    heartbeat._held[old.lease.token].confirmed_at -= DURATION
    assert [heartbeat.holds(run.lease) for run in (new, old, gone)] == [True, False, False]


def test_a_lease_without_an_answer_is_lost_and_the_others_are_not() -> None:
    database = Database()
    run, other = Run(database), Run(database)
    with beating(database) as heartbeat:
        hold(heartbeat, run)
        hold(heartbeat, other)
        del database.held[run.lease.run_id]
        assert run.lost.wait(5)
        assert not other.lost.is_set()


def test_a_recorded_cancel_is_passed_on_with_its_reason() -> None:
    database = Database()
    run = Run(database)
    request = CancelRequest(CancelAction.ROLLBACK, "because")
    with beating(database) as heartbeat:
        hold(heartbeat, run)
        database.held[run.lease.run_id] = request
        assert run.cancelled.wait(5)
    assert run.requests[0] == request


def test_a_fault_in_a_callback_is_not_the_end_of_all_leases() -> None:
    def fault(request: CancelRequest) -> None:
        raise LookupError("nobody foresaw this")

    database = Database()
    good, bad = Run(database), Run(database)
    database.held[bad.lease.run_id] = CancelRequest(CancelAction.INTERRUPT, None)
    with beating(database) as heartbeat:
        hold(heartbeat, good)
        assert heartbeat.hold(bad.lease, since=time.monotonic(), on_lost=bad.lost.set, on_cancel=fault)
        beats = database.beats
        deadline = time.monotonic() + 5
        while database.beats < beats + 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        del database.held[good.lease.run_id]
        assert good.lost.wait(5)


def test_a_nudge_beats_at_once() -> None:
    database = Database()
    run = Run(database)
    database.held[run.lease.run_id] = CancelRequest(CancelAction.INTERRUPT, None)
    with beating(database, interval=60) as heartbeat:
        hold(heartbeat, run)
        heartbeat.nudge()
        assert run.cancelled.wait(5)


@pytest.mark.parametrize("back_in_time", [True, False])
def test_a_database_that_is_away_loses_the_lease_after_half_its_duration(back_in_time: bool) -> None:
    database = Database()
    run = Run(database)
    with beating(database) as heartbeat:
        hold(heartbeat, run)
        began = time.monotonic()
        database.away = True
        if back_in_time:
            while database.beats < 3:
                assert not run.lost.wait(0.001)
            database.away = False
            assert not run.lost.wait(DURATION)
        else:
            assert run.lost.wait(5)
            # not at the first failure, and before anybody else may take the run
            assert time.monotonic() - began > DURATION / 2


def test_a_database_that_hangs_is_not_asked_again_when_half_the_lease_is_over() -> None:
    """The answer to another question might come when somebody else has the run."""
    database = Database()
    run = Run(database)

    def hang(_leases: Sequence[Lease], _duration: float) -> Mapping[uuid.UUID, CancelRequest | None]:
        database.beats += 1
        time.sleep(DURATION * 0.6)
        raise TimeoutError("no answer")

    heartbeat = Heartbeat(hang, interval=INTERVAL, duration=DURATION)
    hold(heartbeat, run)
    heartbeat.start()
    assert run.lost.wait(5)
    assert database.beats == 1
    heartbeat.stop()


def test_a_released_lease_is_not_lost() -> None:
    database = Database()
    run = Run(database)
    with beating(database) as heartbeat:
        hold(heartbeat, run)
        heartbeat.release(run.lease)
        del database.held[run.lease.run_id]
        assert not run.lost.wait(INTERVAL * 5)


def test_a_claim_whose_answer_came_late_is_not_kept() -> None:
    database = Database()
    run = Run(database)
    with beating(database) as heartbeat:
        late = time.monotonic() - DURATION / 2 - 0.01
        assert not heartbeat.hold(run.lease, since=late, on_lost=run.lost.set, on_cancel=run.on_cancel)
    assert database.beats == 0, "and nobody extends it"


def test_a_lease_is_as_old_as_its_claim() -> None:
    database = Database()
    run = Run(database)
    database.away = True
    with beating(database) as heartbeat:
        began = time.monotonic()
        since = began - DURATION * 0.4
        assert heartbeat.hold(run.lease, since=since, on_lost=run.lost.set, on_cancel=run.on_cancel)
        assert run.lost.wait(5)
        assert time.monotonic() - began < DURATION / 2


def test_a_run_over_its_time_that_does_not_end_is_given_up_and_the_others_are_not() -> None:
    database = Database()
    run, other = Run(database), Run(database)
    with beating(database) as heartbeat:
        began = time.monotonic()
        hold(heartbeat, other)
        assert heartbeat.hold(run.lease, since=began, on_lost=run.lost.set, on_cancel=run.on_cancel, time_left=0.1)
        assert run.lost.wait(5)
        assert time.monotonic() - began > 0.1 + DURATION, "its end has time to be written"
        assert not other.lost.is_set()


class Stalled:
    """A worker's loop on a thread of its own that a run holds up, and what is done about it."""

    def __init__(self, database: Database, **options: float) -> None:
        self.given_back: list[Lease] = []
        self.ended = threading.Event()
        self.release = threading.Event()
        self.heartbeat = Heartbeat(
            database.beat,
            interval=INTERVAL,
            duration=DURATION,
            give_back=self.given_back.append,
            on_stall=self.ended.set,
            **options,
        )
        self._began = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        self.heartbeat.start()
        self._began.set()
        await asyncio.to_thread(self._held.wait)
        config = {"metadata": {"run_id": str(self._by.lease.run_id)}} if self._by is not None else {}
        assert isinstance(config, dict)
        self.release.wait()

    @contextmanager
    def held_by(self, run: Run | None) -> Iterator[None]:
        self._by, self._held = run, threading.Event()
        self._thread.start()
        self._began.wait()
        try:
            yield
        finally:
            self._held.set()
            self.release.set()
            self.heartbeat.stop()
            self._thread.join()

    def hold_the_loop(self) -> None:
        self._held.set()


def test_a_loop_that_is_held_for_too_long_gives_the_other_runs_back_and_ends_the_worker() -> None:
    database = Database()
    run, other = Run(database), Run(database)
    worker = Stalled(database, stall_limit=2 * DURATION)
    with worker.held_by(run):
        hold(worker.heartbeat, run)
        hold(worker.heartbeat, other)
        began = time.monotonic()
        worker.hold_the_loop()
        assert worker.ended.wait(5)
        assert time.monotonic() - began > 2 * DURATION
        assert worker.given_back == [other.lease]
        assert run.lost.is_set()
        assert other.lost.is_set()


@pytest.mark.parametrize("cancelled", ["run", "other"])
def test_a_cancel_of_the_run_that_holds_the_loop_ends_the_worker_early(cancelled: str) -> None:
    database = Database()
    runs = {"run": Run(database), "other": Run(database)}
    worker = Stalled(database, stall_limit=60)
    with worker.held_by(runs["run"]):
        for run in runs.values():
            hold(worker.heartbeat, run)
        database.held[runs[cancelled].lease.run_id] = CancelRequest(CancelAction.INTERRUPT, None)
        worker.hold_the_loop()
        assert worker.ended.wait(5 if cancelled == "run" else 3 * DURATION) == (cancelled == "run")


def test_whoever_holds_the_loop_unknown_no_run_is_given_back() -> None:
    database = Database()
    run = Run(database)
    worker = Stalled(database, stall_limit=DURATION)
    with worker.held_by(None):
        hold(worker.heartbeat, run)
        worker.hold_the_loop()
        assert worker.ended.wait(5)
        assert worker.given_back == []
        assert run.lost.is_set()


def test_a_process_that_stood_still_has_not_stalled() -> None:
    """The heartbeat wakes up first and finds that hours have passed since it asked."""

    async def main() -> float:
        watch = LoopWatch(interval=INTERVAL)
        watch.look()
        watch._looked_at -= 3600
        return watch.look()

    assert asyncio.run(main()) == 2 * INTERVAL
