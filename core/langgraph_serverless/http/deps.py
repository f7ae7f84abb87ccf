"""What routes ask for: the container, the caller, ids out of the path.

All are ``async`` and do next to nothing: FastAPI runs plain functions in threads, and every request pays for each of these.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BeforeValidator

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.http.authentication import caller_of


async def get_container(request: Request) -> ApiContainer:
    container: ApiContainer = request.app.state.container
    return container


async def get_caller(request: Request) -> Principal:
    return caller_of(request.scope)


def get_request_id(request: Request) -> str:
    """The request's ``x-request-id``, the client's or ours. Not a dependency: call it where it is needed."""
    request_id: str = request.state.request_id
    return request_id


Container = Annotated[ApiContainer, Depends(get_container)]
Caller = Annotated[Principal, Depends(get_caller)]


def _reader(kind: str, suffix: str) -> Callable[[Any], uuid.UUID]:
    # its error is not a ValueError on purpose: pydantic lets it through, and it reaches the table of errors as it is
    return lambda value: parse_id(value, kind, suffix=suffix)


AssistantId = Annotated[uuid.UUID, BeforeValidator(_reader("assistant", ": must be a UUID"))]
ThreadId = Annotated[uuid.UUID, BeforeValidator(_reader("thread", ": must be a UUID"))]
#: As run creation spells the error.
RunThreadId = Annotated[uuid.UUID, BeforeValidator(_reader("thread", ""))]
RunId = Annotated[uuid.UUID, BeforeValidator(_reader("run", ": must be a UUID"))]
CronId = Annotated[uuid.UUID, BeforeValidator(_reader("cron", ": must be a UUID"))]
