"""Health and metrics of a worker over HTTP, for probes: ``/ok``, ``/info``, ``/metrics``, and nothing else.

On a thread and an event loop of its own, so that a node which holds the worker's loop does not make the process look dead; how
long that may last is for the heartbeat to say (``WORKER_STALL_LIMIT_SECS``). Its connections are its own too.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from langgraph_serverless.cli.server.uvicorn_server import Server, server_config
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

#: Connections to Postgres that questions about health and numbers may take.
_CONNECTIONS = 2
_PATIENCE = 15.0


class StatusServer:
    """Start it once, stop it once."""

    def __init__(self, settings: Settings, manifest: Manifest, listener: socket.socket) -> None:
        self._container = ApiContainer(
            settings.replace(pool_min_size=0, pool_max_size=min(_CONNECTIONS, settings.pool_max_size)),
            manifest=manifest,
        )
        app = create_app(self._container, resources=("system",), lifespan=self._lifespan, inside=True)
        self._metrics: list[Callable[[], str]] = app.state.metrics
        self._listener = listener
        self._started = threading.Event()
        config = server_config(app, settings, connection_grace=1)
        self._server = Server(config, self._started.set)
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self, metrics: Callable[[], str]) -> None:
        """
        Args:
            metrics: asked for what the worker has done, on this server's thread.
        """
        self._metrics.append(metrics)
        self._thread.start()
        self._started.wait(_PATIENCE)

    def leave(self) -> None:
        """Say that the process is about to stop."""
        self._container.system.leave()

    def stop(self) -> None:
        """Blocks."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve(sockets=[self._listener]))

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._container.aclose()
