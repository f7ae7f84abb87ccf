"""Who works, who is on the way and who has a free slot, in Redis; so that a ring knows whether to invoke a worker function.

Every worker function is on the board with an expiry, which it renews: one that dies disappears by itself. An invocation that has
been asked for is there as well, with a ticket that the worker hands in when it has begun; until then its slots can be given away
like those of a worker. A ring takes a free slot for each of its runs, first of those who are there, and asks for as many
invocations as the rest needs, never for more than keep to the limit of workers.

Tickets that nobody hands in, as while functions are throttled or the project cannot be imported, are noted: until somebody
comes, one invocation at a time is asked for.

It is a board and no truth: whatever is lost here costs an invocation that finds nothing, or a wait for the next tick.
"""

from __future__ import annotations

from collections.abc import Awaitable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from langgraph_serverless.queue.outage import Outage
from langgraph_serverless.redis_scripts import Script

#: How long a function that did not come is remembered, if nobody else comes (milliseconds).
ABSENT = 300_000
#: A slot is for the moment: a Redis that does not take one by then (seconds) does not get it.
_SOON = 1.0

# KEYS: tokens, workers, coming, free, absent, nap. ARGV: runs, most tokens, jobs per worker (0: nobody is to be invoked), starting
# (ms), most invocations, whether these are all runs that wait, most workers (0: any number), name of new tickets, absent (ms).
# Answers the tickets of the invocations to make.
RING = """
local runs, most_tokens, jobs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tickets = {}
while jobs > 0 and redis.call('ZSCORE', KEYS[3], '+' .. ARGV[8] .. '.' .. (#tickets + 1)) do
  tickets[#tickets + 1] = '+' .. ARGV[8] .. '.' .. (#tickets + 1)
end
if #tickets > 0 then
  return tickets -- asked once more, because the answer was lost
end
redis.call('DEL', KEYS[6])
local tokens = {}
for number = 1, math.min(runs, most_tokens) do
  tokens[number] = '1'
end
if redis.call('RPUSH', KEYS[1], unpack(tokens)) > most_tokens then
  redis.call('LTRIM', KEYS[1], -most_tokens, -1)
end
-- whoever works has polled the queue by then
redis.call('PEXPIRE', KEYS[1], 60000)
if jobs == 0 then
  return {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. now)) do
  redis.call('ZREM', KEYS[2], worker)
  redis.call('HDEL', KEYS[4], worker)
end
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. now)) do
  redis.call('ZREM', KEYS[3], ticket)
  redis.call('HDEL', KEYS[4], ticket)
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[9])
end
local coming = redis.call('ZRANGE', KEYS[3], 0, -1)
if ARGV[6] == '1' then
  -- those who are on the way will take any of these, whoever has asked for them
  for _, ticket in ipairs(coming) do
    redis.call('HSET', KEYS[4], ticket, jobs)
  end
end
local free = redis.call('HGETALL', KEYS[4])
for _, is_ticket in ipairs({false, true}) do
  for place = 1, #free, 2 do
    if runs == 0 then
      break
    end
    local name, slots = free[place], tonumber(free[place + 1])
    if (string.sub(name, 1, 1) == '+') == is_ticket then
      local taken = math.min(slots, runs)
      runs = runs - taken
      if taken == slots then
        redis.call('HDEL', KEYS[4], name)
      else
        redis.call('HSET', KEYS[4], name, slots - taken)
      end
    end
  end
end
local most, limit = tonumber(ARGV[5]), tonumber(ARGV[7])
if limit > 0 then
  most = math.min(most, limit - redis.call('ZCARD', KEYS[2]) - #coming)
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  most = math.min(most, 1 - #coming)
end
for number = 1, math.min(math.ceil(runs / jobs), most) do
  local ticket = '+' .. ARGV[8] .. '.' .. number
  local taken = math.min(jobs, runs)
  runs = runs - taken
  redis.call('ZADD', KEYS[3], now + ARGV[4], ticket)
  if taken < jobs then
    redis.call('HSET', KEYS[4], ticket, jobs - taken)
  end
  tickets[number] = ticket
end
if #tickets > 0 then
  redis.call('PEXPIRE', KEYS[3], 10 * ARGV[4])
  redis.call('PEXPIRE', KEYS[4], 10 * ARGV[4])
end
return tickets
"""

# KEYS: workers, coming, free, absent. ARGV: worker, free slots, time to live (ms), ticket or nothing
_PUBLISH = """
if ARGV[4] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[4])
  redis.call('HDEL', KEYS[3], ARGV[4])
end
local time = redis.call('TIME')
local expires = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
if redis.call('ZADD', KEYS[1], expires, ARGV[1]) == 1 then
  redis.call('DEL', KEYS[4])
end
if tonumber(ARGV[2]) > 0 then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[3], math.max(600000, 2 * ARGV[3]))
else
  redis.call('HDEL', KEYS[3], ARGV[1])
end
return redis.call('PEXPIRE', KEYS[1], math.max(600000, 2 * ARGV[3]))
"""

# KEYS: workers, coming, free. ARGV: workers and tickets
_REMOVE = """
for _, name in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[3], name)
end
"""

# KEYS: workers, free. ARGV: whether only those with a free slot are wanted
_COUNT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  if ARGV[1] == '0' or redis.call('HEXISTS', KEYS[2], worker) == 1 then
    count = count + 1
  end
end
return count
"""


class BoardKeys:
    """The board's keys; in one slot of a cluster."""

    def __init__(self, prefix: str) -> None:
        self.tokens = f"{prefix}:{{queue}}:bell"
        #: workers by expiry
        self.workers = f"{prefix}:{{queue}}:workers"
        #: tickets by expiry
        self.coming = f"{prefix}:{{queue}}:coming"
        #: free slots of both
        self.free = f"{prefix}:{{queue}}:room"
        self.absent = f"{prefix}:{{queue}}:absent"
        self.nap = f"{prefix}:{{queue}}:nap"


class SlotBoard:
    """A worker's side of the board, and an onlooker's. Nothing here ever raises, as a ring does not."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        keys = BoardKeys(prefix)
        self._workers, self._coming, self._free, self._absent = keys.workers, keys.coming, keys.free, keys.absent
        self._publish = Script(redis, _PUBLISH)
        self._remove = Script(redis, _REMOVE)
        self._count = Script(redis, _COUNT)
        self._outage = Outage("The board of free slots")

    async def publish(self, worker_id: str, free: int, ttl: float, *, ticket: str = "") -> bool:
        """Say that this worker is there with so many free slots, for this long (seconds); whether that could be said.

        Args:
            ticket: what it was invoked with, at the first time.
        """
        keys = [self._workers, self._coming, self._free, self._absent]
        asking = self._publish(keys=keys, args=[worker_id, max(0, free), int(ttl * 1000), ticket], patience=_SOON)
        return await self._said(asking)

    async def withdraw(self, *names: str) -> bool:
        """Take a worker off the board, or tickets whose invocations could not be made. Otherwise they expire."""
        removing = self._remove(keys=[self._workers, self._coming, self._free], args=names, patience=_SOON)
        return await self._said(removing)

    async def free_workers(self) -> int:
        """How many workers have a free slot; 0 if Redis does not answer."""
        return await self._counted(only_free=True)

    async def workers(self) -> int:
        """How many workers there are; 0 if Redis does not answer."""
        return await self._counted(only_free=False)

    async def _counted(self, *, only_free: bool) -> int:
        try:
            return int(await self._count(keys=[self._workers, self._free], args=[int(only_free)]))
        except (RedisError, OSError) as error:
            self._outage.begins(error)
            return 0

    async def _said(self, asking: Awaitable[object]) -> bool:
        try:
            await asking
        except (RedisError, OSError) as error:
            self._outage.begins(error)  # at worst a ring starts a function that is not needed
            return False
        self._outage.ends()
        return True
