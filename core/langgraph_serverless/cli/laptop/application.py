"""Everything in one process: the API, a worker and the scheduler, as ``langgraph-serverless dev`` runs them.

The worker has a thread and an event loop of its own, so that a graph that blocks its loop stalls neither requests nor the
streams of other readers. The scheduler ticks beside it. It is the code that the functions run, wired differently.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import uvloop
from fastapi import FastAPI

from langgraph_serverless.containers.graphs import load_registry
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer, use_threads_for
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import ServerError
from langgraph_serverless.event_loop import run_to_end
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.services.worker import Worker
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: The two loops hand work to each other all the time; with Python's default of 5 ms either could wait that long for the
#: interpreter whenever the other one is busy (seconds).
SWITCH_INTERVAL = 0.0005
#: How long the worker's thread may take to start or to stop beyond the grace of its runs (seconds).
PATIENCE = 15.0


class WorkerThread:
    """A worker with a thread and an event loop of its own."""

    def __init__(self, settings: Settings, registry: GraphRegistry, manifest: Manifest) -> None:
        self._settings = settings
        self._registry = registry
        self._manifest = manifest
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None

    @property
    def active(self) -> int:
        """Runs that are being executed."""
        return self._worker.active if self._worker is not None else 0

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(PATIENCE)

    def stop(self) -> None:
        """Hand on what runs and end the thread. Blocks."""
        if self._loop is not None and self._worker is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._worker.stop)
        self._thread.join(self._settings.shutdown_grace + PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            run_to_end(runner.get_loop(), self._main())

    async def _main(self) -> None:
        container = WorkerContainer(self._settings, registry=self._registry, manifest=self._manifest)
        executor = use_threads_for(self._settings)
        self._loop = asyncio.get_running_loop()
        self._worker = container.worker()
        self._ready.set()
        try:
            await self._worker.work()
        except Exception:
            # an API that queues runs which nobody executes would be worse: whoever supervises this process restarts it
            logger.exception("the worker has ended", extra={"action": "worker_crashed"})
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            await container.aclose()
            # a synchronous node that still blocks must not hold up the end of the process
            executor.shutdown(wait=False, cancel_futures=True)


async def _every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await act()
        except ServerError as error:
            logger.warning("scheduler: %s", error, extra={"action": "tick_failed"})
        except Exception:
            logger.exception("scheduler tick failed", extra={"action": "tick_failed"})
        await asyncio.sleep(seconds)


def create_laptop_app(settings: Settings, *, config_path: Path | None = None) -> FastAPI:
    """The ASGI application of ``langgraph-serverless dev``: its lifespan starts the worker and the scheduler.

    Raises:
        ProjectError: the project cannot be loaded.
    """
    if config_path is not None:
        settings = settings.replace(config_path=config_path)
    sys.setswitchinterval(SWITCH_INTERVAL)
    registry = load_registry(settings)
    manifest = asyncio.run(build_manifest(registry))
    container = StateContainer(settings, registry=registry, manifest=manifest)
    container.embedder, container.webhooks  # noqa: B018 - made now, as their errors are for whoever starts the server
    worker = WorkerThread(settings, registry, manifest)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await container.assistants.ensure_defaults()
        worker.start()
        scheduler = SchedulerContainer(settings, manifest=manifest, ask_priority_handler=container.ask_priority_handler)
        ticking = asyncio.create_task(_every(settings.scheduler_interval, scheduler.scheduler.tick))
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.wait([ticking])
            await asyncio.to_thread(worker.stop)
            await scheduler.aclose()
            await container.aclose()

    return create_app(container, lifespan=lifespan)
