"""The heartbeat thread: what it does with each answer, and with none."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from langgraph_serverless.domain.runs import CancelAction, CancelRequest, Lease
from langgraph_serverless.queue.heartbeat import Heartbeat

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
