"""The bell: tells workers to look at the queue, and which runs have been cancelled.

A ring is a token in a Redis list, which one idle worker takes; a cancel is a message to all workers. Both only save time:
workers also look at the queue every few seconds, and cancels are columns that each heartbeat reads. That is why nothing
here ever fails its caller (P11): errors are logged once per outage and dropped.

On Lambda nobody may be there to hear. A ring then takes a free slot of the board (``slots``) for each run, and invokes the
worker function (``worker_function``) for those that get none.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_serverless.event_loop import within
from langgraph_serverless.queue.outage import Outage
from langgraph_serverless.queue.slots import ABSENT, RING, BoardKeys, SlotBoard
from langgraph_serverless.queue.worker_function import WorkerFunction
from langgraph_serverless.redis_scripts import Script

T = TypeVar("T")

#: Tokens beyond this are dropped: each of the workers that take them drains the whole queue.
MOST_TOKENS = 100
#: A ring or a cancel is for the moment, and its caller waits: one that Redis does not take by then (seconds), as when it
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


def _cancel_channel(prefix: str) -> str:
    return f"{prefix}:{{queue}}:cancel"


_REFUSED = "Redis refuses the user or password of REDIS_URI"


class RedisBell:
    """Rings; see ``Bell``.

    Args:
        redis: None in a deployment without Redis.
        function: what to invoke when no worker has a free slot; None where workers are always there.
    """

    def __init__(self, redis: Redis | None, prefix: str, function: WorkerFunction | None = None) -> None:
        self._redis = redis
        self.function = function
        self._channel = _cancel_channel(prefix)
        keys = BoardKeys(prefix)
        self._keys = [keys.tokens, keys.workers, keys.coming, keys.free, keys.absent, keys.nap]
        self._probe_key = f"{prefix}:probe"
        self._silent_until = 0.0
        self._script = Script(redis, RING) if redis is not None else None
        self._board = SlotBoard(redis, prefix) if redis is not None and function is not None else None
        self._outage = Outage("The bell")

    async def ring(self, count: int = 1, *, again: bool = False, invoke: bool = True) -> None:
        if count < 1:
            return
        function = self.function if invoke else None
        tickets = await self._asked(count, function, again)
        if function is None:
            return
        board = self._board if tickets is not None else None
        if tickets is None:
            tickets = function.without_board(count, again=again)
        if tickets and (failed := await function.invoke(tickets)):
            # the next ring must not count on them
            await board.withdraw(*failed) if board is not None else function.forget(len(failed))

    async def _asked(self, count: int, function: WorkerFunction | None, again: bool) -> list[str] | None:
        """Ring, and have the board say what to invoke; None if it says nothing: the worker that nobody woke polls."""
        if (script := self._script) is None:
            return None
        jobs, most, limit = (function.jobs, function.most, function.limit) if function is not None else (0, 0, 0)
        name = uuid.uuid4().hex[:12]
        start = int(function.start * 1000) if function is not None else 0
        arguments: list[Any] = [count, MOST_TOKENS, jobs, start, most, int(again), limit, name, ABSENT]
        answer = await self._soon(lambda: script(keys=self._keys, args=arguments, patience=_SOON))
        return [ticket.decode() for ticket in answer] if answer is not None else None

    async def stir(self) -> None:
        if (redis := self._redis) is not None:
            await self._soon(lambda: within(_SOON, redis.delete(self._keys[-1])))

    async def cancel(self, run_ids: Sequence[uuid.UUID]) -> None:
        if (redis := self._redis) is None or not run_ids:
            return
        # if nobody hears it, the next heartbeat reads the cancel from the run's row
        said = b"".join(run_id.bytes for run_id in run_ids)
        await self._soon(lambda: within(_SOON, redis.publish(self._channel, said)))

    async def _soon(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, unless Redis is out of order or has just shown that it hangs; ``ask`` is not to take longer than ``_SOON``."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            answer = await ask()
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


class BellListener:
    """A worker's ears, on two connections of their own."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._pool: Any = redis.connection_pool
        self._tokens = BoardKeys(prefix).tokens
        self._channel = _cancel_channel(prefix)
        self._outage = Outage("The bell")
        self._cancel_outage = Outage("The quick way of cancels")
        self._connection: Any = None

    async def wait(self, timeout: float, most: int = 1) -> bool:  # noqa: ASYNC109 - Redis does the waiting
        """Wait for a ring, at most this long; true if it rang. One call at a time.

        Up to ``most`` rings are taken at once: for as many runs as the caller is going to look.

        While Redis is away this waits for the whole time: the caller polls the queue.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        try:
            rang = await self._pop(timeout, most)
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

    async def _pop(self, seconds: float, most: int) -> bool:
        if self._connection is None:
            self._connection = _own_connection(self._pool)
            await self._connection.connect()
        # zero would wait forever
        await self._connection.send_command(
            "BLMPOP", max(seconds, 0.01), 1, self._tokens, "LEFT", "COUNT", most, check_health=False
        )
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
