"""Runs on the wire."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from langgraph_serverless.domain import runs as domain
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.http.schemas.shared import (
    CheckpointConfig,
    CommandObject,
    Config,
    JsonObject,
    Omittable,
    RequestModel,
    ResponseModel,
    Uuid,
    WireEnum,
)

#: What a list of runs may be cut down to.
COLUMNS = (
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
)

StreamModeName = Literal[
    "values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom"
]
NodeNames = Literal["*"] | list[str]


class Run(ResponseModel):  # type: ignore[no-redef]  # of "kwargs": the plugin gives models a **kwargs
    run_id: uuid.UUID
    thread_id: uuid.UUID
    assistant_id: uuid.UUID
    created_at: datetime
    updated_at: datetime
    status: domain.RunStatus
    metadata: JsonObject
    kwargs: JsonObject
    multitask_strategy: domain.MultitaskStrategy
    langsmith_session_name: str | None = None


class LangSmithTracer(RequestModel):
    """Where a run is traced to, if the deployment traces to LangSmith."""

    project_name: str | None = None
    example_id: str | None = None


class RunCreate(RequestModel):
    assistant_id: str
    input: Any = None
    command: CommandObject | None = None
    metadata: JsonObject = Field(default_factory=dict)
    config: Config = Field(default_factory=Config)
    context: Omittable[JsonObject] = None
    checkpoint: Omittable[CheckpointConfig] = None
    #: An empty one is none.
    checkpoint_id: str | None = None
    interrupt_before: Omittable[NodeNames] = None
    interrupt_after: Omittable[NodeNames] = None
    stream_mode: StreamModeName | list[StreamModeName] = "values"
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    on_disconnect: Literal["cancel", "continue"] | None = "continue"
    multitask_strategy: WireEnum[domain.MultitaskStrategy] = domain.MultitaskStrategy.ENQUEUE
    if_not_exists: Literal["create", "reject"] = "reject"
    #: Postgres's calendar ends in the year 294276; a negative delay is none.
    after_seconds: Annotated[float, Field(le=1e9, allow_inf_nan=False)] = 0
    durability: Omittable[WireEnum[domain.Durability]] = None
    #: Deprecated on the wire; ``durability`` wins.
    checkpoint_during: Omittable[bool] = None
    webhook: Omittable[Annotated[str, Field(min_length=1, max_length=65536)]] = None
    feedback_keys: Omittable[list[str]] = None
    on_completion: Literal["delete", "keep"] | None = "delete"
    langsmith_tracer: LangSmithTracer | None = None

    def to_domain(self, request_id: str) -> domain.RunRequest:
        """The request as the service takes it."""
        modes = [self.stream_mode] if isinstance(self.stream_mode, str) else self.stream_mode
        return domain.RunRequest(
            assistant_id=self.assistant_id,
            input=self.input,
            command=self.command,
            metadata=self.metadata,
            config=self.config,
            context=self.context,
            checkpoint=self._checkpoint(),
            interrupt_before=self.interrupt_before,
            interrupt_after=self.interrupt_after,
            stream_mode=tuple(domain.StreamMode(mode) for mode in modes or ("values",)),
            stream_subgraphs=self.stream_subgraphs,
            stream_resumable=self.stream_resumable,
            on_disconnect=self.on_disconnect or "continue",
            multitask_strategy=self.multitask_strategy,
            if_not_exists=self.if_not_exists,
            after_seconds=self.after_seconds,
            durability=self._durability(),
            checkpoint_during=self.checkpoint_during is not False,
            webhook=self.webhook,
            feedback_keys=self.feedback_keys,
            on_completion=self.on_completion or "delete",
            langsmith_tracer=self.langsmith_tracer.model_dump() if self.langsmith_tracer else None,
            request_id=request_id,
        )

    def _checkpoint(self) -> JsonObject | None:
        checkpoint = self.checkpoint.model_dump(exclude_none=True) if self.checkpoint else {}
        if self.checkpoint_id:
            checkpoint["checkpoint_id"] = self.checkpoint_id
        if (checkpoint_id := checkpoint.get("checkpoint_id")) is not None:
            parse_id(checkpoint_id, "checkpoint", suffix="")
        return checkpoint or None

    def _durability(self) -> domain.Durability | None:
        if self.durability is not None or self.checkpoint_during is None:
            return self.durability
        return domain.Durability.ASYNC if self.checkpoint_during else domain.Durability.EXIT


class RunsCancel(RequestModel):
    """Either a status, or runs of one thread."""

    status: Omittable[Literal["pending", "running", "all"]] = None
    thread_id: Omittable[Uuid] = None
    run_ids: Omittable[list[Uuid]] = None


def run_document(run: domain.Run) -> dict[str, Any]:
    """A run as clients see it."""
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "metadata": run.metadata,
        "status": run.wire_status,
        "kwargs": run.kwargs,
        "multitask_strategy": run.multitask_strategy,
        "langsmith_session_name": None,
    }
