"""Assistants and their versions as rows.

``lgs.assistant`` holds the current version in full, so that reading one is reading one row; ``lgs.assistant_version`` holds
all of them. ``lock_assistant`` comes before ``add_version``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow

from langgraph_serverless.domain.assistants import Assistant, AssistantField, AssistantVersion
from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.persistence.filters import Search, column, fetch, fetch_count
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document

_SQL = load_queries(__file__)
INSERT_ASSISTANT = _SQL["insert_assistant"]
INSERT_DEFAULTS = _SQL["insert_defaults"]
GET_ASSISTANT = _SQL["get_assistant"]
LOCK_ASSISTANT = _SQL["lock_assistant"]
LOCK_ASSISTANT_TO_DELETE = _SQL["lock_assistant_to_delete"]
ADD_VERSION = _SQL["add_version"]
LIST_VERSIONS = _SQL["list_versions"]
SET_LATEST = _SQL["set_latest"]
LOCK_CRONS = _SQL["lock_crons"]
DELETE_ASSISTANT = _SQL["delete_assistant"]


def _content(
    *,
    graph_id: str,
    name: str,
    description: str | None,
    config: Mapping[str, Any],
    context: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "graph_id": graph_id,
        "name": name,
        "description": description,
        "config": document("assistant", "config", config),
        "context": document("assistant", "context", context),
        "metadata": document("assistant", "metadata", metadata),
    }


class AssistantRepository:
    """The statements of ``assistants.sql``."""

    async def insert(
        self, connection: Connection, assistant_id: uuid.UUID, *, tenant: str, **content: Any
    ) -> Assistant | None:
        """Add an assistant; None if the id is taken. ``content`` as for ``add_version``."""
        parameters = {"assistant_id": assistant_id, **_content(**content)}
        row = await (await connection.execute(INSERT_ASSISTANT, parameters | {"tenant": tenant})).fetchone()
        return _assistant(row) if row else None

    async def insert_defaults(
        self, connection: Connection, defaults: Sequence[tuple[uuid.UUID, str, str | None]], metadata: Mapping[str, Any]
    ) -> None:
        """Add the default assistants that are missing, and bring the descriptions of unchanged ones up to date.

        ``defaults`` are ids, graph ids and descriptions.
        """
        parameters = {
            "assistant_ids": [assistant_id for assistant_id, _, _ in defaults],
            "graph_ids": [graph_id for _, graph_id, _ in defaults],
            "descriptions": [description for _, _, description in defaults],
            "metadata": jsonb(metadata),
        }
        await connection.execute(INSERT_DEFAULTS, parameters)

    async def get(self, connection: Connection, assistant_id: uuid.UUID) -> Assistant | None:
        row = await (await connection.execute(GET_ASSISTANT, {"assistant_id": assistant_id})).fetchone()
        return _assistant(row) if row else None

    async def lock(self, connection: Connection, assistant_id: uuid.UUID) -> Assistant | None:
        row = await (await connection.execute(LOCK_ASSISTANT, {"assistant_id": assistant_id})).fetchone()
        return _assistant(row) if row else None

    async def lock_to_delete(self, connection: Connection, assistant_id: uuid.UUID) -> bool:
        """Whether it exists; until the transaction ends nobody makes a run or a cron for it."""
        cursor = await connection.execute(LOCK_ASSISTANT_TO_DELETE, {"assistant_id": assistant_id})
        return await cursor.fetchone() is not None

    async def add_version(self, connection: Connection, assistant_id: uuid.UUID, **content: Any) -> Assistant:
        """Make a new version and make it the current one. The assistant must be locked."""
        parameters = {"assistant_id": assistant_id, **_content(**content)}
        row = await (await connection.execute(ADD_VERSION, parameters)).fetchone()
        if row is None:
            raise LookupError(f"assistant {assistant_id} was not locked")
        return _assistant(row)

    async def list_versions(
        self, connection: Connection, assistant_id: uuid.UUID, *, metadata: Mapping[str, Any], limit: int, offset: int
    ) -> list[AssistantVersion]:
        parameters = {"assistant_id": assistant_id, "metadata": jsonb(metadata), "limit": limit, "offset": offset}
        rows = await (await connection.execute(LIST_VERSIONS, parameters)).fetchall()
        return [_version(row) for row in rows]

    async def set_latest(self, connection: Connection, assistant_id: uuid.UUID, version: int) -> Assistant | None:
        """Make a version the current one; None if the assistant or the version is missing."""
        parameters = {"assistant_id": assistant_id, "version": version}
        row = await (await connection.execute(SET_LATEST, parameters)).fetchone()
        return _assistant(row) if row else None

    async def lock_crons(
        self, connection: Connection, assistant_id: uuid.UUID, thread_ids: Sequence[uuid.UUID]
    ) -> None:
        """Lock the crons of an assistant and of threads, which will be deleted."""
        await connection.execute(LOCK_CRONS, {"assistant_id": assistant_id, "thread_ids": list(thread_ids)})

    async def delete(self, connection: Connection, assistant_id: uuid.UUID) -> bool:
        """Remove an assistant; whether it existed."""
        cursor = await connection.execute(DELETE_ASSISTANT, {"assistant_id": assistant_id})
        return cursor.rowcount == 1

    @staticmethod
    def search_filter(
        *, metadata: Mapping[str, Any], graph_id: str | None, name: str | None, allowed: Filter | None = None
    ) -> Search:
        found = Search("lgs.assistant", key="assistant_id")
        found.contains("metadata", metadata)
        found.equals("graph_id", graph_id)
        found.includes_text("name", name)
        found.allowed("metadata", allowed)
        return found

    async def search(
        self,
        connection: Connection,
        conditions: Search,
        *,
        select: Sequence[AssistantField],
        sort_by: AssistantField,
        descending: bool,
        limit: int,
        offset: int,
    ) -> list[DictRow]:
        """Rows with the selected fields, one more than ``limit`` if there are more."""
        order = [] if sort_by is AssistantField.ASSISTANT_ID else [column(sort_by)]
        if sort_by in (AssistantField.NAME, AssistantField.GRAPH_ID):
            order = [sql.SQL("lower({})").format(column(sort_by))]
        columns = [column(field) for field in select]
        return await fetch(
            connection, conditions.page(columns, order=order, descending=descending, limit=limit, offset=offset)
        )

    async def count(self, connection: Connection, conditions: Search) -> int:
        return await fetch_count(connection, conditions)


def _assistant(row: DictRow) -> Assistant:
    return Assistant(**{field: row[field] for field in AssistantField})


_VERSION_FIELDS = tuple(field for field in AssistantField if field is not AssistantField.UPDATED_AT)


def _version(row: DictRow) -> AssistantVersion:
    return AssistantVersion(**{field: row[field] for field in _VERSION_FIELDS})
