"""Tasks of a worker that is to leave, and what it reports."""

from __future__ import annotations

import asyncio

import pytest

from langgraph_serverless.services import jobs, worker


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
    report = jobs.WorkReport()
    for number in range(jobs.MOST_TIMES + 5):
        report.took("success", float(number))
    report.took("error", 1.0)
    assert {status: (len(times), times[0]) for status, times in report.seconds.items()} == {
        "success": (jobs.MOST_TIMES, 5.0),
        "error": (1, 1.0),
    }
