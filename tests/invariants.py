"""Runs the invariant queries of ``invariants.sql`` and names each one that finds a row.

Invariant 14 (stream ids) is about Redis and has tests of its own in ``integration/test_event_log.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

_QUERY = re.compile(r"^-- (?P<name>\d+[a-z]? .+)\n(?P<sql>(?:(?!^-- ).*\n?)+)", re.MULTILINE)
QUERIES = {
    match["name"]: match["sql"].strip().rstrip(";")
    for match in _QUERY.finditer((Path(__file__).parent / "invariants.sql").read_text(encoding="utf-8"))
    if match["sql"].strip()
}
assert len(QUERIES) == 15, sorted(QUERIES)


async def violations(
    database_uri: str, *, worker: bool = False, pending_seconds: float = 30, sweep_seconds: float = 30
) -> dict[str, list[dict[str, Any]]]:
    """Each invariant that does not hold, with up to five rows that break it.

    Args:
        worker: whether a worker is running that has to take pending runs.
    """
    parameters = {"worker": worker, "pending": pending_seconds, "sweep": sweep_seconds}
    broken: dict[str, list[dict[str, Any]]] = {}
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True, row_factory=dict_row) as connection:
        for name, sql in QUERIES.items():
            rows = await (await connection.execute(sql, parameters)).fetchmany(5)  # type: ignore[arg-type]
            if rows:
                broken[name] = rows
    return broken


async def assert_invariants(database_uri: str, **options: Any) -> None:
    broken = await violations(database_uri, **options)
    assert not broken, "invariants broken:\n" + "\n".join(f"{name}: {rows}" for name, rows in broken.items())
