"""What a fault has cost, counted from the rows and the journal that runs leave behind, for tests that end with figures.

Nothing here relies on what a worker says of itself: repeats come from the journal of ``tests/faults/project``, lost leases and
recoveries from ``lease_history``, double checkpoints from LangGraph's own tables. Times are those of Postgres, which is on the
same machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol


class Rows(Protocol):
    def rows(self, query: str, parameters: Any = ()) -> list[dict[str, Any]]: ...


def repeats(journal: Path) -> Counter[str]:
    """For each run, how many of its supersteps began once more."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    counted: Counter[str] = Counter()
    for (run_id, _), times in Counter(tuple(line.split()[:2]) for line in lines).items():
        counted[run_id] += times - 1
    return counted


def leases_lost(database: Rows) -> Counter[str]:
    """For each run, how many of its leases ran out."""
    rows = database.rows("SELECT run_id::text AS run_id, lease_history FROM lgs.run")
    return Counter(
        {row["run_id"]: sum(entry.get("end") == "expired" for entry in row["lease_history"]) for row in rows}
    )


def recoveries(database: Rows, killed_at: Mapping[str, float]) -> list[float]:
    """Seconds from the end of a worker to the next claim of each run that it held.

    Args:
        killed_at: by the worker's id, when it was killed.
    """
    seconds = []
    for row in database.rows("SELECT lease_history FROM lgs.run"):
        for lost, taken in zip(row["lease_history"], row["lease_history"][1:], strict=False):
            if lost.get("end") == "expired" and lost["owner"] in killed_at:
                seconds.append(datetime.fromisoformat(taken["at"]).timestamp() - killed_at[lost["owner"]])
    return seconds


def doubled_checkpoints(database: Rows) -> int:
    """Checkpoints of which their run has another for the same step of the same graph."""
    [row] = database.rows("""
        SELECT COALESCE(sum(times - 1), 0)::int AS doubled FROM (
            SELECT count(*) AS times FROM checkpoints
            WHERE metadata ->> 'run_id' IS NOT NULL AND metadata ->> 'source' IN ('input', 'loop')
            GROUP BY thread_id, checkpoint_ns, metadata ->> 'run_id', metadata ->> 'step'
        ) AS steps""")
    return int(row["doubled"])
