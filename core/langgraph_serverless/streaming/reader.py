"""One reader of one stream: where it is, and the one batch that it has not taken yet.

Does no I/O: the hub asks it for the command that fetches what it lacks, and gives it the answer. A batch is small in bytes,
as every reader may hold one for as long as its client likes; a single event may be as large as it likes. What an answer has
beyond that is forgotten and fetched again, and how much the next one asks for follows the size of the events.

Numbers without a gap, or an id that is still there, show that nothing was cut off between the position and what comes next.
Otherwise a gap marker comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph_serverless.domain.events import GAP, Event, is_gap
from langgraph_serverless.streaming.keys import CUT

#: What a batch of several events does not exceed.
BATCH_BYTES = 64 * 1024
MOST_EVENTS = 500
#: How many are asked for before anything is known of their size, and how many times as many as before at most.
FIRST_EVENTS, GROWTH = 2, 8

Entry = tuple[bytes, Mapping[bytes, bytes]]


def events_in(entries: Sequence[Entry]) -> list[Event]:
    """An answer of Redis, as its client has taken it apart."""
    return [
        Event(fields[b"n"].decode(), fields[b"d"], entry_id.decode(), int(fields.get(b"i", b"-1")))
        for entry_id, fields in entries
    ]


def events_of(answer: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[Event]:
    """The same, as Redis says it: names and values of an entry's fields in the order in which they were added."""
    return [
        Event(fields[1].decode(), fields[3], entry_id.decode(), int(fields[5]) if len(fields) > 5 else -1)
        for entry_id, fields in answer
    ]


def that_fit(events: Sequence[Event]) -> Sequence[Event]:
    """Those that make up a batch."""
    size = 0
    for at, event in enumerate(events):
        size += len(event.data)
        if size > BATCH_BYTES and at:
            return events[:at]
    return events


class Reader:
    """A position that moves with what is delivered.

    Args:
        after: an event id, or ``"$"``: whatever is there when the stream is first looked at.
        end_only: wants the end marker and nothing else.
    """

    __slots__ = (
        "_batch",
        "_busy",
        "_checks",
        "_count",
        "_doubts",
        "_gap",
        "_joins",
        "_last",
        "_next",
        "_position",
        "_waiter",
        "behind",
        "end_only",
        "ended",
        "expected",
        "key",
    )

    def __init__(self, key: bytes, after: str, *, end_only: bool = False) -> None:
        self.key = key
        self.end_only = end_only
        #: The end marker has been taken.
        self.ended = False
        #: There may be entries after the batch.
        self.behind = False
        #: Size of the next answer (bytes), by what those before were like.
        self.expected = BATCH_BYTES
        self._position = None if after == "$" else after
        #: The position is somebody else's word, about an event that may be gone; the first answer is to begin with it.
        self._joins = self._position not in {None, "0-0"}
        #: Something was missed, or may have been before.
        self._gap = self._joins
        #: The number of the entry after the position; None if nobody knows.
        self._next = 0 if self._position == "0-0" else None
        #: The position may be after all that there is: the stream has begun anew at a Redis whose clock is behind, or this Redis
        #: has an older copy of it.
        self._doubts = False
        #: The command under way is to find that out.
        self._checks = False
        #: It is: after this id, the stream's last one. What the stream begins with says which of the two it is.
        self._last: str | None = None
        self._batch: Sequence[Event] = ()
        #: A large event has been taken and may be on its way to a slow client: it is enough to hold one.
        self._busy = False
        self._count = FIRST_EVENTS
        self._waiter: asyncio.Future[None] | None = None

    def wants_fetch(self) -> bool:
        """Whether to fetch now. If not, as a batch is still to be taken or sent, the reader remembers that there is more."""
        if self._batch or self._busy:
            self.behind = True
            return False
        return not self.ended

    def doubt(self) -> None:
        """Find out with the next fetch whether the position is still one in this stream."""
        if self.end_only:
            self._position = None
        self._doubts = self._position not in {None, "0-0"}

    def command(self) -> tuple[Any, ...]:
        """The command that fetches what comes next."""
        # a doubt that comes while the answer is under way is a new one; an answer that never comes leaves it
        self._checks, self._doubts = self._checks or self._doubts, False
        if self._checks and self._last is not None:
            return ("XRANGE", self.key, "-", "+", "COUNT", 1)
        if self.end_only and self._position is not None:
            # what was there before is not the end, and may be large
            return ("XREVRANGE", self.key, "+", f"({self._position}", "COUNT", 1)
        if self._position is None or self._checks:
            return ("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        if self._joins:
            return ("XRANGE", self.key, self._position, "+", "COUNT", self._count + 1)
        return ("XRANGE", self.key, f"({self._position}", "+", "COUNT", self._count)

    def deliver(self, fetched: int, events: Sequence[Event]) -> None:
        """Take the answer to ``command``: how many entries it had, and those of them that fit into a batch."""
        if self._checks:
            self.behind = True  # whatever it says, nothing has been fetched yet
            self._check(events)
            return
        if self.end_only:
            self._position = events[-1].id if events else self._position
            events = [event for event in events if event.is_end]
        elif self._position is None:
            # from now on: what is there already is past, unless the run is over
            self._position = events[-1].id if events else "0-0"
            self._next = events[-1].number + 1 if events else 0
            events = [event for event in events if event.is_end]
        elif events:
            self.behind = fetched > len(events) or fetched >= self._count
            size = sum(len(event.data) for event in events)
            most = min(MOST_EVENTS, GROWTH * self._count)  # larger events may follow
            self._count = max(1, min(most, BATCH_BYTES * len(events) // (size + 1)))
            self.expected = size * self._count // len(events)
            events = self._without_gaps(events)
        else:
            self.behind = False
        if events:
            self._batch = events
            self.wake()

    def _without_gaps(self, events: Sequence[Event]) -> Sequence[Event]:
        """What comes after the position, or else a gap marker first; moves the position."""
        first = events[0]
        if self._joins:
            self._joins = False
            missed = first.id != self._position
            if not missed:
                events = events[1:]
        else:
            missed = self._next is not None and first.number > self._next
        last = events[-1] if events else first
        self._position = last.id
        self._next = last.number + 1 if last.number >= 0 else None
        if missed:
            self._gap = True
            if not is_gap(first):
                events = [Event(GAP, b""), *events]
        if not self._gap and (last.is_end or is_gap(last)):
            events = [event for event in events if not (is_gap(event) and event.data == CUT)]
        return events

    def _check(self, events: Sequence[Event]) -> None:
        """Take the stream's last entry, and its first one if all of it is before the position."""
        self._checks = False
        if self._last is not None:
            # One that begins after others were lost says so first. What an older copy has, has been delivered.
            anew = bool(events) and is_gap(events[0])
            self._position, self._last = ("0-0" if anew else self._last), None
            self._next, self._joins = None, False
        elif events and self._position is not None and _place(events[0].id) < _place(self._position):
            self._last, self._doubts = events[0].id, True

    def take(self) -> Sequence[Event]:
        """The batch, if there is one."""
        batch, self._batch = self._batch, ()
        self._busy = len(batch) == 1 and len(batch[0].data) > BATCH_BYTES
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


def _place(event_id: str) -> tuple[int, ...]:
    return tuple(map(int, event_id.split("-")))
