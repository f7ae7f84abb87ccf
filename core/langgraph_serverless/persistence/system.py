"""Numbers about the whole server."""

from __future__ import annotations

from psycopg.rows import DictRow

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
MEASURE_QUEUE = _SQL["measure_queue"]


class SystemRepository:
    """The statements of ``system.sql``."""

    async def measure_queue(self, connection: Connection) -> DictRow:
        row = await (await connection.execute(MEASURE_QUEUE)).fetchone()
        if row is None:
            raise LookupError("an aggregate gave no row")
        return row
