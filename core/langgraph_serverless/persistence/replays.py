"""Runs that were given up after their attempts, and their way back into the queue; see ``services/replays.py``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
GIVEN_UP = _SQL["given_up"]
THREAD_OF_RUN = _SQL["thread_of_run"]
REPLAYABLE = _SQL["replayable"]
REPLAY = _SQL["replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A run that ended because every attempt had lost its worker."""

    run_id: uuid.UUID
    thread_id: uuid.UUID
    graph_id: str
    finished_at: datetime
    last_node: str | None
    last_error: str | None
    message: str
    #: All its leases, those before earlier replays among them.
    leases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What decides whether a run can be replayed."""

    status: RunStatus
    #: The class of its error.
    error: str | None
    replayed: bool
    #: Another run of its thread is running, or has begun since it ended.
    passed: bool
    #: The thread's state has been written since.
    written: bool


class ReplayRepository:
    """The statements of ``replays.sql``."""

    async def given_up(self, connection: Connection, *, limit: int) -> Sequence[GivenUp]:
        cursor = await connection.execute(GIVEN_UP, {"limit": limit})
        return [
            GivenUp(
                run_id=row["run_id"],
                thread_id=row["thread_id"],
                graph_id=row["graph_id"],
                finished_at=row["finished_at"],
                last_node=row["last_node"],
                last_error=row["last_error"],
                message=row["message"],
                leases=len(row["lease_history"]),
            )
            for row in await cursor.fetchall()
        ]

    async def thread_of(self, connection: Connection, run_id: uuid.UUID) -> uuid.UUID | None:
        row = await (await connection.execute(THREAD_OF_RUN, {"run_id": run_id})).fetchone()
        return row["thread_id"] if row is not None else None

    async def standing(self, connection: Connection, run_id: uuid.UUID) -> Standing | None:
        """How the run stands, which stays so until the transaction ends; its thread must be locked."""
        row = await (await connection.execute(REPLAYABLE, {"run_id": run_id})).fetchone()
        if row is None:
            return None
        return Standing(
            status=RunStatus(row["status"]),
            error=row["error"],
            replayed=row["replayed"],
            passed=row["passed"],
            written=bool(row["written"]),
        )

    async def replay(self, connection: Connection, run_id: uuid.UUID) -> None:
        await connection.execute(REPLAY, {"run_id": run_id})
