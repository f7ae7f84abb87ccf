"""One process that serves the API: in the command's own process, or as one of the children of ``serve --workers N``.

How it ends: on the first SIGTERM or SIGINT health says that it is leaving and its worker, if it has one, begins to hand runs on;
after ``SHUTDOWN_DELAY_SECS`` nothing more is accepted, streams are broken off between two events, other requests may end
(``SHUTDOWN_REQUEST_GRACE_SECS``). The second signal skips the waiting, the third ends the process there and then. Exit code 0, or 1
if its worker has crashed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from langgraph_serverless.cli.server.application import ServerApplication
from langgraph_serverless.cli.server.child import Report, add_arguments, as_child
from langgraph_serverless.cli.server.options import MODULE, ServeOptions
from langgraph_serverless.cli.server.readiness import check_databases, read_settings
from langgraph_serverless.cli.server.signals import end_now, end_on_signals, leave_nodes_behind
from langgraph_serverless.cli.server.uvicorn_server import App, Reported, Server, run, server_config
from langgraph_serverless.http.draining import Draining
from langgraph_serverless.http.mounted import Mounted
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger


class _Leaving(Server):
    """Ends as the module says."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_started: Callable[[], None],
        application: ServerApplication,
        draining: Draining,
        delay: float,
    ) -> None:
        super().__init__(config, on_started)
        self._application = application
        self._draining = draining
        self._delay = delay
        self._signals = 0
        self._leave_at = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._leave_at = time.monotonic() + self._delay
            self._application.leave()
        elif self._signals == 2:
            self._leave_at = 0.0
            self.force_exit = True
            self._application.hurry()
        else:
            end_now(sig)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or time.monotonic() >= self._leave_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("leaving", extra={"action": "leaving"})
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # answers without an end are what is meant
        self._draining.begin()
        await super().shutdown(sockets)
        if self.force_exit:  # then uvicorn leaves this out, and runs would not be handed on
            await self.lifespan.shutdown()
        logger.info("stopped", extra={"action": "stopped", "broken_off": self._draining.broken_off})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a child leaves Ctrl-C to its command
            numbers.append(signal.SIGINT)
        for number in numbers:
            signal.signal(number, self.handle_exit)
        yield


def serve_here(
    options: ServeOptions, settings: Settings, listener: socket.socket, on_started: Callable[[], None]
) -> None:
    """Serve until asked to stop.

    Raises:
        ServerError: one sentence, if it cannot be served.
        SystemExit: with 1, if a part of it has crashed.
    """
    check_databases(settings, os.environ, with_migrations=options.with_migrations)
    if options.mount_prefix:
        settings = settings.replace(mount_prefix=options.mount_prefix)
    application = ServerApplication(settings, with_worker=options.with_worker, with_scheduler=options.with_scheduler)
    draining = Draining(application.app)
    mounted: App = Mounted(draining, options.mount_prefix) if options.mount_prefix else draining
    reported = Reported(mounted)
    config = server_config(
        reported,
        settings,
        connection_grace=settings.request_grace,
        proxy_headers=options.proxy_headers,
        forwarded_allow_ips=options.forwarded_allow_ips,
        timeout_keep_alive=options.keep_alive,
    )
    server = _Leaving(config, on_started, application, draining, settings.shutdown_delay)
    run(server, reported, listener)
    leave_nodes_behind(int(application.crashed))
    if application.crashed:
        sys.exit(1)


def main() -> None:
    """A child of ``serve --workers N``."""
    parser = argparse.ArgumentParser(prog=MODULE)
    parser.add_argument("--options", type=json.loads, required=True)
    add_arguments(parser)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_signals()

    def serve(report: Report) -> None:
        options = ServeOptions(**arguments.options)
        settings = read_settings(Path(options.config), os.environ, carry_over=True)
        serve_here(options, settings, socket.socket(fileno=arguments.listen_fd), lambda: report("started"))

    as_child(arguments, serve)


if __name__ == "__main__":
    main()
