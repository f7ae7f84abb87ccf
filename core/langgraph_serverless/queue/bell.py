"""The bell: tells workers to look at the queue, and which runs have been cancelled.

A ring is a token in a Redis list, which one idle worker takes; a cancel is a message to all workers. Both only save time:
workers also look at the queue every few seconds, and cancels are columns that each heartbeat reads. That is why nothing
here ever fails its caller (P11): errors are logged once per outage and dropped.

On Lambda nobody may be there to hear. Workers then publish their free slots (``SlotBoard``). A ring takes as many of them
as it has runs, and for the rest it invokes the worker function, once for every ``jobs_per_worker`` runs: slots of functions
that are still starting count as promised for a few seconds, so that a hundred runs do not start a hundred functions. A worker
that is full rings again for what is still waiting, in case that others have taken what a ring had counted on.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_serverless.event_loop import within

logger = logging.getLogger("langgraph_serverless.queue")

T = TypeVar("T")

#: Tokens beyond this are dropped: each of the workers that take them drains the whole queue.
MOST_TOKENS = 100
#: How long an invoked function may take until it publishes its slots (milliseconds).
STARTING = 5000
#: A ring, a cancel or a slot is for the moment, and its caller waits: one that Redis does not take by then (seconds), as when it
#: hangs or the network drops what is sent to it, is dropped.
_SOON = 1.0
#: Whoever asks what is wrong wants to know more than that it takes long (seconds).
_DIAGNOSIS = 3.0
#: Once a ring had to be dropped for that, the next ones are dropped at once for this long (seconds): one request waits for a Redis
#: that hangs, and not each of them.
_PAUSE_AFTER_SILENCE = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
#: Between pings (seconds) on the connection that hears of cancels.
_PING_EVERY = 10.0
#: How late Redis may be with the answer to a blocking call (seconds).
_PATIENCE = 5.0

# KEYS: tokens, slots, promised, free. ARGV: runs, most tokens, jobs per worker (0: nobody is to be invoked), starting (ms),
# most workers, whether these runs have been rung for before. Answers how many workers to invoke.
_RING = """
local runs = tonumber(ARGV[1])
local tokens = {}
for number = 1, math.min(runs, tonumber(ARGV[2])) do
  tokens[number] = '1'
end
redis.call('RPUSH', KEYS[1], unpack(tokens))
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[2]), -1)
-- whoever works has polled the queue by then
redis.call('PEXPIRE', KEYS[1], 60000)
local jobs = tonumber(ARGV[3])
if jobs == 0 then
  return 0
end
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. (now[1] * 1000 + math.floor(now[2] / 1000)))
for _, worker in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local free = tonumber(redis.call('HGET', KEYS[4], worker) or '0')
  local taken = math.min(free, runs)
  runs = runs - taken
  if taken == free then
    redis.call('ZREM', KEYS[2], worker)
    redis.call('HDEL', KEYS[4], worker)
  else
    redis.call('HSET', KEYS[4], worker, free - taken)
  end
end
local starting = redis.call('GET', KEYS[3])
if runs == 0 or (starting and ARGV[6] == '1') then
  return 0
end
local promised = tonumber(starting or '0')
local workers = math.min(math.max(0, math.ceil((runs - promised) / jobs)), tonumber(ARGV[5]))
redis.call('SET', KEYS[3], math.max(0, promised + workers * jobs - runs), 'PX', ARGV[4])
return workers
"""

# KEYS: slots, promised, free. ARGV: worker, free slots, time to live (ms)
_PUBLISH = """
if tonumber(ARGV[2]) <= 0 then
  redis.call('HDEL', KEYS[3], ARGV[1])
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], 10 * ARGV[3])
local now = redis.call('TIME')
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  redis.call('DEL', KEYS[2])
end
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], 10 * ARGV[3])
"""

_COUNT = """
local now = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), '+inf')
"""


def _tokens_key(prefix: str) -> str:
    return f"{prefix}:{{queue}}:bell"


def _slots_key(prefix: str) -> str:
    return f"{prefix}:{{queue}}:slots"


def _promised_key(prefix: str) -> str:
    return f"{prefix}:{{queue}}:promised"


def _free_key(prefix: str) -> str:
    return f"{prefix}:{{queue}}:free"


def _cancel_channel(prefix: str) -> str:
    return f"{prefix}:{{queue}}:cancel"


_REFUSED = "Redis refuses the user or password of REDIS_URI"


class _Outage:
    """Logs the first error of an outage and its end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._out = False

    def begins(self, error: object) -> None:
        if not self._out:
            logger.warning("%s is out of order; the queue is polled: %s", self._what, error)
        self._out = True

    def ends(self) -> None:
        if self._out:
            logger.info("%s works again", self._what)
        self._out = False


class RedisBell:
    """Rings; see ``Bell``.

    Args:
        redis: None in a deployment without Redis.
        worker_function_name: the Lambda function to invoke when no worker has a free slot; empty elsewhere.
        jobs_per_worker: how many runs one invocation will take.
        most_invocations: of one ring; the functions that it invokes ring for what is left.
    """

    def __init__(
        self,
        redis: Redis | None,
        prefix: str,
        *,
        worker_function_name: str = "",
        jobs_per_worker: int = 10,
        most_invocations: int = 20,
    ) -> None:
        self._redis = redis
        self._function = worker_function_name
        self._jobs = jobs_per_worker
        self._most = most_invocations
        self._channel = _cancel_channel(prefix)
        self._keys = [_tokens_key(prefix), _slots_key(prefix), _promised_key(prefix), _free_key(prefix)]
        self._probe_key = f"{prefix}:probe"
        self._silent_until = 0.0
        self._script = redis.register_script(_RING) if redis is not None else None
        self._outage = _Outage("The bell")
        self._invoking = _Outage("Invoking the worker function")

    async def ring(self, count: int = 1, *, again: bool = False) -> None:
        if count < 1:
            return
        jobs = self._jobs if self._function else 0
        workers = min(math.ceil(count / self._jobs), self._most) if self._function else 0
        if (script := self._script) is not None:
            arguments = [count, MOST_TOKENS, jobs, STARTING, self._most, int(again)]
            # the worker that nobody woke finds the run when it polls
            answer = await self._soon(lambda: script(keys=self._keys, args=arguments))
            workers = workers if answer is None else int(answer)
        if workers:
            await self._invoke(workers)

    async def cancel(self, run_ids: Sequence[uuid.UUID]) -> None:
        if (redis := self._redis) is None or not run_ids:
            return
        # if nobody hears it, the next heartbeat reads the cancel from the run's row
        await self._soon(lambda: redis.publish(self._channel, b"".join(run_id.bytes for run_id in run_ids)))

    async def _soon(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, unless Redis is out of order or has just shown that it hangs."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            answer = await within(_SOON, ask())
        except (RedisError, OSError) as error:
            if isinstance(error, TimeoutError | RedisTimeoutError):
                self._silent_until = time.monotonic() + _PAUSE_AFTER_SILENCE
            self._outage.begins(error)
            return None
        self._outage.ends()
        return answer

    async def trouble(self) -> str | None:
        """What keeps Redis from being used; None if nothing does, also in a deployment without one. It has to take a write."""
        if self._redis is None:
            return None
        try:
            await within(_DIAGNOSIS, self._redis.set(self._probe_key, b"", px=1000))
        except OutOfMemoryError:
            return "Redis is full (maxmemory)"
        except ReadOnlyError:
            return "Redis is a replica that takes no writes"
        except (AuthenticationError, NoPermissionError):
            return _REFUSED
        except (RedisError, OSError) as error:
            # a client without a password hears of it as early as in its greeting, as of a connection that failed
            if "NOAUTH" in str(error) or "HELLO must be called" in str(error):
                return _REFUSED
            return "Redis does not answer"
        return None

    async def _invoke(self, workers: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._invoke_now, workers)
        except Exception as error:  # noqa: BLE001, RUF100 - boto3 has no common base; the scheduler's tick finds the run
            self._invoking.begins(error)
        else:
            self._invoking.ends()

    def _invoke_now(self, workers: int) -> None:
        for _ in range(workers):
            self._lambda.invoke(FunctionName=self._function, InvocationType="Event", Payload=b'{"reason":"bell"}')

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        # the event loop's own threads are for synchronous nodes, which may hold all of them; a full worker rings too
        return ThreadPoolExecutor(2, thread_name_prefix="invoke")

    @cached_property
    def _lambda(self) -> Any:
        # imported here because it takes long to load, and only functions have a function to invoke
        return import_module("boto3").client("lambda")


class BellListener:
    """A worker's ears, on two connections of their own."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._pool: Any = redis.connection_pool
        self._tokens = _tokens_key(prefix)
        self._channel = _cancel_channel(prefix)
        self._outage = _Outage("The bell")
        self._cancel_outage = _Outage("The quick way of cancels")
        self._connection: Any = None

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 - Redis does the waiting
        """Wait for a ring, at most this long; true if it rang. One call at a time.

        While Redis is away this waits for the whole time: the caller polls the queue.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        try:
            rang = await self._pop(timeout)
        except (RedisError, OSError) as error:
            self._outage.begins(error)  # the caller polls after each wait
            await self.aclose()
            await asyncio.sleep(max(0.0, until - loop.time()))
            return False
        except BaseException:
            # cancelled: a token may be on its way, so the connection cannot be used for anything else
            await self.aclose()
            raise
        self._outage.ends()
        return rang

    async def _pop(self, seconds: float) -> bool:
        if self._connection is None:
            self._connection = _own_connection(self._pool)
            await self._connection.connect()
        # zero would wait forever
        await self._connection.send_command("BLPOP", self._tokens, max(seconds, 0.01), check_health=False)
        async with asyncio.timeout(seconds + _PATIENCE):
            answer = await self._connection.read_response(timeout=seconds + 2 * _PATIENCE)
        return answer is not None

    async def cancels(self) -> AsyncIterator[list[uuid.UUID]]:
        """Runs whose cancel has been recorded, as it happens. Endless; connects again after an outage."""
        pause = _FIRST_PAUSE
        while True:
            connection = _own_connection(self._pool)
            try:
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self._channel, check_health=False)
                async for message in _messages(connection):
                    pause = _FIRST_PAUSE
                    self._cancel_outage.ends()
                    if message[0] == b"message":
                        ids = message[2]
                        yield [uuid.UUID(bytes=ids[at : at + 16]) for at in range(0, len(ids), 16)]
            except (RedisError, OSError) as error:
                self._cancel_outage.begins(error)  # heartbeats read cancels from the rows
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def aclose(self) -> None:
        """Close the connection that waits for rings."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _own_connection(pool: Any) -> Any:
    """A connection outside of the pool.

    No socket timeout applies to it: with one, redis-py sends inside ``asyncio.wait_for``, which on Python 3.11 may swallow
    the cancellation of the task.
    """
    connection = pool.make_connection()
    connection.socket_timeout = None
    return connection


async def _messages(connection: Any) -> AsyncIterator[list[Any]]:
    """What a subscribed connection hears; fails when it is dead."""
    asked = False
    while True:
        message = await connection.read_response(disable_decoding=True, timeout=_PING_EVERY, push_request=True)
        if message is None and asked:
            raise OSError("no answer to a ping")
        asked = message is None
        if asked:
            await connection.send_command("PING", check_health=False)
        elif isinstance(message, list):  # the answer to a ping is none in RESP 3
            yield message


class SlotBoard:
    """Which worker functions have free slots, so that a ring knows whether to start one."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._slots = _slots_key(prefix)
        self._keys = [self._slots, _promised_key(prefix), _free_key(prefix)]
        self._publish = redis.register_script(_PUBLISH)
        self._count = redis.register_script(_COUNT)
        self._outage = _Outage("The board of free slots")

    async def publish(self, worker_id: str, free: int, ttl: float) -> None:
        """Say that this worker has so many free slots, for this long (seconds). Never raises, like a ring."""
        try:
            publishing = self._publish(keys=self._keys, args=[worker_id, free, int(ttl * 1000)])
            await within(_SOON, publishing)
        except (RedisError, OSError) as error:
            self._outage.begins(error)  # at worst a ring starts a function that is not needed
        else:
            self._outage.ends()

    async def withdraw(self, worker_id: str) -> None:
        """Take no more runs. Never raises; the entry expires by itself."""
        await self.publish(worker_id, 0, 0)

    async def free_workers(self) -> int:
        """How many workers have a free slot; 0 if Redis does not answer."""
        try:
            return int(await self._count(keys=[self._slots]))
        except (RedisError, OSError) as error:
            self._outage.begins(error)  # see publish
            return 0
