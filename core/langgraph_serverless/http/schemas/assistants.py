"""Assistants on the wire."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from langgraph_serverless.domain.assistants import DEFAULT_NAME, AssistantField
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


class Assistant(ResponseModel):
    assistant_id: uuid.UUID
    graph_id: str
    config: Config
    context: JsonObject
    metadata: JsonObject
    name: str
    created_at: datetime
    updated_at: datetime
    version: int
    description: str | None


class AssistantVersion(ResponseModel):
    assistant_id: uuid.UUID
    version: int
    graph_id: str
    config: Config
    context: JsonObject
    metadata: JsonObject
    name: str
    created_at: datetime
    description: str | None


class SubgraphSchema(ResponseModel):
    """JSON schemas; null for what cannot be generated."""

    input_schema: JsonObject | None
    output_schema: JsonObject | None
    state_schema: JsonObject | None
    config_schema: JsonObject | None
    context_schema: JsonObject | None


class GraphSchema(SubgraphSchema):
    """JSON schemas of an assistant's graph; null for what cannot be generated."""

    graph_id: str


class GraphDrawing(ResponseModel):
    nodes: list[JsonObject]
    edges: list[JsonObject]


class AssistantCreate(RequestModel):
    graph_id: str
    assistant_id: Omittable[Uuid] = None
    config: Config = Field(default_factory=Config)
    context: JsonObject = Field(default_factory=dict)
    metadata: JsonObject = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"
    name: str = DEFAULT_NAME
    description: str | None = None


class AssistantPatch(RequestModel):
    """What is left out stays; nothing may be null."""

    graph_id: str = ""
    config: Config = Field(default_factory=Config)
    context: JsonObject = Field(default_factory=dict)
    metadata: JsonObject = Field(default_factory=dict)
    name: str = ""
    description: str = ""

    def changes(self) -> dict[str, Any]:
        """The fields that the client sent."""
        return {field: getattr(self, field) for field in self.model_fields_set}


class AssistantFilter(RequestModel):
    metadata: JsonObject = Field(default_factory=dict)
    graph_id: Omittable[str] = None
    name: Omittable[str] = None


class AssistantSearch(AssistantFilter):
    limit: Limit = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] = "created_at"
    sort_order: SortOrder = "desc"
    select: Omittable[list[WireEnum[AssistantField]]] = None


class VersionsSearch(RequestModel):
    metadata: JsonObject = Field(default_factory=dict)
    limit: Limit = 10
    offset: Offset = 0


class LatestVersion(RequestModel):
    version: Omittable[int] = None
