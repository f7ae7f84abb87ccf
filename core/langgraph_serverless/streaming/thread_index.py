"""The index of a thread: which runs it has had, in the order in which their logs began, and what was written to its state.

A stream that the hub follows as it follows a run's: ``run`` entries (``ThreadRun``) and ``state_update`` entries. A run is
announced by whoever appends to its log, with the first append of each lease and whenever the log has begun anew (in the same script
where the keys of both may be in one, otherwise right afterwards), so that neither a killed worker nor a lost Redis hides one; readers know a run that is announced again by its id.

Beside it a hash remembers where the sequence numbers of the next run begin: behind those of the run before, once that one's end is
in its log. If that is not known, a run has a base of its own (``first_base``). A run that ends without having been executed
does not disturb the one that is going on; the numbers after it are above its own (``floor``).

A thread that was deleted and made anew has a new index. Both keys go when nothing has been said for as long as a run's log may be
silent. State updates are for those who listen and those who come back: few are kept, within ``UPDATES_BYTES``.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.thread_events import RUN, STATE_UPDATE, RunOrigin, ThreadRun
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.event_loop import within
from langgraph_serverless.redis_scripts import Script
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.announcing import ANNOUNCE
from langgraph_serverless.streaming.keys import counter_key, events_key, index_key
from langgraph_serverless.streaming.reader import Entry, events_in

#: Runs in an index; their logs are gone long before there are as many.
MOST_RUNS = 1000
#: State updates that are kept, and what they may take; the newest is kept whatever it takes.
MOST_UPDATES, UPDATES_BYTES = 10, 4 * 2**20
#: A Redis that has not answered by then (seconds) is out of reach.
LONGEST_CALL = 3.0
#: Logs whose ends are looked at in one round trip.
_AT_ONCE = 200

_BEGIN = """
-- KEYS: index, counter. ARGV: the thread's stamp, keep (ms), ...
local made = redis.call('HGET', KEYS[2], 'made')
if made and made ~= ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
end
local word = ''
if redis.call('EXISTS', KEYS[1]) == 0 then
  -- as the first entry of a run's log that was lost: readers that are ahead of all there is begin at the beginning
  redis.call('XADD', KEYS[1], '*', 'n', '__gap__', 'd', '')
  word = 'new'
end
redis.call('HSET', KEYS[2], 'made', ARGV[1])
local function close()
  -- an eighth longer, as whoever announces a run counts on it
  local longer = string.format('%.0f', ARGV[2] + math.floor(ARGV[2] / 8))
  redis.call('PEXPIRE', KEYS[1], longer)
  redis.call('PEXPIRE', KEYS[2], longer)
end
"""

_UPDATE = (
    _BEGIN
    + """
-- ... data, most updates, most bytes.
local id = redis.call('XADD', KEYS[1], '*', 'n', 'state_update', 'd', ARGV[3])
local kept, size, count = '', 0, 0
local all = (redis.call('HGET', KEYS[2], 'updates') or '') .. id .. ' ' .. #ARGV[3] .. ';'
local list = {}
for each, bytes in string.gmatch(all, '(%S+) (%d+);') do
  table.insert(list, {each, tonumber(bytes)})
end
for at = #list, 1, -1 do
  count, size = count + 1, size + list[at][2]
  if at < #list and (count > tonumber(ARGV[4]) or size > tonumber(ARGV[5])) then
    redis.call('XDEL', KEYS[1], list[at][1])
  else
    kept = list[at][1] .. ' ' .. list[at][2] .. ';' .. kept
  end
end
redis.call('HSET', KEYS[2], 'updates', kept)
close()
redis.call('PUBLISH', KEYS[1], word)
return id
"""
)


@dataclass(frozen=True, slots=True)
class LogEnds:
    """A run that the index names, and what there is of its log."""

    run: ThreadRun
    #: Of the entry that announced it first.
    entry_id: str
    #: The newest entry; None if there is no log.
    last: Event | None
    #: The newest one that is not after the id that was asked for.
    before: Event | None


@dataclass(frozen=True, slots=True)
class IndexView:
    """What an index says now."""

    #: When the thread was made, as it is known here; None if nothing is.
    made: int | None
    #: Where the sequence numbers of the next run begin; None if it is not known, as while a run goes on.
    next_base: int | None
    #: Where to read on.
    last_id: str
    runs: Sequence[LogEnds]
    updates: Sequence[Event]


class ThreadIndex:
    """Writes indexes, and reads what a new reader begins with. The client must give bytes (``decode_responses=False``)."""

    def __init__(self, redis: Redis, prefix: str, settings: Settings) -> None:
        self._redis = redis
        self._prefix = prefix
        self._keep = int((settings.stream_retention + settings.run_timeout) * 1000)
        self._announce = Script(redis, ANNOUNCE)
        self._update = Script(redis, _UPDATE)

    async def announce(
        self,
        run_id: uuid.UUID,
        origin: RunOrigin,
        *,
        base: int | None = None,
        entries: int | None = None,
        brief: bool = False,
    ) -> int:
        """Say that a run's log has begun, or has ended. Where its sequence numbers begin.

        Args:
            base: where they did when this was said before.
            entries: how many entries the log has, with its end; None while the run goes on.
            brief: it has ended with its first append.

        Raises:
            RedisError, OSError: the index is out of reach.
        """
        said = self.about(run_id, origin, base)
        arguments = [*said[:-1], "" if entries is None else entries * origin.stride, int(brief)]
        return int(await self._announce(keys=self.keys(origin.thread_id), args=arguments, patience=LONGEST_CALL))

    def about(self, run_id: uuid.UUID, origin: RunOrigin, base: int | None) -> list[Any]:
        """What a script says to the index of a run: see ``announcing.py``."""
        head = origin.to_json(run_id)[:-1]
        own = origin.base if base is None else base
        return [origin.made, self._keep, str(run_id), own, head, MOST_RUNS, origin.stride]

    async def state_updated(self, thread_id: uuid.UUID, made: int, data: bytes) -> None:
        """Tell the thread's readers that its state was written by hand.

        Raises:
            UnavailableError: the index is out of reach.
        """
        arguments: list[Any] = [made, self._keep, data, MOST_UPDATES, UPDATES_BYTES]
        try:
            await self._update(keys=self.keys(thread_id), args=arguments, patience=LONGEST_CALL)
        except (RedisError, OSError) as error:
            raise UnavailableError("The thread's index is out of reach.") from error

    async def view(self, thread_id: uuid.UUID, at: str) -> IndexView:
        """What the index and the logs that it names have, up to this id and after it.

        Raises:
            UnavailableError: Redis is out of reach.
        """
        try:
            return await within(LONGEST_CALL, self._view(thread_id, at))
        except (RedisError, OSError) as error:
            raise UnavailableError("The thread's index is out of reach.") from error

    async def now(self) -> int:
        """The time by which Redis gives ids (milliseconds).

        Raises:
            UnavailableError: Redis is out of reach.
        """
        try:
            seconds, microseconds = await within(LONGEST_CALL, self._redis.time())
        except (RedisError, OSError) as error:
            raise UnavailableError("The thread's index is out of reach.") from error
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def next_base(self, thread_id: uuid.UUID) -> int | None:
        """Where the sequence numbers of the next run begin; None if it is not known, as while a run goes on.

        Raises:
            UnavailableError: Redis is out of reach.
        """
        try:
            found = await within(LONGEST_CALL, self._redis.hget(self.keys(thread_id)[1], "next"))
        except (RedisError, OSError) as error:
            raise UnavailableError("The thread's index is out of reach.") from error
        return int(found) if found is not None else None

    async def _view(self, thread_id: uuid.UUID, at: str) -> IndexView:
        index, counter = self.keys(thread_id)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(counter, "made", "next")
            pipe.xrange(index)
            (made, following), entries = await pipe.execute()
        events = events_in(entries)
        runs: dict[uuid.UUID, tuple[ThreadRun, str]] = {}
        for event in events:
            if event.name == RUN:
                run = ThreadRun.from_json(event.data)
                runs[run.run_id] = (run, runs[run.run_id][1] if run.run_id in runs else event.id)
        return IndexView(
            made=int(made) if made is not None else None,
            next_base=int(following) if following is not None else None,
            last_id=events[-1].id if events else "0-0",
            runs=await self._ends(list(runs.values()), at),
            updates=[event for event in events if event.name == STATE_UPDATE],
        )

    async def _ends(self, runs: Sequence[tuple[ThreadRun, str]], at: str) -> list[LogEnds]:
        found: list[LogEnds] = []
        for first in range(0, len(runs), _AT_ONCE):
            some = runs[first : first + _AT_ONCE]
            async with self._redis.pipeline(transaction=False) as pipe:
                for run, _ in some:
                    key = events_key(self._prefix, run.run_id)
                    pipe.xrevrange(key, count=1)
                    pipe.xrevrange(key, max=at, count=1)
                answers: list[list[Entry]] = await pipe.execute()
            ends = [next(iter(events_in(answer)), None) for answer in answers]
            found += [LogEnds(*some[i], last=ends[2 * i], before=ends[2 * i + 1]) for i in range(len(some))]
        return found

    def keys(self, thread_id: uuid.UUID) -> list[str]:
        """Its index and its counter."""
        return [index_key(self._prefix, thread_id), counter_key(self._prefix, thread_id)]
