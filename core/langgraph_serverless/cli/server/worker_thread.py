"""A worker with a thread and an event loop of its own, for processes that also serve the API.

A graph that blocks its loop so stalls neither requests nor the streams of other readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable

import uvloop

from langgraph_serverless.containers.worker import WorkerContainer, use_threads_for
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.event_loop import run_to_end
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.http.in_process import serving_beside
from langgraph_serverless.services.worker import Worker
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: How long the worker's thread may take to start or to stop beyond the grace of its runs (seconds).
PATIENCE = 15.0


class WorkerThread:
    """Start it once, stop it once."""

    def __init__(self, settings: Settings, registry: GraphRegistry, manifest: Manifest) -> None:
        self._settings = settings
        self._registry = registry
        self._manifest = manifest
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        #: It has ended although nobody has asked it to.
        self.crashed = False

    @property
    def active(self) -> int:
        """Runs that are being executed."""
        return self._worker.active if self._worker is not None else 0

    def metrics(self) -> str:
        """What it has done, for Prometheus; nothing before it has started."""
        return self._worker.metrics if self._worker is not None else ""

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(PATIENCE)

    def leave(self) -> None:
        """Begin to hand on what runs; returns at once."""
        if self._worker is not None:
            self._call(self._worker.stop)

    def hurry(self) -> None:
        """Do not wait for graphs that take long to reach a superstep boundary."""
        if self._worker is not None:
            self._call(self._worker.hurry)

    def stop(self) -> None:
        """Hand on what runs and end the thread. Blocks."""
        self.leave()
        self._thread.join(self._settings.shutdown_grace + PATIENCE)

    def _call(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(act)

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
            async with serving_beside(container):
                await self._worker.work()
        except Exception:
            # an API that queues runs which nobody executes would be worse: whoever supervises this process restarts it
            logger.exception("the worker has ended", extra={"action": "worker_crashed"})
            self.crashed = True
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            await container.aclose()
            # a synchronous node that still blocks must not hold up the end of the process
            executor.shutdown(wait=False, cancel_futures=True)
