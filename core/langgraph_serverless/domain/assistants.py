"""Assistants: a graph id with config, context, metadata and a name, versioned."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from langgraph_serverless.errors import BadRequestError

DEFAULT_NAME = "Untitled"


class AssistantField(StrEnum):
    """What a search may select."""

    ASSISTANT_ID = "assistant_id"
    GRAPH_ID = "graph_id"
    CONFIG = "config"
    CONTEXT = "context"
    METADATA = "metadata"
    NAME = "name"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    VERSION = "version"
    DESCRIPTION = "description"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """The current version of an assistant."""

    assistant_id: uuid.UUID
    graph_id: str
    name: str
    description: str | None
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]
    #: The version that runs use; not always the highest.
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantVersion:
    """One version of an assistant, as it was when it was made."""

    assistant_id: uuid.UUID
    version: int
    graph_id: str
    name: str
    description: str | None
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]
    created_at: datetime


def mirror_context(
    config: Mapping[str, Any], context: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copy ``config.configurable`` into ``context`` or the other way round, whichever was given.

    Raises:
        BadRequestError: if both were given and neither is empty.
    """
    merged = dict(config)
    configurable = merged.get("configurable") or {}
    if configurable and context:
        raise BadRequestError(
            "Cannot specify both configurable and context. Prefer setting context alone. "
            "Context was introduced in LangGraph 0.6.0 and is the long term planned replacement for configurable."
        )
    if context:
        merged["configurable"] = dict(context)
        return merged, dict(context)
    return merged, dict(configurable)


def changed_context(
    current: Assistant, config: Mapping[str, Any] | None, context: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The config and context of the next version; None for what a client has not sent.

    What is sent replaces, and is copied into the other one unless it is empty. An empty config changes nothing.

    Raises:
        BadRequestError: as ``mirror_context``.
    """
    mirrored_config, mirrored_context = mirror_context(config or {}, context)
    return (
        mirrored_config or current.config,
        mirrored_context if mirrored_context or context is not None else current.context,
    )
