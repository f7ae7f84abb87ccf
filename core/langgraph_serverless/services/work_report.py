"""What one stay of a worker has done, counted as it goes on: for the metrics of a function, and for Prometheus.

A function tells its times one by one when it leaves, as CloudWatch makes percentiles of them; a worker that stays for months keeps the
latest ones only, and histograms, which a scrape reads without looking at a single run.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph_serverless.numbers import RUN_BOUNDS, WAIT_BOUNDS, Histogram, family, histograms

#: Times that a report keeps of each kind: a function's worker tells them when it leaves, a laptop's may stay for months.
MOST_TIMES = 10_000


def _times() -> deque[float]:
    return deque(maxlen=MOST_TIMES)


@dataclass(slots=True, kw_only=True)
class WorkReport:
    """What one stay of a worker did."""

    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    handed_off: int = 0
    lost: int = 0
    #: Of all these: runs that had been taken from a lost worker.
    repeated: int = 0
    #: Runs of lost workers that it has put back into the queue, and those that it has ended because no attempt was left.
    leases_expired: int = 0
    given_up: int = 0
    webhooks_delivered: int = 0
    #: To be tried again, or given up.
    webhooks_failed: int = 0
    #: How long the latest runs took that ended here, by status, from their first attempt on.
    seconds: dict[str, deque[float]] = field(default_factory=dict)
    #: How long the latest runs that began here were due before they were claimed, and then took to their graph's first event.
    queue_waits: deque[float] = field(default_factory=_times)
    first_events: deque[float] = field(default_factory=_times)
    #: ``stopped``, ``deadline`` or ``idle``.
    reason: str = ""
    #: Runs were still waiting when it left.
    work_left: bool = False
    _durations: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(lambda: Histogram(RUN_BOUNDS)), repr=False
    )
    _waits: Histogram = field(default_factory=lambda: Histogram(WAIT_BOUNDS), repr=False)
    _firsts: Histogram = field(default_factory=lambda: Histogram(WAIT_BOUNDS), repr=False)

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.interrupted + self.handed_off + self.lost

    @property
    def summary(self) -> Mapping[str, Any]:
        """All but the times, which are as many as runs."""
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "interrupted": self.interrupted,
            "handed_off": self.handed_off,
            "lost": self.lost,
            "repeated": self.repeated,
            "leases_expired": self.leases_expired,
            "given_up": self.given_up,
            "webhooks_delivered": self.webhooks_delivered,
            "webhooks_failed": self.webhooks_failed,
            "reason": self.reason,
            "work_left": self.work_left,
        }

    def took(self, status: str, seconds: float) -> None:
        """Note how long a run took."""
        self.seconds.setdefault(status, _times()).append(seconds)
        self._durations[status].add(seconds)

    def waited(self, seconds: float) -> None:
        """Note how long a run was due before it was claimed for the first time."""
        self.queue_waits.append(seconds)
        self._waits.add(seconds)

    def began(self, seconds: float) -> None:
        """Note how long it took from there to the first event of its graph."""
        self.first_events.append(seconds)
        self._firsts.add(seconds)

    def prometheus(self, *, active: int, slots: int) -> Iterator[str]:
        """The same for Prometheus, line by line; see ``numbers``."""
        outcomes = {
            "success": self.succeeded,
            "error": self.failed,
            "interrupted": self.interrupted,
            "handed_off": self.handed_off,
            "lost": self.lost,
        }
        webhooks = {"delivered": self.webhooks_delivered, "failed": self.webhooks_failed}
        yield from family("lg_worker_active_runs", "gauge", "Runs that this worker executes.", [({}, active)])
        yield from family("lg_worker_slots", "gauge", "Runs that it executes at once at most.", [({}, slots)])
        yield from family(
            "lg_worker_runs_total",
            "counter",
            "Stays of runs with this worker, by how they ended.",
            (({"outcome": outcome}, count) for outcome, count in outcomes.items()),
        )
        for name, about, count in (
            ("repeats", "Stays of runs that it took from a lost worker.", self.repeated),
            ("lease_expiries", "Runs of lost workers that it put back into the queue.", self.leases_expired),
            ("runs_given_up", "Runs that it ended because no attempt was left.", self.given_up),
        ):
            yield from family(f"lg_worker_{name}_total", "counter", about, [({}, count)])
        yield from family(
            "lg_worker_webhooks_total",
            "counter",
            "Webhooks that it sent, by whether they were taken.",
            (({"outcome": outcome}, count) for outcome, count in webhooks.items()),
        )
        yield from histograms(
            "lg_worker_run_duration_seconds",
            "How long runs took that ended here, from their first attempt on.",
            (({"status": status}, each) for status, each in sorted(self._durations.items())),
        )
        yield from histograms(
            "lg_worker_queue_wait_seconds",
            "How long runs were due before their first claim.",
            [({}, self._waits)],
        )
        yield from histograms(
            "lg_worker_first_event_seconds",
            "How long they took from there to the first event of their graph.",
            [({}, self._firsts)],
        )
