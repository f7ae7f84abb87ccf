"""Open streams: what clients that only listen cost others, from one to a thousand of them on one serving process.

Each stream joins one of twenty runs that do nothing for the time being. Meanwhile one client reads a thread, has a run executed
and streams another one, one after the other. Memory is that of the serving process alone.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from figures import percentile

from bench.client import Client, WrongAnswerError
from bench.curves.part import Part, Picture, Table
from bench.curves.site import PATIENCE, Process, Site, post_runs

RUNS = 20
SIZES = (0, 1, 10, 100, 300, 1000)
#: Seconds for which the joined runs would sleep if nobody cancelled them.
_SLEEP = {"assistant_id": "sleepy", "input": {"seconds": 900}}


@dataclass(frozen=True)
class Meanwhile:
    """What one client saw while so many streams were open: p50 and p95 in milliseconds."""

    streams: int
    get: tuple[float, float]
    wait: tuple[float, float]
    token: tuple[float, float]
    memory: float


async def measure(site: Site, scale: float) -> Part:
    """All sizes one after the other; streams stay open until the end."""
    with site.serve() as api, site.workers(1, RUNS + 10):
        return await look(api, scale)


async def look(api: Process, scale: float, sizes: Sequence[int] = SIZES) -> Part:
    """The same on a server that has a worker."""
    sizes = sorted({round(size * scale) if size > 1 else size for size in sizes})
    client = Client(api.url)
    listening: list[asyncio.Task[None]] = []
    threads = await post_runs(client, _SLEEP, max(2, round(RUNS * min(1, scale))))
    try:
        paths = [await _running(client, thread) for thread in threads]
        await _look(client, max(2, round(10 * scale)))  # warms up
        seen = []
        for count in sizes:
            opened = [asyncio.Event() for _ in range(count - len(listening))]
            for event in opened:
                path = paths[len(listening) % len(paths)]
                listening.append(asyncio.create_task(_listen(client, f"{path}/stream", event)))
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(event.wait() for event in opened))
            looked = await _look(client, max(2, round(60 * scale)))
            if gone := sum(task.done() for task in listening):
                raise WrongAnswerError(f"{gone} of {count} streams have ended although their runs go on")
            seen.append(Meanwhile(count, looked["read"], looked["wait"], looked["token"], api.memory()))
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for thread in threads:
            await _cancel(client, thread)
        await client.aclose()
    return _part(seen)


async def _look(client: Client, often: int) -> dict[str, tuple[float, float]]:
    """Reads of a thread, runs that are waited for, and the first tokens of streamed ones."""
    thread = (await client.json("POST", "/threads", {}))["thread_id"]
    body = {"assistant_id": "counter", "input": {"steps": 1}}
    talk = {"assistant_id": "talk", "input": {"events": 5}, "stream_mode": ["custom"]}

    async def read() -> float:
        return await _timed(lambda: client.json("GET", f"/threads/{thread}"))

    async def run() -> float:
        return await _timed(lambda: client.json("POST", f"/threads/{thread}/runs/wait", body))

    async def first_token() -> float:
        began, found = time.perf_counter(), None
        async with aclosing(client.events("POST", f"/threads/{thread}/runs/stream", talk)) as frames:  # type: ignore[type-var]
            async for frame in frames:
                found = found or (frame.at if frame.name == b"custom" else None)
        if found is None:
            raise WrongAnswerError("a streamed run has said nothing")
        return found - began

    looked = {}
    for name, act, times in (("read", read, 4 * often), ("wait", run, often), ("token", first_token, often)):
        took = [1000 * await act() for _ in range(times)]
        looked[name] = (statistics.median(took), percentile(took, 95))
    return looked


async def _timed(act: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


async def _listen(client: Client, path: str, opened: asyncio.Event) -> None:
    async with aclosing(client.events("GET", path, opened=opened)) as frames:  # type: ignore[type-var]
        async for _ in frames:
            pass


async def _running(client: Client, thread: str) -> str:
    """The path of the thread's run, once a worker has it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (run,) = await client.json("GET", f"/threads/{thread}/runs")
            if run["status"] == "running":
                return f"/threads/{thread}/runs/{run['run_id']}"
            await asyncio.sleep(0.05)


async def _cancel(client: Client, thread: str) -> None:
    (run,) = await client.json("GET", f"/threads/{thread}/runs")
    await client.json("POST", f"/threads/{thread}/runs/{run['run_id']}/cancel?wait=1")


def _part(seen: Sequence[Meanwhile]) -> Part:
    none = seen[0].memory
    rows: list[list[str | float | None]] = [
        [
            f"{one.streams:,}",
            *one.get,
            *one.wait,
            *one.token,
            one.memory,
            1024 * (one.memory - none) / one.streams if one.streams >= 100 else None,
        ]
        for one in seen
    ]
    head = (
        "open streams",
        "thread read p50, ms",
        "p95",
        "`runs/wait` p50, ms",
        "p95",
        "first token p50, ms",
        "p95",
        "memory, MiB",
        "kB for a stream",
    )
    lines = {
        "thread read": [(max(1, one.streams), one.get[0]) for one in seen if one.streams],
        "runs/wait": [(one.streams, one.wait[0]) for one in seen if one.streams],
        "first token": [(one.streams, one.token[0]) for one in seen if one.streams],
    }
    picture = Picture(
        "What others wait while streams are open, p50", "open streams on one process", "milliseconds", lines, log_x=True
    )
    return Part("streams", [Table(head, rows)], {"streams": picture})
