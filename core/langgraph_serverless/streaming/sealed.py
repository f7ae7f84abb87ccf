"""The event log of a project whose data is encrypted: what runs emit is encrypted before it leaves the worker, and decrypted by whoever reads.

``SealedLog``, ``SealedHub`` and ``SealedIndex`` are the log, the hub and the threads' indexes with a cipher around them. Names of events, their order, ids and ends stay as they
are, so that everything in between works with them; the server's own words, which open a run or mark a gap, have nothing of the user's.

An event that cannot be encrypted is dropped: what it tells of cannot be stored either, so that its run fails. In place of a run's end that
cannot be encrypted readers find its row, as if the log were away.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langgraph_serverless.domain.events import GAP, METADATA, Event
from langgraph_serverless.domain.ports import Cipher, EventAppender, EventReader
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import EncryptionError, UnavailableError
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.thread_index import IndexView, ThreadIndex

if TYPE_CHECKING:
    from redis.asyncio import Redis

_OWN = frozenset({GAP, METADATA})


class SealedLog:
    """See ``ports.EventAppender``."""

    def __init__(self, log: EventAppender, cipher: Cipher) -> None:
        self._log = log
        self._cipher = cipher

    async def append(self, lease: Lease, events: Sequence[Event]) -> None:
        try:
            sealed = await asyncio.gather(*(self._seal(event) for event in events))
        except EncryptionError as error:
            if events[-1].is_end:
                raise UnavailableError("The end of the run could not be encrypted for the event log.") from error
            raise
        await self._log.append(lease, sealed)

    async def _seal(self, event: Event) -> Event:
        if event.name in _OWN or not event.data:
            return event
        return replace(event, data=await self._cipher.seal_blob("run", "events", event.data))

    async def seal(self, lease: Lease) -> None:
        await self._log.seal(lease)

    async def expire(self, run_id: uuid.UUID, seconds: float) -> None:
        await self._log.expire(run_id, seconds)

    async def aclose(self) -> None:
        log: Any = self._log
        await log.aclose()


class SealedIndex(ThreadIndex):
    """See ``ThreadIndex``; the states that were written by hand are encrypted too."""

    def __init__(self, redis: Redis, prefix: str, settings: Settings, cipher: Cipher) -> None:
        super().__init__(redis, prefix, settings)
        self._cipher = cipher

    async def state_updated(self, thread_id: uuid.UUID, made: int, data: bytes) -> None:
        await super().state_updated(thread_id, made, await self._cipher.seal_blob("thread", "events", data))

    async def view(self, thread_id: uuid.UUID, at: str) -> IndexView:
        found = await super().view(thread_id, at)
        ends = [
            replace(run, last=await self._opened(run.last), before=await self._opened(run.before)) for run in found.runs
        ]
        updates = [event for update in found.updates if (event := await self._opened(update)) is not None]
        return replace(found, runs=ends, updates=updates)

    async def _opened(self, event: Event | None) -> Event | None:
        return None if event is None else await opened(self._cipher, event)


class SealedHub:
    """See ``ports.EventReader``."""

    def __init__(self, hub: EventReader, cipher: Cipher) -> None:
        self._hub = hub
        self._cipher = cipher

    @property
    def connected(self) -> bool:
        return self._hub.connected

    def read(self, run_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        return self._open(self._hub.read(run_id, after))

    def end(self, run_id: uuid.UUID) -> AsyncIterator[Sequence[Event]]:
        return self._open(self._hub.end(run_id))

    def thread(self, thread_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        return self._open(self._hub.thread(thread_id, after))

    def nudge(self, run_id: uuid.UUID) -> None:
        self._hub.nudge(run_id)

    async def exists(self, run_id: uuid.UUID) -> bool:
        return await self._hub.exists(run_id)

    async def newest(self, run_id: uuid.UUID) -> str | None:
        return await self._hub.newest(run_id)

    async def aclose(self) -> None:
        hub: Any = self._hub
        await hub.aclose()

    async def _open(self, batches: AsyncIterator[Sequence[Event]]) -> AsyncIterator[Sequence[Event]]:
        source: Any = batches
        async with aclosing(source):
            async for batch in source:
                # an empty one is handed on as it is: which one it is says something
                yield list(await asyncio.gather(*(opened(self._cipher, event) for event in batch))) if batch else batch


async def opened(cipher: Cipher, event: Event) -> Event:
    """The event as it was emitted."""
    data = await cipher.open_blob(event.data)
    return event if data is event.data else replace(event, data=data)
