"""Running a loop that executes the code of users, and not waiting in it for what never answers.

asyncio lets ``SystemExit`` out of a task stop the whole loop. In a worker that task is one run of many: a node that calls
``sys.exit()``, often deep inside a command line library, would take all others and the worker with it. The task itself has
ended with the exception by then, as with any other, and whoever waits for it is told; so the loop simply goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from langgraph_serverless.telemetry import logger

T = TypeVar("T")

#: What a process gets that ends itself (seconds).
LAST_WORDS = 3.0


def run_to_end(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop that does not run, whatever other tasks exit with."""
    task = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(task)
        except SystemExit as error:
            if task.done():
                raise
            logger.warning("code of a graph has asked to exit: %r", error, extra={"action": "exit_ignored"})


def end_process() -> None:
    """End this process although its event loop, or the worker's, does not turn; from another thread.

    In order where somebody handles the signal (a laptop's server answers what it is asked meanwhile), and at all events soon.
    """
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_WORDS)
    os._exit(1)


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """What it returns, if that is soon; otherwise it is cancelled and left to itself.

    Unlike ``asyncio.timeout`` this does not wait for the end of what was cancelled: a client library may swallow the
    cancellation and try again.

    Raises:
        TimeoutError: it took longer.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if task.done():
        return task.result()
    raise TimeoutError(f"no answer within {seconds:g} seconds")


def _forget(task: asyncio.Future[Any]) -> None:
    """Look at the error of a task that nobody waits for any more, or asyncio complains."""
    if not task.cancelled():
        task.exception()
