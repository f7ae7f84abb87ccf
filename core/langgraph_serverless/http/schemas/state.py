"""States of threads on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from langgraph.types import PregelTask, StateSnapshot
from pydantic import WithJsonSchema

from langgraph_serverless.domain.serialization import to_json
from langgraph_serverless.errors import InvalidInputError
from langgraph_serverless.http.schemas.shared import (
    Checkpoint,
    CheckpointConfig,
    JsonObject,
    Limit,
    Omittable,
    RequestModel,
    ResponseModel,
)

_CHECKPOINT_KEYS = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")


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


def state_document(state: StateSnapshot | None, select: Sequence[str] = ()) -> JsonObject:
    """A state as clients see it; None is that of a thread on which nothing has happened."""
    document = _whole_document(state)
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


def _whole_document(state: StateSnapshot | None) -> JsonObject:
    if state is None:
        state = StateSnapshot({}, (), {}, None, None, None, (), ())
    checkpoint, parent = _checkpoint(state.config), _checkpoint(state.parent_config)
    return {
        "values": to_json(state.values),
        "next": list(state.next),
        "tasks": [_task_document(task) for task in state.tasks],
        "metadata": None if state.metadata is None else {**to_json(state.metadata), **_thread(checkpoint)},
        "created_at": state.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": _interrupts(state.interrupts),
        # older clients read these two
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def updated_document(configurable: Mapping[str, Any]) -> JsonObject:
    """The checkpoint that a state write has made."""
    checkpoint = _checkpoint({"configurable": configurable}) or {}
    return {"checkpoint": checkpoint, "configurable": checkpoint, "checkpoint_id": checkpoint.get("checkpoint_id")}


def _thread(checkpoint: JsonObject | None) -> JsonObject:
    # savers leave it out of what they store as metadata
    return {key: checkpoint[key] for key in ("thread_id",) if checkpoint and key in checkpoint}


def _task_document(task: PregelTask) -> JsonObject:
    nested = task.state if isinstance(task.state, StateSnapshot) else None
    # an exception, or what the saver has kept of it
    error: Any = task.error
    # without the subgraph's state, where it is to be found
    place = task.state if isinstance(task.state, dict) else None
    return {
        "id": task.id,
        "name": task.name,
        "path": to_json(task.path),
        "error": error if error is None or isinstance(error, str) else repr(error),
        "interrupts": _interrupts(task.interrupts),
        "checkpoint": place and _named(place.get("configurable") or {}),
        "state": nested and state_document(nested),
        "result": to_json(task.result),
    }


def _interrupts(interrupts: Any) -> list[JsonObject]:
    return [{"id": interrupt.id, "value": to_json(interrupt.value)} for interrupt in interrupts]


def _checkpoint(config: Mapping[str, Any] | None) -> JsonObject | None:
    configurable = (config or {}).get("configurable") or {}
    return _named(configurable) if configurable.get("checkpoint_id") is not None else None


def _named(configurable: Mapping[str, Any]) -> JsonObject:
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}
