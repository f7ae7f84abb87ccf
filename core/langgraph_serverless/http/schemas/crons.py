"""Crons on the wire."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field

from langgraph_serverless.domain.crons import Cron, CronField
from langgraph_serverless.http.schemas.shared import (
    Config,
    JsonObject,
    Limit,
    Offset,
    RequestModel,
    ResponseModel,
    SortOrder,
    Uuid,
)

StreamModeName = Literal[
    "values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom"
]
NodeNames = Literal["*"] | list[str]
Webhook = Annotated[str, Field(min_length=1, max_length=65536)]


class _CronFields(RequestModel):
    """What may be set at creation and changed later; null means the default."""

    timezone: str | None = None
    end_time: str | None = None
    input: Any = None
    metadata: JsonObject | None = None
    config: Config | None = None
    context: JsonObject | None = None
    webhook: Webhook | None = None
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    enabled: bool | None = None
    stream_mode: StreamModeName | list[StreamModeName] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    multitask_strategy: Literal["reject", "interrupt", "rollback", "enqueue"] | None = None

    def sent(self) -> dict[str, Any]:
        """What the client sent."""
        return self.model_dump(exclude_unset=True)


class ThreadCronCreate(_CronFields):
    schedule: str
    assistant_id: str


class CronCreate(ThreadCronCreate):
    on_run_completed: Literal["delete", "keep"] | None = None


class CronPatch(_CronFields):
    """Anything but the assistant and the thread; ``end_time: null`` clears it."""

    schedule: str | None = None
    on_run_completed: Literal["delete", "keep"] | None = None
    #: Taken without complaint and ignored.
    assistant_id: Any = None
    thread_id: Any = None


class CronCount(RequestModel):
    assistant_id: Uuid | None = None
    thread_id: Uuid | None = None
    metadata: JsonObject | None = None


class CronSearch(CronCount):
    enabled: bool | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal[
        "cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"
    ] = "created_at"
    sort_order: SortOrder = "desc"
    select: (
        list[
            Literal[
                "cron_id",
                "assistant_id",
                "thread_id",
                "on_run_completed",
                "end_time",
                "schedule",
                "timezone",
                "created_at",
                "updated_at",
                "user_id",
                "payload",
                "next_run_date",
                "metadata",
                "enabled",
            ]
        ]
        | None
    ) = None


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


def cron_document(cron: Cron, select: Collection[str] | None = None) -> JsonObject:
    """A cron as clients see it. Whole seconds are shown as such, as in ``2026-11-23T05:00:00+00:00``."""
    document = {field.value: getattr(cron, field) for field in CronField if select is None or field in select}
    for field in (CronField.END_TIME, CronField.NEXT_RUN_DATE):
        if (date := document.get(field)) is not None:
            document[field.value] = date.isoformat()
    return document
