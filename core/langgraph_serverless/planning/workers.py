"""A day of the queue, played: when workers are invoked, how long they stay, how long runs wait for one.

The rules are those of ``queue/bell.py`` and ``services/worker.py``: a run that finds no free slot has a worker invoked, one for
every ``jobs_per_worker`` runs; the worker that has listened longest takes it; a worker leaves after its idle grace, and before its
time limit hands its runs over to a successor. Runs come by chance (a Poisson process), hour by hour at that hour's rate, and take
times that vary (a gamma distribution of shape 2). Promises the same figures for the same seed.

An hour with more runs than ``MOST_RUNS`` is played in part, one with more workers than ``MOST_WORKERS`` or more runs than ``MOST_RATE`` with fewer, and their counts are
multiplied.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from langgraph_serverless.planning.workload import Deployment, Workload

HOURS = 24
#: Runs of an hour that are played, at most; a thousandth of them are in the slowest thousandth.
MOST_RUNS = 3_000
#: But so much of it at least (seconds).
LEAST_SECONDS = 600.0
#: Workers that are played at once, at most about.
MOST_WORKERS = 20.0
#: Runs a second that are played, at most.
MOST_RATE = 12.0
#: How a run's time varies: the sum of this many exponential times.
SHAPE = 2.0


@dataclass(frozen=True, kw_only=True)
class WorkerDay:
    """What a day comes to."""

    invocations: float
    cold_starts: float
    seconds: float
    peak_workers: int
    hand_offs: float
    #: How long runs wait for a slot (seconds): half, 95 and 99 of 100 at most this.
    wait_p50: float
    wait_p95: float
    wait_p99: float


@dataclass(eq=False)
class _Run:
    remaining: float
    arrived: float
    counted: bool
    claimed: bool = False
    began: float = 0.0


@dataclass(eq=False)
class _Worker:
    invoked: float
    ready: bool = False
    gone: bool = False
    runs: dict[_Run, None] = field(default_factory=dict)  # not a set, whose order would be another in each process
    idle_since: float = 0.0


@dataclass
class _Counts:
    invocations: float = 0.0
    cold_starts: float = 0.0
    seconds: float = 0.0
    hand_offs: float = 0.0


class _Hour:
    """Runs at one rate for a while; what happens in the first ``warm_up`` seconds is not counted."""

    def __init__(self, rng: random.Random, deployment: Deployment, warm_up: float, most_workers: float) -> None:
        self._rng = rng
        self._most_workers = most_workers
        self._deployment = deployment
        self._warm_up = warm_up
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        self._queue: deque[_Run] = deque()
        self._listening: dict[_Worker, None] = {}  # in the order in which they began to listen
        self._alive: dict[_Worker, None] = {}
        self._sandboxes: list[float] = []
        self.counts = _Counts()
        self.peak = 0
        self.waits: list[float] = []

    def play(self, runs: Iterable[tuple[float, float]], end: float) -> None:
        """Runs that arrive at a time and take a time (seconds), until ``end``."""
        for at, seconds in runs:
            run = _Run(seconds, at, at >= self._warm_up)
            self._at(at, lambda now, run=run: self._arrive(run, now))  # type: ignore[misc]
        while self._events and self._events[0][0] < end:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
        for worker in self._alive:
            self.counts.seconds += end - max(worker.invoked, self._warm_up)

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, happen))

    def _arrive(self, run: _Run, now: float) -> None:
        self._queue.append(run)
        self._dispatch(now)
        if run.counted:
            self.peak = max(self.peak, len(self._alive))

    def _dispatch(self, now: float) -> None:
        while self._queue and self._listening:
            worker = next(iter(self._listening))
            del self._listening[worker]
            self._begin(worker, self._queue.popleft(), now)
        jobs = self._deployment.jobs_per_worker
        promised = sum(not worker.ready for worker in self._alive) * jobs
        while len(self._queue) > promised and len(self._alive) < self._most_workers:
            self._invoke(now)
            promised += jobs

    def _invoke(self, now: float) -> None:
        worker = _Worker(now)
        self._alive[worker] = None
        warm = bool(self._sandboxes) and now - self._sandboxes.pop() <= self._deployment.warm_seconds
        if now >= self._warm_up:
            self.counts.invocations += 1
            self.counts.cold_starts += not warm
        self._at(now + (0.1 if warm else self._deployment.cold_start_seconds), lambda at: self._ready(worker, at))

    def _ready(self, worker: _Worker, now: float) -> None:
        worker.ready = True
        life = self._deployment.worker_seconds - self._deployment.margin_seconds
        if worker.invoked < self._warm_up:  # as if it had been invoked before, some time or other
            life *= self._rng.random()
        self._at(worker.invoked + life, self._leaving(worker))
        self._listen(worker)
        self._rest(worker, now)
        self._dispatch(now)

    def _listen(self, worker: _Worker) -> None:
        if len(worker.runs) < self._deployment.jobs_per_worker:
            self._listening.setdefault(worker)

    def _begin(self, worker: _Worker, run: _Run, now: float) -> None:
        if not run.claimed:
            run.claimed = True
            if run.counted:
                self.waits.append(now - run.arrived)
        run.began = now
        worker.runs[run] = None
        self._at(now + run.remaining, lambda at: self._finish(worker, run, at))
        self._listen(worker)

    def _finish(self, worker: _Worker, run: _Run, now: float) -> None:
        if run not in worker.runs:  # it was handed over
            return
        del worker.runs[run]
        self._listen(worker)
        self._rest(worker, now)
        self._dispatch(now)

    def _rest(self, worker: _Worker, now: float) -> None:
        if not worker.runs:
            worker.idle_since = now
            self._at(now + self._deployment.idle_grace_seconds, lambda at: self._look(worker, at))

    def _look(self, worker: _Worker, now: float) -> None:
        idle_for = now - worker.idle_since + 1e-9
        if not worker.gone and not worker.runs and idle_for >= self._deployment.idle_grace_seconds:
            self._leave(worker, now)

    def _leaving(self, worker: _Worker) -> Callable[[float], None]:
        def before_the_limit(now: float) -> None:
            if worker.gone:
                return
            for run in worker.runs:
                run.remaining -= now - run.began
                self.counts.hand_offs += now >= self._warm_up
            self._queue.extendleft(worker.runs)
            worker.runs.clear()
            self._leave(worker, now)
            self._dispatch(now)

        return before_the_limit

    def _leave(self, worker: _Worker, now: float) -> None:
        worker.gone = True
        self._alive.pop(worker, None)
        self._listening.pop(worker, None)
        self._sandboxes.append(now)
        self.counts.seconds += max(0.0, now - max(worker.invoked, self._warm_up))


def hourly_rates(workload: Workload) -> list[float]:
    """Runs of each hour of the day; the busiest has ``peak_factor`` times the mean."""
    if workload.peak_factor == 1:
        return [workload.runs_per_day / HOURS] * HOURS
    low, high = 0.0, 5_000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if max(_shape(middle)) * HOURS < workload.peak_factor else (low, middle)
    return [share * workload.runs_per_day for share in _shape(low)]


def _shape(steepness: float) -> list[float]:
    """Shares of the hours: a bell around the busiest, which is the steeper the more of the day is in it."""
    # from -12 to 11, so that hours that are equally far from the busiest have the very same share
    weights = [
        math.exp(steepness * (math.cos(math.pi * abs(hour) / (HOURS / 2)) - 1))
        for hour in range(-HOURS // 2, HOURS // 2)
    ]
    return [weight / sum(weights) for weight in weights]


def play_day(workload: Workload, deployment: Deployment, *, seed: int = 1) -> WorkerDay:
    """Plays every kind of hour that the day has, by itself."""
    rng = random.Random(seed)  # noqa: S311 - it guards nothing
    total, peak, waits = _Counts(), 0.0, list[tuple[float, float]]()
    for (rate, most_workers), parts in _kinds_of_hours(workload, deployment).items():
        warm_up = min(3 * workload.run_seconds, 1800.0) + deployment.idle_grace_seconds + 5
        window = min(3600.0, max(MOST_RUNS / rate, LEAST_SECONDS))
        hour = _Hour(rng, deployment, warm_up, most_workers)
        hour.play(_arrivals(rng, rate, workload.run_seconds, warm_up + window), warm_up + window)
        factor = 3600 / window * sum(1 / part for part in parts)
        total.invocations += hour.counts.invocations * factor
        total.cold_starts += hour.counts.cold_starts * factor
        total.seconds += hour.counts.seconds * factor
        total.hand_offs += hour.counts.hand_offs * factor
        peak = max(peak, hour.peak / min(parts))
        waits += [(wait, factor) for wait in hour.waits]
    return _day(total, peak, waits)


def _day(counts: _Counts, peak: float, waits: list[tuple[float, float]]) -> WorkerDay:
    waits.sort()
    return WorkerDay(
        invocations=counts.invocations,
        cold_starts=counts.cold_starts,
        seconds=counts.seconds,
        hand_offs=counts.hand_offs,
        peak_workers=round(peak),
        wait_p50=_weighted(waits, 0.50),
        wait_p95=_weighted(waits, 0.95),
        wait_p99=_weighted(waits, 0.99),
    )


def play_runs(runs: Sequence[tuple[float, float]], deployment: Deployment, *, until: float) -> WorkerDay:
    """What these runs come to, which arrive at a time and take a time (seconds), with nobody there before them."""
    hour = _Hour(random.Random(0), deployment, 0.0, deployment.worker_concurrency or math.inf)  # noqa: S311 - unused
    hour.play(runs, until)
    return _day(hour.counts, hour.peak, [(wait, 1.0) for wait in hour.waits])


def _arrivals(rng: random.Random, rate: float, seconds: float, until: float) -> Iterator[tuple[float, float]]:
    at = rng.expovariate(rate)
    while at < until:
        yield at, rng.gammavariate(SHAPE, seconds / SHAPE)
        at += rng.expovariate(rate)


def _kinds_of_hours(workload: Workload, deployment: Deployment) -> dict[tuple[float, float], list[float]]:
    """Runs a second and most workers of the hours to be played, and which part of each of the day's hours that is.

    A large queue is many small ones side by side: what is more than can be played soon is left out, and multiplied in.
    """
    kinds: dict[tuple[float, float], list[float]] = {}
    limit = deployment.worker_concurrency or deployment.account_concurrency
    for runs in hourly_rates(workload):
        busy = runs / 3600 * workload.run_seconds / deployment.jobs_per_worker
        part = min(1.0, MOST_WORKERS / busy, MOST_RATE / (runs / 3600))
        # a limit that is far away is none, so that hours are of the same kind
        most_workers = math.inf if limit > 3 * busy + 10 else max(1.0, round(limit * part))
        kinds.setdefault((round(runs / 3600 * part, 9), most_workers), []).append(part)
    return kinds


def _weighted(waits: Sequence[tuple[float, float]], share: float) -> float:
    """The wait that this share of the runs does not exceed."""
    seen, all_of_them = 0.0, sum(weight for _, weight in waits)
    for wait, weight in waits:
        seen += weight
        if seen >= share * all_of_them:
            return wait
    return 0.0
