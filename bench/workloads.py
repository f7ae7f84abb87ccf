"""What a workload is, and what it gives: add one by writing a coroutine and naming it in ``WORKLOADS`` of ``catalogue.py``.

A workload asks one server that has nothing else to do, checks the answers and returns figures. It makes its own threads and
its own warm-up, so that it can be run alone and in any order.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from figures import percentile

from bench.client import Client, Frame, WrongAnswerError


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

    def times(self, often: int) -> int:
        """How often to do what is done so often in a whole round."""
        return max(1, round(often * self.scale))

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
