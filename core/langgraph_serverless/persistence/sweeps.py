"""Removal of what is not needed any more: threads whose time is over, old checkpoints of threads that stay, old webhooks
and idempotency keys.

Several sweepers may work at once: each passes by what another one has locked.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
PURGE_THREADS = _SQL["purge_threads"]
CLAIM_EXPIRED_HISTORIES = _SQL["claim_expired_histories"]
LOCK_SETTLED_THREADS = _SQL["lock_settled_threads"]
KEEP_LATEST = _SQL["keep_latest"]
FORGET_WEBHOOKS = _SQL["forget_webhooks"]
FORGET_KEYS = _SQL["forget_keys"]


async def purge_threads(connection: Connection, limit: int) -> int:
    """Delete up to ``limit`` threads with their runs and checkpoints; returns how many."""
    row = await (await connection.execute(PURGE_THREADS, {"limit": limit})).fetchone()
    return row["count"] if row else 0


async def prune_expired(connection: Connection, limit: int) -> int:
    """Cut down the histories of up to ``limit`` threads whose time is over; returns how many. Takes a transaction."""
    rows = await (await connection.execute(CLAIM_EXPIRED_HISTORIES, {"limit": limit})).fetchall()
    await _keep_latest(connection, [row["thread_id"] for row in rows])
    return len(rows)


async def prune(connection: Connection, thread_ids: Sequence[uuid.UUID]) -> int:
    """Cut down the histories of those of these threads that are not busy; returns how many. Takes a transaction."""
    rows = await (await connection.execute(LOCK_SETTLED_THREADS, {"thread_ids": list(thread_ids)})).fetchall()
    await _keep_latest(connection, [row["thread_id"] for row in rows])
    return len(rows)


async def forget_webhooks(connection: Connection, limit: int) -> int:
    """Delete up to ``limit`` webhooks that have long been delivered or given up; returns how many."""
    return (await connection.execute(FORGET_WEBHOOKS, {"limit": limit})).rowcount


async def forget_keys(connection: Connection, limit: int) -> int:
    """Delete up to ``limit`` idempotency keys whose time is over; returns how many."""
    return (await connection.execute(FORGET_KEYS, {"limit": limit})).rowcount


async def _keep_latest(connection: Connection, thread_ids: Sequence[uuid.UUID]) -> None:
    # A statement of its own: what was committed while the locks were waited for must be seen. Not prepared, so that it is
    # planned for these threads.
    if thread_ids:
        names = [str(thread_id) for thread_id in thread_ids]
        await connection.execute(KEEP_LATEST, {"names": names}, prepare=False)
