"""Connections of the long-lived server whose clients take nothing any more.

A slow client costs what is on its way to it: uvicorn stops a response once 64 kB are unsent, and the stream's reader then holds
one batch. That may last as long as the client likes, as long as it takes something. One that has stopped, as a process that is
paused or a machine that is gone behind a proxy, would hold it for ever, also after the response has ended or failed: a
connection is not closed before what is left has been sent. So it is cut off after a time without a single byte taken.

Whether anything was taken shows in the size of what is unsent, since nothing is added while a response is stopped.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from langgraph_serverless.telemetry import logger


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, for a while."""

    #: How long a client may take nothing of what is there for it (seconds); found out after twice that at the latest.
    patience: float

    _unsent = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        self._unsent = 0
        super().resume_writing()

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._look)

    def _look(self) -> None:
        unsent, closing = self.transport.get_write_buffer_size(), self.transport.is_closing()
        if closing and not unsent:
            return  # also one that has become somebody else's, as a WebSocket
        if unsent and unsent == self._unsent and (closing or self.flow.write_paused):
            logger.warning(
                "a client has taken nothing for %g seconds and is cut off",
                self.patience,
                extra={"action": "client_stuck"},
            )
            self.transport.abort()
            return
        self._unsent = unsent
        self._look_later()


def patient_for(seconds: float) -> type[Any]:
    """The protocol with this patience, for ``uvicorn.Config(http=...)``."""
    return type("PatientProtocol", (PatientProtocol,), {"patience": seconds})
