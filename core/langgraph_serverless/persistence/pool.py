"""One process's connections to Postgres.

``Database`` is cheap to construct and opens its pool at first use (a function must not connect while it is imported).
Connections are in autocommit mode, so that a single statement is a single round trip; ``transaction()`` groups several.
A connection is checked when it is taken after a pause, because a function's sandbox may have been frozen meanwhile, and for
a while after another one was lost, because a restart of the server takes all of them.
Failures to reach the database become ``UnavailableError`` (503); what a statement itself does wrong is left alone.

The pool belongs to the event loop that first used it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]

#: A connection that was used this recently (seconds) is taken without a check, which would cost a round trip; and for how
#: long all of them are checked after one was lost.
CHECK_AFTER_IDLE = 15.0


class Database:
    """Lazily opened pool of autocommit connections that return rows as dicts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._last_use = 0.0
        self._last_loss = float("-inf")

    async def pool(self) -> AsyncConnectionPool[Connection]:
        """The open pool, for libraries that take one (the checkpoint saver, the store)."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._open()
        return self._pool

    async def _open(self) -> AsyncConnectionPool[Connection]:
        settings = self._settings
        kwargs: dict[str, Any] = {
            "autocommit": True,
            "row_factory": dict_row,
            "prepare_threshold": 5 if settings.prepared_statements else None,
            "application_name": "langgraph-serverless",
            "connect_timeout": max(2, int(settings.pool_timeout)),
        }
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            settings.database_uri,
            connection_class=psycopg.AsyncConnection[DictRow],
            kwargs=kwargs,
            min_size=min(settings.pool_min_size, settings.pool_max_size),
            max_size=settings.pool_max_size,
            timeout=settings.pool_timeout,
            check=self._check,
            max_idle=300,
            open=False,
            name="langgraph-serverless",
        )
        await pool.open()
        return pool

    async def _check(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._last_use > CHECK_AFTER_IDLE or now - self._last_loss < CHECK_AFTER_IDLE:
            await AsyncConnectionPool.check_connection(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode.

        Raises:
            UnavailableError: if none is free within the pool's timeout, or the server closes the connection.
        """
        pool = await self.pool()
        try:
            async with pool.connection() as connection:
                yield connection
                self._last_use = time.monotonic()
        except (PoolTimeout, TooManyRequests) as error:
            raise UnavailableError("The database is out of reach or too busy; try again.") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable) or _connection_lost(
                error
            ):
                self._last_loss = time.monotonic()
                raise UnavailableError("The connection to the database was lost; try again.") from error
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction, committed at the end and rolled back on any error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def ping(self) -> None:
        """One round trip.

        Raises:
            UnavailableError: if the database does not answer.
        """
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    async def aclose(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(timeout=5)


def _connection_lost(error: psycopg.Error) -> bool:
    # class 08: connection exception, 57P: operator intervention (restart), 53: insufficient resources, 40: deadlock or
    # serialization failure, where the transaction has been rolled back and may be tried again
    state = error.sqlstate or ""
    return not state or state.startswith(("08", "57P", "53", "40"))
