"""What one client of protocol v2 gets of a thread: a session, with as many subscriptions as it likes.

A session follows the thread once, from the beginning of what is still there, and delivers what any of its subscriptions wants.
Numbers come from the log (``domain/protocol_events.py``), so all sessions have the same ones, and ``since`` is one of them. A
further subscription is first given what was there before it and none of the others has delivered; then ``Replayed`` says so.

Batches are what was ready together; an empty one asks for a keep-alive.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from langgraph_serverless.domain.agent_tree import AgentTree
from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_events import ProtocolEvent, ThreadTranslator
from langgraph_serverless.domain.protocol_filters import Subscription
from langgraph_serverless.domain.thread_events import ThreadEvent, ThreadRun
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.services.thread_streams import Left, ThreadBatches, ThreadStreamService
from langgraph_serverless.settings import Settings

#: Where a session begins: with all that is there, also of runs whose streams are not resumable. Numbers follow from the log
#: and not from when it is read, and a client that comes back must not miss a run of the legacy endpoints.
EVERYTHING = "0-1"
#: A replay is over when nothing has come for this long, or has been going on for that long: a run may never be silent (seconds).
QUIET, LONGEST_REPLAY = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """A subscription has been given what was there when it was made; what follows is new, or at least later."""

    subscription_id: uuid.UUID
    #: How many events that were.
    events: int


Items = Sequence[ProtocolEvent | Replayed]


class ProtocolStreamService:
    """Opens what clients follow threads with."""

    def __init__(self, threads: ThreadStreamService, settings: Settings) -> None:
        self._threads = threads
        self._keepalive = settings.stream_keepalive

    async def session(self, caller: Principal, thread_id: uuid.UUID) -> ProtocolSession:
        """A session without subscriptions. The thread need not exist.

        Raises:
            AccessError: the project's handler refuses it.
        """
        allowed = await self._threads.readable(caller, thread_id)
        return ProtocolSession(self._threads, thread_id, allowed, keepalive=self._keepalive)

    async def stream(
        self, caller: Principal, thread_id: uuid.UUID, wanted: Subscription
    ) -> AsyncGenerator[Sequence[Event], None]:
        """What one subscription has, as server-sent events: named by method, with their numbers as ids.

        Raises:
            AccessError: the project's handler refuses it.
        """
        session = await self.session(caller, thread_id)
        session.subscribe(wanted)
        return self._stream(session)

    async def _stream(self, session: ProtocolSession) -> AsyncGenerator[Sequence[Event], None]:
        async with aclosing(session.events()) as batches:
            async for items in batches:
                events = [item for item in items if isinstance(item, ProtocolEvent)]
                if events or not items:
                    yield [Event(event.method, event.data, str(event.seq)) for event in events]


@dataclass(slots=True)
class _Open:
    """A subscription, and how far it has been served."""

    wanted: Subscription
    served: int = 0
    #: How many events of those that were there; None once the client has been told.
    replayed: int | None = 0


class ProtocolSession:
    """One client's subscriptions to one thread, read by one reader of ``events``."""

    def __init__(
        self, threads: ThreadStreamService, thread_id: uuid.UUID, allowed: Filter | None = None, *, keepalive: float
    ) -> None:
        self._allowed = allowed
        self._threads = threads
        self._thread_id = thread_id
        self._keepalive = keepalive
        self._open: dict[uuid.UUID, _Open] = {}
        self._changed = asyncio.Event()
        #: The highest number that the session has come across, whoever wanted it.
        self.applied_through_seq = 0
        #: The run that it has come across last.
        self.tree = AgentTree()

    def subscribe(self, wanted: Subscription) -> uuid.UUID:
        """Add a subscription, which ``events`` begins to serve at once. Its id."""
        subscription_id = uuid.uuid4()
        self._open[subscription_id] = _Open(wanted)
        self._changed.set()
        return subscription_id

    def unsubscribe(self, subscription_id: uuid.UUID) -> bool:
        """End a subscription; False if there is none of this id."""
        return self._open.pop(subscription_id, None) is not None

    async def events(self) -> AsyncGenerator[Items, None]:
        """What the subscriptions want, in order, until the caller closes it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            reading = _Reading(self._open, self.tree)
            yielded_at = time.monotonic()
            batches = self._threads.follow(self._thread_id, EVERYTHING, allowed=self._allowed)
            async with aclosing(_until(batches, self._changed, reading)) as followed:
                async for batch in followed:
                    items = list(reading.items(batch))
                    if not batch and reading.is_behind:
                        items = [*await self._instead(reading), *items]
                    self.applied_through_seq = max(self.applied_through_seq, reading.seq)
                    now = time.monotonic()
                    if items or now - yielded_at >= 0.9 * self._keepalive:
                        yielded_at = now
                        yield items
            if not self._changed.is_set():
                return  # there is nothing to follow

    async def _instead(self, reading: _Reading) -> Items:
        """What is told whoever is ahead of everything that there is: logs were lost, or their time is over."""
        try:
            return list(reading.instead(await self._threads.left(self._thread_id, allowed=self._allowed)))
        except UnavailableError:
            return ()  # the next silence asks again


class _Reading:
    """One passage along the thread: what its subscriptions have not been served yet."""

    def __init__(self, subscriptions: Mapping[uuid.UUID, _Open], tree: AgentTree) -> None:
        self._began_at = time.monotonic()
        self._tree = tree
        self._live = subscriptions
        #: Those that are made later are served by the next passage, from its beginning.
        self._served = dict(subscriptions)
        self._translator = ThreadTranslator()
        self._run_id: uuid.UUID | None = None
        #: The highest number of the thread so far.
        self.seq = 0

    @property
    def replays(self) -> bool:
        """Whether somebody is still to be told that the replay is over."""
        return any(opened.replayed is not None for opened in self._subscriptions.values())

    @property
    def _subscriptions(self) -> Mapping[uuid.UUID, _Open]:
        return {known_as: opened for known_as, opened in self._served.items() if known_as in self._live}

    def items(self, batch: Sequence[ThreadEvent]) -> Iterator[ProtocolEvent | Replayed]:
        """What this batch has for them; an empty one says that all that was there has been read."""
        subscriptions = self._subscriptions
        for entry in batch:
            if entry.run is not None and entry.run.run_id != self._run_id:
                self._begin(entry.run)
            for event in self._translator.events(entry):
                self.seq = max(self.seq, event.seq)
                self._tree.see(event)
                if _is_due(event, subscriptions.values()):
                    yield event
        for opened in subscriptions.values():
            opened.served = max(opened.served, self.seq)
        if not batch or (self.replays and time.monotonic() - self._began_at > LONGEST_REPLAY):
            for subscription_id, opened in subscriptions.items():
                if opened.replayed is not None:
                    yield Replayed(subscription_id, opened.replayed)
                    opened.replayed = None

    def _begin(self, run: ThreadRun) -> None:
        """The next run. If it has smaller numbers than the one before, the thread was deleted and made anew meanwhile."""
        self._run_id = run.run_id
        if run.base < self.seq:
            for opened in self._subscriptions.values():
                opened.served = min(opened.served, run.base)
                if opened.wanted.since <= self.seq:
                    opened.wanted = replace(opened.wanted, since=min(opened.wanted.since, run.base))
            self.seq = run.base

    @property
    def is_behind(self) -> bool:
        """Whether a client has had numbers that are larger than all that came across."""
        return any(opened.wanted.since > self.seq for opened in self._subscriptions.values())

    def instead(self, left: Left) -> Iterator[ProtocolEvent]:
        """The state, and how the last run ended, in place of what is gone.

        Their numbers are those of the end if it is known where that was, else the next ones that these clients can have.
        """
        behind = [opened for opened in self._subscriptions.values() if opened.wanted.since > self.seq]
        since = max(opened.wanted.since for opened in behind)
        if left.end is None or (left.next_base is not None and since > left.next_base):
            # numbers that this thread has not given out; one that had its id before may have
            for opened in behind:
                opened.wanted = replace(opened.wanted, since=left.next_base or self.seq)
        elif since == left.next_base:
            self.seq = since  # they have had the end
            return
        elif not left.gone:
            return  # it is on its way, only slow
        translator = ThreadTranslator()
        events = [event for entry in left.end or () for event in translator.events(entry)]
        if events:
            last = left.next_base if left.next_base is not None else since + len(events)
            self.seq = max(self.seq, last)
            for number, event in enumerate(events, last - len(events) + 1):
                if any(opened.wanted.wants(event.method, event.namespace) for opened in behind):
                    yield replace(event, seq=number)


def _is_due(event: ProtocolEvent, subscriptions: Iterable[_Open]) -> bool:
    """Whether it is wanted, and was not delivered for anybody before."""
    wanting = [opened for opened in subscriptions if _wants(opened.wanted, event)]
    if any(event.seq <= opened.served for opened in wanting):
        return False
    for opened in wanting:
        if opened.replayed is not None:
            opened.replayed += 1
    return bool(wanting)


def _wants(wanted: Subscription, event: ProtocolEvent) -> bool:
    if event.seq <= wanted.since or not wanted.wants(event.method, event.namespace):
        return False
    return event.method != "custom" or not wanted.names or wanted.wants_named(event.custom_name)


async def _until(batches: ThreadBatches, stop: asyncio.Event, reading: _Reading) -> ThreadBatches:
    """These batches until ``stop`` is set, and an empty one when nothing has come for a moment while something is replayed."""
    stopped = asyncio.ensure_future(stop.wait())
    pending: asyncio.Task[Sequence[ThreadEvent] | None] | None = None
    try:
        while not stop.is_set():
            if pending is None:
                pending = asyncio.ensure_future(_next(batches))
            timeout = QUIET if reading.replays else None
            await asyncio.wait({pending, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if pending.done():
                batch, pending = pending.result(), None
                if batch is None:
                    return
                yield batch
            elif not stop.is_set():
                yield ()
    finally:
        waiting: list[asyncio.Task[Any]] = [task for task in (stopped, pending) if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await batches.aclose()


async def _next(batches: ThreadBatches) -> Sequence[ThreadEvent] | None:
    return await anext(batches, None)
