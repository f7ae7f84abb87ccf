"""Calls of the Agent-to-Agent protocol on the wire, as the API's description shows them, and the readers of their parameters.

The protocol's documents are read where they are mapped (``domain/a2a_messages.py``), in words of the official server where it has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from langgraph_serverless.domain.a2a import INVALID_PARAMS, TaskState, View
from langgraph_serverless.domain.a2a_messages import Dialect
from langgraph_serverless.errors import RpcError
from langgraph_serverless.http.schemas.shared import JsonObject, RequestModel, ResponseModel

#: Tasks of a page, unless the client wants others.
PAGE, LARGEST_PAGE = 50, 100


class A2APart(RequestModel):
    """A part of a message: text, a file or data."""

    kind: Literal["text", "file", "data"] | None = None
    text: str | None = None
    file: JsonObject | None = None
    data: JsonObject | None = None


class A2AMessage(RequestModel):
    """A message to an agent."""

    role: Literal["user", "agent", "ROLE_USER", "ROLE_AGENT"]
    parts: list[A2APart]
    messageId: str
    contextId: str | None = None
    taskId: str | None = None


class A2AParams(RequestModel):
    """Parameters of a call; which of them count depends on its method."""

    message: A2AMessage | None = None
    configuration: JsonObject | None = None
    metadata: JsonObject | None = None
    context: JsonObject | None = None
    id: str | None = None
    contextId: str | None = None
    historyLength: int | None = None


class A2ARequest(RequestModel):
    """A call of the Agent-to-Agent protocol, by JSON-RPC 2.0."""

    jsonrpc: Literal["2.0"]
    id: str | int
    method: Literal[
        "message/send",
        "message/stream",
        "tasks/get",
        "tasks/list",
        "tasks/cancel",
        "tasks/resubscribe",
        "tasks/pushNotificationConfig/set",
        "tasks/pushNotificationConfig/get",
        "tasks/pushNotificationConfig/list",
        "tasks/pushNotificationConfig/delete",
        "agent/getAuthenticatedExtendedCard",
        "SendMessage",
        "SendStreamingMessage",
        "GetTask",
        "ListTasks",
        "CancelTask",
        "SubscribeToTask",
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
        "GetExtendedAgentCard",
    ]
    params: A2AParams = Field(default_factory=A2AParams)


class A2AError(BaseModel):
    """Why a call was not carried out."""

    code: int
    message: str


class A2AAnswer(ResponseModel):
    """The answer to a call: ``result`` of one that was carried out, ``error`` of one that was not."""

    jsonrpc: Literal["2.0"]
    id: str | int | None
    result: Any = None
    error: A2AError | None = None


class A2ACard(ResponseModel):
    """What an assistant is to other agents."""

    name: str
    description: str
    url: str
    supportedInterfaces: list[JsonObject]
    capabilities: JsonObject
    defaultInputModes: list[str]
    defaultOutputModes: list[str]
    skills: list[JsonObject]
    version: str


class A2ACardError(BaseModel):
    """Why there is no card."""

    error: A2AError


def read_view(params: Mapping[str, Any], dialect: Dialect, scope: str) -> View:
    """How a client wants to have tasks.

    Args:
        scope: the header's value, or an empty text.

    Raises:
        RpcError
    """
    if scope not in ("", "context", "task"):
        raise RpcError(INVALID_PARAMS, "historyScope must be 'context' or 'task'")
    configuration = params.get("configuration")
    given = configuration if isinstance(configuration, dict) else params
    length = read_number(given, "historyLength", least=0, sentence="historyLength must be a non-negative integer")
    return View(dialect=dialect, task_only=scope == "task", history_length=length)


def read_number(params: Mapping[str, Any], name: str, *, least: int, sentence: str, most: int = 2**31) -> int | None:
    """Raises: RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RpcError(INVALID_PARAMS, sentence)
    return value


def read_text(params: Mapping[str, Any], name: str) -> str | None:
    """Raises: RpcError."""
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise RpcError(INVALID_PARAMS, f"{name} must be a string")
    return value or None


def read_object(params: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Raises: RpcError."""
    value = params.get(name)
    if value is not None and not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, f"{name} must be an object")
    return value


def read_state(params: Mapping[str, Any]) -> TaskState | None:
    """The state that tasks are to have, in either dialect; one that no task here ever has finds none.

    Raises:
        RpcError
    """
    text = read_text(params, "status")
    if text is None or text == "TASK_STATE_UNSPECIFIED":
        return None
    try:
        return TaskState(text.removeprefix("TASK_STATE_").lower().replace("_", "-"))
    except ValueError:
        raise RpcError(INVALID_PARAMS, f"Invalid status: {text[:100]}") from None


def read_time(params: Mapping[str, Any], name: str) -> datetime | None:
    """Raises: RpcError."""
    text = read_text(params, name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RpcError(INVALID_PARAMS, f"{name} must be a time in ISO 8601") from None


def read_offset(params: Mapping[str, Any]) -> int:
    """Where a page begins.

    Raises:
        RpcError
    """
    token = read_text(params, "pageToken") or "0"
    if not (token.isascii() and token.isdecimal() and len(token) < 10):
        raise RpcError(INVALID_PARAMS, "Invalid pageToken")
    return int(token)
