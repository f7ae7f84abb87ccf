"""Rows that a running run has saved and that are written a moment later, many in one statement.

Whoever holds a run's lease is the only one who writes its thread's checkpoints, so nobody else misses what is still here. Promises:

* What was put is written in the order in which it was put, one statement at a time, ``delay`` seconds later or when the one before it
  has ended, or at once if it is much; and with ``flush`` before that returns. Where the process has more to do than it gets done, it may
  be ``patience`` seconds later: each statement costs it time, and more comes together.
* What cannot be written is kept and tried again, twice a second; while the database is away, only those are told who want it to be
  written before they go on, or have too much. A lost lease, and whatever else is no outage, is told to everyone from then on.
* With ``relaxed``, commits need not wait for the disk. What they have written is kept here until one that waits has followed, at most
  for a second, and each statement looks whether the last of it is still there: if the database has crashed, all of it is written again.

Belongs to one event loop. Never reads.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence.checkpoint_rows import Rows, parameters

#: Bytes that are written without waiting for more.
MUCH = 1 << 20
#: Bytes for which whoever puts them waits.
TOO_MUCH = 8 << 20
#: The process is busy if it is called so much later than it wanted to be (seconds).
LATE = 0.002
#: Between attempts to write what nobody waits for (seconds).
RETRY = 0.5
#: For how long (seconds), and how many bytes, commits that do not wait for the disk may follow each other.
RELAXED_FOR = 1.0
RELAXED_BYTES = 1 << 20

#: Writes what ``parameters`` has made, with or without waiting for the disk. False: what was written before is gone.
Write = Callable[[Mapping[str, Any], bool], Awaitable[bool]]


class WriteBehind:
    """What one saver has still to write."""

    def __init__(self, write: Write, *, delay: float, patience: float = 0.0, relaxed: bool = False) -> None:
        self._write = write
        self._delay, self._patience = delay, patience
        self._relaxed = relaxed
        self._loop = asyncio.get_running_loop()
        # what encrypts and for whom is the run's, and not of the node that happens to put
        self._context = contextvars.copy_context()
        self.pending = Rows()
        #: Being written, and written without having waited for the disk.
        self._sent, self._unsure = Rows(), Rows()
        self._unsure_since = 0.0
        self._flight: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._failure: Exception | None = None
        self._told = False
        self._closed = False
        self._taken = False

    def concern(self, thread_id: str, namespace: str | None) -> bool:
        """Whether there is anything of this namespace, or of this thread, that the database may not have."""
        return self.pending.concern(thread_id, namespace) or self._sent.concern(thread_id, namespace)

    async def put(self, rows: Rows, *, now: bool = False) -> None:
        """Keep rows to be written soon; with ``now``, return when they are.

        Raises:
            LeaseLostError: what was put earlier has been refused, or the run is over.
            UnavailableError: they cannot be written before this returns; they are kept.
        """
        self._raise_final()
        if self._closed:  # a task that the graph has left behind
            raise LeaseLostError("the run is over, nothing is saved of it any more")
        self.pending.add(rows)
        if now or self.pending.size + self._sent.size > TOO_MUCH:
            await self.flush()
        elif self._flight is None and self._failure is None and self.pending.size > MUCH:
            self._begin()
        elif self._timer is None and not self._due:
            self._wait(self._delay, self._loop.time() + self._patience)

    async def flush(self) -> None:
        """Return when everything is written.

        Raises:
            The same as ``put``.
        """
        while True:
            self._raise_final()
            mine = self._flight is None
            if mine:
                if not self.pending:
                    return
                self._begin()
            flight = cast("asyncio.Task[None]", self._flight)
            # who waits here may be cancelled; what is being written is not
            await asyncio.wait([flight])
            self._raise_final()
            if mine and self._failure is not None:
                raise self._failure

    async def take(self) -> Mapping[str, Any] | None:
        """What is still to be written, for a statement that does more; ``written`` says that it has been. Asked once more before that, it
        gives all that may not be there.

        Raises:
            LeaseLostError: what was put earlier has been refused.
            UnavailableError: it is too much for another statement, and cannot be written by itself.
        """
        while self._flight is not None:
            await asyncio.wait([self._flight])
        self._stop_timer()
        if self._is_final and (isinstance(self._failure, LeaseLostError) or not self._told):
            self._raise_final()
        if self._taken:
            self._write_all_again()
        self._taken = True
        if self.pending.size > MUCH:
            await self.flush()
        return parameters(self.pending, self._unsure.witness)

    def written(self) -> None:
        """What was taken is in the database; nothing more is to come."""
        self.pending, self._unsure = Rows(), Rows()
        self.close()

    def close(self) -> None:
        """Write nothing any more."""
        self._closed = True
        self._stop_timer()

    def _wait(self, seconds: float, until: float) -> None:
        due = self._loop.time() + seconds
        self._timer = self._loop.call_at(due, self._on_time, due, until, context=self._context)

    def _on_time(self, due: float, until: float) -> None:
        self._timer = None
        now = self._loop.time()
        if self._flight is not None:
            self._due = True  # as soon as that has ended
        elif now - due > LATE and now < until:
            self._wait(self._delay, until)
        elif self.pending and not self._closed:
            self._begin()

    def _begin(self) -> None:
        self._stop_timer()
        self._due = False
        self._sent, self.pending = self.pending, Rows()
        self._flight = self._loop.create_task(self._send(), name="checkpoints", context=self._context)
        self._flight.add_done_callback(self._ended)

    async def _send(self) -> None:
        relaxed = self._relaxed and not (
            self._unsure and (self._unsure.size > RELAXED_BYTES or time.monotonic() - self._unsure_since > RELAXED_FOR)
        )
        given = parameters(self._sent, self._unsure.witness)
        if given is None or await self._write(given, relaxed):
            self._sent_well(relaxed)
            return
        # the database has crashed meanwhile: it has not even kept what it had
        self._sent, self._unsure = self._unsure.then(self._sent), Rows()
        given = parameters(self._sent, None)
        if given is not None:
            await self._write(given, False)
        self._sent_well(False)

    def _sent_well(self, relaxed: bool) -> None:
        if not relaxed:
            self._unsure = Rows()
        elif self._unsure:
            self._unsure = self._unsure.then(self._sent)
        else:
            self._unsure, self._unsure_since = self._sent, time.monotonic()
        self._sent, self._failure = Rows(), None

    def _ended(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        failure = None if flight.cancelled() else flight.exception()
        if flight.cancelled():
            failure = UnavailableError("Checkpoints are not written any more: the process is being stopped.")
        if isinstance(failure, UnavailableError):
            self._failure = failure
            self._write_all_again()
            self._due = False
            if not self._closed:
                self._stop_timer()
                self._wait(RETRY, 0.0)
        elif failure is not None:
            self._failure = failure if isinstance(failure, Exception) else RuntimeError(repr(failure))
            # the database will not take them at any other time either
            self._sent, self.pending, self._unsure = Rows(), Rows(), Rows()
            self._stop_timer()
        elif self.pending and not self._closed and (self._due or self.pending.size > MUCH):
            self._begin()

    def _write_all_again(self) -> None:
        self.pending = self._unsure.then(self._sent).then(self.pending)
        self._sent, self._unsure = Rows(), Rows()

    @property
    def _is_final(self) -> bool:
        return self._failure is not None and not isinstance(self._failure, UnavailableError)

    def _raise_final(self) -> None:
        if self._failure is not None and self._is_final:
            self._told = True
            raise self._failure

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
