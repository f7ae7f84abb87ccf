"""Responses that are sent piece by piece: server-sent events, and JSON that is waited for.

Plain ASGI and one ``send`` for each piece; whoever makes the pieces puts together what is ready. A client that goes away is
noticed at once, also while nothing is sent, and then the pieces are no longer asked for. The server's own shutdown is no
such thing: it cancels the response, and ``on_disconnect`` is not called.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from langgraph_serverless.domain.events import Event
from langgraph_serverless.streaming import sse

#: Proxies must neither keep a stream nor hold it back.
_SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "keep-alive"}

Pieces = AsyncGenerator[bytes, None]
OnDisconnect = Callable[[], Awaitable[None]]


class StreamedResponse(Response):
    """Sends the pieces as they come.

    Args:
        on_disconnect: called if the client goes away before the last piece.
    """

    def __init__(
        self, pieces: Pieces, *, media_type: str, headers: Mapping[str, str], on_disconnect: OnDisconnect | None = None
    ) -> None:
        # not the parent's constructor, which would render a body and count its length
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._pieces = pieces
        self._on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        listening = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            left = not sending.done()
        finally:
            sending.cancel()
            listening.cancel()
            outcome, _ = await asyncio.gather(sending, listening, return_exceptions=True)
        if isinstance(outcome, OSError):  # how some servers say that the client has gone
            left = True
        elif isinstance(outcome, Exception):
            raise outcome
        if left and self._on_disconnect is not None:
            await asyncio.shield(self._on_disconnect())

    async def _send(self, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event_stream(
    batches: AsyncGenerator[Sequence[Event], None],
    *,
    with_ids: bool,
    headers: Mapping[str, str],
    keepalive: float,
    on_disconnect: OnDisconnect | None = None,
    cursor: str | None = None,
) -> StreamedResponse:
    """Server-sent events; those of a batch go out together, unless they are large.

    Args:
        keepalive: a heartbeat is due each time these seconds have passed; it goes out with the next batch.
        cursor: what a client that is cut off before its first event comes back with.
    """
    return StreamedResponse(
        _frames(batches, with_ids, keepalive, cursor),
        media_type=sse.MEDIA_TYPE,
        headers={**_SSE_HEADERS, **headers},
        on_disconnect=on_disconnect,
    )


async def _frames(
    batches: AsyncGenerator[Sequence[Event], None], with_ids: bool, keepalive: float, cursor: str | None
) -> Pieces:
    due = time.monotonic() + keepalive
    async with aclosing(batches):
        async for batch in batches:
            late = time.monotonic() - due
            if late >= 0:
                due += keepalive * (1 + late // keepalive)  # counted from the connect, as on the official server
            if late >= 0 or not batch:
                yield sse.HEARTBEAT if cursor is None else sse.heartbeat_at(cursor)
            for piece in sse.pieces(batch, with_ids=with_ids):
                yield piece
            cursor = None


def awaited_json(
    pieces: Pieces, *, headers: Mapping[str, str], on_disconnect: OnDisconnect | None = None
) -> StreamedResponse:
    """JSON that keeps the connection alive with newlines until it is there."""
    return StreamedResponse(pieces, media_type="application/json", headers=headers, on_disconnect=on_disconnect)
