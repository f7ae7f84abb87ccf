"""One request: an ASGI application is run for it, and what it sends is passed on piece by piece as it comes.

It ends when the application has answered, and then at once, since every moment is paid for; or shortly before the function's
time does, or when the sandbox is to end. Then the application is cancelled, as a server does at its own shutdown, and the
answer is broken off between two pieces. To the application that is not the client's leaving, of which it hears as
``http.disconnect`` and of which Lambda tells us nothing but that the Runtime API takes no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from langgraph_serverless.lambda_runtime.context import LambdaContext
from langgraph_serverless.lambda_runtime.events import to_asgi, to_metadata
from langgraph_serverless.lambda_runtime.response import StreamedResponse

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

#: How long a cancelled application may take to put its things in order.
LONGEST_GOODBYE = 2.0
_WITHOUT_BODY = frozenset({204, 304})
#: A comment, which clients skip. An answer without a body is one that Lambda has been seen not to end: the client would hang.
_NO_EVENTS = b":\r\n"


class Ending(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    CLIENT_GONE = "client_gone"
    BROKEN_OFF = "broken_off"


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    ending: Ending


class TimeIsUpError(Exception):
    """The invocation or its sandbox is about to end; what the client has is a beginning."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    Args:
        stopping: set when the sandbox is to end.
        state: what the application's start-up has left for its requests.
    """

    event: dict[str, Any]
    context: LambdaContext
    response: StreamedResponse
    stopping: asyncio.Event
    state: Mapping[str, Any] = field(default_factory=dict)

    async def answer(self, app: Application, *, margin: float) -> Outcome:
        """Answer the request with an application.

        Args:
            margin: seconds before the end of the invocation at which the answer is broken off, but not before half of
                the time is over.

        Raises:
            TimeIsUpError: the time was up before the application has answered.
            Exception: the application's own. If ``response.begun``, the client has got a part of the answer.
        """
        remaining = self.context.get_remaining_time_in_millis() / 1000
        cycle = _Cycle(self)
        answering = asyncio.ensure_future(app(cycle.scope, cycle.receive, cycle.send))
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait(
                {answering, stopping},
                timeout=max(remaining - margin, remaining / 2),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopping.cancel()
        if not answering.done():
            patience = min(LONGEST_GOODBYE, margin / 4)
            await cycle.between_events(answering, patience=patience)
            answering.cancel()
            await asyncio.wait({answering}, timeout=patience)
            # it may have been about to end just then
            if not self.response.complete and not self.response.gone:
                error = TimeIsUpError("The invocation is about to end; the client goes on with another one")
                if not self.response.begun:
                    raise error
                await self.response.break_off(error, patience=patience)
                return Outcome(cycle.status, Ending.BROKEN_OFF)
        if self.response.gone:
            return Outcome(cycle.status, Ending.CLIENT_GONE)
        if answering.done() and not answering.cancelled() and (failed := answering.exception()) is not None:
            raise failed
        if not self.response.complete:
            raise RuntimeError("The application has ended without a whole answer")
        return Outcome(cycle.status, Ending.COMPLETE)


class _Cycle:
    """What the application is given."""

    def __init__(self, exchange: Exchange) -> None:
        scope, body = to_asgi(exchange.event, exchange.context)
        self.scope: Message = {**scope, "state": dict(exchange.state)}
        self.status = 0
        self._exchange = exchange
        self._body: bytes | None = body
        self._silent = scope["method"] == "HEAD"
        self._events = self._sent = False
        self._whole = asyncio.Event()
        self._whole.set()
        self._closing = False

    async def between_events(self, answering: asyncio.Future[None], *, patience: float) -> None:
        """Let the application send no more than the rest of the event that it is sending now."""
        self._closing = True
        whole = asyncio.create_task(self._whole.wait())
        either: set[asyncio.Future[Any]] = {whole, answering}
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        whole.cancel()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._exchange.response.closed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        response = self._exchange.response
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._silent = self._silent or self.status in _WITHOUT_BODY
            headers = list(message.get("headers", ()))
            self._events = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
            )
            await response.begin(to_metadata(self._exchange.event, self.status, headers))
            if self._silent:  # a stream would go on for as long as the function may, with nobody to see it
                await response.finish()
        elif message["type"] == "http.response.body" and not self._silent:
            if self._closing and self._whole.is_set():
                await asyncio.Future()  # until it is cancelled
            piece = message.get("body", b"")
            last = not message.get("more_body", False)
            if last and not (piece or self._sent) and self._events:
                piece = _NO_EVENTS
            await response.write(piece)
            self._sent = self._sent or bool(piece)
            if piece and self._events:
                # large events come in several pieces; what ends one is a blank line
                (self._whole.set if piece.endswith((b"\n\n", b"\r\n\r\n")) else self._whole.clear)()
            if last:
                await response.finish()
