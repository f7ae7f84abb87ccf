"""Removal of what has outlived its time. Several sweepers may work at once: each passes by what another one has locked."""

from __future__ import annotations

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

PURGE_THREADS = load_queries(__file__)["purge_threads"]


async def purge_threads(connection: Connection, limit: int) -> int:
    """Delete up to ``limit`` threads with their runs and checkpoints; returns how many."""
    row = await (await connection.execute(PURGE_THREADS, {"limit": limit})).fetchone()
    return row["count"] if row else 0
