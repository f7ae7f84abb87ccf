"""A tick that has seen that nothing is to be done lets the next ones sleep, so that a database may sleep as well.

A key in Redis says so for a while, and goes away by itself when the next cron or delayed run is due. Whoever makes something to be
done removes it: every ring does, and ``RedisBell.stir`` for what is no run. Between the tick's look and its word something may
have been made, so the tick leaves a mark before it looks, and its word counts only if the mark is still there.

Nothing is decided by it but when the scheduler looks into the database: while Redis is away it looks at every tick, and a removal
that is lost costs the rest of the nap.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from langgraph_serverless.event_loop import within
from langgraph_serverless.queue.outage import Outage
from langgraph_serverless.queue.slots import BoardKeys
from langgraph_serverless.redis_scripts import Script

T = TypeVar("T")

#: Not worth it: the tick after next would look anyway (seconds).
LEAST = 60.0
#: A mark is good for as long as a tick may take (seconds).
_MARKED = 120.0
_SOON = 1.0
_ASLEEP = b"asleep"

# KEYS: nap. ARGV: mark, how long (ms). Answers whether it was still there.
_SLEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], 'asleep', 'PX', ARGV[2])
return 1
"""


class Nap:
    """The scheduler's; ``longest`` in seconds. Never raises."""

    def __init__(self, redis: Redis, prefix: str, *, longest: float) -> None:
        self._redis = redis
        self._key = BoardKeys(prefix).nap
        self._longest = longest
        self._mark = ""
        self._sleep = Script(redis, _SLEEP)
        self._outage = Outage("The scheduler's nap")

    async def goes_on(self) -> bool:
        """Whether a tick has nothing to look for. If it has, this leaves the mark."""
        if await self._soon(self._redis.get(self._key)) == _ASLEEP:
            return True
        mark = f"look {uuid.uuid4().hex}"
        # one whose answer is late may yet be written, behind the back of a ring that has removed what was there before
        self._mark = mark if await self._soon(self._redis.set(self._key, mark, px=int(_MARKED * 1000))) else ""
        return False

    async def begin(self, seconds: float | None) -> bool:
        """Sleep, as nothing is to be done before so many seconds, or at all; whether that was still so."""
        seconds = min(self._longest, seconds if seconds is not None else self._longest)
        if not self._mark or seconds < min(LEAST, self._longest):
            return False
        return bool(await self._soon(self._sleep(keys=[self._key], args=[self._mark, int(seconds * 1000)])))

    async def _soon(self, asking: Awaitable[T]) -> T | None:
        try:
            answer = await within(_SOON, asking)
        except (RedisError, OSError) as error:
            self._outage.begins(error)
            return None
        self._outage.ends()
        return answer
