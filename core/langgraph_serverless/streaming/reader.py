"""One reader of one stream: where it is, and the one batch that it has not taken yet.

Does no I/O: the hub asks it for the command that fetches what it lacks, and gives it the answer. The size of a batch
follows the size of the events, so that a batch stays small in bytes; a single event may be as large as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langgraph_serverless.domain.events import Event

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

    __slots__ = ("_batch", "_checks", "_count", "_doubts", "_position", "_waiter", "behind", "end_only", "ended", "key")

    def __init__(self, key: bytes, after: str, *, end_only: bool = False) -> None:
        self.key = key
        self.end_only = end_only
        #: The end marker has been taken.
        self.ended = False
        #: There may be entries after the batch.
        self.behind = False
        self._position = None if after == "$" else after
        #: The stream may have begun anew, with ids that are lower than the position: a Redis whose clock is behind the last one's.
        self._doubts = False
        #: The command under way is to find that out.
        self._checks = False
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
        self._checks = self._doubts
        if self.end_only or self._position is None or self._checks:
            return ("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return ("XRANGE", self.key, f"({self._position}", "+", "COUNT", self._count)

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Take the answer to ``command``."""
        if self._checks:
            self._checks = self._doubts = False
            self.behind = True  # whatever it says, nothing has been fetched yet
            if entries and self._position is not None and _place(entries[0][0]) < _place(self._position.encode()):
                self._position = "0-0"
            return
        events = [Event(fields[b"n"].decode(), fields[b"d"], entry_id.decode()) for entry_id, fields in entries]
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


def _place(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))
