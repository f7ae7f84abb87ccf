"""Everything that is encrypted where it is stored, to be gone through and written anew: what lives as long as its thread does.

Reads and writes rows as they are stored, on a database without a cipher. A row is replaced only if nobody has written it since it was read,
so this passes by everything that is going on; what has been written since, was written with today's key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
#: Rows that are read at once.
BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with encrypted columns."""

    name: str
    read: LiteralString
    write: LiteralString
    key: tuple[str, ...]
    #: What handlers are told that a row is.
    model: str
    #: Columns of JSON, with what handlers are told that they are.
    documents: Mapping[str, str]
    #: Columns of bytes.
    blobs: tuple[str, ...] = ()


def _same(*columns: str) -> dict[str, str]:
    return {column: column for column in columns}


TABLES: Sequence[Table] = (
    Table(
        name="threads",
        read=_SQL["threads"],
        write=_SQL["renew_thread"],
        key=("thread_id",),
        model="thread",
        documents={**_same("metadata", "config", "interrupts", "error"), "channel_values": "values"},
    ),
    Table(
        name="assistants",
        read=_SQL["assistants"],
        write=_SQL["renew_assistant"],
        key=("assistant_id",),
        model="assistant",
        documents=_same("config", "context", "metadata"),
    ),
    Table(
        name="versions of assistants",
        read=_SQL["assistant_versions"],
        write=_SQL["renew_assistant_version"],
        key=("assistant_id", "version"),
        model="assistant",
        documents=_same("config", "context", "metadata"),
    ),
    Table(
        name="runs",
        read=_SQL["runs"],
        write=_SQL["renew_run"],
        key=("run_id",),
        model="run",
        documents=_same("metadata", "kwargs", "output", "error"),
    ),
    Table(
        name="receivers of notifications",
        read=_SQL["pushes"],
        write=_SQL["renew_push"],
        key=("task_id", "config_id"),
        model="run",
        documents={"value": "push"},
    ),
    Table(
        name="crons",
        read=_SQL["crons"],
        write=_SQL["renew_cron"],
        key=("cron_id",),
        model="cron",
        documents=_same("payload", "metadata"),
    ),
    Table(
        name="creators of crons",
        read=_SQL["creators"],
        write=_SQL["renew_creator"],
        key=("cron_id",),
        model="cron",
        documents={"value": "creator"},
    ),
    Table(
        name="items",
        read=_SQL["items"],
        write=_SQL["renew_item"],
        key=("prefix", "key"),
        model="store",
        documents=_same("value"),
    ),
    Table(
        name="checkpoints",
        read=_SQL["checkpoints"],
        write=_SQL["renew_checkpoint"],
        key=("thread_id", "checkpoint_ns", "checkpoint_id"),
        model="checkpoint",
        documents=_same("checkpoint", "metadata"),
    ),
    Table(
        name="values of checkpoints",
        read=_SQL["blobs"],
        write=_SQL["renew_blob"],
        key=("thread_id", "checkpoint_ns", "channel", "version"),
        model="checkpoint",
        documents={},
        blobs=("blob",),
    ),
    Table(
        name="writes of checkpoints",
        read=_SQL["writes"],
        write=_SQL["renew_write"],
        key=("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"),
        model="checkpoint",
        documents={},
        blobs=("blob",),
    ),
)


class StoredRows:
    """Goes through tables in the order of their keys."""

    def __init__(self, database: Database) -> None:
        """The database must have no cipher."""
        self._database = database

    async def batches(self, table: Table) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All rows; no connection is held while a batch is looked at."""
        after: dict[str, Any] = dict.fromkeys(table.key)
        while True:
            async with self._database.connection() as connection:
                rows = await (await connection.execute(table.read, {**after, "limit": BATCH})).fetchall()
            if rows:
                yield rows
            if len(rows) < BATCH:
                return
            after = {name: rows[-1][name] for name in table.key}

    async def replace(self, table: Table, row: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Whether the row was as it had been read, and is now what it is to be."""
        async with self._database.connection() as connection:
            return await _replace(connection, table, row, new)


async def _replace(connection: Connection, table: Table, row: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    def bound(column: str, value: Any) -> Any:
        return value if value is None or column in table.blobs else jsonb(value)

    parameters: dict[str, Any] = {name: row[name] for name in table.key}
    for column in (*table.documents, *table.blobs):
        parameters[column] = bound(column, row[column])
        parameters[f"new_{column}"] = bound(column, new.get(column, row[column]))
    return (await connection.execute(table.write, parameters)).rowcount == 1
