"""What a run is asked to do: the request merged with its assistant and thread, in the form in which it is stored and shown.

The rules, as observed on the official server:

* ``configurable``: the assistant's, key by key overlaid by the request's. A request with ``context`` instead is mirrored
  into it. Ids and the caller's identity are the server's and cannot be set by a client.
* everything else in ``config``, such as ``tags``: the request's, else the assistant's; graphs see what LangChain knows of it.
* ``context``: the assistant's overlaid by the request's (or by its configurable), cut down to the graph's context schema.
* run metadata: assistant, thread, graph and assistant id, ``config.metadata``, request; later wins.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.domain.webhooks import parse_url
from langgraph_serverless.errors import BadRequestError

#: Keys of LangGraph's engine, which a client that sets them would reach into, and of what the server says of the caller.
RESERVED_PREFIX = "__"
CALLERS_PREFIX = "langgraph_auth_"
#: Keys of ``configurable`` that say where on the thread a run starts.
CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
#: In a stored run's ``configurable``: its events are records of the thread protocol. No client can set it (``RESERVED_PREFIX``).
PROTOCOL_KEY = "__event_streaming_v2"
#: What such a run streams, as it is stored and shown.
PROTOCOL_MODES = ("values", "updates", "messages", "tools", "lifecycle", "custom", "tasks", "checkpoints")
#: Others that only the server sets.
SERVERS_KEYS = ("graph_id", "assistant_id", "cron_id", "user_id", "langgraph_request_id")
#: Parts of a config that are merged by rules of their own.
MERGED_KEYS = ("configurable", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The merged request, ready to be stored."""

    metadata: dict[str, Any]
    kwargs: dict[str, Any]
    #: Of the metadata, what counts more than the thread's, whatever that is.
    said: dict[str, Any]
    #: Merged into the thread's metadata.
    thread_metadata: dict[str, Any]
    #: The thread's ``config``: the run's without the server's keys.
    thread_config: dict[str, Any]


def check_request(request: RunRequest, *, stateless: bool = False) -> None:
    """Refuse what contradicts itself, and what can be seen to be wrong without asking anybody.

    Raises:
        BadRequestError, InvalidInputError: naming the field.
    """
    if request.context and (request.config.get("configurable") or {}):
        raise BadRequestError(
            "Cannot specify both configurable and context. Prefer setting context alone. "
            "Context was introduced in LangGraph 0.6.0 and is the long term planned replacement for configurable."
        )
    if stateless and (request.command or {}).get("resume") is not None:
        raise BadRequestError("You must provide a thread_id when resuming.")
    if request.webhook is not None and not request.webhook.startswith("/"):
        parse_url(request.webhook)  # whether a path of this server may be sent to, the deployment's rules say


def plan_run(
    request: RunRequest,
    caller: Principal,
    *,
    run_id: uuid.UUID,
    thread_id: uuid.UUID,
    assistant_id: uuid.UUID,
    graph_id: str,
    assistant_config: Mapping[str, Any],
    assistant_context: Mapping[str, Any],
    assistant_metadata: Mapping[str, Any],
    thread_metadata: Mapping[str, Any],
    context_keys: frozenset[str] | None,
    stateless: bool,
    now_ms: int,
    default_durability: Durability,
) -> RunPlan:
    """Merge a request with what it refers to.

    Args:
        context_keys: the properties of the graph's context schema; None if it has none, and then nothing is cut.
        now_ms: when the request arrived, in milliseconds since the epoch; shown to graphs.
    """
    sent = _visible(request.config.get("configurable") or {})
    # only the request says where on its thread the run starts, and its context is not the place for that
    base = _without_checkpoint(_visible(assistant_config.get("configurable") or {}))
    context = _cut(without_reserved({**assistant_context, **(request.context or sent)}), context_keys)
    mirrored = _without_checkpoint(_visible(_cut(dict(request.context or {}), context_keys) or {}))
    visible = {**base, **sent, **mirrored, **_checkpoint(request)}
    configurable: dict[str, Any] = {
        **visible,
        # of this run only: the thread does not keep them
        **of_headers(request.configurable_headers),
        "langgraph_auth_user": caller.user,
        "langgraph_auth_user_id": caller.identity,
        "langgraph_auth_permissions": list(caller.permissions),
        "langgraph_request_id": request.request_id,
        "__request_start_time_ms__": now_ms,
        "__after_seconds__": request.after_seconds,
        "run_id": str(run_id),
        "thread_id": str(thread_id),
        "graph_id": graph_id,
        "assistant_id": str(assistant_id),
        # the official server keeps a client's own user_id, which lets anyone pose as anyone
        "user_id": caller.identity,
    }
    if request.protocol:
        configurable[PROTOCOL_KEY] = True
    if request.cron_id is not None:
        configurable["cron_id"] = str(request.cron_id)
    if any((request.langsmith_tracer or {}).values()):
        configurable["__langsmith_project__"] = (request.langsmith_tracer or {}).get("project_name")
        configurable["__langsmith_example_id__"] = (request.langsmith_tracer or {}).get("example_id")

    graph = (
        {"assistant_id": str(assistant_id)} if stateless else {"graph_id": graph_id, "assistant_id": str(assistant_id)}
    )
    said = {**graph, **(request.config.get("metadata") or {}), **request.metadata}
    said["assistant_id"] = str(assistant_id)  # whatever a client says about it
    # checkpoints keep it, beside who has made them
    said, known = (
        {key: value for key, value in each.items() if not key.startswith(CALLERS_PREFIX)}
        for each in (said, {**assistant_metadata, **thread_metadata})
    )
    metadata = {**known, **said}
    settings = {key: value for key, value in {**assistant_config, **request.config}.items() if key not in MERGED_KEYS}
    config = {"configurable": configurable, **settings, "metadata": metadata}
    durability = request.durability or default_durability
    modes = list(PROTOCOL_MODES) if request.protocol else [mode.value for mode in request.stream_mode]
    kwargs = {
        "input": request.input,
        "command": request.command,
        "config": config,
        "context": context or {},
        "stream_mode": modes or ["values"],
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "feedback_keys": request.feedback_keys,
        "temporary": stateless and request.on_completion == "delete",
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "checkpoint_during": request.checkpoint_during,
        "durability": durability.value,
    }
    return RunPlan(
        metadata=metadata,
        kwargs=kwargs,
        said=said,
        thread_metadata={"graph_id": graph_id, "assistant_id": str(assistant_id)},
        thread_config={"configurable": visible, **settings, **_sent_metadata(request)},
    )


def is_protocol_run(kwargs: Any) -> bool:
    """Whether a stored run's events are records of the thread protocol. Of a row that was damaged: no."""
    return _configured(kwargs, PROTOCOL_KEY) is True


def request_id_of(kwargs: Any) -> str | None:
    """The id of the request that has made a stored run; its own, if a cron has. Of a row that was damaged: None."""
    found = _configured(kwargs, "langgraph_request_id") or _configured(kwargs, "run_id")
    return found if isinstance(found, str) else None


def user_of(kwargs: Any) -> Mapping[str, Any] | None:
    """The user whose stored run it is; None where nobody was asked. Of a row that was damaged: None, and it does not run."""
    found = _configured(kwargs, "langgraph_auth_user")
    return found if isinstance(found, Mapping) else None


def _configured(kwargs: Any, key: str) -> Any:
    found = kwargs
    for each in ("config", "configurable", key):
        found = found.get(each) if isinstance(found, Mapping) else None
    return found


def context_keys(schema: Any) -> frozenset[str] | None:
    """The property names of a context schema, or None if it has none to cut by."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return None
    return frozenset(schema["properties"])


def without_reserved(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a client has sent without keys of the engine and without those that say who the caller is."""
    return {key: value for key, value in values.items() if not key.startswith((RESERVED_PREFIX, CALLERS_PREFIX))}


def of_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """What of the passed headers becomes part of ``configurable``: a client chooses their names, too."""
    return {key: value for key, value in _without_checkpoint(_visible(headers)).items() if key not in SERVERS_KEYS}


def _visible(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in without_reserved(configurable).items()
        if key not in ("run_id", "thread_id")
        # clients send null for what they leave out, which a saver would take for a namespace
        and not (key in CHECKPOINT_KEYS and value is None)
    }


def _without_checkpoint(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in configurable.items() if key not in CHECKPOINT_KEYS}


def _sent_metadata(request: RunRequest) -> dict[str, Any]:
    return {"metadata": request.config["metadata"]} if request.config.get("metadata") else {}


def _cut(context: Mapping[str, Any], keys: frozenset[str] | None) -> dict[str, Any] | None:
    kept = {key: value for key, value in context.items() if keys is None or key in keys}
    return kept or None


def _checkpoint(request: RunRequest) -> dict[str, Any]:
    """Where on the thread the run starts, for a run that resumes or forks from a named checkpoint."""
    checkpoint = request.checkpoint or {}
    return {key: checkpoint[key] for key in CHECKPOINT_KEYS if checkpoint.get(key) is not None}
