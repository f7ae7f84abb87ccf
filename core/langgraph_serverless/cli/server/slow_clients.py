"""Connections of the long-lived server whose clients take nothing any more.

A slow client costs what is on its way to it: uvicorn stops a response once 64 kB are unsent, and the stream's reader then holds
one batch. That may last as long as the client likes, as long as it takes something. One that has stopped, as a process that is
paused or a machine that is gone behind a proxy, would hold it for ever, also after the response has ended or failed: a
connection is not closed before what is left has been sent. So it is cut off after a time without a single byte taken.

Whether anything was taken shows in the size of what is left, here and with the kernel, since nothing is added while a response
is stopped. The kernel's part counts where it can be asked for: it takes a megabyte or two, and then long nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from langgraph_serverless.telemetry import logger


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, for a while."""

    #: How long a client may take nothing of what is there for it (seconds); found out after twice that at the latest.
    patience: float

    _left = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._left = 0
        super().resume_writing()

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._look)

    def _look(self) -> None:
        unsent, closing = self.transport.get_write_buffer_size(), self.transport.is_closing()
        if closing and not unsent:
            return  # also one that has become somebody else's, as a WebSocket
        left = unsent + _with_the_kernel(self.transport)
        if unsent and left == self._left and (closing or self.flow.write_paused):
            logger.warning(
                "a client has taken nothing for %g seconds and is cut off",
                self.patience,
                extra={"action": "client_stuck"},
            )
            self.transport.abort()
            return
        self._left = left
        self._look_later()


def _with_the_kernel(transport: asyncio.Transport) -> int:
    """What of it the client has not acknowledged."""
    answer = bytearray(struct.calcsize("i"))
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, answer)
    except OSError:
        return 0  # not on this system
    left: int = struct.unpack("i", answer)[0]
    return left


def patient_for(seconds: float) -> type[Any]:
    """The protocol with this patience, for ``uvicorn.Config(http=...)``."""
    return type("PatientProtocol", (PatientProtocol,), {"patience": seconds})
