"""The event log: one Redis stream per run, written by the run's worker.

A batch is appended by one script, so in one round trip and as a whole, and only if no later epoch has appended before (a
worker that lost its lease and does not know it yet gets ``LeaseLostError``). The script then tells the readers on the
stream's channel; Redis gives the ids.

The worker counts the events of its lease and sends the number of a batch's first one; the script skips what it has
already. So an append whose answer was lost can be sent again without repeats. That is what carries a stream over an
outage: events that could not be sent stay here, within ``MOST_UNSENT_BYTES``, and go out before the next ones or when Redis
is back, whichever comes first.

A gap must not look like a stream, so the script puts a gap marker in the place of what it misses, and readers then get the
state that the run leaves. It misses something if numbers are left out (an outage outlasted the memory, or Redis went back to
an older copy of itself), if the log is gone (``FLUSHALL``), or if a run has a new owner and the one before has not sealed
its part: only ``seal`` says that nothing was held back, and whoever is killed does not seal.

Every entry has a number, ``i``: entries of a run are counted from 0 through all its leases, gap markers among them. So a reader
knows of every entry that is missing, and the sequence numbers of the thread protocol follow from it. In a log that begins anew
numbers go on above those that the lost one can have had.

A log has bounds, in entries and in bytes (``append_script.py``): what is too much is cut off at its beginning. The numbers say so to
whoever has not read it, and the state follows, as after a gap.

While a run lives, its events are kept for as long as it may be silent; from the end marker on for the retention time. So a
run that nobody ends leaves nothing behind either.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ClusterCrossSlotError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.event_loop import within
from langgraph_serverless.redis_scripts import Script
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.append_script import APPEND, ARGUMENTS
from langgraph_serverless.streaming.keys import END_WORD, events_key, fence_key
from langgraph_serverless.streaming.thread_index import ThreadIndex

logger = logging.getLogger("langgraph_serverless.streaming")

#: Events of one run that wait for Redis to come back.
MOST_UNSENT_BYTES = 8 * 2**20
#: One call of the script blocks Redis for everybody, so long queues go out in pieces.
MOST_EVENTS_PER_CALL = 500
#: A Redis that has not answered by then (seconds) is out of reach; it may hang, and the end of a run waits for its last append.
LONGEST_CALL = 3.0
#: Once that has happened nobody tries for this long (seconds), not even the end of a run: it would not be heard either.
PAUSE_AFTER_SILENCE = 5.0
#: After a failure, appends do not try again for this long (seconds): a run must not wait for each of them.
PAUSE_AFTER_FAILURE = 0.5
#: It doubles up to this when events are sent again without a further append.
LONGEST_PAUSE = 4.0
#: For how long (seconds) the last events of a run that is over are sent again; its readers have looked at its row by then.
RETRY_ENDED = 60.0
#: What a hand-off waits for the log (seconds); workers that leave have little more time for all that they do.
SEAL_PATIENCE = 1.0
#: Tails of runs that were handed on without an end are forgotten once there are this many of them.
MOST_TAILS = 1000


@dataclass(slots=True)
class _Tail:
    """What this process knows of a run's end of the log."""

    lease: Lease
    #: events of this lease that are known to be in the log, or given up
    sent: int = 0
    unsent: deque[Event] = field(default_factory=deque)
    unsent_bytes: int = 0
    used_at: float = 0.0
    ended: bool = False
    lost: bool = False
    #: how many entries the run's log has had so far, over all leases
    total: int = 0
    #: The thread's readers have yet to be told: that the log has begun (at each lease, as the one before may have died between
    #: the two, and when the log was lost), and that it has ended.
    begun: bool = True
    closed: bool = False
    #: It has begun with its end.
    brief: bool = False
    #: What the thread's index has said: where the run's sequence numbers begin.
    base: int | None = None
    retry: asyncio.Task[None] | None = None
    #: appends of one run go out one after the other
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def untold(self) -> bool:
        return self.total > 0 and self.lease.origin is not None and (self.begun or self.closed)

    def add(self, events: Sequence[Event]) -> None:
        self.unsent.extend(events)
        self.unsent_bytes += sum(len(event.data) for event in events)

    def remove(self, count: int) -> None:
        for _ in range(count):
            self.unsent_bytes -= len(self.unsent.popleft().data)
        self.sent += count

    def limit(self) -> None:
        """Give up what is too much to keep; the script finds the numbers missing."""
        if self.unsent_bytes > MOST_UNSENT_BYTES:
            self.remove(len(self.unsent))


class RedisEventLog:
    """The worker's side; see ``EventAppender``. The client must give bytes (``decode_responses=False``)."""

    def __init__(self, redis: Redis, prefix: str, settings: Settings) -> None:
        self._redis = redis
        self._prefix = prefix
        self._append = Script(redis, APPEND)
        self._index = ThreadIndex(redis, prefix, settings)
        #: Appends tell the index of the thread; not so in a cluster, where its keys are in another slot than those of the run.
        self._tells = True
        self._bounds = (settings.stream_max_events, settings.stream_max_bytes)
        self._keep_ended = int(settings.stream_retention * 1000)
        self._keep_live = int((settings.stream_retention + settings.run_timeout) * 1000)
        self._forget_after = settings.run_timeout
        self._retry_for = settings.stream_retention
        self._tails: dict[uuid.UUID, _Tail] = {}
        self._paused_until = self._silent_until = 0.0

    async def append(self, lease: Lease, events: Sequence[Event]) -> None:
        if not events:
            return
        tail = self._tail(lease)
        tail.add(events)
        tail.ended = events[-1].is_end
        try:
            async with tail.turn:
                await self._send(lease, tail, urgent=tail.ended)
        except UnavailableError:
            if (tail.unsent or tail.untold) and tail.retry is None:
                tail.retry = asyncio.create_task(self._send_again(lease, tail))
            raise
        finally:
            self._forget_if_over(lease, tail)

    async def _send_again(self, lease: Lease, tail: _Tail) -> None:
        """Send what an outage held up, once it is over; the run may have nothing else to say for long."""
        began = time.monotonic()
        pause = PAUSE_AFTER_FAILURE
        try:
            while (tail.unsent or tail.untold) and time.monotonic() < began + (
                RETRY_ENDED if tail.ended else self._retry_for
            ):
                await asyncio.sleep(pause)
                pause = min(2 * pause, max(LONGEST_PAUSE, PAUSE_AFTER_FAILURE))
                async with tail.turn:
                    try:
                        await self._send(lease, tail, urgent=True)
                    except UnavailableError:
                        continue
                    except LeaseLostError:
                        return  # the run's next append says so to the worker
        finally:
            tail.retry = None
            self._forget_if_over(lease, tail, given_up=True)

    def _forget_if_over(self, lease: Lease, tail: _Tail, *, given_up: bool = False) -> None:
        # nothing follows an end marker
        over = tail.lost or (tail.ended and (given_up or not (tail.unsent or tail.untold)))
        if over and self._tails.get(lease.run_id) is tail:
            del self._tails[lease.run_id]

    async def _send(self, lease: Lease, tail: _Tail, *, urgent: bool) -> None:
        now = time.monotonic()
        if now < self._silent_until or (now < self._paused_until and not urgent):
            tail.limit()
            raise UnavailableError("The event log is out of reach; events wait for it.")
        try:
            while tail.unsent:
                count = min(len(tail.unsent), MOST_EVENTS_PER_CALL)
                accepted = await self._call(lease, tail, [tail.unsent[i] for i in range(count)])
                if not accepted:
                    tail.lost = True
                    tail.unsent.clear()
                    raise LeaseLostError(f"Run {lease.run_id} has a later worker; its events are not ours to write.")
                tail.remove(count)
            await self._tell(tail)
        except (RedisError, OSError) as error:
            self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE
            if isinstance(error, TimeoutError | RedisTimeoutError):
                self._silent_until = time.monotonic() + PAUSE_AFTER_SILENCE
            tail.limit()
            raise UnavailableError("The event log is out of reach; events wait for it.") from error

    async def _call(self, lease: Lease, tail: _Tail, events: Sequence[Event], *, sealed: bool = False) -> bool:
        ended = bool(events) and events[-1].is_end
        keep = self._keep_ended if ended else self._keep_live
        word = END_WORD if ended else b""
        arguments: list[Any] = [lease.epoch, lease.token.bytes, tail.sent, keep, *self._bounds, word, int(sealed)]
        keys = [events_key(self._prefix, lease.run_id), fence_key(self._prefix, lease.run_id)]
        origin = lease.origin if self._tells else None
        if origin is not None:
            keys += self._index.keys(origin.thread_id)
            arguments += [int(tail.begun), *self._index.about(lease.run_id, origin, tail.base)]
        else:
            arguments += [""] * (ARGUMENTS - len(arguments))
        for event in events:
            arguments += (event.name, event.data)
        try:
            total, begun, base = await self._append(keys=keys, args=arguments, patience=LONGEST_CALL)
        except ClusterCrossSlotError:
            # a cluster; refused as a whole, so nothing has been written
            if origin is None:
                raise
            self._tells = False
            return await self._call(lease, tail, events, sealed=sealed)
        if total < 0:
            return False
        if origin is not None:
            tail.total, tail.begun, tail.closed, tail.base = total, False, False, int(base)
            return True
        tail.total, tail.begun, tail.closed = total, tail.begun or bool(begun), ended
        tail.brief = ended and (tail.brief or bool(begun))
        return True

    async def _tell(self, tail: _Tail) -> None:
        """Tell the readers of the thread what they have to know of the run, if the append has not."""
        lease = tail.lease
        if lease.origin is None or not tail.untold:
            return
        if tail.begun and not tail.brief:
            tail.base = await self._index.announce(lease.run_id, lease.origin, base=tail.base)
            tail.begun = False
        if tail.closed:
            await self._index.announce(lease.run_id, lease.origin, base=tail.base, entries=tail.total, brief=tail.brief)
            tail.begun = tail.closed = False

    def _tail(self, lease: Lease) -> _Tail:
        tail = self._tails.get(lease.run_id)
        now = time.monotonic()
        if tail is not None and tail.lease.epoch > lease.epoch:
            raise LeaseLostError(f"Run {lease.run_id} has been claimed again by this worker.")
        if tail is None or tail.lease != lease:
            if len(self._tails) >= MOST_TAILS:
                old = [run for run, other in self._tails.items() if now - other.used_at > self._forget_after]
                for run in old:
                    del self._tails[run]
            tail = self._tails[lease.run_id] = _Tail(lease)
        tail.used_at = now
        return tail

    async def seal(self, lease: Lease) -> None:
        tail = self._tails.get(lease.run_id)
        if tail is None or tail.lease != lease:
            tail = _Tail(lease)  # it has said nothing; that is worth noting too
        try:
            await within(SEAL_PATIENCE, self._seal(lease, tail))
        except (TimeoutError, LeaseLostError):
            logger.warning(
                "handed on with %s events unsent; the stream will have a gap",
                len(tail.unsent),
                extra={"action": "seal_failed", "run_id": str(lease.run_id), "lease": lease.name},
            )
        finally:
            # nothing follows, whoever has the run next
            if tail.retry is not None:
                tail.retry.cancel()
            if self._tails.get(lease.run_id) is tail:
                del self._tails[lease.run_id]

    async def _seal(self, lease: Lease, tail: _Tail) -> None:
        while True:
            async with tail.turn:
                try:
                    await self._send(lease, tail, urgent=True)
                    if not await self._call(lease, tail, (), sealed=True):
                        raise LeaseLostError(f"Run {lease.run_id} has a later worker.")
                    await self._tell(tail)
                except (UnavailableError, RedisError, OSError):
                    pass  # until nobody waits any longer
                else:
                    return
            await asyncio.sleep(PAUSE_AFTER_FAILURE / 5)

    async def aclose(self) -> None:
        """Stop sending again what could not be sent; before the client is closed, which would connect for it."""
        retries = [tail.retry for tail in self._tails.values() if tail.retry is not None]
        self._tails.clear()
        for retry in retries:
            retry.cancel()
        await asyncio.gather(*retries, return_exceptions=True)

    async def expire(self, run_id: uuid.UUID, seconds: float) -> None:
        keep = int(seconds * 1000)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.pexpire(events_key(self._prefix, run_id), keep)
                pipe.pexpire(fence_key(self._prefix, run_id), keep)
                await within(LONGEST_CALL, pipe.execute())
        except (RedisError, OSError) as error:
            raise UnavailableError("The event log is out of reach.") from error
