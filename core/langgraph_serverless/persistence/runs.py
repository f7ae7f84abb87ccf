"""Runs as rows: creating, reading, cancelling what no worker has. What a worker does to them is in ``queue.py``.

Everything that changes a thread's set of live runs locks the thread row first (``lock_for_create``, ``lock_thread``) and
ends with ``refresh_thread_status``, so that a thread is ``busy`` exactly while it has a live run.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.encryption import with_scope
from langgraph_serverless.domain.priorities import ThreadPriority
from langgraph_serverless.domain.run_kwargs import is_protocol_run
from langgraph_serverless.domain.runs import CancelAction, MultitaskStrategy, Run, RunStatus
from langgraph_serverless.domain.thread_events import RunOrigin, first_base, in_microseconds
from langgraph_serverless.domain.threads import Ttl
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.persistence.filters import Search, column, fetch
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document

_SQL = load_queries(__file__)
ENSURE_THREAD = _SQL["ensure_thread"]
LOCK_FOR_CREATE = _SQL["lock_for_create"]
INSERT_RUN = _SQL["insert_run"]
GET_RUN = _SQL["get_run"]
LOOK_AT_THREAD = _SQL["look_at_thread"]
GET_RESULT = _SQL["get_result"]
THREAD_OF_RUN = _SQL["thread_of_run"]
LOCK_THREAD = _SQL["lock_thread"]
DELETE_RUN = _SQL["delete_run"]
LIVE_RUNS = _SQL["live_runs"]
RUNS_TO_CANCEL = _SQL["runs_to_cancel"]
THREADS_WITH_STATUS = _SQL["threads_with_status"]
REQUEST_CANCEL = _SQL["request_cancel"]
INTERRUPT_PENDING = _SQL["interrupt_pending"]
DELETE_PENDING = _SQL["delete_pending"]
REFRESH_THREAD_STATUS = _SQL["refresh_thread_status"]


#: What a list of runs reads of each, and what it leaves out unless it is wanted: a run's input may be large.
_LISTED = (
    *("run_id", "thread_id", "assistant_id", "status", "resuming", "multitask_strategy", "created_at", "updated_at"),
    *(DOCUMENTS := ("metadata", "kwargs")),
)
#: A handed-on run counts as running, as it does for clients.
_WIRE_STATUS = sql.SQL("CASE WHEN resuming AND status = 'pending' THEN 'running' ELSE status END")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTarget:
    """What a run to be made refers to: its assistant and its thread, which is locked."""

    assistant_id: uuid.UUID
    graph_id: str
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]
    thread_id: uuid.UUID | None
    thread_metadata: Mapping[str, Any]
    thread_is_busy: bool
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A row to insert."""

    run_id: uuid.UUID
    thread_id: uuid.UUID
    tenant: str
    assistant_id: uuid.UUID
    graph_id: str
    metadata: Mapping[str, Any]
    kwargs: Mapping[str, Any]
    multitask_strategy: MultitaskStrategy
    webhook: str | None
    cron_id: uuid.UUID | None
    cron_due_at: datetime | None
    priority: ThreadPriority
    after_seconds: float
    thread_metadata: Mapping[str, Any]
    thread_config: Mapping[str, Any]
    #: Where its worker goes on with its client's trace.
    trace: TraceContext | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A pending or running run, as cancelling sees it."""

    run_id: uuid.UUID
    status: RunStatus
    #: The fencing number that its last worker used; see ``Lease.epoch``.
    epoch: int
    resuming: bool = False
    #: What its log says to the thread's readers; of runs that have been ended by a statement.
    origin: RunOrigin | None = None

    @property
    def wire_status(self) -> str:
        """The status for clients, as of ``Run``."""
        return "running" if self.resuming else self.status.value


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run stands, and what wait and join answer once it is final."""

    status: RunStatus
    resuming: bool
    output: Any
    error: Mapping[str, Any] | None
    thread_values: Any
    #: Of a thread whose last run failed.
    thread_error: Mapping[str, Any] | None
    #: Of a thread that waits: task id to interrupts.
    thread_interrupts: Mapping[str, Any] | None
    #: The thread of a finished stateless run that nobody kept.
    hidden: bool

    @property
    def thread_output(self) -> Any:
        """What the thread has come to, in the form in which wait would answer it."""
        return {"__error__": self.thread_error} if self.thread_error is not None else self.thread_state

    @property
    def thread_state(self) -> Any:
        """The thread's values, with what it asks if it waits."""
        asked = [interrupt for task in (self.thread_interrupts or {}).values() for interrupt in task]
        if asked and isinstance(self.thread_values, dict | None):
            return {**(self.thread_values or {}), "__interrupt__": asked}
        return self.thread_values


def run_from_row(row: Mapping[str, Any]) -> Run:
    return Run(
        run_id=row["run_id"],
        thread_id=row["thread_id"],
        assistant_id=row["assistant_id"],
        status=RunStatus(row["status"]),
        resuming=row["resuming"],
        metadata=row["metadata"],
        kwargs=row["kwargs"],
        multitask_strategy=MultitaskStrategy(row["multitask_strategy"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def origin_from(row: Mapping[str, Any]) -> RunOrigin:
    """Of a row with ``thread_made``; of its ``kwargs``, input and command are not needed.

    Never raises because of ``kwargs``: a run that cannot be executed has to be claimed to be ended.
    """
    kwargs = row["kwargs"] if isinstance(row["kwargs"], dict) else {}
    return RunOrigin(
        thread_id=row["thread_id"],
        made=in_microseconds(row["thread_made"]),
        graph_id=row["graph_id"],
        protocol=is_protocol_run(kwargs),
        resumable=bool(kwargs.get("resumable")),
        base=first_base(
            thread_made=row["thread_made"], run_made=row["created_at"], begun=row["started_at"] or datetime.now(UTC)
        ),
    )


def _live(row: Mapping[str, Any]) -> LiveRun:
    return LiveRun(
        run_id=row["run_id"],
        status=RunStatus(row.get("status", RunStatus.PENDING)),
        epoch=row["attempt"] + row["handoffs"],
        resuming=row.get("resuming", False),
        origin=origin_from(row) if "thread_made" in row else None,
    )


class RunRepository:
    """The statements of ``runs.sql``."""

    async def ensure_thread(
        self,
        connection: Connection,
        thread_id: uuid.UUID,
        *,
        tenant: str,
        metadata: Mapping[str, Any],
        temporary: bool,
        ttl: Ttl | None = None,
    ) -> bool:
        """Make the thread, unless there is one of this id; whether it was made."""
        parameters = {
            "thread_id": thread_id,
            "tenant": tenant,
            "metadata": document("thread", "metadata", metadata),
            "temporary": temporary,
            "ttl_strategy": ttl and ttl.strategy,
            "ttl_minutes": ttl and ttl.minutes,
        }
        return (await connection.execute(ENSURE_THREAD, parameters)).rowcount == 1

    async def lock_for_create(
        self, connection: Connection, *, assistant_id: uuid.UUID, thread_id: uuid.UUID
    ) -> CreateTarget | None:
        """The assistant with the locked thread; None if there is no such assistant."""
        cursor = await connection.execute(LOCK_FOR_CREATE, {"assistant_id": assistant_id, "thread_id": thread_id})
        row = await cursor.fetchone()
        if row is None:
            return None
        return CreateTarget(
            assistant_id=row["assistant_id"],
            graph_id=row["graph_id"],
            config=row["config"],
            context=row["context"],
            metadata=row["metadata"],
            thread_id=row["thread_id"],
            thread_metadata=row["thread_metadata"] or {},
            thread_is_busy=row["thread_status"] == "busy",
            tenant=row["tenant"] or "",
        )

    async def insert(self, connection: Connection, run: NewRun) -> tuple[Run, bool]:
        """The run, and whether it has to wait: for its time, or for another run of its thread."""
        parameters = {
            "run_id": run.run_id,
            "thread_id": run.thread_id,
            "tenant": run.tenant,
            "assistant_id": run.assistant_id,
            "graph_id": run.graph_id,
            "metadata": document("run", "metadata", run.metadata),
            "kwargs": document("run", "kwargs", with_scope(run.kwargs)),
            "multitask_strategy": run.multitask_strategy.value,
            "webhook": run.webhook,
            "cron_id": run.cron_id,
            "cron_due_at": run.cron_due_at,
            "priority": run.priority.priority,
            "concurrency_key": run.priority.concurrency_key,
            "after_seconds": run.after_seconds,
            "thread_metadata": document("thread", "metadata", run.thread_metadata),
            "thread_config": document("thread", "config", run.thread_config),
            "trace": jsonb(run.trace.headers) if run.trace is not None else None,
        }
        cursor = await connection.execute(INSERT_RUN, parameters)
        (row,) = await cursor.fetchall()
        return run_from_row(row), row["waits"]

    async def find(
        self, connection: Connection, run_id: uuid.UUID, thread_id: uuid.UUID | None, allowed: Filter | None = None
    ) -> Run | None:
        """The run, if the filter lets its thread through."""
        cursor = await connection.execute(GET_RUN, {"run_id": run_id, "thread_id": thread_id})
        row = await cursor.fetchone()
        return run_from_row(row) if row and visible(row["thread_metadata"], allowed) else None

    async def list(
        self,
        connection: Connection,
        thread_id: uuid.UUID,
        *,
        limit: int,
        offset: int,
        status: str | None,
        select: Collection[str] | None = None,
    ) -> list[Run]:
        """A page of a thread's runs, newest first; ``metadata`` and ``kwargs`` that are not selected are empty."""
        wanted = Search("lgs.run", key="run_id")
        wanted.equals("thread_id", thread_id)
        wanted.equals(_WIRE_STATUS, status)
        blank: dict[str, Any] = {name: {} for name in DOCUMENTS if select is not None and name not in select}
        statement = wanted.page(
            [column(name) for name in _LISTED if name not in blank],
            order=[column("created_at")],
            descending=True,
            limit=limit,
            offset=offset,
            newest_key_first=True,
        )
        return [run_from_row(blank | row) for row in (await fetch(connection, statement))[:limit]]

    async def thread_is_visible(
        self,
        connection: Connection,
        thread_id: uuid.UUID,
        allowed: Filter | None = None,
        *,
        gone: bool = False,
    ) -> bool:
        """Whether the thread exists for whom this filter is; with ``gone`` also one that was only a finished run's."""
        cursor = await connection.execute(LOOK_AT_THREAD, {"thread_id": thread_id, "gone": gone})
        row = await cursor.fetchone()
        return row is not None and visible(row["metadata"], allowed)

    async def thread_of(self, connection: Connection, run_id: uuid.UUID) -> uuid.UUID | None:
        """The thread of a run, also if clients do not see it any longer."""
        row = await (await connection.execute(THREAD_OF_RUN, {"run_id": run_id})).fetchone()
        return row["thread_id"] if row is not None else None

    async def result(
        self, connection: Connection, run_id: uuid.UUID, allowed: Filter | None = None
    ) -> RunResult | None:
        """How the run stands, if the filter lets its thread through."""
        cursor = await connection.execute(GET_RESULT, {"run_id": run_id})
        row = await cursor.fetchone()
        if row is None or not visible(row["thread_metadata"], allowed):
            return None
        return RunResult(
            status=RunStatus(row["status"]),
            resuming=row["resuming"],
            output=row["output"],
            error=row["error"],
            thread_values=row["thread_values"],
            thread_error=row["thread_error"],
            thread_interrupts=row["thread_interrupts"],
            hidden=row["hidden"],
        )

    async def lock_thread(self, connection: Connection, thread_id: uuid.UUID, allowed: Filter | None = None) -> bool:
        """Lock a thread's row until the transaction ends; whether there is one that the filter lets through."""
        if allowed is not None and not await self.thread_is_visible(connection, thread_id, allowed, gone=True):
            return False  # nobody waits for what he cannot see, nor keeps it from others
        cursor = await connection.execute(LOCK_THREAD, {"thread_id": thread_id})
        row = await cursor.fetchone()
        return row is not None and visible(row["metadata"], allowed)

    async def delete(self, connection: Connection, run_id: uuid.UUID, thread_id: uuid.UUID) -> LiveRun | None:
        cursor = await connection.execute(DELETE_RUN, {"run_id": run_id, "thread_id": thread_id})
        row = await cursor.fetchone()
        return _live(row) if row else None

    async def live(self, connection: Connection, thread_id: uuid.UUID) -> Sequence[LiveRun]:
        """The thread's live runs; their rows are locked."""
        cursor = await connection.execute(LIVE_RUNS, {"thread_id": thread_id})
        return [_live(row) for row in await cursor.fetchall()]

    async def lock_runs(
        self, connection: Connection, thread_id: uuid.UUID, run_ids: Sequence[uuid.UUID]
    ) -> Sequence[LiveRun]:
        """The named runs of a thread in any status; their rows are locked."""
        cursor = await connection.execute(RUNS_TO_CANCEL, {"thread_id": thread_id, "run_ids": list(run_ids)})
        return [_live(row) for row in await cursor.fetchall()]

    async def threads_with_status(self, connection: Connection, status: str) -> Sequence[uuid.UUID]:
        cursor = await connection.execute(THREADS_WITH_STATUS, {"status": status})
        return [row["thread_id"] for row in await cursor.fetchall()]

    async def request_cancel(
        self, connection: Connection, run_ids: Sequence[uuid.UUID], action: CancelAction, reason: str
    ) -> Sequence[uuid.UUID]:
        cursor = await connection.execute(
            REQUEST_CANCEL, {"run_ids": list(run_ids), "action": action.value, "reason": reason}
        )
        return [row["run_id"] for row in await cursor.fetchall()]

    async def interrupt_pending(
        self, connection: Connection, run_ids: Sequence[uuid.UUID], *, reason: str, error: Mapping[str, Any]
    ) -> Sequence[LiveRun]:
        cursor = await connection.execute(
            INTERRUPT_PENDING, {"run_ids": list(run_ids), "reason": reason, "error": document("run", "error", error)}
        )
        return [_live(row) for row in await cursor.fetchall()]

    async def delete_pending(
        self, connection: Connection, run_ids: Sequence[uuid.UUID], *, error: Mapping[str, Any]
    ) -> Sequence[LiveRun]:
        cursor = await connection.execute(
            DELETE_PENDING, {"run_ids": list(run_ids), "error": document("run", "error", error)}
        )
        return [_live(row) for row in await cursor.fetchall()]

    async def refresh_thread_status(
        self, connection: Connection, thread_id: uuid.UUID, *, temporary_retention: float
    ) -> bool:
        """Whether the thread has live runs."""
        parameters = {"thread_id": thread_id, "temporary_retention": temporary_retention}
        row = await (await connection.execute(REFRESH_THREAD_STATUS, parameters)).fetchone()
        return row is not None and row["live"]
