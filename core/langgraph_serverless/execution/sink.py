"""What a running graph emits, on its way to the event log.

Events are appended in batches, by time: what comes within ``GATHER`` goes out together, and an event after a silence at once. Two
do not wait: the first word of a model or of the graph's own, and whatever fills a batch. While an append is on its way the next batch
gathers, so batches also grow as fast as the log is slow. The graph waits only when ``MAX_PENDING`` events or
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
#: Between the beginnings of two appends, and from the run's beginning to the first one (seconds). An append costs worker and Redis
#: as much as a superstep; nobody sees that an event is later by this much.
GATHER = 0.004
#: Where many runs share the loop they come forward more slowly, so it is longer there: by how late the loop is, which shows what one of its
#: turns takes, times as many as a superstep needs, up to this (seconds).
TURNS, LONGEST_GATHER = 16, 0.025
#: Names of events that somebody is waiting for begin with one of these; the first such event of a run goes out at once.
WORDS = ("messages", "custom", "events")


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
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._not_before = self._loop.time() + GATHER
        self._asked = 0.0
        self._spoken = False
        self._room = asyncio.Event()
        self._room.set()
        #: No log, or the lease is lost: events are dropped.
        self._broken = log is None
        self._out_of_reach = False
        #: How many events there have been.
        self.emitted = 0

    async def emit(self, event: Event) -> None:
        """Queue an event; waits only for room."""
        if self._broken:
            return
        self._pending.append(event)
        self._pending_bytes += len(event.data)
        self.emitted += 1
        if self._flusher is None:
            if not self._spoken and event.name.startswith(WORDS):
                self._spoken = True
                self._begin()
            elif self._enough or self._loop.time() >= self._not_before:
                self._begin()
            elif self._timer is None:
                self._timer = self._loop.call_at(self._not_before, self._on_time)
        if self._full:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        """Wait until everything emitted so far has been appended (or dropped)."""
        while self._flusher is not None or self._pending:
            if self._flusher is None:
                self._begin()
            assert self._flusher is not None
            await asyncio.wait([self._flusher])

    async def told(self, seconds: float) -> None:
        """Have everything emitted so far appended, and wait for that, but not longer than this."""
        if self._out_of_reach:
            return
        if self._flusher is None and self._pending:
            self._begin()
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=seconds)

    def _on_time(self) -> None:
        self._timer = None
        more = min(TURNS * (self._loop.time() - self._not_before), LONGEST_GATHER)
        if more > GATHER:
            self._timer = self._loop.call_later(more, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flusher is None and self._pending:
            self._asked = self._loop.time()
            self._flusher = self._loop.create_task(self._flush())

    @property
    def _enough(self) -> bool:
        return len(self._pending) >= MAX_BATCH or self._pending_bytes >= MAX_BATCH_BYTES or self._full

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
        gather = min(max(GATHER, TURNS * (self._loop.time() - self._asked)), LONGEST_GATHER)
        try:
            while self._pending and log is not None:
                self._not_before = self._loop.time() + gather
                batch = self._next_batch()
                if not self._full:
                    self._room.set()
                if not self._held():
                    self._give_up()
                    self._on_lost()
                    return
                await self._append(log, batch)
                if not self._enough and self._loop.time() < self._not_before:
                    return
        finally:
            self._flusher = None
            if self._pending and self._timer is None:
                self._timer = self._loop.call_at(self._not_before, self._on_time)

    async def _append(self, log: EventAppender, batch: list[Event]) -> None:
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
