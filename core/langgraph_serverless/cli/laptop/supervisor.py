"""``langgraph-serverless dev``: databases, the server process, hot reload, and one way out of everything.

::

    take the port -> databases -> server starts --started--> serving --edit--> server stops, starts again
                                      |   ^                     |
                                    failed |edit             Ctrl-C, SIGTERM, SIGHUP
                        first time: end   waiting              -> server, Valkey, Postgres stop; exit 0

Promises: the port is free and nothing of ours runs once ``run`` returns or raises. A second Ctrl-C ends at once; the
databases were told to stop and are found by the next start if they take longer. If this process is killed, the server
process dies with it (``serve.py``) and the databases stay until the next start adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless import __version__
from langgraph_serverless.cli.laptop import banner
from langgraph_serverless.cli.laptop.addresses import listen, url_of, without_password
from langgraph_serverless.cli.laptop.reload import Edits
from langgraph_serverless.cli.laptop.services import Services
from langgraph_serverless.cli.laptop.standin import answering
from langgraph_serverless.cli.server.server_process import ServerCommand, ServerProcess
from langgraph_serverless.errors import ServerError, StartupError
from langgraph_serverless.execution.project import read_project

# What runs get to reach a superstep boundary when nobody chose: on a laptop, waiting after Ctrl-C is worse than a repeated step.
_SHUTDOWN_GRACE_VARIABLE = "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"
_SHUTDOWN_GRACE = 2.0
# For connections, pools and whatever the user's own lifespan does.
_STOP_MARGIN = 5.0
_CRASHES = 3
_CRASH_WINDOW = 30.0
# Runs that take the server along would otherwise stop it for everybody, and never come to their own last attempt.
_CRASH_PAUSE = 10.0
_QUIET_END = 130


@dataclass(frozen=True, kw_only=True)
class DevOptions:
    """What the command line said."""

    config_path: Path
    host: str
    port: int
    jobs: int
    data_dir: Path
    reload: bool
    debug: bool
    app: str


class _StopRequested(Exception):
    """Ctrl-C came while something else was going on."""


class Supervisor:
    """One run of the command. Not reusable."""

    def __init__(self, options: DevOptions, environ: Mapping[str, str]) -> None:
        self._options = options
        self._began = time.monotonic()
        environ = dict(environ) | {"N_JOBS_PER_WORKER": str(options.jobs)}
        environ.setdefault(_SHUTDOWN_GRACE_VARIABLE, str(_SHUTDOWN_GRACE))
        environ.setdefault("STUDIO_AUTH", "true")  # as the official development server
        # what a graph prints belongs among the log lines, not after them
        environ.setdefault("PYTHONUNBUFFERED", "1")
        if options.debug:
            environ.setdefault("LOG_LEVEL", "DEBUG")
        self._environ = environ
        self._stop = asyncio.Event()
        self._services: Services | None = None
        self._server: ServerProcess | None = None
        self._colour = sys.stdout.isatty()

    async def run(self) -> None:
        """Serve until asked to stop.

        Raises:
            ServerError: one sentence, if the first start does not succeed.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                loop.add_signal_handler(number, self._on_signal)
        project = read_project(self._options.config_path)
        listener = listen(self._options.host, self._options.port)
        try:
            self._environ.setdefault("WEBHOOK_BASE_URL", url_of(listener))
            self._services = Services(self._environ, self._options.data_dir, self._say)
            edits = Edits((project.root, *project.local_dependencies), project.config_path, self._options.data_dir)
            try:
                await self._services.start()
                async with edits.watching(self._say) if self._options.reload else contextlib.nullcontext():
                    await self._serve(listener, edits)
            except _StopRequested:
                pass
            finally:
                await self._services.stop()
        finally:
            listener.close()
        self._say(f"Stopped. The data stays in {self._options.data_dir}" if self._services.embedded else "Stopped.")

    async def _serve(self, listener: socket.socket, edits: Edits) -> None:
        """Keep one server process running until the stop."""
        services = self._services
        assert services is not None
        options = self._options
        command = ServerCommand(
            module="langgraph_serverless.cli.laptop.serve",
            arguments=(
                f"--config={options.config_path}",
                f"--app={options.app}",
                *(["--debug"] if options.debug else []),
            ),
            environment=services.environment(),
        )
        running_before = False
        crashes: list[float] = []
        while True:
            edits.forget()
            began = time.monotonic()
            pause = math.inf  # what the project does wrong, only an edit changes
            self._check_stop()
            self._server = await ServerProcess.start(command, listener)
            try:
                await self._first(self._server.ready(self._say))
                if running_before:
                    self._say(f"The server is back after {time.monotonic() - began:.1f} s")
                else:
                    await self._show_banner(listener)
                running_before = True
                happened = await self._first(edits.wait(), self._server.ended())
            except ServerError as error:
                if not running_before or not self._options.reload:
                    raise
                happened = error
            finally:
                await self._stop_server()
            if isinstance(happened, str):
                crashes = [moment for moment in crashes if moment > time.monotonic() - _CRASH_WINDOW] + [
                    time.monotonic()
                ]
                self._say(f"The server ended by itself ({happened})")
                if len(crashes) < _CRASHES:
                    continue
                happened = StartupError(
                    f"The server ended by itself {_CRASHES} times in {_CRASH_WINDOW:.0f} seconds ({happened})."
                )
                if not self._options.reload:
                    raise happened
                pause = _CRASH_PAUSE
            if isinstance(happened, ServerError):
                self._say(f"Error: {happened}")
                self._say(f"Waiting for an edit of the project{'' if pause == math.inf else f', or {pause:.0f} s'}")
                async with answering(listener, str(happened)):
                    happened = await self._first(edits.wait(), asyncio.sleep(pause, result=()))
            names = sorted(path.name for path in happened)
            changed = f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} changed, " if names else ""
            self._say(f"{changed}starting the server again")

    async def _first(self, *events: Coroutine[Any, Any, Any]) -> Any:
        """The result of whichever comes first; a stop comes before all."""
        stop = asyncio.create_task(self._stop.wait())
        tasks = [asyncio.create_task(event) for event in events]
        try:
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)
        self._check_stop()
        return next(task for task in tasks if task in done).result()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StopRequested

    async def _stop_server(self) -> None:
        if self._server is not None:
            if self._stop.is_set():
                self._say("Stopping the server")
            grace = float(self._environ[_SHUTDOWN_GRACE_VARIABLE]) + _STOP_MARGIN
            server, self._server = self._server, None
            await server.stop(grace)

    async def _show_banner(self, listener: socket.socket) -> None:
        services = self._services
        assert services is not None
        url = url_of(listener)
        if not await asyncio.to_thread(banner.answers, url):
            raise StartupError(f"The server started but does not answer {url}/ok.")
        project = read_project(self._options.config_path)
        graphs = list(project.graphs)
        url += (self._environ.get("MOUNT_PREFIX") or project.http.mount_prefix).rstrip("/")
        try_this = await asyncio.to_thread(banner.line_to_try, url, graphs[0])
        places = {
            "API": url,
            "Docs": f"{url}/docs",
            "Graphs": ", ".join(graphs),
            **({"Data": str(self._options.data_dir)} if services.embedded else {}),
            "Postgres": without_password(services.database_uri),
            "Redis": without_password(services.redis_uri),
        }
        took = time.monotonic() - self._began
        watched = "Edits of the project take effect at once. " if self._options.reload else ""
        title = f"langgraph-serverless {__version__} is ready after {took:.1f} s"
        self._print(banner.banner(title, places, try_this, f"{watched}Ctrl-C stops everything.", colour=self._colour))

    def _on_signal(self) -> None:
        if self._stop.is_set():
            if self._server is not None:
                self._server.kill()
            if self._services is not None:
                self._services.let_go()
            self._say("Stopped at once")
            os._exit(_QUIET_END)
        self._stop.set()

    def _say(self, line: str) -> None:
        self._print(f"{time.monotonic() - self._began:6.1f} s  {line}")

    @staticmethod
    def _print(text: str) -> None:
        # The terminal may be gone (SIGHUP), and that must not keep us from stopping the servers.
        with contextlib.suppress(OSError):
            print(text, flush=True)
