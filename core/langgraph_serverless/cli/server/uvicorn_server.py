"""uvicorn as all long-lived processes of ours run it: parsers and loop in C, patient with slow clients to a point, quiet in the log.

``Reported`` and ``Server`` make a failed start one exception instead of a log line: ``run`` raises what the application's own
start-up has raised.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from langgraph_serverless.cli.server.one_write import OneWrite
from langgraph_serverless.cli.server.slow_clients import patient_for
from langgraph_serverless.cli.server.slow_requests import PromptRequests
from langgraph_serverless.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

#: How long a connection may be idle (seconds): longer than clients and load balancers keep one (60 is the default of AWS's), so that
#: it is they who close it. Where the server does, a request that is on its way is lost, and httpx, whose limit is the 5 s of
#: uvicorn's default, does not send a POST again.
KEEP_ALIVE = 75


class Reported:
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


class Server(uvicorn.Server):
    """uvicorn that tells when it serves."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        log = logging.getLogger("uvicorn.error")
        log.setLevel(logging.CRITICAL)  # "Application startup failed" says less than our report
        await super().startup(sockets)
        log.setLevel(logging.WARNING)
        self._on_started()


def server_config(app: App, settings: Settings, *, connection_grace: float, **options: Any) -> uvicorn.Config:
    """What every server of ours has in common.

    Args:
        connection_grace: seconds that answers may take after the stop before they are cut.
        options: further ones of uvicorn's.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=type("Protocol", (OneWrite, PromptRequests, patient_for(settings.stream_write_timeout)), {}),
        ws="websockets-sansio",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # a quarter of a megabyte for each socket
        lifespan="on",
        access_log=False,  # telemetry logs requests
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(connection_grace),
        **{"timeout_keep_alive": KEEP_ALIVE, **options},
    )


def run(server: Server, app: Reported, listener: socket.socket) -> None:
    """Serve until the end.

    Raises:
        Exception: the application's own, if it did not start.
    """
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        try:
            runner.run(server.serve(sockets=[listener]))
        except SystemExit:  # how uvicorn says that the application did not start
            if app.error is None:
                raise
        if app.error is not None:  # raised here, where its own cause stays with it
            raise app.error
