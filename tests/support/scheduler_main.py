"""Schedulers as processes of their own, for tests that kill them: one that ticks until then, and one that kills itself.

Forked from a server that has imported everything (``multiprocessing``'s forkserver), so that one costs little. What they
tick with is the database's time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from typing import Any

import psycopg

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.settings import Settings

#: What the container imports when it is asked.
SERVICES = ("runs", "crons", "threads", "assistants", "store", "webhooks", "courier")
#: ``processes.Process(target=tick_for_ever, args=...)``
processes = multiprocessing.get_context("forkserver")
#: Not this module: the server does not know the path of it.
processes.set_forkserver_preload(
    ["langgraph_serverless.containers.scheduler", *(f"langgraph_serverless.services.{name}" for name in SERVICES)]
)


def tick_for_ever(settings: Settings, manifest: Manifest) -> None:
    async def tick() -> None:
        container = SchedulerContainer(settings, manifest=manifest)
        while True:
            await container.scheduler.tick()

    asyncio.run(tick())


def tick_and_die(settings: Settings, manifest: Manifest, step: int) -> None:
    """One tick that ends with SIGKILL before the given step: a statement, the end of a transaction or what comes after it.

    Ends with 0 if it has no such step.
    """
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    execute, end = psycopg.AsyncCursor.execute, psycopg.AsyncTransaction.__aexit__

    async def counted_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        count()
        return await execute(self, *args, **kwargs)

    async def counted_end(self: Any, *args: Any) -> Any:
        count()
        ended = await end(self, *args)
        count()
        return ended

    psycopg.AsyncCursor.execute = counted_execute  # type: ignore[method-assign]
    psycopg.AsyncTransaction.__aexit__ = counted_end  # type: ignore[method-assign]

    async def tick() -> None:
        container = SchedulerContainer(settings, manifest=manifest)
        await container.scheduler.tick()

    asyncio.run(tick())
