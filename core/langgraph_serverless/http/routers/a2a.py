"""Assistants as agents, by the Agent-to-Agent protocol: cards, and calls by JSON-RPC (``a2a_calls.py`` has the methods).

HTTP's status is 200 for whatever is JSON, also if it cannot be carried out; 400 if the client does not want the kind of answer that there
is. Who may not come in, bodies that are too large and databases that are away are answered as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from langgraph_serverless.domain import a2a
from langgraph_serverless.domain.a2a_card import HISTORY_SCOPE
from langgraph_serverless.errors import ConflictError, InvalidInputError, NotFoundError, RpcError
from langgraph_serverless.http.a2a_calls import METHODS, STREAMING, Answer, Calls, answered, refused
from langgraph_serverless.http.body import MODEL_ATTRIBUTE, NUL, REQUIRED_ATTRIBUTE, MalformedJsonError, read_json
from langgraph_serverless.http.deps import Caller, Container, get_request_id
from langgraph_serverless.http.public_url import public_url
from langgraph_serverless.http.responses import json_response, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import a2a as wire
from langgraph_serverless.http.streaming_response import awaited_json, event_stream

router = APIRouter(route_class=Route, tags=["A2A"])

#: It names the host that the client has used, and its caller may not be the next one's.
_CARD_HEADERS = {"Cache-Control": "private, no-cache"}
_CARD: dict[int | str, dict[str, Any]] = {
    **returns(wire.A2ACard),
    400: {"model": wire.A2ACardError, "description": "There is no such assistant"},
}
Scope = Annotated[str, Header(alias=HISTORY_SCOPE)]
Accept = Annotated[str, Header()]


@dataclass(frozen=True, slots=True)
class _BadCall:
    """What has been sent is no call."""

    number: int
    message: str
    call_id: Any = None


async def read_call(request: Request) -> Any:
    """The body as a call, or the answer to what is none."""
    try:
        document = await read_json(request)
    except MalformedJsonError:
        return _BadCall(a2a.PARSE_ERROR, "Invalid JSON payload")
    except InvalidInputError as error:
        return _BadCall(a2a.INVALID_REQUEST, error.detail)
    if not isinstance(document, dict):
        return _BadCall(a2a.INVALID_REQUEST, "Invalid message format: expected object")
    call_id = document.get("id")
    if isinstance(call_id, bool) or not isinstance(call_id, str | int | float | None):
        message = "Invalid JSON-RPC request: 'id' must be a string, number, or null"
        return _BadCall(a2a.INVALID_REQUEST, message)
    if document.get("jsonrpc") != "2.0":
        message = "Invalid JSON-RPC message: missing or invalid jsonrpc version"
        return _BadCall(a2a.INVALID_REQUEST, message, call_id)
    if "id" not in document:
        message = "Invalid message format: must be a JSON-RPC request or notification"
        return _BadCall(a2a.INVALID_REQUEST, message)
    if "method" not in document:
        return _BadCall(a2a.INVALID_REQUEST, "Invalid JSON-RPC request: missing 'method' field", call_id)
    method = document["method"]
    if not isinstance(method, str):
        return _BadCall(a2a.METHOD_NOT_FOUND, "Method not found: method must be a string", call_id)
    if method not in METHODS:
        return _BadCall(a2a.METHOD_NOT_FOUND, f"Method not found: {method[:200]}", call_id)
    if not isinstance(document.get("params") or {}, dict):
        return _BadCall(a2a.INVALID_PARAMS, "Invalid params: expected object", call_id)
    if NUL in await request.body():
        return _BadCall(a2a.INVALID_PARAMS, "Invalid params: they hold a NUL character", call_id)
    return document


# for the document of the API
setattr(read_call, MODEL_ATTRIBUTE, TypeAdapter(wire.A2ARequest))
setattr(read_call, REQUIRED_ATTRIBUTE, True)


def _calls(request: Request, container: Container, caller: Caller, assistant_id: str, scope: str = "") -> Calls:
    return Calls(
        container,
        caller,
        assistant_id,
        url=public_url(request.scope),
        request_id=get_request_id(request),
        history_scope=scope,
    )


@router.get("/.well-known/agent-card.json", responses=_CARD)
async def get_agent_card(
    request: Request, caller: Caller, container: Container, assistant_id: Annotated[str | None, Query()] = None
) -> Response:
    """The card of an assistant: what it is to other agents, and where they reach it."""
    if not assistant_id:
        return _no_card("Missing required query parameter: assistant_id")
    return await _card(_calls(request, container, caller, assistant_id), assistant_id)


@router.get("/a2a/{assistant_id}", responses=_CARD)
async def get_assistant_card(request: Request, caller: Caller, container: Container, assistant_id: str) -> Response:
    """The same card, at the assistant's own address."""
    return await _card(_calls(request, container, caller, assistant_id), assistant_id)


@router.post(
    "/a2a/{assistant_id}",
    responses={
        200: {
            "model": wire.A2AAnswer,
            "description": "The answer, or events that each have one",
            "content": {"text/event-stream": {}},
        },
        400: {"description": "The client does not accept the kind of answer that there is"},
    },
)
async def call_agent(
    *,
    request: Request,
    caller: Caller,
    container: Container,
    assistant_id: str,
    accept: Accept = "*/*",
    history_scope: Scope = "",
    document: Annotated[Any, Depends(read_call)],
) -> Response:
    """Carry out a call of the Agent-to-Agent protocol, in the dialect of 0.3 or 1.0."""
    streams = isinstance(document, dict) and document["method"] in STREAMING
    wanted = "text/event-stream" if streams else "application/json"
    if not any(name in accept for name in (wanted, "*/*", f"{wanted.partition('/')[0]}/*")):
        ending = " for streaming" if streams else ""
        return json_response({"error": f"Accept header must include {wanted}{ending}"}, 400)
    if isinstance(document, _BadCall):
        return json_response(refused(document.call_id, document.number, document.message))
    call_id = document["id"]
    calls = _calls(request, container, caller, assistant_id, history_scope)
    try:
        answer = await calls.answer(document["method"], call_id, document.get("params") or {})
    except RpcError as error:
        return json_response(refused(call_id, error.number, error.detail[:2000]))
    except (InvalidInputError, ConflictError) as error:
        return json_response(refused(call_id, a2a.INVALID_PARAMS, error.detail[:2000]))
    except NotFoundError as error:
        # a task that the caller may read and not change
        return json_response(refused(call_id, a2a.TASK_NOT_FOUND, error.detail[:2000]))
    return _written(answer, call_id, container.settings.stream_keepalive)


def _written(answer: Answer, call_id: Any, keepalive: float) -> Response:
    if answer.frames is not None:
        return event_stream(answer.frames(), with_ids=False, headers={}, keepalive=keepalive)
    if answer.waiting is not None:
        return awaited_json(answer.waiting(), headers={})
    return json_response(answered(call_id, answer.result))


async def _card(calls: Calls, assistant_id: str) -> Response:
    try:
        return json_response(await calls.card(), headers=_CARD_HEADERS)
    except RpcError as error:
        if error.detail.startswith("Invalid assistant ID"):
            return _no_card(f"Failed to get assistant '{assistant_id[:200]}': {error.detail}")
        return _no_card(error.detail)


def _no_card(message: str) -> Response:
    return json_response({"error": {"code": a2a.INVALID_PARAMS, "message": message}}, 400)
