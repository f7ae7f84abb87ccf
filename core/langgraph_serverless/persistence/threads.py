"""Threads as rows, with what belongs to them: runs, crons and the checkpoints of LangGraph's saver.

Threads with ``purge_at`` set are on their way out and exist for nobody. Deleting takes three steps in one transaction, in
this order: ``lock``, ``delete_runs``, ``delete`` (the statements say why).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow

from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.threads import Thread, ThreadField, ThreadStatus, Ttl, TtlStrategy
from langgraph_serverless.persistence.filters import Search, column, fetch, fetch_count, lasting
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document, is_sealed

_SQL = load_queries(__file__)
INSERT_THREAD = _SQL["insert_thread"]
GET_THREAD = _SQL["get_thread"]
UPDATE_THREAD = _SQL["update_thread"]
LOCK_THREADS = _SQL["lock_threads"]
LOOK_AT_THREADS = _SQL["look_at_threads"]
THREADS_OF_ASSISTANT = _SQL["threads_of_assistant"]
DELETE_RUNS_OF_THREADS = _SQL["delete_runs_of_threads"]
DELETE_THREADS = _SQL["delete_threads"]
COPY_THREAD = _SQL["copy_thread"]
MEASURE_THREAD = _SQL["measure_thread"]

_VISIBLE = lasting(sql.SQL("purge_at IS NULL"))
#: Fields whose column has another name.
_COLUMNS = {ThreadField.VALUES: "channel_values"}
#: What a search sorts by where it is more or less than the field itself. Those of one status come in the order of time.
_ORDERS = {ThreadField.THREAD_ID: (), ThreadField.STATUS: (ThreadField.STATUS, ThreadField.UPDATED_AT)}
#: What an extract adds to each item.
EXTRACTED = "extracted"


class ThreadRepository:
    """The statements of ``threads.sql``."""

    async def insert(
        self,
        connection: Connection,
        thread_id: uuid.UUID,
        *,
        tenant: str,
        metadata: Mapping[str, Any],
        ttl: Ttl | None,
    ) -> Thread | None:
        """Add a thread; None if the id is taken."""
        parameters = {"thread_id": thread_id, "metadata": document("thread", "metadata", metadata), **_ttl(ttl)}
        row = await (await connection.execute(INSERT_THREAD, parameters | {"tenant": tenant})).fetchone()
        return thread_from_row(row) if row else None

    async def get(self, connection: Connection, thread_id: uuid.UUID) -> Thread | None:
        row = await (await connection.execute(GET_THREAD, {"thread_id": thread_id})).fetchone()
        return thread_from_row(row) if row else None

    async def update(
        self, connection: Connection, thread_id: uuid.UUID, *, metadata: Mapping[str, Any], ttl: Ttl | None
    ) -> Thread | None:
        """Merge metadata and replace the time to live, if there is one; None if the thread is missing."""
        parameters = {"thread_id": thread_id, "metadata": document("thread", "metadata", metadata), **_ttl(ttl)}
        row = await (await connection.execute(UPDATE_THREAD, parameters)).fetchone()
        return thread_from_row(row) if row else None

    async def lock(
        self, connection: Connection, thread_ids: Sequence[uuid.UUID], allowed: Filter | None = None
    ) -> list[uuid.UUID]:
        """Lock these threads until the transaction ends; those that exist, and that the filter lets through, are returned."""
        wanted = list(thread_ids)
        if allowed is not None:  # nobody waits for what he cannot see, nor keeps it from others
            wanted = await self.visible(connection, wanted, allowed)
        rows = await (await connection.execute(LOCK_THREADS, {"thread_ids": wanted})).fetchall()
        return [row["thread_id"] for row in rows if visible(row["metadata"], allowed)]

    async def visible(
        self, connection: Connection, thread_ids: Sequence[uuid.UUID], allowed: Filter | None
    ) -> list[uuid.UUID]:
        """Those of these threads that exist and that the filter lets through."""
        rows = await (await connection.execute(LOOK_AT_THREADS, {"thread_ids": list(thread_ids)})).fetchall()
        return [row["thread_id"] for row in rows if visible(row["metadata"], allowed)]

    async def of_assistant(self, connection: Connection, assistant_id: uuid.UUID) -> list[uuid.UUID]:
        parameters = {"metadata": jsonb({"assistant_id": str(assistant_id)})}
        rows = await (await connection.execute(THREADS_OF_ASSISTANT, parameters)).fetchall()
        return [row["thread_id"] for row in rows]

    async def delete_runs(self, connection: Connection, thread_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        """Remove all runs of locked threads; those that were executing are returned."""
        cursor = await connection.execute(DELETE_RUNS_OF_THREADS, {"thread_ids": list(thread_ids)})
        return [row["run_id"] for row in await cursor.fetchall() if row["status"] == "running"]

    async def delete(self, connection: Connection, thread_ids: Sequence[uuid.UUID]) -> None:
        """Remove threads that are locked and have no runs any more."""
        parameters = {"thread_ids": list(thread_ids), "names": [str(thread_id) for thread_id in thread_ids]}
        await connection.execute(DELETE_THREADS, parameters)

    async def copy(self, connection: Connection, thread_id: uuid.UUID, copy_id: uuid.UUID) -> Thread | None:
        """Copy a thread with its checkpoints; None if it is missing."""
        parameters = {"thread_id": thread_id, "name": str(thread_id), "copy_id": copy_id}
        row = await (await connection.execute(COPY_THREAD, parameters)).fetchone()
        return thread_from_row(row) if row else None

    async def measure(self, connection: Connection, thread_id: uuid.UUID) -> DictRow | None:
        """Numbers and bytes of a thread's checkpoints, blobs and writes; None if it is missing."""
        parameters = {"thread_id": thread_id, "name": str(thread_id)}
        return await (await connection.execute(MEASURE_THREAD, parameters)).fetchone()

    @staticmethod
    def search_filter(
        *,
        ids: Sequence[uuid.UUID] | None,
        metadata: Mapping[str, Any],
        values: Mapping[str, Any],
        status: ThreadStatus | None,
        allowed: Filter | None = None,
    ) -> Search:
        found = Search("lgs.thread", key="thread_id", visible=_VISIBLE)
        found.one_of("thread_id", ids)
        found.contains("metadata", metadata)
        found.contains("channel_values", values)
        found.equals("status", status)
        found.allowed("metadata", allowed)
        return found

    async def search(
        self,
        connection: Connection,
        conditions: Search,
        *,
        select: Sequence[ThreadField],
        extract: Mapping[str, Sequence[str] | None],
        sort_by: ThreadField,
        descending: bool,
        limit: int,
        offset: int,
    ) -> list[DictRow]:
        """Rows with the selected fields, one more than ``limit`` if there are more.

        Args:
            extract: alias -> the field and the path in it, which becomes ``extracted``; None for a path that matches
                nothing.
        """
        columns = [column(_COLUMNS.get(field, field), alias=field) for field in select]
        here = bool(extract) and is_sealed(connection)
        if here:  # Postgres would look into what is encrypted
            found = [ThreadField(path[0]) for path in extract.values() if path is not None]
            columns += [column(_COLUMNS.get(field, field), alias=field) for field in {*found} - {*select}]
        elif extract:
            columns.append(_extraction(conditions, extract))
        order = [column(name) for name in _ORDERS.get(sort_by, (sort_by,))]
        rows = await fetch(
            connection, conditions.page(columns, order=order, descending=descending, limit=limit, offset=offset)
        )
        return [_extracted(row, select, extract) for row in rows] if here else rows

    async def count(self, connection: Connection, conditions: Search) -> int:
        return await fetch_count(connection, conditions)


def _extraction(conditions: Search, extract: Mapping[str, Sequence[str] | None]) -> sql.Composable:
    pairs: list[sql.Composable] = []
    for alias, path in extract.items():
        found: sql.Composable = sql.SQL("NULL::jsonb")
        if path is not None:
            field, *keys = path
            name = _COLUMNS.get(ThreadField(field), field)
            found = sql.SQL("{} #> {}::text[]").format(sql.Identifier(name), conditions.bind(keys))
        pairs.append(sql.SQL("{}::text, {}").format(conditions.bind(alias), found))
    built = sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))
    return sql.SQL("{} AS {}").format(built, sql.Identifier(EXTRACTED))


def _extracted(
    row: DictRow, select: Sequence[ThreadField], extract: Mapping[str, Sequence[str] | None]
) -> dict[str, Any]:
    """As ``_extraction``, out of a row that has what it needs."""
    values = {alias: None if path is None else _at(row[path[0]], path[1:]) for alias, path in extract.items()}
    return {**{field.value: row[field] for field in select}, EXTRACTED: values}


def _at(value: Any, path: Sequence[str]) -> Any:
    """What Postgres' ``#>`` gives."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.lstrip("-").isdecimal() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _ttl(ttl: Ttl | None) -> dict[str, Any]:
    return {"ttl_strategy": ttl and ttl.strategy, "ttl_minutes": ttl and ttl.minutes}


def thread_from_row(row: DictRow) -> Thread:
    """A row of ``lgs.thread`` as a thread."""
    return Thread(
        thread_id=row["thread_id"],
        status=ThreadStatus(row["status"]),
        metadata=row["metadata"],
        config=row["config"],
        values=row["channel_values"],
        interrupts=row["interrupts"],
        error=row["error"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        state_updated_at=row["state_updated_at"],
        ttl_strategy=row["ttl_strategy"] and TtlStrategy(row["ttl_strategy"]),
        ttl_minutes=row["ttl_minutes"],
        expires_at=row["expires_at"],
    )
