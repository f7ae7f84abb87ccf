"""The request for a thread's events, as the document shows it; what counts is ``domain/protocol_filters.py``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from langgraph_serverless.http.schemas.shared import RequestModel

_CHANNELS = "values|updates|messages|tools|custom|lifecycle|input|tasks|checkpoints|custom:.+"


class EventStreamRequest(RequestModel):
    """Which events of a thread are wanted."""

    channels: Annotated[list[Annotated[str, Field(pattern=f"^({_CHANNELS})$")]], Field(min_length=1)]
    namespaces: list[list[str]] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    since: Annotated[int, Field(ge=0)] | None = None
