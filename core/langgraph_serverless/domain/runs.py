"""Runs: one execution of an assistant on a thread, and its life.

::

                  claim (token, attempt + 1)
    pending ───────────────────────────────────▶ running ──▶ success | error | timeout | interrupted
       ▲                                            │
       └──── hand-off (no attempt) / lease expired ─┘      rollback deletes the row from either side

A run that was handed on is ``pending`` in the table with ``resuming`` set; clients see ``running`` (``wire_status``).
Every write to a run after its creation is a compare-and-set on status and lease token.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from langgraph_serverless.domain.passed_headers import passed_headers
from langgraph_serverless.domain.thread_events import RunOrigin
from langgraph_serverless.domain.trace_context import TraceContext


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    #: The graph stopped normally, also at an interrupt.
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    #: Cancelled: by the API, by a later run's strategy, by a client that went away.
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


class MultitaskStrategy(StrEnum):
    """What a new run does about the runs that its thread still has."""

    REJECT = "reject"
    ROLLBACK = "rollback"
    INTERRUPT = "interrupt"
    ENQUEUE = "enqueue"


class CancelAction(StrEnum):
    INTERRUPT = "interrupt"
    #: Interrupt, then delete the run and its checkpoints.
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A cancel that has been recorded on a run's row."""

    action: CancelAction
    #: For the thread's error: who or what asked for it.
    reason: str | None


class Durability(StrEnum):
    SYNC = "sync"
    ASYNC = "async"
    EXIT = "exit"


class StreamMode(StrEnum):
    VALUES = "values"
    MESSAGES = "messages"
    MESSAGES_TUPLE = "messages-tuple"
    TASKS = "tasks"
    CHECKPOINTS = "checkpoints"
    UPDATES = "updates"
    EVENTS = "events"
    DEBUG = "debug"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as clients and services see it."""

    run_id: uuid.UUID
    thread_id: uuid.UUID
    assistant_id: uuid.UUID
    status: RunStatus
    #: Was running before and waits for its next worker.
    resuming: bool
    metadata: Mapping[str, Any]
    #: What the run was asked to do, in the wire's form: input, command, config, context, stream_mode and so on.
    kwargs: Mapping[str, Any]
    multitask_strategy: MultitaskStrategy
    #: With ``after_seconds`` this is the earliest start, in the future.
    created_at: datetime
    updated_at: datetime

    @property
    def wire_status(self) -> RunStatus:
        """The status for clients, to whom a hand-off is invisible."""
        return RunStatus.RUNNING if self.resuming and self.status is RunStatus.PENDING else self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to execute a run, until it expires or is taken back."""

    run_id: uuid.UUID
    #: Random, new at each claim; Postgres compares it in every write.
    token: uuid.UUID
    #: Rises by one with each claim of the run; the event log compares it, as Redis has no transaction with Postgres.
    epoch: int
    #: What the event log tells the thread's readers about the run; None: nothing.
    origin: RunOrigin | None = field(default=None, compare=False)
    #: Whose run it is: while it is executed, it sees nobody else's rows.
    tenant: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The beginning of the token, for logs: tells leases apart, and is found in the run's ``lease_history``."""
        return self.token.hex[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A run that this worker owns, with what it needs to execute it."""

    run: Run
    lease: Lease
    graph_id: str
    #: 1 for the first. Hand-offs are not attempts.
    attempt: int
    handoffs: int
    #: The previous worker handed it on at a superstep boundary: the client's stream goes on as if nothing had happened.
    continued: bool
    #: Seconds since its first start.
    age: float
    #: Stateless, and nobody keeps the thread.
    temporary: bool
    #: Recorded before this worker came; it only has to be carried out.
    cancel: CancelRequest | None
    #: The metadata of the thread, which gains graph and assistant id at the first run.
    thread_metadata: Mapping[str, Any]
    #: The thread has checkpoints, or may have: those of this run's earlier attempts among them.
    has_checkpoints: bool = True
    #: Seconds from the time when it was due to its first claim; None of later ones.
    waited: float | None = None
    #: Of the request that has made it; its own, if a cron has.
    request_id: str | None = None
    cron_id: uuid.UUID | None = None
    #: Where it stands in its client's trace.
    trace: TraceContext | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What every line of the log says about a run that is being executed."""
        return {
            "run_id": str(self.run.run_id),
            "thread_id": str(self.run.thread_id),
            "graph_id": self.graph_id,
            "attempt": self.attempt,
            "lease": self.lease.name,
            **({"cron_id": str(self.cron_id)} if self.cron_id is not None else {}),
            **correlation(self.request_id, self.trace),
        }


def correlation(request_id: str | None, trace: TraceContext | None) -> dict[str, str]:
    """What lines of the log share that have come of one request."""
    found = {"request_id": request_id, "trace_id": trace.trace_id if trace is not None else None}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How an execution ended: everything that the settling transaction writes."""

    status: RunStatus
    #: What ``wait`` and ``join`` answer.
    output: Any = None
    thread_status: str = "idle"
    #: The thread's values after the run; ignored unless ``write_values``.
    values: Any = None
    write_values: bool = False
    interrupts: Mapping[str, Any] | None = None
    #: ``{"error": class, "message": text}``; masked, for clients.
    error: Mapping[str, Any] | None = None
    #: Unmasked, for operators.
    last_error: str | None = None
    last_node: str | None = None
    #: Delete the run and its checkpoints instead of keeping them.
    rollback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a client asked for when it created a run; defaults are those of the wire."""

    #: A UUID or a graph id.
    assistant_id: str
    input: Any = None
    command: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    interrupt_before: str | Sequence[str] | None = None
    interrupt_after: str | Sequence[str] | None = None
    stream_mode: Sequence[StreamMode] = (StreamMode.VALUES,)
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    on_disconnect: str = "continue"
    multitask_strategy: MultitaskStrategy = MultitaskStrategy.ENQUEUE
    #: ``create`` makes the thread with the given id if it is missing.
    if_not_exists: str = "reject"
    #: Seconds from now before which the run does not start.
    after_seconds: float = 0
    #: None: the deployment's default.
    durability: Durability | None = None
    #: As it was sent; what counts is ``durability``.
    checkpoint_during: bool = True
    webhook: str | None = None
    feedback_keys: Sequence[str] | None = None
    #: Stateless runs: ``delete`` or ``keep`` the thread.
    on_completion: str = "delete"
    #: ``project_name`` and ``example_id``, for deployments that trace to LangSmith.
    langsmith_tracer: Mapping[str, str | None] | None = None
    #: The request's ``x-request-id``, shown to graphs.
    request_id: str | None = None
    #: Headers of the request at hand that the deployment passes on to graphs.
    configurable_headers: Mapping[str, str] = field(default_factory=passed_headers)
    #: It is streamed as records of the thread protocol, whatever ``stream_mode`` says.
    protocol: bool = False
    #: Set by the scheduler.
    cron_id: uuid.UUID | None = None
    cron_due_at: datetime | None = None
