"""What the rows say about the runs of a thread, for readers whom Redis does not tell."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.domain.thread_events import RunOrigin, in_microseconds
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.runs import origin_from

_SQL = load_queries(__file__)
RECENT_RUNS = _SQL["recent_runs"]
LAST_RUN = _SQL["last_run"]

#: More than a thread has waiting at once, as a rule; what is beyond comes when those have ended and have been told.
MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRun:
    """A run that goes on, or ended a short while ago."""

    run_id: uuid.UUID
    origin: RunOrigin
    status: RunStatus
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRuns:
    """A thread at one instant."""

    now: datetime
    #: When the thread was made (microseconds); None if there is none.
    made: int | None
    runs: Sequence[RecentRun]


async def recent_runs(
    connection: Connection, thread_id: uuid.UUID, since: datetime | None, but: Sequence[uuid.UUID] = ()
) -> RecentRuns:
    """The thread's live runs, and those that have ended after ``since``, but for these."""
    parameters = {"thread_id": thread_id, "since": since, "but": list(but), "limit": MOST}
    rows = await (await connection.execute(RECENT_RUNS, parameters)).fetchall()
    made = rows[0]["thread_made"]
    return RecentRuns(
        now=rows[0]["now"],
        made=in_microseconds(made) if made is not None else None,
        runs=[_recent(row) for row in rows if row["run_id"] is not None and made is not None],
    )


async def last_run(connection: Connection, thread_id: uuid.UUID) -> RecentRun | None:
    """The run that goes on, or else the one that ended last."""
    row = await (await connection.execute(LAST_RUN, {"thread_id": thread_id})).fetchone()
    return _recent(row) if row is not None else None


def _recent(row: Mapping[str, Any]) -> RecentRun:
    return RecentRun(
        run_id=row["run_id"],
        origin=origin_from(row),
        status=RunStatus(row["status"]),
        attempt=row["attempt"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
