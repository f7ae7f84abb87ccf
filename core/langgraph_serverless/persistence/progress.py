"""Where a run goes on that has begun under an earlier lease, read from its checkpoints; see ``domain/progress.py``."""

from __future__ import annotations

from langgraph_serverless.domain.progress import Progress
from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
PROGRESS = _SQL["progress"]
ANSWERED = _SQL["answered"]
TAKE_ANSWER_BACK = _SQL["take_answer_back"]

#: Under this task LangGraph stores what came from outside: a command's update, goto and answer.
NULL_TASK = "00000000-0000-0000-0000-000000000000"


class ProgressRepository:
    """Of runs that a worker has claimed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, claimed: ClaimedRun) -> Progress:
        """What has been saved. An answer that has reached its interrupt is taken from the thread, or a second interrupt
        would get it as well.
        """
        parameters = {
            "run_id": claimed.run.run_id,
            "thread_id": str(claimed.run.thread_id),
            "token": claimed.lease.token,
            "null_task": NULL_TASK,
            "named": (claimed.run.kwargs["config"].get("configurable") or {}).get("checkpoint_id"),
        }
        async with self._database.transaction() as connection:
            row = await (await connection.execute(PROGRESS, parameters)).fetchone()
            if row is None:
                return Progress()
            answered = await (await connection.execute(ANSWERED, parameters)).fetchall()
            if answered:
                await connection.execute(TAKE_ANSWER_BACK, parameters)
        return Progress(
            own=row["own"],
            base=row["base"],
            spaces={space: frozenset(parents) for space, parents in row["spaces"].items()},
            commanded=row["commanded"],
            commanded_back=row["commanded_back"],
            resumed=row["resumed"],
            answered=[(entry["type"], bytes(entry["blob"])) for entry in answered],
        )
