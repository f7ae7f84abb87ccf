"""One process's connections to Postgres.

``Database`` is cheap to construct and opens its pool at first use (a function must not connect while it is imported).
Connections are in autocommit mode, so that a single statement is a single round trip; ``transaction()`` groups several.
A connection on which the server has said something while nobody asked (that it closes it, mostly) is checked when it is
taken, so that the first request of a sandbox that was frozen meanwhile does not pay for it. So is every one after a pause,
as the network may have forgotten it, and for a while after another one was lost, as a restart takes all of them.
A transaction whose process stands still is ended by the server, so that it does not keep its locks (``BEGIN``).
Where a connection is refused for its password, the address is read again and tried once more (``addresses``), within the same attempt.
Failures to reach the database become ``UnavailableError`` (503); what a statement itself does wrong is left alone.
Where tenants are kept apart (``row_level_security``), every statement is part of a transaction that sees the rows of one tenant: of
the one that ``domain/tenants.py`` says, and of none if nobody has said it. Work for all of them says so (``as_system``).

The pool belongs to the event loop that first used it.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any, LiteralString, Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from langgraph_serverless.addresses import Address
from langgraph_serverless.domain.ports import Cipher
from langgraph_serverless.domain.tenants import acting_tenant
from langgraph_serverless.errors import AccessError, UnavailableError
from langgraph_serverless.persistence.sealing import client_cursor, sealing_cursor
from langgraph_serverless.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]

#: A connection that was used this recently (seconds) is taken without a check, which would cost a round trip; and for how
#: long all of them are checked after one was lost.
CHECK_AFTER_IDLE = 15.0
#: How a transaction begins, in one message: with how long it may wait for its next statement before the server ends it. For
#: this transaction only, as everything behind a pooler.
BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'"
#: How one begins that sees the rows of a tenant and no others (``migrations/tenants.sql``). The tenant has a '=' before it, as what is
#: left of a setting after its transaction is an empty text, and that is a tenant too.
BEGIN_FOR_TENANT: LiteralString = (
    f"{BEGIN}; SET LOCAL ROLE lgs_tenant; SELECT set_config('lgs.tenant', %(tenant)s, true)"
)


class Database:
    """Lazily opened pool of autocommit connections that return rows as dicts."""

    def __init__(self, settings: Settings, cipher: Callable[[], Cipher | None] = lambda: None) -> None:
        """``cipher`` is asked when the first connection is made; with one, cursors encrypt and decrypt (``sealing``)."""
        self._settings = settings
        self._cipher = cipher
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._last_use = _now()
        self._last_loss = float("-inf")
        self._confined = settings.row_level_security

    def as_system(self) -> Database:
        """The same connections, for work that concerns the rows of all tenants."""
        return _View(self, confined=False) if self._confined else self

    def for_tenant(self, tenant: str) -> Database:
        """The same connections, for work on the rows of this tenant."""
        return _View(self, confined=True, tenant=tenant) if self._confined else self

    def _whose(self) -> str | None:
        """The tenant whose rows there are, where tenants are kept apart."""
        return acting_tenant()

    async def pool(self) -> AsyncConnectionPool[Connection]:
        """The open pool, for libraries that take one (the checkpoint saver, the store)."""
        pool = await self._whole_pool()
        return _ConfinedPool(self) if self._confined else pool

    async def _whole_pool(self) -> AsyncConnectionPool[Connection]:
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
            "fallback_application_name": "langgraph-serverless",  # PGAPPNAME wins
            "connect_timeout": max(2, int(settings.pool_timeout)),
        }
        if (cipher := self._cipher()) is not None:
            kwargs["cursor_factory"] = sealing_cursor(cipher)
        address = settings.database_address
        pool = _CheckingPool(
            address.current,
            connection_class=_renewing(address) if address.changes else psycopg.AsyncConnection[DictRow],
            kwargs=kwargs,
            min_size=min(settings.pool_min_size, settings.pool_max_size),
            max_size=settings.pool_max_size,
            timeout=settings.pool_timeout,
            look=self._check,
            max_idle=300,
            open=False,
            name="langgraph-serverless",
        )
        await pool.open()
        return pool

    async def _check(self, connection: Connection) -> None:
        if connection.pgconn.pipeline_status:
            # see transaction(); the pool takes another one
            raise psycopg.OperationalError("the connection was left in pipeline mode")
        # by either clock: while a sandbox is frozen, the monotonic one may stand still
        pause = max(now - used for now, used in zip(_now(), self._last_use, strict=True))
        lately = time.monotonic() - self._last_loss < CHECK_AFTER_IDLE
        if lately or pause > CHECK_AFTER_IDLE or _spoken_to(connection):
            await AsyncConnectionPool.check_connection(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode; in a transaction where tenants are kept apart.

        Raises:
            UnavailableError: if none is free within the pool's timeout, or the server closes the connection.
            AccessError: the tenant may see something, and not write it.
        """
        if self._confined:
            async with self.transaction() as connection:
                yield connection
            return
        async with self._taken() as connection:
            yield connection

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[Connection]:
        pool = self._pool or await self._whole_pool()
        try:
            connection = await pool.getconn()
            try:
                try:
                    yield connection
                except BaseException as error:
                    if not _is_at_rest(connection):
                        await connection.__aexit__(type(error), error, error.__traceback__)
                    raise
                if not _is_at_rest(connection):
                    await connection.__aexit__(None, None, None)
                self._last_use = _now()
            finally:
                await pool.putconn(connection)
        except (PoolTimeout, TooManyRequests) as error:
            raise UnavailableError("The database is out of reach or too busy; try again.") from error
        except psycopg.Error as error:
            if not is_outage(error):
                raise
            self._last_loss = time.monotonic()
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                # a primary that has become a replica: what we have leads to it, the name may lead to its successor
                await pool.drain()
            raise UnavailableError("The connection to the database was lost; try again.") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction, committed at the end and rolled back on any error.

        Never in a pipeline, here or elsewhere: a task that is cancelled at a bad moment leaves its connection in pipeline mode, and
        whoever gets it then writes into a transaction that nobody commits.
        """
        with _refused() if self._confined else nullcontext():
            async with self._taken() as connection:
                if self._confined:
                    await _begin_for(connection, self._whose())
                else:
                    await connection.execute(BEGIN)
                try:
                    yield connection
                except BaseException:
                    # a connection that is lost has nothing to roll back; one that is not is brought back by the pool at the latest
                    if not connection.closed:
                        with suppress(psycopg.Error):
                            await connection.rollback()
                    raise
                await connection.commit()

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


class _View(Database):
    """Another look through the connections of a database."""

    def __init__(self, whole: Database, *, confined: bool, tenant: str | None = None) -> None:
        self._whole = whole
        self._confined = confined
        self._tenant = tenant

    def as_system(self) -> Database:
        return self._whole.as_system()

    def for_tenant(self, tenant: str) -> Database:
        return self._whole.for_tenant(tenant)

    def _whose(self) -> str | None:
        return self._tenant

    async def _whole_pool(self) -> AsyncConnectionPool[Connection]:
        return await self._whole._whole_pool()

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[Connection]:
        async with self._whole._taken() as connection:
            yield connection

    async def aclose(self) -> None:
        await self._whole.aclose()


class _ConfinedPool(AsyncConnectionPool[Connection]):
    """What libraries get for a pool where tenants are kept apart: they only take connections from it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109 - as in psycopg
        async with self._database.connection() as connection:
            yield connection


async def _begin_for(connection: Connection, tenant: str | None) -> None:
    whose = "" if tenant is None else f"={tenant}"
    try:
        # bound by the client, as it is one message
        await psycopg.AsyncClientCursor(connection).execute(BEGIN_FOR_TENANT, {"tenant": whose})
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege) as error:
        await connection.rollback()
        raise UnavailableError(
            "ROW_LEVEL_SECURITY is on, and the database is not prepared for it: run 'langgraph-serverless migrate' with it"
        ) from error


@contextmanager
def _refused() -> Iterator[None]:
    """What a policy refuses is no fault of ours: the request wants to change what is not its tenant's."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise AccessError from error


class _CheckingPool(AsyncConnectionPool[Connection]):
    """Looks at each connection before it is given away, and at once at the next one.

    psycopg's own check waits for a second after the second dead connection, and twice as long after each further one: a server that
    has closed all of them would be waited for until the pool's timeout.
    """

    def __init__(self, conninfo: str, *, look: Callable[[Connection], Awaitable[None]], **options: Any) -> None:
        self._look = look
        super().__init__(conninfo, **options)

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109 - as in psycopg
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        dead = 0
        while True:
            connection = await super().getconn(max(0.0, deadline - time.monotonic()))
            try:
                await self._look(connection)
            except (psycopg.Error, OSError):
                await connection.close()
                # unlike putconn, without a warning in the log; it makes another one in its place
                await self._putconn(connection, from_getconn=True)
            except BaseException:
                await self.putconn(connection)
                raise
            else:
                return connection
            dead += 1
            if dead > self.max_size:  # new ones do not live either
                await asyncio.sleep(0.25)


async def in_one_message(
    connection: Connection, statements: LiteralString, parameters: Mapping[str, Any]
) -> psycopg.AsyncCursor[DictRow]:
    """Several statements (``queries.one_after_another``) as one transaction; the cursor has the rows of the last one.

    The server has all of it before it begins, so it needs nothing more of a process that is stopped meanwhile. In a pipeline
    it would wait for the pipeline's end with all locks, and no timeout of Postgres counts that.
    """
    cursor = client_cursor(connection)
    await cursor.execute(statements, parameters)
    while cursor.nextset():
        pass
    return cursor


def _renewing(address: Address) -> type[Connection]:
    """Connections that read their address again when the password in it is refused."""

    class Renewing(psycopg.AsyncConnection[DictRow]):
        @classmethod
        async def connect(cls, _: str = "", **options: Any) -> Self:  # type: ignore[override]
            uri = address.current  # the pool knows the first one only
            try:
                return await super().connect(uri, **options)
            except psycopg.OperationalError as error:
                other = await address.instead_of_soon(uri) if is_refusal(error) else None
                if other is None:
                    raise
                return await super().connect(other, **options)

    return Renewing


def is_refusal(error: psycopg.OperationalError) -> bool:
    """Whether a connection has failed after its password was given: then it is wrong, as a rule.

    libpq has no code for it, and the server's words are in the server's language.
    """
    return error.pgconn is not None and error.pgconn.used_password


def is_outage(error: psycopg.Error) -> bool:
    """Whether this says that the database is away or busy: the same statement may succeed a moment later."""
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return True
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    # class 08: connection exception, 57P: operator intervention (restart), 53: insufficient resources, 40: deadlock or
    # serialization failure, where the transaction has been rolled back, 25006: read-only since a failover, 25P03: the
    # server did not want to wait for us any longer
    return state.startswith(("08", "57P", "53", "40")) or state in {"25006", "25P03"}


def _is_at_rest(connection: Connection) -> bool:
    """Whether there is nothing to commit or to roll back; to find that out in vain costs more than the pool itself."""
    pgconn = connection.pgconn
    return pgconn.transaction_status == TransactionStatus.IDLE and not pgconn.pipeline_status


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _spoken_to(connection: Connection) -> bool:
    """Whether something has come from the server since the last answer: its farewell or the end of the connection."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
