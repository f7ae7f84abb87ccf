"""A run with everything that hangs on it, made in one statement (``migrations/0027``); see ``services/quick_runs.py`` for when.

The connection must be one without a cipher: the database merges documents, and compares the assistant that the run was planned with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.runs import Run, RunStatus
from langgraph_serverless.domain.threads import Ttl
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.runs import NewRun

_SQL = load_queries(__file__)
CREATE_RUN = _SQL["create_run"]


class Outcome(StrEnum):
    """What has come of a run to be made."""

    MADE = "made"
    #: Its assistant is another one by now: plan it again.
    STALE = "stale"
    #: There is no such assistant, or no such thread that clients see.
    MISSING = "missing"
    #: Its thread has runs that would have to make way for it.
    BUSY = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewThread:
    """A thread that a run makes, unless it exists."""

    metadata: Mapping[str, Any]
    temporary: bool
    ttl: Ttl | None


async def create_run(
    connection: Connection,
    run: NewRun,
    assistant: Assistant,
    *,
    said: Mapping[str, Any] | None,
    thread: NewThread | None,
) -> tuple[Outcome, Run | None, bool]:
    """What has come of it, the run if it was made, and whether that has to wait: for its time, or for another run of its thread.

    Args:
        run: planned with this assistant, and as if the thread had no metadata; without priority and cron.
        said: of the run's metadata, what counts more than the thread's; None if that does not count at all, as of a thread of its own.
        thread: to be made unless it exists.
    """
    parameters = {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "tenant": run.tenant,
        "assistant_id": run.assistant_id,
        "assistant_version": assistant.version,
        "assistant_time": assistant.updated_at,
        "graph_id": run.graph_id,
        "makes_thread": thread is not None,
        "new_metadata": jsonb(thread.metadata) if thread is not None else None,
        "temporary": thread is not None and thread.temporary,
        "ttl_strategy": thread.ttl.strategy if thread is not None and thread.ttl is not None else None,
        "ttl_minutes": thread.ttl.minutes if thread is not None and thread.ttl is not None else None,
        "metadata": jsonb(run.metadata),
        "said": jsonb(said) if said is not None else None,
        "kwargs": jsonb(run.kwargs),
        "multitask_strategy": run.multitask_strategy.value,
        "webhook": run.webhook,
        "after_seconds": run.after_seconds,
        "thread_metadata": jsonb(run.thread_metadata),
        "thread_config": jsonb(run.thread_config),
        "trace": jsonb(run.trace.headers) if run.trace is not None else None,
    }
    (row,) = await (await connection.execute(CREATE_RUN, parameters)).fetchall()
    outcome = Outcome(row["outcome"])
    if outcome is not Outcome.MADE:
        return outcome, None, False
    made = Run(
        run_id=run.run_id,
        thread_id=run.thread_id,
        assistant_id=run.assistant_id,
        status=RunStatus.PENDING,
        resuming=False,
        metadata=row["metadata"],
        kwargs=row["kwargs"],
        multitask_strategy=run.multitask_strategy,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    return outcome, made, row["waits"]
