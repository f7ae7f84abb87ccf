"""What a workload is, and what it gives: add one by writing a coroutine and naming it in ``WORKLOADS`` of ``catalogue.py``.

A workload asks one server that has nothing else to do, checks the answers and returns figures. It makes its own threads and
its own warm-up, so that it can be run alone and in any order.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from figures import percentile

from bench.client import Client, Frame, WrongAnswerError
from bench.databases import Counters


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a workload comes to."""

    name: str
    value: float
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Visit:
    """One server, for as long as one round looks at it."""

    client: Client
    #: MiB that the server's processes hold, without those of its databases.
    memory: Callable[[], float]
    #: 1.0 for figures, less for a quick look.
    scale: float = 1.0
    #: CPU seconds of the server's processes so far, without those of its databases.
    cpu: Callable[[], float] = lambda: 0.0
    #: What its databases have been asked so far; None if it has none that nobody else uses.
    counters: Callable[[], Counters] | None = None
    #: How long its starts took, where that was measured.
    starts: Sequence[Figure] = field(default_factory=tuple)

    def times(self, often: int) -> int:
        """How often to do what is done so often in a whole round."""
        return max(1, round(often * self.scale))

    def seconds(self, longest: float) -> float:
        """For how long to wait or to go on at most, of what is so long in a whole round."""
        return longest * min(1.0, self.scale)

    async def thread(self) -> str:
        made: str = (await self.client.json("POST", "/threads", {}))["thread_id"]
        return made

    async def stream(self, body: dict[str, Any], *, thread: str | None = None) -> list[Frame]:
        """All events of a run, on this thread or on a temporary one."""
        path = f"/threads/{thread}/runs/stream" if thread else "/runs/stream"
        return [frame async for frame in self.client.events("POST", path, body)]


@dataclass(frozen=True)
class Workload:
    """Something that clients do, and what is counted of it."""

    name: str
    #: A sentence for ``--list`` and the documents.
    about: str
    measure: Callable[[Visit], Awaitable[Sequence[Figure]]]
    #: Whether one round is enough, as nothing else that the machine does changes the figures.
    once: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """What came of workers that ask one time after the other, without the first request of each."""

    #: What each request took.
    took: Sequence[float]
    #: From the first to the last.
    lasted: float
    #: CPU seconds of the server meanwhile.
    cpu: float

    def figures(self, name: str, unit: str, *, rate: bool) -> list[Figure]:
        """The rate of all, or the latency of each, and what one costs the server."""
        cost = Figure(f"{name} cpu", 1000 * self.cpu / len(self.took), f"ms/{unit}")
        if rate:
            return [Figure(name, len(self.took) / self.lasted, f"{unit}s/s", more_is_better=True), cost]
        return [*latencies(name, self.took), cost]


async def loop(
    visit: Visit, workers: int, often: int, longest: float, act: Callable[[int, int], Awaitable[None]]
) -> Loop:
    """These workers do something so often together, each one time after the other, but not for longer than so many seconds.

    ``act`` is told which worker it is and the number of the request. At least one is made, however long it takes.
    """
    await at_once(workers, 1, lambda worker: act(worker, worker))  # connections and pools grow in the first requests
    numbers, took = iter(range(max(1, visit.times(often)))), list[float]()
    cpu, began = visit.cpu(), time.perf_counter()
    end = began + visit.seconds(longest)

    async def work(worker: int) -> None:
        for number in numbers:
            asked = time.perf_counter()
            await act(worker, number)
            took.append(time.perf_counter() - asked)
            if time.perf_counter() > end:
                return

    async with asyncio.TaskGroup() as group:
        for worker in range(workers):
            group.create_task(work(worker))
    return Loop(took, time.perf_counter() - began, visit.cpu() - cpu)


def latencies(name: str, seconds: Sequence[float]) -> list[Figure]:
    """The middle and the far end of what took so long."""
    return [
        Figure(f"{name} p50", 1000 * statistics.median(seconds), "ms"),
        Figure(f"{name} p95", 1000 * percentile(seconds, 95), "ms"),
    ]


def named(frames: Sequence[Frame], name: bytes, count: int | None = None) -> list[Frame]:
    """The events of this name, of which there are ``count``, or at least one.

    Raises:
        WrongAnswerError: there are others, or none.
    """
    found = [frame for frame in frames if frame.name == name]
    if not found or (count is not None and len(found) != count):
        raise WrongAnswerError(f"{len(found)} events {name.decode()!r}, expected {count or 'some'}")
    return found


async def at_once(workers: int, often: int, act: Callable[[int], Awaitable[None]]) -> None:
    """Each of these workers does this so often, one time after the other."""

    async def work(number: int) -> None:
        for _ in range(often):
            await act(number)

    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(work(number))
