"""Brings a database to this version's schema.

Three sets of migrations run one after the other, each applied once and in order: our own ``migrations/*_pre_*.sql``,
those of LangGraph's checkpoint saver and store (their tables stay theirs, so that the stock classes can read them), and
our ``migrations/*_post_*.sql``, which may build on those tables. A session-level advisory lock makes concurrent callers
wait for each other, so this must reach Postgres directly and not through a transaction pooler.

Only the migrate function, the command line and tests import this module: it needs langgraph's saver.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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

_VERSIONS = """
CREATE SCHEMA IF NOT EXISTS lgs;
CREATE TABLE IF NOT EXISTS lgs.migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


async def migrate(database_uri: str, *, on_progress: Callable[[str], None] | None = None) -> list[str]:
    """Apply what is missing and return the names of our migrations that were applied.

    Raises:
        StartupError: if the database cannot be reached, or a migration that was applied has been edited since.
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
        await connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            await connection.execute(_VERSIONS)
            applied = await _apply(connection, "pre", report)
            await AsyncPostgresSaver(connection).setup()
            await AsyncPostgresStore(connection).setup()
            applied += await _apply(connection, "post", report)
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
    return applied


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
        async with connection.transaction():
            await connection.execute(sql)
            await connection.execute(
                "INSERT INTO lgs.migration (name, checksum) VALUES (%s, %s)", (path.stem, checksum)
            )
        applied.append(path.stem)
    return applied
