"""The API with what belongs beside it in one process: scheduler ticks, and a worker if it is asked for.

Used by the laptop, which has both, and by ``serve``. It is the code that the functions run, wired differently.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI

from langgraph_serverless import garbage, tracing
from langgraph_serverless.cli.server.worker_thread import WorkerThread
from langgraph_serverless.containers.api import read_manifest
from langgraph_serverless.containers.graphs import load_registry
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import ProjectError, ServerError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.http.in_process import serving
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: The two loops hand work to each other all the time; with Python's default of 5 ms either could wait that long for the
#: interpreter whenever the other one is busy (seconds).
SWITCH_INTERVAL = 0.0005


class ServerApplication:
    """One process's API. ``app`` is what serves; its lifespan starts and stops the rest."""

    def __init__(self, settings: Settings, *, with_worker: bool, with_scheduler: bool) -> None:
        """Load the project; nothing is opened.

        Raises:
            ProjectError: it cannot be loaded.
        """
        garbage.relax()
        tracing.start("server", os.environ)
        registry, manifest = load_project(settings)
        self._settings = settings
        self._container = StateContainer(settings, registry=registry, manifest=manifest)
        # made now, as their errors are for whoever starts the server
        self._container.embedder, self._container.webhooks, self._container.own_store  # noqa: B018
        self._scheduler: SchedulerContainer | None = None
        if with_scheduler:
            ask = self._container.ask_priority_handler
            self._scheduler = SchedulerContainer(settings, manifest=manifest, ask_priority_handler=ask)
        self._worker: WorkerThread | None = None
        if with_worker:
            sys.setswitchinterval(SWITCH_INTERVAL)
            self._worker = WorkerThread(settings, registry, manifest)
        self.app: FastAPI = create_app(self._container, lifespan=self._lifespan, work=self._work)
        if self._worker is not None:
            self.app.state.metrics.append(self._worker.metrics)

    @property
    def crashed(self) -> bool:
        """A part of it has ended by itself."""
        return self._worker is not None and self._worker.crashed

    def leave(self) -> None:
        """The process is going to stop: say so to whoever asks how it is, and begin to hand on runs."""
        self._container.system.leave()
        if self._worker is not None:
            self._worker.leave()

    def hurry(self) -> None:
        """Wait for no graph."""
        if self._worker is not None:
            self._worker.hurry()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Around the start and the stop of the user's application, which may use all of this."""
        await self._container.assistants.ensure_defaults()
        try:
            async with serving(self._container):
                yield
        finally:
            await self._container.aclose()
            await asyncio.to_thread(tracing.flush, tracing.LAST_FLUSH_SECONDS)

    @contextlib.asynccontextmanager
    async def _work(self, _: FastAPI) -> AsyncIterator[None]:
        """Runs may need what the user's application has started."""
        if self._worker is not None:
            self._worker.start()
        ticking = None
        if self._scheduler is not None:
            ticking = asyncio.create_task(_every(self._settings.scheduler_interval, self._scheduler.scheduler.tick))
        try:
            with garbage.settled():
                yield
        finally:
            if ticking is not None:
                ticking.cancel()
                await asyncio.wait([ticking])
            if self._worker is not None:
                await asyncio.to_thread(self._worker.stop)
            if self._scheduler is not None:
                await self._scheduler.aclose()


def load_project(settings: Settings) -> tuple[GraphRegistry, Manifest]:
    """The project's graphs, and what can be said about them: what the build has written, or else what they are like.

    Raises:
        ProjectError: they cannot be loaded, or the build was of other graphs.
    """
    registry = load_registry(settings)
    if settings.manifest_path is None:
        return registry, asyncio.run(build_manifest(registry))
    manifest = read_manifest(settings)
    if (described := set(manifest.graphs)) != set(registry.graph_ids):
        raise ProjectError(
            f"The manifest {settings.manifest_path} describes the graphs {', '.join(sorted(described))}, and"
            f" {settings.config_path} has {', '.join(sorted(registry.graph_ids))}; write it anew, or unset LANGGRAPH_MANIFEST."
        )
    return registry, manifest


async def _every(seconds: float, act: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await act()
        except ServerError as error:
            logger.warning("scheduler: %s", error, extra={"action": "tick_failed"})
        except Exception:
            logger.exception("scheduler tick failed", extra={"action": "tick_failed"})
        await asyncio.sleep(seconds)
