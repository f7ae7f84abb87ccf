"""The server process of a laptop: ``python -m langgraph_serverless.cli.laptop.serve``, started by the supervisor only.

Brings the database up to date and serves the project. It is here and not in the supervisor that migrations run, because
they need langgraph, whose import takes a second that this process spends anyway.

Promises: JSON lines on the status pipe, ``progress`` and then ``started`` once requests are answered, or ``failed`` with one
sentence; an end within a moment of the supervisor's, however that came about, so that nothing of this process outlives it.
SIGTERM ends it in order; Ctrl-C, which reaches this process too because both share a terminal, is left to the supervisor.

Relies on the environment for its settings; the project's own ``env`` only fills gaps.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

from langgraph_serverless.cli.laptop.slow_clients import patient_for
from langgraph_serverless.errors import ServerError
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.migrate import migrate
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import JsonFormatter, TextFormatter, configure_logging

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# After this, streams that are still open are cut; the runs behind them are released by the application itself.
_CONNECTION_GRACE = 1
#: How long a connection may be idle (seconds): longer than clients and load balancers keep one, so that it is they who close it. Where
#: the server does, a request that is on its way is lost, and httpx, whose limit is the 5 s of uvicorn's default, does not send a POST again.
_KEEP_ALIVE = 75
_PR_SET_PDEATHSIG = 1


class _Reported:
    """The application with an eye on its start-up: an exception there is kept for the report instead of being logged."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.error: Exception | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "lifespan.startup.complete"
            if message["type"] == "lifespan.startup.failed":
                message = {"type": message["type"]}  # its text is the traceback, which uvicorn would print
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if started:
                raise
            self.error = error


class _Server(uvicorn.Server):
    """uvicorn that tells when it serves and leaves Ctrl-C to the supervisor."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.CRITICAL)  # "Application startup failed" says less than our report
        await super().startup(sockets)
        log.setLevel(logging.WARNING)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="langgraph_serverless.cli.laptop.serve")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--app", required=True)
    for name in ("--listen-fd", "--life-fd", "--status-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for fd in (arguments.listen_fd, arguments.life_fd, arguments.status_fd):
        os.set_inheritable(fd, False)  # a tool server that a graph starts must not keep the port
    _die_with_parent(arguments.life_fd)
    status = os.fdopen(arguments.status_fd, "w", buffering=1)

    def report(event: str, **details: str) -> None:
        # a supervisor that is gone takes us along in a moment; nobody is left to read
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"event": event, **details}), file=status, flush=True)

    try:
        _serve(arguments, report)
    except Exception as error:  # the last one to see it: everything becomes a sentence for the user
        if arguments.debug:
            traceback.print_exc()
        report("failed", message=_sentence(error))
        sys.exit(1)


def _serve(arguments: argparse.Namespace, report: Callable[..., None]) -> None:
    project = read_project(arguments.config)
    project.apply_env(os.environ)
    settings = Settings.from_env(os.environ, config_path=arguments.config)
    _configure_logging(settings)
    index = project.store_settings.index
    applied = asyncio.run(migrate(settings.database_uri, dims=index.dims if index else None))
    if applied:
        report("progress", message=f"Database: {len(applied)} migrations applied")
    module, _, function = arguments.app.partition(":")
    make_app = getattr(importlib.import_module(module), function)
    app = _Reported(make_app(settings, config_path=arguments.config))
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=patient_for(settings.stream_write_timeout),
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # a quarter of a megabyte for each socket
        lifespan="on",
        access_log=False,  # telemetry logs requests
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_CONNECTION_GRACE,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    server = _Server(config, lambda: report("started"))
    listener = socket.socket(fileno=arguments.listen_fd)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        try:
            runner.run(server.serve(sockets=[listener]))
        except SystemExit:  # how uvicorn says that the application did not start
            if app.error is None:
                raise
        if app.error is not None:  # raised here, where its own cause stays with it
            raise app.error


def _configure_logging(settings: Settings) -> None:
    """Our own records as everywhere, those of the user's code and of libraries in the same form."""
    configure_logging(settings.log_level, json=settings.log_json)
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(JsonFormatter() if settings.log_json else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[others])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _sentence(error: Exception) -> str:
    if isinstance(error, ServerError):
        return str(error)
    return f"The server did not start: {type(error).__name__}: {error} (--debug shows where)"


def _die_with_parent(life: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        os.read(life, 1)  # nothing is ever written; this returns when the other end is closed
        os._exit(1)

    # also where there is no such signal, and for a parent that was gone before we asked for it
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


if __name__ == "__main__":
    main()
