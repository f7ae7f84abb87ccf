"""What a running graph emits, on its way to the event log.

Events are appended in batches: the first one at once, later ones together with whatever has come while the previous batch
was on its way, so batches grow exactly as fast as the log is slow. The graph waits only when ``MAX_PENDING`` events are on
the way, which bounds memory. If the log is out of reach the run goes on: the log keeps what it was given and sends it with
the next batch, or ends the stream, and then its readers fall back to the run's row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ports import EventAppender
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000
#: Events in one append; bounds the size of a command.
MAX_BATCH = 500


class EventSink:
    """The ordered, buffered way from one run to the event log."""

    def __init__(self, log: EventAppender | None, lease: Lease, *, on_lost: Callable[[], None]) -> None:
        self._log = log
        self._lease = lease
        self._on_lost = on_lost
        self._pending: list[Event] = []
        self._flusher: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        #: No log, or the lease is lost: events are dropped.
        self._broken = log is None
        self._out_of_reach = False

    async def emit(self, event: Event) -> None:
        """Queue an event; waits only for room."""
        if self._broken:
            return
        self._pending.append(event)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        if len(self._pending) >= MAX_PENDING:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Wait until everything emitted so far has been appended (or dropped)."""
        while self._flusher is not None and not self._flusher.done():
            await asyncio.wait([self._flusher])

    async def _flush(self) -> None:
        log = self._log
        while self._pending and log is not None:
            batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
            if len(self._pending) < MAX_PENDING:
                self._room.set()
            try:
                await log.append(self._lease, batch)
            except LeaseLostError:
                self._give_up()
                self._on_lost()
            except UnavailableError as error:
                if not self._out_of_reach:
                    about = {"action": "append", "run_id": str(self._lease.run_id)}
                    logger.warning("event log out of reach: %s", error, extra=about)
                self._out_of_reach = True
            else:
                self._out_of_reach = False

    def _give_up(self) -> None:
        self._broken = True
        self._pending.clear()
        self._room.set()
