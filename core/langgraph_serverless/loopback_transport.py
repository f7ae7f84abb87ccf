"""httpx's way to the application in this process (``loopback``): as over HTTP, piece by piece, without a socket.

Promises that a piece is there as soon as the application has sent it, which httpx's own transport for ASGI does not, and that a client
that closes an answer early is noticed by the application as one that has gone. A client on another event loop than the
application's gets its pieces across threads; the application never leaves its own loop.

What is sent and not yet read is kept in memory: both ends are in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from langgraph_serverless.loopback import NoApplicationError, found

Message = dict[str, Any]

#: Requests that go on although nobody waits for them any more; the loop itself keeps no task alive.
_running: set[asyncio.Future[Any]] = set()


class LoopbackTransport(httpx.AsyncBaseTransport):
    """Has the arguments of ``httpx.ASGITransport``, none of which matters."""

    def __init__(self, app: Any = None, **_: Any) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        offer = found()
        body = b"".join([piece async for piece in request.stream])
        exchange = _Exchange({**_scope(request), **offer.mark()}, body)
        exchange.start(offer.loop, lambda: offer.app)
        try:
            start = await exchange.next()
        except BaseException:
            exchange.leave()
            raise
        if start is None:
            raise NoApplicationError("The server in this process has not answered.")
        return httpx.Response(start["status"], headers=start["headers"], stream=_Body(exchange))


class _Exchange:
    """One request: the application's side runs on its loop, the client's on the loop that this is made on."""

    def __init__(self, scope: Message, body: bytes) -> None:
        self._scope = scope
        self._body: bytes | None = body
        self._here = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        self._there: asyncio.AbstractEventLoop = self._here
        self._gone = asyncio.Event()

    def start(self, there: asyncio.AbstractEventLoop, app: Callable[[], Any]) -> None:
        self._there = there
        if there is self._here:
            self._start(app)
        else:
            there.call_soon_threadsafe(self._start, app)

    def _start(self, app: Callable[[], Any]) -> None:
        # LangGraph would take what the application does with a graph for a part of the graph that calls
        task = self._there.create_task(self._run(app), context=contextvars.Context())
        _running.add(task)
        task.add_done_callback(_running.discard)

    async def next(self) -> Message | None:
        """The application's next message; None when it has ended."""
        return await self._messages.get()

    def leave(self) -> None:
        """The client takes nothing more."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed, and everything on it has ended
            self._there.call_soon_threadsafe(self._gone.set)

    async def _run(self, app: Callable[[], Any]) -> None:
        try:
            await app()(self._scope, self._receive, self._send)
        finally:
            self._hand(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise OSError("The client has gone")
        self._hand(message)

    def _hand(self, message: Message | None) -> None:
        if self._there is self._here:
            self._messages.put_nowait(message)
            return
        try:
            self._here.call_soon_threadsafe(self._messages.put_nowait, message)
        except RuntimeError:  # the client's loop is closed
            self._gone.set()


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._exchange.next()) is not None:
            if piece := message.get("body", b""):
                yield piece
            if not message.get("more_body", False):
                self._whole = True
                return
        raise httpx.RemoteProtocolError("The server in this process has broken its answer off.")

    async def aclose(self) -> None:
        # the application's ``receive`` waits for this after a whole answer too
        self._exchange.leave()


def _scope(request: httpx.Request) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
        "root_path": "",
        "extensions": {},
    }
