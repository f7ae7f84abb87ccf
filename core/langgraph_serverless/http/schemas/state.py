"""States of threads on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from langgraph.types import StateSnapshot
from pydantic import WithJsonSchema

from langgraph_serverless.errors import InvalidInputError
from langgraph_serverless.execution.state_document import checkpoint_document, state_document
from langgraph_serverless.http.schemas.shared import (
    Checkpoint,
    CheckpointConfig,
    JsonObject,
    Limit,
    Omittable,
    RequestModel,
    ResponseModel,
)

_NAMED: Any = {
    "type": "object",
    "properties": {
        "checkpoint_id": {"type": "string", "description": "The checkpoint's id."},
        "checkpoint_ns": {"type": "string", "description": "Ignored."},
        "checkpoint_map": {"description": "Ignored."},
        "thread_id": {"type": "string", "description": "Ignored: the path names the thread."},
    },
    "required": ["checkpoint_id"],
}
#: Two forms are in use; ``HistoryRequest.before_id`` reads both.
Before = Annotated[
    JsonObject,
    WithJsonSchema(
        {
            "anyOf": [
                _NAMED,
                {"type": "object", "properties": {"configurable": _NAMED}, "required": ["configurable"]},
            ]
        }
    ),
]


class StateUpdate(RequestModel):
    values: JsonObject | list[Any] | None = None
    as_node: Omittable[str] = None
    checkpoint: Omittable[CheckpointConfig] = None
    #: The older spelling of ``checkpoint.checkpoint_id``.
    checkpoint_id: str | None = None

    def wanted(self) -> JsonObject | None:
        """The checkpoint to write on top of; None for the newest one."""
        if self.checkpoint is not None:
            return self.checkpoint.model_dump()
        return {"checkpoint_id": self.checkpoint_id} if self.checkpoint_id else None


class StateAtCheckpoint(RequestModel):
    checkpoint: CheckpointConfig
    subgraphs: bool = False
    select: list[str] | None = None


class HistoryRequest(RequestModel):
    limit: Limit = 1
    before: Omittable[Before] = None
    metadata: Omittable[JsonObject] = None
    checkpoint: Omittable[CheckpointConfig] = None
    select: list[str] | None = None

    def before_id(self) -> str | None:
        """The checkpoint that ``before`` names, in either of its forms."""
        if self.before is None:
            return None
        holder = self.before.get("configurable", self.before)
        checkpoint_id = holder.get("checkpoint_id") if isinstance(holder, dict) else None
        if not isinstance(checkpoint_id, str) or "\0" in checkpoint_id:
            raise InvalidInputError("'before' must hold a 'checkpoint_id'")
        return checkpoint_id


class Interrupt(ResponseModel):
    id: str
    value: Any


class ThreadTask(ResponseModel):
    id: str
    name: str
    path: list[Any]
    error: str | None
    interrupts: list[Interrupt]
    checkpoint: Checkpoint | None
    state: ThreadState | None
    result: Any


class ThreadState(ResponseModel):
    values: Any
    next: list[str]
    tasks: list[ThreadTask]
    metadata: JsonObject | None
    created_at: str | None
    checkpoint: Checkpoint | None
    parent_checkpoint: Checkpoint | None
    interrupts: list[Interrupt]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None


class StateUpdated(ResponseModel):
    checkpoint: Checkpoint
    configurable: Checkpoint
    checkpoint_id: str


def checked_select(select: Sequence[str] | None) -> Sequence[str]:
    """The fields of a state that a client wants; none means all.

    Raises:
        InvalidInputError: one of them is no field.
    """
    if unknown := [name for name in select or () if name not in ThreadState.model_fields and not _value_key(name)]:
        raise InvalidInputError(
            f"Invalid select fields: {unknown}. Expected: {sorted(ThreadState.model_fields)} or 'values.<key>'"
        )
    return select or ()


def selected_document(state: StateSnapshot | None, select: Sequence[str] = ()) -> JsonObject:
    """A state as clients see it, or these fields of it."""
    document = state_document(state)
    if not select:
        return document
    keys = {key for name in select if (key := _value_key(name))}
    if "values" not in select and keys:
        values = document["values"]
        document["values"] = {key: values[key] for key in values if key in keys} if isinstance(values, dict) else values
    wanted = {*select, "values"} if keys else set(select)
    return {name: value for name, value in document.items() if name in wanted}


def _value_key(name: str) -> str:
    """``messages`` of ``values.messages``."""
    return name.removeprefix("values.") if name.startswith("values.") else ""


def updated_document(configurable: Mapping[str, Any]) -> JsonObject:
    """The checkpoint that a state write has made."""
    checkpoint = checkpoint_document({"configurable": configurable}) or {}
    return {"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint.get("checkpoint_id")}
