"""A thread's state as the document that clients see: asked for, or told of when somebody has written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.types import PregelTask, StateSnapshot

from langgraph_serverless.domain.serialization import to_json
from langgraph_serverless.redaction import redacted

Document = dict[str, Any]

_CHECKPOINT_KEYS = ("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map")


def state_document(state: StateSnapshot | None) -> Document:
    """A state as clients see it; None is that of a thread on which nothing has happened."""
    if state is None:
        state = StateSnapshot({}, (), {}, None, None, None, (), ())
    checkpoint, parent = checkpoint_document(state.config), checkpoint_document(state.parent_config)
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


def _thread(checkpoint: Document | None) -> Document:
    # savers leave it out of what they store as metadata
    return {key: checkpoint[key] for key in ("thread_id",) if checkpoint and key in checkpoint}


def _task_document(task: PregelTask) -> Document:
    nested = task.state if isinstance(task.state, StateSnapshot) else None
    # an exception, or what the saver has kept of it
    error: Any = task.error
    # without the subgraph's state, where it is to be found
    place = task.state if isinstance(task.state, dict) else None
    return {
        "id": task.id,
        "name": task.name,
        "path": to_json(task.path),
        "error": error and redacted(error if isinstance(error, str) else repr(error)),
        "interrupts": _interrupts(task.interrupts),
        "checkpoint": place and _named(place.get("configurable") or {}),
        "state": nested and state_document(nested),
        "result": to_json(task.result),
    }


def _interrupts(interrupts: Any) -> list[Document]:
    return [{"id": interrupt.id, "value": to_json(interrupt.value)} for interrupt in interrupts]


def checkpoint_document(config: Mapping[str, Any] | None) -> Document | None:
    """The checkpoint that a config names, if it names one."""
    configurable = (config or {}).get("configurable") or {}
    return _named(configurable) if configurable.get("checkpoint_id") is not None else None


def _named(configurable: Mapping[str, Any]) -> Document:
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}
