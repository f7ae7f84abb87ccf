"""One connection to Redis on which many ask at once: commands go out as they come, and answers come back in the same order.

A call of redis-py takes a connection out of the pool, sends, waits and gives it back; here a call is a write and a future, so that the
appends, rings and fetches of runs that happen at the same time share round trips and cost a fraction of the time. A line is opened
when it is first asked something, belongs to the client's pool (whoever closes the client closes it), and opens itself again after it
was lost. What was under way then is asked once more, so only what may be said twice is said on it.

A line on which nothing was heard since a command that was not answered in time is taken for dead, and everybody on it hears of that. One that
answers others is slow, or this process is: then only that command has failed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

#: Under this name a client has its line.
_NAME = "_langgraph_serverless_line"

_Waiting = deque[asyncio.Future[Any]]


class RedisLine:
    """See above; on the event loop that asks, as there is one in each process or thread that has a client."""

    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool
        self._connection: Any = None
        self._waiting: _Waiting = deque()
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: When an answer has come, by the loop's clock.
        self._heard = 0.0

    @classmethod
    def of(cls, redis: Redis) -> RedisLine:
        """The line that all small commands of a client share."""
        line: RedisLine | None = vars(redis).get(_NAME)
        if line is None:
            line = vars(redis)[_NAME] = cls(redis)
        return line

    async def ask(self, *command: Any, patience: float) -> Any:
        """The answer as Redis gives it: bytes, numbers and lists.

        Args:
            patience: seconds for all of it.

        Raises:
            TimeoutError: no answer in time.
            RedisError, OSError: as the client would.
        """
        return (await self.ask_all([command], patience=patience))[0]

    async def ask_all(self, commands: Sequence[tuple[Any, ...]], *, patience: float) -> list[Any]:
        """The answers to several, in one round trip; raises for the first that is refused."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        was_open = self._is_open(loop)
        try:
            return await self._ask(loop, commands, until)
        except RedisConnectionError:
            # it may have been dead for long, as nothing is said on it while nothing happens
            if not was_open:
                raise
        return await self._ask(loop, commands, until)

    def _is_open(self, loop: asyncio.AbstractEventLoop) -> bool:
        connection = self._connection
        return (
            connection is not None
            and self._loop is loop
            and connection.is_connected
            # whoever reads from it may not have been told yet, and uvloop lets nobody write to it
            and not connection._writer.is_closing()
        )

    async def _ask(
        self, loop: asyncio.AbstractEventLoop, commands: Sequence[tuple[Any, ...]], until: float
    ) -> list[Any]:
        packed = [pack_command(command) for command in commands]
        if not self._is_open(loop):
            await self._open_until(loop, until)
        connection = self._connection
        answers: list[asyncio.Future[Any]] = [loop.create_future() for _ in commands]
        # nothing is awaited between these two that would let somebody else's command in between
        self._waiting.extend(answers)
        # a loop that is late first takes what has come meanwhile
        timer = loop.call_at(until, loop.call_soon, self._give_up, answers, connection, loop.time())
        try:
            # As redis-py would, without waiting for room to write: a Redis that hangs makes none, and who asks waits for the answer anyway.
            connection._writer.writelines(packed)
            return [await answer for answer in answers]
        finally:
            timer.cancel()
            for answer in answers:
                if not answer.cancel() and not answer.cancelled():
                    answer.exception()  # seen, also that of one after the first

    def _give_up(self, answers: Sequence[asyncio.Future[Any]], connection: Any, since: float) -> None:
        late = [answer for answer in answers if not answer.done()]
        for answer in late:
            answer.set_exception(TimeoutError("Redis has not answered in time"))
        if late and self._heard < since and connection._writer is not None:
            # whoever reads from it finds it closed; `close` would first wait until all that has been written is gone
            connection._writer.transport.abort()

    async def _open_until(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if self._opening is None or self._loop is not loop:
            self._loop = loop
            self._opening = loop.create_task(self._open())
            self._opening.add_done_callback(_seen)
        opening = self._opening
        # for all who ask meanwhile, so it goes on if one of them leaves
        await asyncio.wait([opening], timeout=max(0.0, until - loop.time()))
        if not opening.done():
            raise TimeoutError("no connection to Redis in time")
        opening.result()
        if not self._is_open(loop):
            raise RedisConnectionError("The connection to Redis was lost at once.")

    async def _open(self) -> None:
        try:
            connection = await self._pool.get_connection()
            # With one, redis-py sends inside asyncio.wait_for: a task for each command, and on Python 3.11 a cancellation may be lost.
            connection.socket_timeout = None
            self._connection, self._waiting = connection, deque()
            self._reading = asyncio.create_task(self._read(connection, self._waiting))
        finally:
            self._opening = None

    async def _read(self, connection: Any, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        failure: Exception = RedisConnectionError("The connection to Redis was closed.")
        try:
            while True:
                refused: ResponseError | None = None
                answer: Any = None
                try:
                    answer = await connection.read_response(disable_decoding=True, timeout=math.inf)
                except ResponseError as error:
                    refused = error
                self._heard = loop.time()
                future = waiting.popleft()
                if future.done():
                    continue
                if refused is None:
                    future.set_result(answer)
                else:
                    future.set_exception(refused)
        except (RedisError, OSError) as error:
            failure = RedisConnectionError(f"The connection to Redis was lost: {error}")
        finally:
            for future in waiting:
                if not future.done():
                    future.set_exception(failure)
            waiting.clear()
            if self._connection is connection:
                self._connection = None
            await connection.disconnect(nowait=True)
            connection.socket_timeout = self._pool.connection_kwargs.get("socket_timeout")
            await self._pool.release(connection)


def _seen(opening: asyncio.Task[None]) -> None:
    """Look at the error of a task for which perhaps nobody waits any more, or asyncio complains."""
    if not opening.cancelled():
        opening.exception()
