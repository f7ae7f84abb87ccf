"""Requests to the long-lived server that never come to their end: cut off, and what they may take meanwhile is bounded.

uvicorn waits for the rest of a request as long as its client likes, and keeps what has come; a header may be as long as memory goes.
Here a request has ``PATIENCE`` seconds, and one more for every ``LEAST_RATE`` bytes that have come: so a large body may take its time
and a client that sends a byte now and then may not. Bytes that lead to nothing (a head without an end, a header behind the body)
are refused beyond ``MOST_SILENT``. A connection on which nothing was ever asked is kept as long as one that waits for the next request.

Time does not count while it is the application that does not read. Bodies are bounded elsewhere (``http/middleware.py``).
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from langgraph_serverless.telemetry import logger

#: Seconds for the head and the first bytes of a body.
PATIENCE = 30.0
#: Bytes per second that a body may not fall below for long.
LEAST_RATE = 1000.0
#: Bytes without a request, a piece of a body or an end in them: the head's, for the most part. What came with the last read is on top.
MOST_SILENT = 64 * 1024

_REFUSAL = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class PromptRequests(HttpToolsProtocol):
    """uvicorn's protocol, which does not wait for ever."""

    request_patience: float = PATIENCE

    #: When what is awaited began; None while nothing is, but another request or the application.
    _since: float | None = None
    _received = 0
    _silent = 0
    _in_head = True
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._silent += len(data)
        super().data_received(data)
        if self._silent > MOST_SILENT and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large", "a head of a request without an end was refused")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since, self._received, self._in_head = self.loop.time(), 1, True

    def on_header(self, name: bytes, value: bytes) -> None:
        # one behind the body would be added to those that middleware has looked at already
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._silent, self._in_head = 0, False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._silent, self._since = 0, None
        super().on_message_complete()

    def _watch_later(self) -> None:
        self._watch = self.loop.call_later(self.request_patience / 4, self._look_at_request)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def _look_at_request(self) -> None:
        if self.transport.is_closing():
            return
        now = self.loop.time()
        if self._since is not None:
            if self.flow.read_paused:
                self._since = now
            allowed = self.request_patience + self._received / LEAST_RATE
            if not self._received:
                allowed = max(allowed, self.timeout_keep_alive)
            if now - self._since > allowed:
                self._refuse(b"408 Request Timeout", "a request took too long to come")
                return
        self._watch_later()

    def _refuse(self, status: bytes, why: str) -> None:
        logger.info(why, extra={"action": "request_refused", "bytes": self._received})
        cycle = self.cycle  # the last request's, as long as the next one's head has not come
        # a connection that was opened beforehand, and not used, is closed without a word that nobody has asked for
        if self._received and (
            cycle is None or (cycle.response_complete if self._in_head else not cycle.response_started)
        ):
            self.transport.write(_REFUSAL % status)
        self.transport.close()
