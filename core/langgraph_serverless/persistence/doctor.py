"""What ``langgraph-serverless doctor`` asks a database besides the invariants. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.rows import DictRow

from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.priorities import limits
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
DESCRIBE_SERVER = _SQL["describe_server"]
LIST_MIGRATIONS = _SQL["list_migrations"]
LOOK_AT_TENANTS = _SQL["look_at_tenants"]
INVALID_INDEXES = _SQL["invalid_indexes"]
WAITING_RUNS = _SQL["waiting_runs"]
OVERDUE_CRONS = _SQL["overdue_crons"]
DEAD_WEBHOOKS = _SQL["dead_webhooks"]


class DoctorRepository:
    """The statements of ``doctor.sql``."""

    async def describe_server(self, connection: Connection) -> DictRow:
        (row,) = await _rows(connection, DESCRIBE_SERVER)
        return row

    async def migrations(self, connection: Connection) -> Mapping[str, str]:
        """Name to checksum."""
        return {row["name"]: row["checksum"] for row in await _rows(connection, LIST_MIGRATIONS)}

    async def look_at_tenants(self, connection: Connection) -> DictRow:
        (row,) = await _rows(connection, LOOK_AT_TENANTS)
        return row

    async def invalid_indexes(self, connection: Connection) -> Sequence[str]:
        return [row["index"] for row in await _rows(connection, INVALID_INDEXES)]

    async def waiting_runs(
        self, connection: Connection, *, seconds: float, groups: GroupLimits, limit: int
    ) -> Sequence[DictRow]:
        return await _rows(connection, WAITING_RUNS, seconds=seconds, limit=limit, **limits(groups))

    async def overdue_crons(self, connection: Connection, *, seconds: float, limit: int) -> Sequence[DictRow]:
        return await _rows(connection, OVERDUE_CRONS, seconds=seconds, limit=limit)

    async def dead_webhooks(self, connection: Connection, *, limit: int) -> Sequence[DictRow]:
        return await _rows(connection, DEAD_WEBHOOKS, limit=limit)


async def _rows(connection: Connection, sql: LiteralString, **parameters: Any) -> Sequence[DictRow]:
    return await (await connection.execute(sql, parameters or None)).fetchall()
