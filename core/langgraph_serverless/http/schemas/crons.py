"""Crons on the wire."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from langgraph_serverless.domain.crons import Cron, CronField
from langgraph_serverless.http.schemas.shared import (
    Config,
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

StreamModeName = Literal[
    "values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom"
]
NodeNames = Literal["*"] | list[str]
Webhook = Annotated[str, Field(min_length=1, max_length=65536)]


class _CronFields(RequestModel):
    """What may be set at creation and changed later.

    Other fields than these are of no effect, but they are kept: a cron's payload is the body as it was sent.
    """

    model_config = ConfigDict(extra="allow")

    timezone: Omittable[str] = None
    input: Any = None
    metadata: Omittable[JsonObject] = None
    config: Omittable[Config] = None
    context: Omittable[JsonObject] = None
    webhook: Omittable[Webhook] = None
    interrupt_before: Omittable[NodeNames] = None
    interrupt_after: Omittable[NodeNames] = None
    enabled: Omittable[bool] = None
    stream_mode: Omittable[StreamModeName | list[StreamModeName]] = None
    stream_subgraphs: Omittable[bool] = None
    stream_resumable: Omittable[bool] = None
    durability: Omittable[Literal["sync", "async", "exit"]] = None
    checkpoint_during: bool | None = None
    multitask_strategy: Literal["reject", "rollback", "interrupt", "enqueue"] | None = None

    def sent(self) -> dict[str, Any]:
        """What the client sent."""
        return self.model_dump(exclude_unset=True)


class ThreadCronCreate(_CronFields):
    schedule: str
    assistant_id: str
    end_time: Omittable[str] = None


class CronCreate(ThreadCronCreate):
    on_run_completed: Omittable[Literal["delete", "keep"]] = None


class CronPatch(_CronFields):
    """Anything but the assistant and the thread; ``end_time: null`` clears it."""

    schedule: Omittable[str] = None
    end_time: str | None = None
    on_run_completed: Omittable[Literal["delete", "keep"]] = None
    #: Taken without complaint and of no effect.
    assistant_id: Any = None
    thread_id: Any = None


class CronCount(RequestModel):
    assistant_id: Omittable[Uuid] = None
    thread_id: Omittable[Uuid] = None
    metadata: Omittable[JsonObject] = None


class CronSearch(CronCount):
    enabled: Omittable[bool] = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal[
        "cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"
    ] = "created_at"
    sort_order: SortOrder = "desc"
    select: Omittable[list[WireEnum[CronField]]] = None


class CronResponse(ResponseModel):
    cron_id: str
    assistant_id: str
    thread_id: str | None
    user_id: str
    end_time: str | None
    schedule: str
    timezone: str | None
    payload: JsonObject
    next_run_date: str | None
    metadata: JsonObject
    on_run_completed: Literal["delete", "keep"] | None
    enabled: bool
    created_at: str
    updated_at: str


def cron_document(cron: Cron, select: Collection[CronField] = tuple(CronField)) -> JsonObject:
    """A cron as clients see it, or the selected fields. Whole seconds are shown as such: ``2026-11-23T05:00:00+00:00``."""
    document = {field.value: getattr(cron, field) for field in CronField if field in select}
    for field in (CronField.END_TIME, CronField.NEXT_RUN_DATE):
        if (date := document.get(field)) is not None:
            document[field.value] = date.isoformat()
    return document
