"""What a caller may run: asks the handlers for ``threads.create_run`` about a request, before its transaction begins.

A run follows its thread: the permit's filter is compared with the thread's metadata when the run is inserted, under the thread's lock.
What the handler has changed is in the permit's request: metadata (which also becomes that of a thread that the run makes) and, of
``kwargs``, what a client could have sent. An assistant that is not one of those that every graph has must be readable by the caller.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.domain.handler_values import changed, changed_metadata
from langgraph_serverless.domain.ids import default_assistant_id, new_id
from langgraph_serverless.domain.ports import Authorizer, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import MultitaskStrategy, RunRequest
from langgraph_serverless.services.catalog import GraphCatalog

#: Of ``kwargs``, what a handler may change.
_CHANGEABLE = ("input", "command", "context", "interrupt_before", "interrupt_after", "webhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPermit:
    """What may be run: this, on threads and with assistants of this metadata."""

    request: RunRequest
    run_id: uuid.UUID
    threads: Filter | None = None
    assistants: Filter | None = None


async def permit_run(
    authorize: Authorizer,
    catalog: GraphCatalog,
    caller: Principal,
    request: RunRequest,
    *,
    thread_id: uuid.UUID | None,
) -> RunPermit:
    """Ask whether the caller may run this.

    Args:
        thread_id: None for a run with a thread of its own.

    Raises:
        AccessError: not at all.
        InvalidInputError: there is no such graph.
    """
    run_id = new_id()
    if authorize is allow_all:
        return RunPermit(request=request, run_id=run_id)
    assistant_id = catalog.resolve_assistant(request.assistant_id) if request.assistant_id else None
    value: dict[str, Any] = {
        "thread_id": thread_id,
        "assistant_id": assistant_id,
        "run_id": run_id,
        "status": "pending",
        "metadata": dict(request.metadata),
        "prevent_insert_if_inflight": request.multitask_strategy is MultitaskStrategy.REJECT,
        "multitask_strategy": request.multitask_strategy.value,
        "if_not_exists": "create" if thread_id is None else request.if_not_exists,
        "after_seconds": request.after_seconds,
        "kwargs": _kwargs(request, caller),
    }
    threads = await authorize(caller, "threads", "create_run", value)
    assistants = None
    if assistant_id is not None and assistant_id not in map(default_assistant_id, catalog.graphs):
        assistants = await authorize(caller, "assistants", "read", {"assistant_id": assistant_id})
    return RunPermit(request=_changed_request(request, value), run_id=run_id, threads=threads, assistants=assistants)


def _kwargs(request: RunRequest, caller: Principal) -> dict[str, Any]:
    user = {
        "langgraph_auth_user": caller.as_user(),
        "langgraph_auth_user_id": caller.identity,
        "langgraph_auth_permissions": list(caller.permissions),
    }
    configurable = {**(request.config.get("configurable") or {}), **request.configurable_headers, **user}
    return {
        "input": request.input,
        "command": request.command,
        "config": {**request.config, "configurable": configurable},
        "context": request.context,
        "stream_mode": [mode.value for mode in request.stream_mode],
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "feedback_keys": request.feedback_keys,
        "temporary": request.on_completion == "delete",
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "checkpoint_during": request.checkpoint_during,
    }


def _changed_request(request: RunRequest, value: Mapping[str, Any]) -> RunRequest:
    kwargs = changed(value, "kwargs", dict)
    config = dict(changed(kwargs, "config", dict))
    # the user, which was only shown, is whoever calls, and headers come from elsewhere
    shown = request.configurable_headers.keys()
    config["configurable"] = {
        key: each
        for key, each in changed(config, "configurable", dict).items()
        if not key.startswith("langgraph_auth_") and key not in shown
    }
    return replace(
        request,
        metadata=changed_metadata(value),
        config=config,
        **{name: kwargs.get(name, getattr(request, name)) for name in _CHANGEABLE},
    )
