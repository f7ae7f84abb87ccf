"""Brings a database to this version's schema.

Three sets of migrations run one after the other, each applied once and in order: our own ``migrations/*_pre_*.sql``,
those of LangGraph's checkpoint saver and store (their tables stay theirs, so that the stock classes can read them), and
our ``migrations/*_post_*.sql``, which may build on those tables. A session-level advisory lock makes concurrent callers
wait for each other, so this must reach Postgres directly and not through a transaction pooler. A project with a semantic
index also gets LangGraph's table of vectors, whose length is fixed from then on, and one that keeps tenants apart policies
on every table (``migrations/tenants.sql``), written anew whenever they have changed.

A file is one transaction, unless its first line says ``-- no transaction``: then each of its statements is one of its own
and must bear to be repeated, as the next attempt begins with the first one. That is for indexes on large tables.

Only the migrate function, the command line and tests import this module: it needs langgraph's saver.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg.rows import DictRow, dict_row

from langgraph_serverless.errors import StartupError

DIRECTORY = Path(__file__).parent / "migrations"
#: Any number that no other program uses for its own advisory lock.
LOCK = 0x6C67_7365_7276
CONNECT_TIMEOUT_S = 10
VECTORS = DIRECTORY / "vectors.sql"
TENANTS = DIRECTORY / "tenants.sql"
LOCK_POLL_S = 0.2

_NO_TRANSACTION = b"-- no transaction"
_STATEMENT_END = re.compile(rb";[ \t]*$", re.MULTILINE)

_VERSIONS = """
CREATE SCHEMA IF NOT EXISTS lgs;
CREATE TABLE IF NOT EXISTS lgs.migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
_APPLIED = "INSERT INTO lgs.migration (name, checksum) VALUES (%s, %s)"


_DIMS = """
SELECT atttypmod AS dims FROM pg_attribute
WHERE attrelid = to_regclass('store_vectors') AND attname = 'embedding' AND NOT attisdropped
"""


_POLICIES = "SELECT obj_description(to_regprocedure('lgs.tenant()')::oid, 'pg_proc') AS policies"
#: For the file, which puts it there.
_NOTE = "SELECT set_config('lgs.policies', %s, true)"
#: Lists of one tenant's threads among those of many, in the order that is asked for most.
_TENANT_INDEX = """
CREATE INDEX CONCURRENTLY IF NOT EXISTS thread_of_tenant ON lgs.thread (tenant, updated_at DESC, thread_id) WHERE purge_at IS NULL
"""


async def migrate(
    database_uri: str,
    *,
    dims: int | None = None,
    tenants: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Apply what is missing and return the names of our migrations that were applied.

    Args:
        dims: the length of the vectors of the project's index, if it has one.
        tenants: keep them apart by row-level security. What is there stays without it.

    Raises:
        StartupError: if the database cannot be reached, a migration that was applied has been edited since, or vectors of
            this length cannot be kept.
    """
    report = on_progress or (lambda _: None)
    try:
        connection = await psycopg.AsyncConnection.connect(
            database_uri,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
            connect_timeout=CONNECT_TIMEOUT_S,
        )
    except psycopg.OperationalError as error:
        raise StartupError(f"Postgres cannot be reached: {str(error).strip().splitlines()[-1]}") from error
    async with connection:
        await _lock(connection)
        try:
            await connection.execute(_VERSIONS)
            applied = await _apply(connection, "pre", report)
            await AsyncPostgresSaver(connection).setup()
            await AsyncPostgresStore(connection).setup()
            if dims is not None:
                await _set_up_vectors(connection, dims)
            applied += await _apply(connection, "post", report)
            if tenants and await _lacks_policies(connection):
                report(f"migration {TENANTS.stem}")
                await _keep_tenants_apart(connection)
                applied.append(TENANTS.stem)
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return applied


async def missing_migrations(database_uri: str, *, dims: int | None = None, tenants: bool = False) -> list[str]:
    """What ``migrate`` would apply: names of our migrations, ``vectors`` if the project's index has no table yet, ``tenants`` if the
    policies are not there or are not these.

    Raises:
        psycopg.Error: the database cannot be asked.
    """
    connection = await psycopg.AsyncConnection.connect(
        database_uri, autocommit=True, row_factory=dict_row, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT_S
    )
    async with connection:
        try:
            cursor = await connection.execute("SELECT name FROM lgs.migration")
            applied = {row["name"] for row in await cursor.fetchall()}
        except psycopg.errors.UndefinedTable:
            applied = set()
        missing = [name for name in known_migrations() if name not in applied]
        if dims is not None and await (await connection.execute(_DIMS)).fetchone() is None:
            missing.append(VECTORS.stem)
        if tenants and "0001_pre_core" in applied and await _lacks_policies(connection):
            missing.append(TENANTS.stem)
    return missing


def known_migrations() -> dict[str, str]:
    """Ours, by name, with the checksums that a database has of them once they are applied."""
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(DIRECTORY.glob("[0-9]*.sql"))}


async def _lock(connection: psycopg.AsyncConnection[DictRow]) -> None:
    # not pg_advisory_lock: CREATE INDEX CONCURRENTLY waits for every statement that has begun before, also for that one,
    # which would wait for us
    while True:
        row = await (await connection.execute("SELECT pg_try_advisory_lock(%s) AS locked", (LOCK,))).fetchone()
        if row and row["locked"]:
            return
        await asyncio.sleep(LOCK_POLL_S)


async def _apply(connection: psycopg.AsyncConnection[DictRow], moment: str, report: Callable[[str], None]) -> list[str]:
    cursor = await connection.execute("SELECT name, checksum FROM lgs.migration")
    known = {row["name"]: row["checksum"] for row in await cursor.fetchall()}
    applied = []
    for path in sorted(DIRECTORY.glob(f"[0-9]*_{moment}_*.sql")):
        sql = path.read_bytes()
        checksum = hashlib.sha256(sql).hexdigest()
        if path.stem in known:
            if known[path.stem] != checksum:
                raise StartupError(f"Migration {path.stem} has been edited after it was applied to this database.")
            continue
        report(f"migration {path.stem}")
        if sql.startswith(_NO_TRANSACTION):
            for statement in filter(None, map(bytes.strip, _STATEMENT_END.split(sql))):
                await connection.execute(statement)
            await connection.execute(_APPLIED, (path.stem, checksum))
        else:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute(_APPLIED, (path.stem, checksum))
        applied.append(path.stem)
    return applied


class _VectorTables(AsyncPostgresStore):
    """Without the index for approximate search: nothing uses it, every put would pay for it, and long vectors have none."""

    VECTOR_MIGRATIONS = AsyncPostgresStore.VECTOR_MIGRATIONS[:2]


async def _set_up_vectors(connection: psycopg.AsyncConnection[DictRow], dims: int) -> None:
    cursor = await connection.execute(_DIMS)
    row = await cursor.fetchone()
    if row is not None and row["dims"] != dims:
        raise StartupError(
            f"The store's vectors in this database have {row['dims']} dimensions, and store.index.dims of langgraph.json is"
            f" {dims}; to start anew run 'DROP TABLE store_vectors, vector_migrations', which keeps the items, and put them"
            " again."
        )
    try:
        await _VectorTables(connection, index={"dims": dims, "embed": _never}).setup()
    except psycopg.errors.DatabaseError as error:
        raise StartupError(
            "store.index of langgraph.json needs the extension pgvector in Postgres, and a role that may create it:"
            f" {str(error).splitlines()[0]}"
        ) from error
    await connection.execute(VECTORS.read_bytes())


async def _lacks_policies(connection: psycopg.AsyncConnection[DictRow]) -> bool:
    row = await (await connection.execute(_POLICIES)).fetchone()
    return row is None or row["policies"] != await _policies(connection)


async def _policies(connection: psycopg.AsyncConnection[DictRow]) -> str:
    """What the database is told that it has: which file, and whether it has seen the table of vectors."""
    vectors = await (await connection.execute(_DIMS)).fetchone() is not None
    return f"{hashlib.sha256(TENANTS.read_bytes()).hexdigest()}{' with vectors' if vectors else ''}"


async def _keep_tenants_apart(connection: psycopg.AsyncConnection[DictRow]) -> None:
    try:
        async with connection.transaction():
            await connection.execute(_NOTE, (await _policies(connection),))
            await connection.execute(TENANTS.read_bytes())
    except psycopg.errors.InsufficientPrivilege as error:
        raise StartupError(
            "ROW_LEVEL_SECURITY is on, and the database's user may not prepare it"
            f" ({str(error).splitlines()[0]}); let an administrator run 'CREATE ROLE lgs_tenant NOLOGIN; GRANT lgs_tenant TO"
            f' "{connection.info.user}"\', and migrate as the owner of the tables.'
        ) from error
    # outside, as runs go on while a large table is read; an index that was cut off is found by doctor
    await connection.execute(_TENANT_INDEX)


def _never(texts: Sequence[str]) -> list[list[float]]:
    raise AssertionError("a migration embeds nothing")
