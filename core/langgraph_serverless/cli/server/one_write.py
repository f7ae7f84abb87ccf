"""An answer's head and its body, or what there is of it by then, in one write.

uvicorn writes the head when the application begins to answer, and uvloop sends at once what is written: two system calls, two
packets, and a client that is woken twice, for an answer that was there as a whole. Here the head waits for the first piece of the body,
but never longer than until the event loop turns: the head of a stream that has nothing yet goes out by itself.

Relies on uvicorn giving each request's cycle the transport to write to.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol, which holds heads back for a moment."""

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            # its task has not begun yet
            self.cycle.transport = _Gathering(self.transport, self.loop)  # type: ignore[assignment]


class _Gathering:
    """As much of a transport as one request and its answer need."""

    __slots__ = ("_begun", "_head", "_later", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._begun = False
        self._head = b""
        self._later: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if not self._begun:
            self._begun, self._head = True, data
            self._later = self._loop.call_soon(self._write_head)
        elif self._head:
            self._written()
            if data:
                self._transport.writelines((self._take(), data))
            else:
                self._write_head()
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._written()
        self._write_head()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _written(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _take(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _write_head(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._take())
