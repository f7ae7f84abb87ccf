"""All readers of one process, on two connections to Redis: one that hears of new entries, one that fetches them.

::

    worker ── XADD + PUBLISH ──▶ Redis ── "grown" (pub/sub) ──▶ hear ──▶ dirty readers ──▶ fetch (one pipeline) ──▶ batch

A reader is a position in a stream. The hub fetches the range after it whenever the stream has grown, and only after the
reader has taken the batch before: no gaps and no repeats, as the position moves with what was delivered; a slow reader
holds one batch and holds up nobody. Messages only wake. One that is lost (a connection that broke) is made good by the
fetch that follows each subscription, and by one at each keep-alive.

Why not one blocking XREAD over all streams: its cost grows with the number of streams at every wake-up, on both sides, and
a new reader has to break into it. A subscription takes effect at once and costs its own stream only; and those who wait
for the end of a run are not woken by anything else.

Everything starts at the first reader, on its event loop. While Redis is away, readers get empty batches every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from langgraph_serverless.domain.events import DELAYED, END, Event
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.event_loop import within
from langgraph_serverless.redis_line import RedisLine
from langgraph_serverless.streaming.keys import END_WORD, NEW_WORD, events_key, index_key
from langgraph_serverless.streaming.reader import BATCH_BYTES, Reader, events_of, that_fit

logger = logging.getLogger("langgraph_serverless.streaming")

#: Streams that are fetched in one round trip, unless it is too much: a Redis that takes long is taken for one that is away.
MOST_STREAMS_PER_FETCH, MOST_BYTES_PER_FETCH = 32, 2 * 2**20
#: Between pings (seconds) on the connection that hears; silence for twice as long means that it is dead.
PING_EVERY = 2.5
#: A Redis that has not answered by then (seconds) is out of reach.
LONGEST_FETCH = 3.0
#: A client waits for the answer, and the run's row says as much (seconds).
LONGEST_LOOK = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_TICK_WHILE_AWAY = 1.0


class EventHub:
    """The readers' side of the event log; see ``EventReader``. The client must give bytes (``decode_responses=False``)."""

    def __init__(self, redis: Redis, prefix: str, *, keepalive: float = 5.0) -> None:
        self._redis = redis
        #: Its own: what is fetched may be large, and nobody's ring is to be behind it.
        self._line = RedisLine(redis)
        self._prefix = prefix
        self._keepalive = keepalive
        self._readers: dict[bytes, set[Reader]] = {}
        self._dirty: set[Reader] = set()
        self._in_flight: set[Reader] = set()
        self._to_fetch = asyncio.Event()
        self._subscribe: set[bytes] = set()
        self._unsubscribe: set[bytes] = set()
        self._to_steer = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._hears = False
        self._fetches = True
        #: Large events that somebody holds: slow readers of the same one hold it together.
        self._large: WeakValueDictionary[tuple[bytes, str], Event] = WeakValueDictionary()

    @property
    def connected(self) -> bool:
        return self._hears and self._fetches

    def read(self, run_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        return self._follow(Reader(events_key(self._prefix, run_id).encode(), after))

    def end(self, run_id: uuid.UUID) -> AsyncIterator[Sequence[Event]]:
        return self._follow(Reader(events_key(self._prefix, run_id).encode(), "$", end_only=True))

    def thread(self, thread_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        return self._follow(Reader(index_key(self._prefix, thread_id).encode(), after))

    def nudge(self, run_id: uuid.UUID) -> None:
        for reader in self._readers.get(events_key(self._prefix, run_id).encode(), ()):
            reader.wake()

    async def exists(self, run_id: uuid.UUID) -> bool:
        try:
            return bool(await within(LONGEST_LOOK, self._redis.exists(events_key(self._prefix, run_id))))
        except (RedisError, OSError) as error:
            raise UnavailableError("The event log is out of reach.") from error

    async def newest(self, run_id: uuid.UUID) -> str | None:
        key = events_key(self._prefix, run_id)
        try:
            entries: Any = await within(LONGEST_LOOK, self._redis.xrevrange(key, count=1))
        except (RedisError, OSError) as error:
            raise UnavailableError("The event log is out of reach.") from error
        if not entries:
            return "0-0"
        entry_id, fields = entries[0]
        return None if fields[b"n"] == END.encode() else str(entry_id.decode())

    async def aclose(self) -> None:
        """Close both connections. Readers that are left get empty batches."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, reader: Reader) -> AsyncIterator[Sequence[Event]]:
        self._start()
        self._attach(reader)
        try:
            while not reader.ended:
                if not (batch := reader.take()):
                    if reader.behind:  # it was busy with a large event
                        self._wake([reader])
                    await reader.wait(self._keepalive if self.connected else min(self._keepalive, _TICK_WHILE_AWAY))
                    batch = reader.take() or self._nothing(reader)
                # the next batch may be fetched while the caller is busy with this one
                if not batch or reader.behind:
                    self._wake([reader])
                yield batch
        finally:
            self._detach(reader)

    def _nothing(self, reader: Reader) -> Sequence[Event]:
        """The empty batch for a reader: its stream has nothing more, or has not been asked in time."""
        waits = reader in self._dirty or reader in self._in_flight
        return DELAYED if waits and self.connected else ()

    def _start(self) -> None:
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._keep_hearing()), loop.create_task(self._keep_fetching())]

    def _attach(self, reader: Reader) -> None:
        self._readers.setdefault(reader.key, set()).add(reader)
        # also if others read the stream already: the answer is what makes sure that nothing was missed
        self._unsubscribe.discard(reader.key)
        self._subscribe.add(reader.key)
        self._to_steer.set()
        if not self._hears:  # otherwise that answer comes soon, and is followed by a look
            self._wake([reader])

    def _detach(self, reader: Reader) -> None:
        self._dirty.discard(reader)
        readers = self._readers[reader.key]
        readers.discard(reader)
        if not readers:
            del self._readers[reader.key]
            self._subscribe.discard(reader.key)
            self._unsubscribe.add(reader.key)
            self._to_steer.set()

    def _wake(self, readers: Iterable[Reader]) -> None:
        """Have these readers' streams looked at."""
        for reader in readers:
            if reader.wants_fetch():
                self._dirty.add(reader)
        if self._dirty:
            self._to_fetch.set()

    # hearing

    async def _keep_hearing(self) -> None:
        pause = _FIRST_PAUSE
        # A connection outside of the pool, as it is never given back. No socket timeout applies to it: with one, redis-py
        # sends inside asyncio.wait_for, which on Python 3.11 may swallow the cancellation that ends these tasks.
        pool: Any = self._redis.connection_pool
        while True:
            connection = pool.make_connection()
            connection.socket_timeout = None
            try:
                await connection.connect()
                self._subscribe, self._unsubscribe = set(self._readers), set()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._steer(connection))
                    group.create_task(self._hear(connection))
            except* (RedisError, OSError) as errors:
                if self._hears or pause == _FIRST_PAUSE:
                    logger.warning("The event log is out of reach: %s", errors.exceptions[0])
            except* Exception:
                # all readers of the process depend on this task, so it must outlive faults that nobody foresaw
                logger.exception("Hearing of new events failed")
            finally:
                pause = _FIRST_PAUSE if self._hears else min(pause * 2, _LONGEST_PAUSE)
                self._hears = False
                with contextlib.suppress(RedisError, OSError):  # it is given up either way
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)

    async def _steer(self, connection: Any) -> None:
        """Keep the connection's subscriptions equal to what is read, and the connection alive.

        The client's own health checks are off here: they would read the answer, which is for ``_hear``.
        """
        while True:
            self._to_steer.clear()
            subscribe, self._subscribe = self._subscribe, set()
            unsubscribe, self._unsubscribe = self._unsubscribe, set()
            # Each channel by itself, in one packet: ElastiCache Serverless shards them, and one command is about one slot.
            said = [("SUBSCRIBE", channel) for channel in subscribe] + [
                ("UNSUBSCRIBE", channel) for channel in unsubscribe
            ]
            if said:
                await connection.send_packed_command(connection.pack_commands(said), check_health=False)
            try:
                async with asyncio.timeout(PING_EVERY):
                    await self._to_steer.wait()
            except TimeoutError:
                await connection.send_command("PING", check_health=False)

    async def _hear(self, connection: Any) -> None:
        while True:
            message = await connection.read_response(disable_decoding=True, timeout=2 * PING_EVERY, push_request=True)
            if message is None:
                raise RedisConnectionError("no answer to a ping")
            self._hears = True
            if not isinstance(message, list):
                continue  # the answer to a ping in RESP 3
            kind, channel = message[0], message[1]
            if kind == b"message":
                ended = message[2] == END_WORD
                if message[2] == NEW_WORD:
                    self._doubt(channel)
                self._wake(reader for reader in self._readers.get(channel, ()) if ended or not reader.end_only)
            elif kind == b"subscribe":
                self._doubt(channel)
                self._wake(self._readers.get(channel, ()))

    def _doubt(self, channel: bytes) -> None:
        for reader in self._readers.get(channel, ()):
            reader.doubt()

    # fetching

    async def _keep_fetching(self) -> None:
        pause = _FIRST_PAUSE
        task = asyncio.current_task()
        # asked each time, as a fetch may have swallowed the cancellation; see _keep_hearing
        while task is not None and not task.cancelling():
            await self._to_fetch.wait()
            self._to_fetch.clear()
            dirty, self._dirty = self._dirty, set()
            self._in_flight = {reader for reader in dirty if reader.wants_fetch()}
            try:
                await self._fetch(tuple(self._in_flight))
            except (RedisError, OSError) as error:
                if self._fetches:
                    logger.warning("The event log cannot be read: %s", error)
            except Exception:
                logger.exception("Fetching events failed")  # see _keep_hearing
            else:
                self._fetches, pause = True, _FIRST_PAUSE
                continue
            self._fetches = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._wake([reader for reader in dirty if reader in self._readers.get(reader.key, ())])

    async def _fetch(self, readers: Sequence[Reader]) -> None:
        # readers at the same place share what is fetched
        groups: dict[tuple[Any, ...], list[Reader]] = {}
        for reader in readers:
            groups.setdefault(reader.command(), []).append(reader)
        for commands in _in_parts(groups):
            answers = await self._line.ask_all(commands, patience=LONGEST_FETCH)
            for command, entries in zip(commands, answers, strict=True):
                group, batch = groups[command], that_fit(events_of(entries))
                if len(batch) == 1 and len(batch[0].data) > BATCH_BYTES:
                    batch = [self._large.setdefault((group[0].key, batch[0].id), batch[0])]
                for reader in group:
                    self._in_flight.discard(reader)
                    reader.deliver(len(entries), batch)
                self._wake(reader for reader in group if reader.behind)


def _in_parts(groups: Mapping[tuple[Any, ...], Sequence[Reader]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """The commands, in parts that go out in one round trip."""
    part: list[tuple[Any, ...]] = []
    size = 0
    for command, (reader, *_) in groups.items():
        if part and (len(part) == MOST_STREAMS_PER_FETCH or size + reader.expected > MOST_BYTES_PER_FETCH):
            yield part
            part, size = [], 0
        part.append(command)
        size += reader.expected
    if part:
        yield part
