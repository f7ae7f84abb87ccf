"""Threads on the wire, except for their state."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from langgraph_serverless.domain import threads as domain
from langgraph_serverless.http.schemas.shared import (
    CommandObject,
    JsonObject,
    Limit,
    Offset,
    Omittable,
    RequestModel,
    ResponseModel,
    SortOrder,
    Uuid,
    WireEnum,
)

Selectable = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
]


class ThreadTtl(ResponseModel):
    strategy: domain.TtlStrategy
    ttl_minutes: float
    expires_at: datetime


class Thread(ResponseModel):
    thread_id: uuid.UUID
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    metadata: JsonObject
    config: JsonObject
    status: domain.ThreadStatus
    values: Any
    interrupts: dict[str, list[JsonObject]]
    error: JsonObject | None
    ttl: ThreadTtl | None = None
    extracted: JsonObject | None = None


class Stored(ResponseModel):
    count: int
    bytes: int


class StoredChannel(ResponseModel):
    versions: int
    bytes: int


class StoredValues(Stored):
    by_channel: dict[str, StoredChannel]


class ThreadStorage(ResponseModel):
    thread_id: uuid.UUID
    total_bytes: int
    checkpoints: Stored
    channel_values: StoredValues
    pending_writes: Stored


class PruneResult(ResponseModel):
    pruned_count: int


class TtlSetting(RequestModel):
    strategy: WireEnum[domain.TtlStrategy] = domain.TtlStrategy.DELETE
    #: Minutes. Postgres's calendar ends in the year 294276.
    ttl: Annotated[float, Field(gt=0, le=1e9)]

    def to_domain(self) -> domain.Ttl:
        return domain.Ttl(strategy=self.strategy, minutes=self.ttl)


class SuperstepUpdate(RequestModel):
    values: JsonObject | list[Any] | None = None
    #: The SDK sends null for what its caller left out.
    command: CommandObject | None = None
    as_node: str


class Superstep(RequestModel):
    updates: list[SuperstepUpdate]


class ThreadCreate(RequestModel):
    thread_id: Omittable[Uuid] = None
    metadata: JsonObject = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"
    ttl: Omittable[TtlSetting] = None
    supersteps: Omittable[list[Superstep]] = None

    def superstep_documents(self) -> list[dict[str, Any]]:
        """The supersteps as they were sent."""
        return [step.model_dump(exclude_unset=True) for step in self.supersteps or ()]


class ThreadPatch(RequestModel):
    metadata: JsonObject = Field(default_factory=dict)
    ttl: Omittable[TtlSetting] = None


class ThreadFilter(RequestModel):
    metadata: JsonObject = Field(default_factory=dict)
    values: JsonObject = Field(default_factory=dict)
    status: Omittable[WireEnum[domain.ThreadStatus]] = None


class ThreadSearch(ThreadFilter):
    ids: Omittable[list[Uuid]] = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] = "updated_at"
    sort_order: SortOrder = "desc"
    select: Omittable[list[Selectable]] = None
    extract: Omittable[Annotated[dict[str, str], Field(max_length=10)]] = None


class ThreadPrune(RequestModel):
    thread_ids: list[Uuid]
    strategy: WireEnum[domain.TtlStrategy] = domain.TtlStrategy.DELETE


def thread_document(thread: domain.Thread, *, ttl: bool = False) -> dict[str, Any]:
    """A thread as clients see it; with ``ttl``, its time to live too."""
    document = {
        "thread_id": thread.thread_id,
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.state_updated_at,
        "metadata": thread.metadata,
        "config": thread.config,
        "status": thread.status,
        "values": thread.values,
        "interrupts": thread.interrupts,
        "error": thread.error,
    }
    if ttl:
        document["ttl"] = thread.ttl_strategy and {
            "strategy": thread.ttl_strategy,
            "ttl_minutes": thread.ttl_minutes,
            "expires_at": thread.expires_at,
        }
    return document
