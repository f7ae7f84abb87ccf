"""What a tenant has of what it may have a limited number of."""

from __future__ import annotations

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
COUNT_QUEUED = _SQL["count_queued"]


async def queue_is_full(connection: Connection, tenant: str, most: int) -> bool:
    """Whether ``most`` runs of the tenant are waiting."""
    cursor = await connection.execute(COUNT_QUEUED, {"tenant": tenant, "most": most})
    row = await cursor.fetchone()
    return row is not None and int(row["queued"]) >= most
