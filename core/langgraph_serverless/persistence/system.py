"""Numbers about the whole server. Each statement reads small parts of indexes, however many runs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

from psycopg.rows import DictRow

from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.priorities import limits
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
MEASURE_QUEUE = _SQL["measure_queue"]
MEASURE_MOVES = _SQL["measure_moves"]
MEASURE_WEBHOOKS = _SQL["measure_webhooks"]
MEASURE_CRONS = _SQL["measure_crons"]
SECONDS_UNTIL_WORK = _SQL["seconds_until_work"]


class SystemRepository:
    """The statements of ``system.sql``."""

    async def measure_queue(self, connection: Connection, groups: GroupLimits) -> DictRow:
        return await _only(connection, MEASURE_QUEUE, limits(groups))

    async def measure_moves(self, connection: Connection) -> DictRow:
        return await _only(connection, MEASURE_MOVES)

    async def measure_webhooks(self, connection: Connection) -> DictRow:
        return await _only(connection, MEASURE_WEBHOOKS)

    async def measure_crons(self, connection: Connection) -> DictRow:
        return await _only(connection, MEASURE_CRONS)

    async def seconds_until_work(self, connection: Connection) -> float | None:
        """When the scheduler is needed next; None if nothing says so."""
        seconds: float | None = (await _only(connection, SECONDS_UNTIL_WORK))["seconds"]
        return seconds


async def _only(connection: Connection, sql: LiteralString, parameters: Mapping[str, Any] | None = None) -> DictRow:
    row = await (await connection.execute(sql, parameters)).fetchone()
    if row is None:
        raise LookupError("an aggregate gave no row")
    return row
