"""Runs the invariant queries (``persistence/invariants.sql``) and names each one that finds a row.

Invariant 14 (stream ids) is about Redis and has tests of its own in ``integration/test_event_log.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from langgraph_serverless.persistence.invariants import INVARIANTS, find_broken


async def violations(
    database_uri: str, *, worker: bool = False, pending_seconds: float = 30, sweep_seconds: float = 30
) -> dict[str, Sequence[dict[str, Any]]]:
    """Each invariant that does not hold, with up to five rows that break it.

    Args:
        worker: whether a worker is running that has to take pending runs.
    """
    broken: dict[str, Sequence[dict[str, Any]]] = {}
    async with await psycopg.AsyncConnection[DictRow].connect(
        database_uri, autocommit=True, row_factory=dict_row
    ) as connection:
        for invariant in INVARIANTS:
            rows = await find_broken(
                connection,
                invariant,
                worker=worker,
                pending_seconds=pending_seconds,
                sweep_seconds=sweep_seconds,
                limit=5,
            )
            if rows:
                broken[f"{invariant.number} {invariant.broken}"] = rows
    return broken


async def assert_invariants(database_uri: str, **options: Any) -> None:
    broken = await violations(database_uri, **options)
    assert not broken, "invariants broken:\n" + "\n".join(f"{name}: {rows}" for name, rows in broken.items())
