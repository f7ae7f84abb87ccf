"""Tasks of a worker: what wakes it, what it waits for when it is to leave, and what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from langgraph_serverless.persistence.queue_rows import Look
from langgraph_serverless.services import work_report, worker
from langgraph_serverless.settings import Settings


async def test_a_loop_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a driver may, that is cancelled in the moment in which its answer comes."""
    monkeypatch.setattr(worker, "CANCEL_AGAIN", 0.01)
    swallowed = 0

    async def sweep() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    task = asyncio.create_task(sweep())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await worker._ended(task)
    assert (swallowed, task.cancelled()) == (3, True)


def test_a_report_does_not_grow_with_the_runs_of_a_worker_that_stays() -> None:
    report = work_report.WorkReport()
    for number in range(work_report.MOST_TIMES + 5):
        report.took("success", float(number))
    report.took("error", 1.0)
    assert {status: (len(times), times[0]) for status, times in report.seconds.items()} == {
        "success": (work_report.MOST_TIMES, 5.0),
        "error": (1, 1.0),
    }


class _Ears:
    """Hears each ring once, as a list in Redis does."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    async def wait(self, seconds: float, most: int) -> bool:
        await self.rung.wait()
        self.rung.clear()
        return True

    async def cancels(self) -> AsyncIterator[list[Any]]:
        await asyncio.sleep(3600)
        yield []

    async def aclose(self) -> None:
        return None


async def test_a_ring_during_a_look_is_followed_by_another_look() -> None:
    """The run that it rings for is not among what the look before can have seen; it waited for the next poll once."""
    ears = _Ears()
    looks = 0

    async def look(*, on_trial: bool, **_: Any) -> Look:
        nonlocal looks
        if on_trial:
            return Look(runs=())
        looks += 1
        if looks == 2:
            ears.rung.set()
            while ears.rung.is_set():
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        if looks == 3:
            consumer.stop()
        return Look(runs=(), due=0.01 if looks == 1 else None)  # the second look is nobody's ring

    async def nothing(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(requeued=0)

    queue: Any = SimpleNamespace(look=look, limited=False, runnable=_none)
    others: Any = SimpleNamespace(sweep=nothing, ring=nothing, start=lambda: None, stop=lambda: None)
    consumer = worker.Worker(
        settings=Settings(database_uri="postgresql://nobody@127.0.0.1/nowhere", poll_interval=3600),
        queue=queue,
        sweeper=others,
        runner=others,
        heartbeat=others,
        log=None,
        bell=others,
        ears=ears,
    )
    async with asyncio.timeout(10):
        report = await consumer.work()
    assert (looks, report.reason) == (3, "stopped")


async def _none() -> int:
    return 0
