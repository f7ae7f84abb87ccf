"""One reader of one stream: where it is, and the one batch that it has not taken yet.

Does no I/O: the hub asks it for the command that fetches what it lacks, and gives it the answer. The size of a batch
follows the size of the events, so that a batch stays small in bytes; a single event may be as large as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph_serverless.domain.events import GAP, Event

#: What a batch should not much exceed.
BATCH_BYTES = 256 * 1024
MOST_EVENTS = 1000
FIRST_EVENTS = 100

Entry = tuple[bytes, dict[bytes, bytes]]


class Reader:
    """A position that moves with what is delivered.

    Args:
        after: an event id, or ``"$"``: whatever is there when the stream is first looked at.
        end_only: wants the end marker and nothing else.
    """

    __slots__ = (
        "_batch",
        "_checks",
        "_count",
        "_doubts",
        "_last",
        "_position",
        "_waiter",
        "behind",
        "end_only",
        "ended",
        "key",
    )

    def __init__(self, key: bytes, after: str, *, end_only: bool = False) -> None:
        self.key = key
        self.end_only = end_only
        #: The end marker has been taken.
        self.ended = False
        #: There may be entries after the batch.
        self.behind = False
        self._position = None if after == "$" else after
        #: The position may be after all that there is: the stream has begun anew at a Redis whose clock is behind, or this Redis
        #: has an older copy of it.
        self._doubts = False
        #: The command under way is to find that out.
        self._checks = False
        #: It is: after this id, the stream's last one. What the stream begins with says which of the two it is.
        self._last: str | None = None
        self._batch: Sequence[Event] = ()
        self._count = FIRST_EVENTS
        self._waiter: asyncio.Future[None] | None = None

    def wants_fetch(self) -> bool:
        """Whether to fetch now. If a batch is still to be taken, the reader remembers that there is more."""
        if self._batch:
            self.behind = True
            return False
        return not self.ended

    def doubt(self) -> None:
        """Find out with the next fetch whether the position is still one in this stream."""
        self._doubts = not self.end_only and self._position not in {None, "0-0"}

    def command(self) -> tuple[Any, ...]:
        """The command that fetches what comes next."""
        # a doubt that comes while the answer is under way is a new one; an answer that never comes leaves it
        self._checks, self._doubts = self._checks or self._doubts, False
        if self._checks and self._last is not None:
            return ("XRANGE", self.key, "-", "+", "COUNT", 1)
        if self.end_only or self._position is None or self._checks:
            return ("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return ("XRANGE", self.key, f"({self._position}", "+", "COUNT", self._count)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Take the answer to ``command``."""
        if self._checks:
            self.behind = True  # whatever it says, nothing has been fetched yet
            self._check(entries)
            return
        events = [_event(entry_id, fields) for entry_id, fields in entries]
        if self.end_only:
            events = [event for event in events if event.is_end]
        elif self._position is None:
            # from now on: what is there already is past, unless the run is over
            self._position = events[-1].id if events else "0-0"
            events = [event for event in events if event.is_end]
        elif events:
            self._position = events[-1].id
            self.behind = len(events) == self._count
            size = sum(len(event.data) for event in events)
            self._count = max(1, min(MOST_EVENTS, BATCH_BYTES * len(events) // (size + 1)))
        else:
            self.behind = False
        if events:
            self._batch = events
            self.wake()

    def _check(self, entries: Sequence[Entry]) -> None:
        """Take the stream's last entry, and its first one if all of it is before the position."""
        self._checks = False
        if self._last is not None:
            # One that begins after others were lost says so first. What an older copy has, has been delivered.
            anew = bool(entries) and entries[0][1][b"n"] == GAP.encode()
            self._position, self._last = ("0-0" if anew else self._last), None
        elif entries and self._position is not None and _place(entries[0][0]) < _place(self._position.encode()):
            self._last, self._doubts = entries[0][0].decode(), True

    def take(self) -> Sequence[Event]:
        """The batch, if there is one."""
        batch, self._batch = self._batch, ()
        if batch and batch[-1].is_end:
            self.ended = True
        return batch

    async def wait(self, seconds: float) -> None:
        """Until a batch is there, but not longer than this."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    return Event(fields[b"n"].decode(), fields[b"d"], entry_id.decode(), int(fields.get(b"i", b"-1")))


def _place(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))
