"""Tasks of a worker that is to leave."""

from __future__ import annotations

import asyncio

import pytest

from langgraph_serverless.services import worker


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
