"""The life of a function's process: load the handler, then answer one event after the other until there are no more.

All invocations run in the handler's event loop, which stands still between them, as the sandbox does; so pools and clients
that were opened in one are usable in the next. A request is streamed; every other event (a question of another function, a
direct invoke) is given to the handler as the managed client would, and answered in one piece.

SIGTERM, which Lambda sends before it ends the sandbox of a function with an extension, breaks off the answer under way
as a deadline does, and ends the process in order.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from langgraph_serverless.lambda_runtime.client import Invocation, RuntimeClient
from langgraph_serverless.lambda_runtime.context import LambdaContext
from langgraph_serverless.lambda_runtime.events import is_request
from langgraph_serverless.lambda_runtime.exchange import Application, Exchange
from langgraph_serverless.lambda_runtime.lifespan import Lifespan
from langgraph_serverless.lambda_runtime.response import StreamedResponse
from langgraph_serverless.lambda_runtime.snapshot import take_snapshot

logger = logging.getLogger(__name__)

#: Lambda sends SIGKILL half a second to two seconds after SIGTERM.
_LAST_WORDS = 0.4
_TRACE = "_X_AMZN_TRACE_ID"


class Handler(Protocol):
    """What the function's ``Handler`` setting names: a callable as everywhere, and three things more."""

    @property
    def app(self) -> Application:
        """The application that answers requests."""

    def __call__(self, event: Any, context: Any) -> Any:
        """Answers an event that is no request."""

    def stream(self, event: dict[str, Any], context: Any, exchange: Exchange) -> Any:
        """Answers a request; may raise what the application has raised."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine to its end in the process's event loop."""


class RuntimeLoop:
    """Answers events; ``serve`` returns when there will be no more."""

    def __init__(self, client: RuntimeClient, handler: Handler) -> None:
        self._client = client
        self._handler = handler
        self._lifespan = Lifespan(handler.app)
        self._stopping = asyncio.Event()
        self._waits = False
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """The application's start-up."""
        self._handler.run(self._start())
        signal.signal(signal.SIGTERM, self._terminate)

    def serve(self) -> None:
        while (invocation := self._next()) is not None:
            self._trace(invocation)
            self._handle(invocation)
        self._handler.run(self._stop())

    async def _start(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        await self._lifespan.start()

    async def _stop(self) -> None:
        try:
            await asyncio.wait_for(self._lifespan.stop(), _LAST_WORDS)
        except Exception as error:
            logger.warning("The application was not shut down in order: %r", error)

    def _next(self) -> Invocation | None:
        if self._stopping.is_set():
            return None
        self._waits = True
        try:
            return self._client.next()
        except _Terminated:
            return None
        finally:
            self._waits = False

    def _terminate(self, *_: Any) -> None:
        if self._waits:
            raise _Terminated
        assert self._event_loop is not None
        self._event_loop.call_soon_threadsafe(self._stopping.set)

    @staticmethod
    def _trace(invocation: Invocation) -> None:
        """What X-Ray's libraries read."""
        trace = invocation.headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ[_TRACE] = trace
        else:
            os.environ.pop(_TRACE, None)

    def _handle(self, invocation: Invocation) -> None:
        response = StreamedResponse(self._client.address, invocation.request_id)
        try:
            context = LambdaContext(invocation.headers)
            event = json.loads(invocation.payload)
            if is_request(event):
                exchange = Exchange(event, context, response, self._stopping, self._lifespan.state)
                self._handler.stream(event, context, exchange)
            else:
                self._client.respond(invocation.request_id, self._handler(event, context))
        except Exception as error:
            logger.exception("The invocation has failed", extra={"action": "invocation"})
            if response.begun:
                self._handler.run(response.break_off(error))
            else:
                self._client.fail(invocation.request_id, error)


class _Terminated(BaseException):
    """Out of the wait for an event; not an ``Exception``, so that nobody on the way takes it for one."""


def load(name: str) -> Handler:
    """The handler that is named as in the function's settings: ``package.module.attribute``."""
    module, _, attribute = name.replace("/", ".").rpartition(".")
    return cast(Handler, getattr(importlib.import_module(module), attribute))


def main() -> None:
    """The process."""
    # what is still in a buffer when the sandbox is frozen comes out with the next invocation, or never
    cast(Any, sys.stdout).reconfigure(line_buffering=True)
    client = RuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        loop = RuntimeLoop(client, load(os.environ["_HANDLER"]))
        loop.start()
    except BaseException as error:
        client.fail_init(error)
        raise
    take_snapshot(client)
    loop.serve()
