"""What happens on a thread, as one stream: its runs one after the other, and updates of its state.

Open-ended: a thread that nobody knows may still get its first run. Rests on the thread's index and the logs of its runs
(``thread_following.py``); without Redis the rows are looked at every now and then, and show when runs begin, what they leave and that
they have ended.

What is followed belongs to whoever may read the thread: each run is looked at anew when it begins, as a thread that is not there yet may turn
out to be somebody else's. What is hidden is as silent as what is missing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import orjson

from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.domain.cursors import FROM_THE_START, parse_event_id
from langgraph_serverless.domain.events import ERROR, METADATA, Event, is_gap, state_in
from langgraph_serverless.domain.ports import Authorizer, EventReader, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.domain.thread_events import ThreadEvent, ThreadRun, ThreadStreamMode
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.runs import RunRepository
from langgraph_serverless.services.following import FAULT, FIRST_POLL, LONGEST_POLL, Batches, RunFollower
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.streams import Joined
from langgraph_serverless.services.thread_following import Beat, Stamps, ThreadBatches, ThreadFollower
from langgraph_serverless.services.thread_resuming import place
from langgraph_serverless.services.thread_rows import ThreadRows
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.thread_index import ThreadIndex
from langgraph_serverless.telemetry import logger

__all__ = ["Left", "ThreadBatches", "ThreadStreamService"]


@dataclass(frozen=True, slots=True)
class Left:
    """What a reader is told who comes back too late."""

    #: No run has a log any longer.
    gone: bool
    #: Where the sequence numbers of the next run begin; None if nobody remembers, or while a run goes on.
    next_base: int | None
    #: A gap, and the end of the run that was the last one; nothing while one goes on. None if there never was one.
    end: Sequence[ThreadEvent] | None


class ThreadStreamService:
    """Follows threads, for clients that want more than one run."""

    def __init__(
        self,
        events: EventReader | None,
        index: ThreadIndex | None,
        database: Database,
        runs: RunService,
        settings: Settings,
        *,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        self._events = events
        self._index = index
        self._database = database
        self._runs = runs
        self._follower = RunFollower(events, runs, settings)
        self._rows = RunRepository()
        self._keepalive = settings.stream_keepalive
        self._carries_over = settings.stream_carry_over
        #: Events come out of Redis, which has no policies: there the thread's row says whose they are.
        self._confined = settings.row_level_security

    async def readable(self, caller: Principal, thread_id: uuid.UUID) -> Filter | None:
        """Which threads the caller may follow, for the others here.

        Raises:
            AccessError: none.
        """
        return await self._authorize(caller, "threads", "read", {"thread_id": str(thread_id)})

    async def follow(self, thread_id: uuid.UUID, after: str | None, allowed: Filter | None = None) -> ThreadBatches:
        """Events of the thread in batches; an empty batch is time for a keep-alive. Goes on until the caller closes it.

        Runs come one after the other, each with its log entries up to its end marker, which is delivered exactly once; gap
        markers are delivered as they are. What is not out of a log has the number that follows; only a gap marker that the
        reader has put in itself has neither number nor id.

        Args:
            after: None: from now on, the rest of the run that is going on included. ``"0-0"``: also what is still there of
                resumable runs. The id of an event: what came after it, of all runs.
            allowed: see ``readable``.
        """
        async with aclosing(self._seen(thread_id, self._followed(thread_id, after)[1], allowed)) as batches:
            async for batch in batches:
                yield batch

    def _followed(
        self, thread_id: uuid.UUID, after: str | None
    ) -> tuple[Callable[[], Awaitable[object]], ThreadBatches]:
        """What takes the place at which the batches begin, and these."""
        rows = ThreadRows(self._database, self._runs, thread_id)
        if self._events is None or self._index is None:
            return rows.first_look, _by_rows(rows, after, self._keepalive)
        follower = ThreadFollower(
            thread_id,
            events=self._events,
            index=self._index,
            runs=self._follower,
            rows=rows,
            keepalive=self._keepalive,
        )
        return partial(follower.begin, after), follower.batches(after)

    async def _seen(self, thread_id: uuid.UUID, followed: ThreadBatches, allowed: Filter | None) -> ThreadBatches:
        """What the filter and the database's policies let through: all runs of a thread that is the reader's when they begin."""
        seen: dict[uuid.UUID, bool] = {}
        async with aclosing(followed):
            async for batch in followed:
                if not (allowed or self._confined) or not batch:
                    yield batch
                    continue
                kept = []
                for each in batch:
                    run_id = each.run.run_id if each.run is not None else None
                    if run_id is None:  # an update of the state, which is rare
                        wanted = await self._is_seen(thread_id, allowed)
                    elif (known := seen.get(run_id)) is not None:
                        wanted = known
                    else:
                        wanted = await self._is_seen(thread_id, allowed)
                        seen = {run_id: wanted}
                    kept += [each] if wanted else []
                if kept:
                    yield kept

    async def _is_seen(self, thread_id: uuid.UUID, allowed: Filter | None) -> bool:
        async with self._database.connection() as connection:
            return await self._rows.thread_is_visible(connection, thread_id, allowed, gone=True)

    async def left(self, thread_id: uuid.UUID, allowed: Filter | None = None) -> Left:
        """What there is to say to who comes back to a thread and finds nothing new.

        Args:
            allowed: see ``readable``.

        Raises:
            UnavailableError: it cannot be had now.
        """
        if (allowed or self._confined) and not await self._is_seen(thread_id, allowed):
            return Left(gone=True, next_base=None, end=None)
        rows = ThreadRows(self._database, self._runs, thread_id)
        if self._index is None:
            return Left(gone=True, next_base=None, end=await rows.last_end())
        view = await self._index.view(thread_id, FROM_THE_START)
        gone = all(ends.last is None for ends in view.runs)
        return Left(gone=gone, next_base=await self._index.next_base(thread_id), end=await rows.last_end())

    async def stream(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        last_event_id: str | None = None,
        modes: frozenset[ThreadStreamMode] = frozenset({ThreadStreamMode.RUN_MODES}),
    ) -> Joined:
        """The thread's events as server-sent events, all of them with ids. What happens once this has returned is among them.

        Raises:
            InvalidInputError: ``last_event_id`` is no event id.
            AccessError: the project's handler refuses it.
        """
        after = parse_event_id(last_event_id or "")
        allowed = await self.readable(caller, thread_id)
        cursor = None
        if self._carries_over and after is None:
            cursor = after = await self._now()
        begin, batches = self._followed(thread_id, after)
        with suppress(UnavailableError):  # then it begins as soon as it can
            await begin()
        return Joined(True, _told(_sent(self._seen(thread_id, batches, allowed), modes)), cursor)

    async def _now(self) -> str | None:
        try:
            return f"{await self._index.now()}-0" if self._index is not None else None
        except UnavailableError:
            return None


async def _by_rows(rows: ThreadRows, after: str | None, keepalive: float) -> ThreadBatches:
    """A thread without Redis."""
    stamps, beat, pause = Stamps(), Beat(keepalive), FIRST_POLL
    if after is not None:
        stamps.last = place(after)
    while True:
        try:
            changes = await rows.changes()
        except UnavailableError:
            changes = ()
        if changes:
            pause = FIRST_POLL
            beat.heard()
            yield [stamps.from_rows(told) for told in changes]
        elif beat.due():
            yield ()
        await asyncio.sleep(min(pause, keepalive))
        pause = min(pause * 1.5, LONGEST_POLL)


async def _sent(followed: ThreadBatches, modes: frozenset[ThreadStreamMode]) -> Batches:
    """What these modes have of a thread's events."""
    run_modes = ThreadStreamMode.RUN_MODES in modes
    lifecycle = run_modes or ThreadStreamMode.LIFECYCLE in modes
    updates = ThreadStreamMode.STATE_UPDATE in modes
    gap, before = False, None
    async with aclosing(followed):
        async for batch in followed:
            events: list[Event] = []
            for each in batch:
                event = each.event
                if each.run is None:
                    events += [event] if updates else []
                elif is_gap(event):
                    gap = True
                elif event.is_end:
                    if gap and run_modes and (state := state_in(event)) is not None and not each.run.protocol:
                        # with the id of the marker right before the end: whoever goes on after it has the state
                        events.append(Event("values", state, before.id if before is not None else event.id))
                    events += [_run_done(each.run, event)] if lifecycle else []
                    gap = False
                elif run_modes or (lifecycle and event.name == METADATA):
                    events.append(event)
                before = event if event.id else before
            if events or not batch:
                yield events


def _run_done(run: ThreadRun, end: Event) -> Event:
    return Event(METADATA, orjson.dumps({"status": "run_done", "run_id": str(run.run_id)}), end.id)


async def _told(batches: Batches) -> AsyncGenerator[Sequence[Event], None]:
    """Turns a failure into the stream's last event."""
    async with aclosing(batches):
        try:
            async for batch in batches:
                yield batch
        except Exception:
            logger.exception("A stream failed", extra={"action": "stream_thread"})
            yield [Event(ERROR, dump_json(FAULT))]
