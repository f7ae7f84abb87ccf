"""What a running graph emits, on its way to the event log.

Events are appended in batches: the first one at once, later ones together with whatever has come while the previous batch
was on its way, so batches grow exactly as fast as the log is slow. The graph waits only when ``MAX_PENDING`` events or
``MAX_PENDING_BYTES`` are on the way, which bounds memory. If the log is out of reach the run goes on: the log keeps what it was given and sends it with
the next batch, or ends the stream, and then its readers fall back to the run's row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ports import EventAppender
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000
MAX_PENDING_BYTES = 16 * 2**20
#: Events in one append, and when no further one is added to it; they bound the size of a command.
MAX_BATCH = 500
MAX_BATCH_BYTES = 2**20


class EventSink:
    """The ordered, buffered way from one run to the event log."""

    def __init__(
        self,
        log: EventAppender | None,
        lease: Lease,
        *,
        on_lost: Callable[[], None],
        held: Callable[[], bool] = lambda: True,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            on_lost: called when the log refuses events, or ``held`` does.
            held: whether the lease can still be ours. The log knows a new owner only by its first event, so whoever has
                stood still asks before each batch.
            about: what the process's log says about the run.
        """
        self._log = log
        self._lease = lease
        self._on_lost = on_lost
        self._held = held
        #: What the log says about the run.
        self._about = {"action": "append", **(about or {"run_id": str(lease.run_id), "lease": lease.name})}
        self._pending: deque[Event] = deque()
        self._pending_bytes = 0
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
        self._pending_bytes += len(event.data)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        if self._full:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Wait until everything emitted so far has been appended (or dropped)."""
        while self._flusher is not None and not self._flusher.done():
            await asyncio.wait([self._flusher])

    @property
    def _full(self) -> bool:
        return len(self._pending) >= MAX_PENDING or self._pending_bytes >= MAX_PENDING_BYTES

    def _next_batch(self) -> list[Event]:
        batch: list[Event] = []
        size = 0
        while self._pending and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += len(batch[-1].data)
        self._pending_bytes -= size
        return batch

    async def _flush(self) -> None:
        log = self._log
        while self._pending and log is not None:
            batch = self._next_batch()
            if not self._full:
                self._room.set()
            if not self._held():
                self._give_up()
                self._on_lost()
                return
            try:
                await log.append(self._lease, batch)
            except LeaseLostError:
                self._give_up()
                self._on_lost()
            except UnavailableError as error:
                if not self._out_of_reach:
                    logger.warning("event log out of reach: %s", error, extra=self._about)
                self._out_of_reach = True
            except Exception:
                # nobody foresaw it; a graph that waits for room must not wait for ever because of it
                logger.exception("events dropped", extra=self._about)
                self._give_up()
            else:
                self._out_of_reach = False

    def _give_up(self) -> None:
        self._broken = True
        self._pending.clear()
        self._pending_bytes = 0
        self._room.set()
