"""Following one thread for one reader: its runs one after the other, whatever becomes of their logs and of the index.

::

    index ──pump──▶ queue ──▶ a run: its log up to its end ──▶ the next one …
                          └─▶ a state update

The index says which runs there are; each is followed to its end (``following.py``), and a run is known to be over when the next
one is announced, so its row is looked at then if its log does not say so. While Redis is away, and for a while after, rows are
looked at for runs that nobody announces (``thread_rows.py``). An idle reader has one place in the hub, and no connection.

Ids only grow, as readers come back with them. Nearly all are those of the logs; what comes without one, or was appended before
what has been delivered already (the end of a run that was cancelled in the queue), gets the one right behind the last.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from langgraph_serverless.domain.cursors import FROM_THE_START
from langgraph_serverless.domain.events import GAP, Event, is_gap
from langgraph_serverless.domain.ports import EventReader
from langgraph_serverless.domain.thread_events import RUN, STATE_UPDATE, ThreadEvent, ThreadRun
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.thread_runs import RecentRuns
from langgraph_serverless.services.following import FIRST_POLL, LONGEST_POLL, Batches, Instead, RunFollower
from langgraph_serverless.services.thread_resuming import Begin, place, plan
from langgraph_serverless.services.thread_rows import ThreadRows
from langgraph_serverless.streaming.thread_index import IndexView, ThreadIndex

ThreadBatches = AsyncGenerator[Sequence[ThreadEvent], None]

#: What waits to be delivered while a run is being read; then the index is not read on.
MOST_WAITING = 16
#: Runs that a reader remembers; it is told of some more than once.
MOST_KNOWN = 2000
#: For how long after Redis was away rows are looked at (seconds): logs try for as long to say what they have.
DOUBTS = 75.0
#: How long the log of a run may be silent when the next one is known (seconds).
SOON = 0.2


@dataclass(slots=True)
class _Known:
    run: ThreadRun
    ended: bool = False


class ThreadFollower:
    """One reader of one thread; ``batches`` once."""

    def __init__(
        self,
        thread_id: uuid.UUID,
        *,
        events: EventReader,
        index: ThreadIndex,
        runs: RunFollower,
        rows: ThreadRows,
        keepalive: float,
    ) -> None:
        self._thread_id = thread_id
        self._events = events
        self._index = index
        self._runs = runs
        self._rows = rows
        self._keepalive = keepalive
        self._queue: asyncio.Queue[Begin | Event] = asyncio.Queue(MOST_WAITING)
        self._known: dict[uuid.UUID, _Known] = {}
        self._current: _Known | None = None
        #: The next run has been announced.
        self._hurry = asyncio.Event()
        self._away_at: float | None = None
        self._stamps = Stamps()
        #: Where the sequence numbers of the next run begin, as far as is known.
        self._next_base: int | None = None
        self._found: tuple[IndexView, RecentRuns] | None = None

    async def begin(self, after: str | None) -> None:
        """Take the place in the thread's events at which ``batches`` begins; it does so itself if this is not called, or fails."""
        self._found = await self._look(after)

    async def batches(self, after: str | None) -> ThreadBatches:
        """See ``ThreadStreamService.follow``."""
        pause, beat = FIRST_POLL, Beat(self._keepalive)
        while (found := self._found or await self._look(after)) is None:
            events = await self._from_rows()
            if events or beat.due():
                yield events
            await asyncio.sleep(min(pause, self._keepalive))
            pause = min(pause * 1.5, LONGEST_POLL)
        view, recent = found
        self._next_base = view.next_base if view.made == recent.made else None
        if after is not None:
            self._stamps.last = place(after)
        ready = [
            first
            for first in plan(view, recent, after)
            if isinstance(first, Event) or first.run.run_id not in self._known
        ]
        begins = [first for first in ready if isinstance(first, Begin)]
        if after is None:
            # what is delivered comes after what there is, also if it has no id of its own
            self._stamps.last = max([place(first.after) for first in begins] or [place(view.last_id)])
        self._known |= {first.run.run_id: _Known(first.run) for first in begins}
        followed = {ends.run.run_id for ends in view.runs[:-1]}
        pump = asyncio.create_task(self._pump(view.last_id), name=f"thread-{self._thread_id}")
        try:
            while True:
                item: Begin | Event | None = ready.pop(0) if ready else await self._next(pump)
                if item is None:
                    events = await self._from_rows() if self._in_doubt() else ()
                    if events or beat.due():
                        yield events
                    continue
                if isinstance(item, Begin):
                    async with aclosing(
                        self._run(item, followed=bool(ready) or item.run.run_id in followed)
                    ) as batches:
                        async for batch in batches:
                            yield batch
                else:
                    yield [ThreadEvent(None, self._stamps.stamped([item])[0])]
                beat.heard()
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _look(self, after: str | None) -> tuple[IndexView, RecentRuns] | None:
        """What there is now; None if it cannot be had."""
        try:
            # the rows later: a thread that is made in between has an index already
            view = await self._index.view(self._thread_id, after or FROM_THE_START)
        except UnavailableError:
            self._away_at = time.monotonic()
            return None
        try:
            return view, await self._rows.first_look()
        except UnavailableError:
            return None

    async def _pump(self, position: str) -> None:
        async with aclosing(cast(Batches, self._events.thread(self._thread_id, position))) as batches:
            async for batch in batches:
                for event in batch:
                    if event.name == STATE_UPDATE:
                        await self._queue.put(event)
                    elif event.name == RUN and await self._is_new(run := ThreadRun.from_json(event.data)):
                        self._known[run.run_id] = _Known(run)
                        self._hurry.set()
                        if self._current is not None:
                            self._events.nudge(self._current.run.run_id)
                        await self._queue.put(Begin(run, FROM_THE_START))

    async def _is_new(self, run: ThreadRun) -> bool:
        """Whether this announcement is of a run that is to be followed (again, if it was put back into the queue)."""
        known = self._known.get(run.run_id)
        if known is None:
            for run_id in list(self._known)[: max(0, len(self._known) - MOST_KNOWN)]:
                del self._known[run_id]
            return True
        if known.ended:
            # put back into the queue, if its log has begun again; else this is only late, and of a log that was lost before its end
            return not run.over and await self._goes_on(run.run_id)
        if run.base > known.run.base:
            known.run = run  # its log has begun anew, elsewhere
        return False

    async def _goes_on(self, run_id: uuid.UUID) -> bool:
        try:
            return await self._events.newest(run_id) not in {None, FROM_THE_START}
        except UnavailableError:
            return False

    async def _next(self, pump: asyncio.Task[None]) -> Begin | Event | None:
        """What comes next; None if nothing has for as long as clients can wait."""
        try:
            async with asyncio.timeout(
                self._keepalive if self._events.connected else min(self._keepalive, LONGEST_POLL)
            ):
                return await self._queue.get()
        except TimeoutError:
            if pump.done():
                pump.result()
            return None

    async def _run(self, begin: Begin, *, followed: bool) -> ThreadBatches:
        current = self._current = self._known.setdefault(begin.run.run_id, _Known(begin.run))
        if followed or not self._queue.empty():
            self._hurry.set()
        else:
            self._hurry.clear()
        self._stamps.begin()
        alarm = self._alarm(begin.run.run_id)
        try:
            async with aclosing(self._runs.follow(begin.run.run_id, begin.after, hurry=self._hurry)) as batches:
                async for batch in batches:
                    events = self._stamps.stamped(batch)
                    if events and events[-1].is_end:
                        self._next_base = current.run.after(events[-1])
                    yield [ThreadEvent(current.run, event) for event in events]
                    alarm.cancel()
                    alarm = self._alarm(begin.run.run_id)
            current.ended = True
        finally:
            alarm.cancel()
            self._current = None

    def _alarm(self, run_id: uuid.UUID) -> asyncio.TimerHandle:
        """Silence is noticed early once the next run is known: a nudge finds nobody who is busy with a batch."""

        def ring() -> None:
            if self._hurry.is_set():
                self._events.nudge(run_id)

        return asyncio.get_running_loop().call_later(SOON, ring)

    def _in_doubt(self) -> bool:
        """Whether there may be runs that nobody has announced, or will."""
        if not self._events.connected:
            self._away_at = time.monotonic()
        return self._away_at is not None and time.monotonic() - self._away_at < DOUBTS

    async def _from_rows(self) -> Sequence[ThreadEvent]:
        try:
            found = await self._rows.changes(but=self._known, ended_only=True)
        except UnavailableError:
            return ()
        events: list[ThreadEvent] = []
        for told in found:
            assert told.run is not None
            run = self._known.setdefault(told.run.run_id, _Known(told.run.begins_by(self._next_base), ended=True)).run
            events.append(self._stamps.from_rows(ThreadEvent(run, told.event)))
            if told.event.is_end:
                self._next_base = run.after(events[-1].event)
        return events


class Beat:
    """When a keep-alive is due: looks are more frequent while Redis is away."""

    def __init__(self, keepalive: float) -> None:
        self._keepalive = keepalive
        self._heard_at = time.monotonic()

    def heard(self) -> None:
        self._heard_at = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._heard_at < self._keepalive * 0.9:
            return False
        self.heard()
        return True


class Stamps:
    """Gives what is delivered ids that only grow, and what is not out of a log its number."""

    def __init__(self) -> None:
        #: The id that was delivered last.
        self.last: tuple[int, int] = (0, 0)
        self._number = -1
        self._told: ThreadRun | None = None

    def begin(self) -> None:
        """A run begins."""
        self._number = -1

    def from_rows(self, told: ThreadEvent) -> ThreadEvent:
        """An event that has no id of its own."""
        if told.run != self._told:
            self._told = told.run
            self.begin()
        self.last = max(self.last, (time.time_ns() // 1_000_000, 0))
        return ThreadEvent(told.run, self._stamped(told.event))

    def stamped(self, batch: Sequence[Event]) -> Sequence[Event]:
        """These events, in the form in which they are delivered."""
        return [self._stamped(event) for event in batch]

    def _stamped(self, event: Event) -> Event:
        if isinstance(event, Instead):
            # the end marker has the state; that it stands for events is what readers have to know
            event = Event(GAP, b"", event.id, event.number)
        elif is_gap(event) and not event.id:
            return event  # the reader's own, in front of what comes after it
        if event.id and (at := place(event.id)) > self.last:
            self.last = at
        else:
            self.last = (self.last[0], self.last[1] + 1)
            event = replace(event, id=f"{self.last[0]}-{self.last[1]}")
        self._number = event.number if event.number >= 0 else self._number + 1
        return event if event.number >= 0 else replace(event, number=self._number)
