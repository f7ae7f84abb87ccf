"""Tasks of the Agent-to-Agent protocol as rows: which runs are one task, and who is notified of it.

What a run was asked and has left is read elsewhere (``runs.py``); here are its names and its state only.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.a2a import TaskRef, TaskState, state_of
from langgraph_serverless.domain.a2a_messages import Dialect
from langgraph_serverless.domain.a2a_push import MOST_CONFIGS, PushConfig
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document

_SQL = load_queries(__file__)
FIND_TASK = _SQL["find_task"]
LIVE_RUNS_OF_TASK = _SQL["live_runs_of_task"]
LIST_TASKS = _SQL["list_tasks"]
COUNT_TASKS = _SQL["count_tasks"]
ADD_TURN = _SQL["add_turn"]
CANCEL_TASK = _SQL["cancel_task"]
SET_PUSH = _SQL["set_push"]
LIST_PUSHES = _SQL["list_pushes"]
DELETE_PUSH = _SQL["delete_push"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTask:
    """How a task stands."""

    ref: TaskRef
    #: Its last run, or the one that was asked for.
    run_id: uuid.UUID
    assistant_id: uuid.UUID
    state: TaskState
    at: datetime
    turns: Sequence[tuple[str, uuid.UUID]]
    #: Messages that began what came after it on the thread.
    later: frozenset[str]


class A2ARepository:
    """The statements of ``a2a.sql``."""

    async def find(self, connection: Connection, ref: TaskRef, *, run_id: uuid.UUID | None = None) -> FoundTask | None:
        """The task by its last run, or by one of its runs."""
        parameters = {"thread_id": ref.thread_id, "task_id": ref.run_id, "run_id": run_id}
        row = await (await connection.execute(FIND_TASK, parameters)).fetchone()
        if row is None:
            return None
        state = state_of(
            RunStatus(row["status"]),
            resuming=row["resuming"],
            waiting=row["waiting"] and row["newest"],
            canceled=row["canceled_at"] is not None,
        )
        return FoundTask(
            ref=ref,
            run_id=row["run_id"],
            assistant_id=row["assistant_id"],
            state=state,
            at=row["canceled_at"] or row["updated_at"],
            turns=[(message_id, uuid.UUID(task_id)) for message_id, task_id, _ in row["turns"]],
            later=frozenset(message_id for message_id, _, later in row["turns"] if later),
        )

    async def live_runs(self, connection: Connection, ref: TaskRef) -> Sequence[uuid.UUID]:
        """Its runs that have not ended."""
        parameters = {"thread_id": ref.thread_id, "task_id": ref.run_id}
        return [row["run_id"] for row in await (await connection.execute(LIVE_RUNS_OF_TASK, parameters)).fetchall()]

    async def list(
        self,
        connection: Connection,
        thread_ids: Sequence[uuid.UUID],
        assistant_id: uuid.UUID,
        *,
        state: TaskState | None,
        after: datetime | None,
        limit: int,
        offset: int,
    ) -> tuple[Sequence[TaskRef], int]:
        """A page of an assistant's tasks on these threads, the last that changed first, and how many there are."""
        parameters: dict[str, Any] = {
            "thread_ids": list(thread_ids),
            "assistant_id": assistant_id,
            "state": state,
            "after": after,
            "limit": limit,
            "offset": offset,
        }
        rows = await (await connection.execute(LIST_TASKS, parameters)).fetchall()
        if rows or not offset:
            total = rows[0]["total"] if rows else 0
        else:
            found = await (await connection.execute(COUNT_TASKS, parameters)).fetchone()
            total = found["total"] if found else 0
        return [TaskRef(row["thread_id"], row["task_id"]) for row in rows], total

    async def add_turn(self, connection: Connection, run_id: uuid.UUID, *, task_id: uuid.UUID, message_id: str) -> None:
        """Note that a message has made a run of a task."""
        parameters = {"run_id": run_id, "task_id": task_id, "message_id": message_id}
        await connection.execute(ADD_TURN, parameters)

    async def cancel(self, connection: Connection, ref: TaskRef, run_id: uuid.UUID) -> None:
        """Note that the task is canceled, by its last run."""
        await connection.execute(CANCEL_TASK, {"run_id": run_id, "task_id": ref.run_id})

    async def set_push(self, connection: Connection, ref: TaskRef, config: PushConfig) -> bool:
        """Whether there was room for it."""
        parameters = {
            "task_id": ref.run_id,
            "config_id": config.config_id,
            "url": config.url,
            "dialect": config.dialect.value,
            "value": document("run", "push", config.shown()),
            "most": MOST_CONFIGS,
        }
        return await (await connection.execute(SET_PUSH, parameters)).fetchone() is not None

    async def pushes(self, connection: Connection, ref: TaskRef) -> Sequence[PushConfig]:
        """Where the task is announced."""
        rows = await (await connection.execute(LIST_PUSHES, {"task_id": ref.run_id})).fetchall()
        return [
            PushConfig(config_id=row["config_id"], url=row["url"], dialect=Dialect(row["dialect"]), **row["value"])
            for row in rows
        ]

    async def delete_push(self, connection: Connection, ref: TaskRef, config_id: str) -> None:
        """Announce it there no longer."""
        await connection.execute(DELETE_PUSH, {"task_id": ref.run_id, "config_id": config_id})
