"""How a server that is to leave lets go of its streams: each is broken off after a whole event, and its client comes back elsewhere.

Wraps the application. Until ``begin`` everything passes as it is. From then on an answer whose length nobody knows beforehand
ends where a client can take it up again: a stream of events behind an event that carries an id, or a cursor, of which there is one
within a keep-alive; a wait at once. The application sees what it sees at every shutdown of a server: its task is cancelled, so
``on_disconnect`` cancels no run. Answers of a known length, and requests that have not been answered, are left alone: whoever
runs the server waits for them.

Relies on ``STREAM_CARRY_OVER`` for streams to have ids, and on the server closing the connection of an answer without an end.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVENT_END = (b"\n\n", b"\r\n\r\n")


class Draining:
    """One application, and the answers that it is sending."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[_Answer] = set()
        self.begun = False
        #: Answers that have been broken off.
        self.broken_off = 0

    def begin(self) -> None:
        """Break off what goes on for long; what begins from now on too. Call it on the application's event loop."""
        self.begun = True
        for answer in list(self._open):
            answer.break_off()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(self, send)
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not answer.broken:
                raise
            # to the server this request has ended; what it cannot finish is the connection
            answer.task.uncancel()
            self.broken_off += 1
        finally:
            self._open.discard(answer)

    def _note(self, answer: _Answer) -> None:
        self._open.add(answer)


class _Answer:
    def __init__(self, draining: Draining, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.broken = False
        self._draining = draining
        self._send = send
        self._events = self._whole = False

    def break_off(self) -> None:
        """Now, if a client that has what was sent so far misses nothing by it; otherwise the next piece decides."""
        if self._whole and not self.broken:
            self.broken = True
            self.task.cancel()

    async def send(self, message: Message) -> None:
        if self.broken:
            await asyncio.Future()  # the cancellation is on its way
        await self._send(message)
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            if b"content-length" in headers:
                return
            self._events = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            self._whole = not self._events
            self._draining._note(self)
        elif not message.get("more_body", False):
            self._whole = False  # there is nothing left to break off
            return
        elif self._events and (piece := message.get("body", b"")):
            self._whole = piece.endswith(_EVENT_END)
        if self._draining.begun:
            self.break_off()
