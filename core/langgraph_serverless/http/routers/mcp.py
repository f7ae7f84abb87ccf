"""Assistants as tools of the Model Context Protocol: streamable HTTP without sessions, so every request stands alone.

A call that takes longer than a keep-alive, or tells its progress, is answered with server-sent events if the client takes them, and
otherwise with JSON behind newlines: so nothing on the way takes the connection for dead.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.mcp import VERSIONS, Tool, UnknownToolError, is_structured, negotiated
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import AccessError, InvalidInputError, NotFoundError
from langgraph_serverless.http import mcp_messages
from langgraph_serverless.http.deps import Caller, Container, get_request_id
from langgraph_serverless.http.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    SERVER,
    Message,
    RefusedError,
    RpcError,
    read_message,
)
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.streaming_response import StreamedResponse
from langgraph_serverless.services.mcp import LONGEST_SHOWN, Call, Outcome, Step
from langgraph_serverless.streaming import sse
from langgraph_serverless.telemetry import logger

router = APIRouter(route_class=Route, tags=["MCP"])

_CAPABILITIES = {"tools": {"listChanged": False}}
_ANNOTATIONS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": True}
#: What may be kept by whom is up to the project's authorisation, which nobody asks again.
_UNCACHED = {"ttlMs": 0, "cacheScope": "private"}
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_BODY = {
    "parameters": [
        {
            "name": "accept",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "enum": ["application/json, text/event-stream"]},
            "description": "What the protocol wants clients to take; one of both is enough.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "description": "A request, a response or a notification of JSON-RPC 2.0."},
                "example": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
            }
        },
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer to a request; as events if a call takes long and the client takes them",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": {"jsonrpc": "2.0", "id": 1, "result": {}}},
            "text/event-stream": {
                "example": 'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n'
            },
        },
    },
    202: {"description": "A notification or a response, which is not answered"},
}


@router.post("/mcp", include_in_schema=False)
@router.post("/mcp/", responses=_ANSWERS, openapi_extra=_BODY)
async def post_mcp(caller: Caller, container: Container, request: Request) -> Response:
    """Answer one message of the Model Context Protocol."""
    try:
        message = await read_message(request)
    except RefusedError as refused:
        return refused.response
    if message.id is None:
        return Response(status_code=202)
    try:
        message.check(request.headers)
        if message.method == "tools/call":
            return await _call(caller, container, request, message)
        result = await _METHODS.get((message.is_modern, message.method), _unknown)(caller, container, message)
    except RpcError as error:
        return message.refusal(error)
    return Response(message.answer(result), media_type="application/json")


@router.get("/mcp", include_in_schema=False)
@router.get("/mcp/", status_code=405, responses={405: {"description": "There are no streams without a request"}})
async def get_mcp() -> Response:
    """Refuse a stream without a request: this server has nothing to say by itself."""
    return Response(status_code=405, headers={"Allow": "POST"})


@router.delete("/mcp", include_in_schema=False)
@router.delete("/mcp/", status_code=404, responses={404: {"description": "There are no sessions"}})
async def delete_mcp() -> Response:
    """Find no session to end: there are none."""
    return Response(status_code=404)


async def _initialize(_caller: Principal, _container: ApiContainer, message: Message) -> dict[str, Any]:
    version = negotiated(message.params.get("protocolVersion"))
    return {"protocolVersion": version, "capabilities": _CAPABILITIES, "serverInfo": SERVER}


async def _discover(_caller: Principal, _container: ApiContainer, _message: Message) -> dict[str, Any]:
    return {"supportedVersions": list(VERSIONS), "capabilities": _CAPABILITIES, **_UNCACHED}


async def _ping(_caller: Principal, _container: ApiContainer, _message: Message) -> dict[str, Any]:
    return {}


async def _unknown(_caller: Principal, _container: ApiContainer, message: Message) -> dict[str, Any]:
    raise RpcError(METHOD_NOT_FOUND, f"Method not found: {message.method[:LONGEST_SHOWN]}")


async def _list_tools(caller: Principal, container: ApiContainer, message: Message) -> dict[str, Any]:
    cursor = message.params.get("cursor")
    if cursor is not None and not (
        isinstance(cursor, str) and cursor.isascii() and cursor.isdecimal() and len(cursor) < 10
    ):
        raise RpcError(INVALID_PARAMS, "Invalid cursor")
    page = await container.mcp.list_tools(caller, offset=int(cursor or 0))
    structured = is_structured(message.version)
    listed: dict[str, Any] = {"tools": [_document(each, structured=structured) for each in page.items]}
    if page.next_offset is not None:
        listed["nextCursor"] = str(page.next_offset)
    return {**listed, **_UNCACHED} if message.is_modern else listed


def _document(tool: Tool, *, structured: bool) -> dict[str, Any]:
    document = {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.input_schema,
        "annotations": _ANNOTATIONS,
    }
    return {**document, "outputSchema": tool.output_schema} if structured and tool.output_schema else document


async def _call(caller: Principal, container: ApiContainer, request: Request, message: Message) -> Response:
    name, arguments = message.params.get("name"), message.params.get("arguments")
    if not isinstance(name, str):
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {str(name)[:LONGEST_SHOWN]}")
    if not isinstance(arguments, dict | None):
        raise RpcError(INVALID_PARAMS, "The arguments of a tool are an object")
    token = message.progress_token if message.takes_events else None
    try:
        call = await container.mcp.call(
            caller, name, arguments or {}, request_id=get_request_id(request), with_steps=token is not None
        )
    except AccessError:
        raise
    except (UnknownToolError, InvalidInputError) as error:
        raise RpcError(INVALID_PARAMS, error.detail) from error
    except NotFoundError as error:  # it has just been deleted, or may be seen and not be run
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {name[:LONGEST_SHOWN]}") from error
    # within a keep-alive something is there
    first = await anext(call)
    if isinstance(first, Outcome):
        await call.aclose()
        return Response(_result(message, first), media_type="application/json")
    if message.takes_events:
        return StreamedResponse(_events(message, call, first), media_type=sse.MEDIA_TYPE, headers=_HEADERS)
    return StreamedResponse(_padded(message, call), media_type="application/json", headers=_HEADERS)


def _result(message: Message, outcome: Outcome) -> bytes:
    result: dict[str, Any] = {"content": [{"type": "text", "text": outcome.text}]}
    if outcome.failed:
        result["isError"] = True
    elif outcome.is_object and is_structured(message.version):
        result["structuredContent"] = orjson.Fragment(outcome.text)
    return message.answer(result)


async def _told(message: Message, call: Call) -> AsyncGenerator[Step | bytes | None, None]:
    """Steps, silence, and last the answer; of a failure that is ours too, as the response has begun."""
    async with aclosing(call):
        try:
            async for each in call:
                yield _result(message, each) if isinstance(each, Outcome) else each
        except Exception:
            logger.exception("A call of a tool failed", extra={"action": "mcp_call"})
            yield message.failure(RpcError(INTERNAL_ERROR, "An internal error occurred"))


async def _events(message: Message, call: Call, first: Step | None) -> AsyncGenerator[bytes, None]:
    steps = 0
    each: Step | bytes | None = first
    async with aclosing(_told(message, call)) as told:
        while not isinstance(each, bytes):
            token = message.progress_token
            if each is None or token is None:
                yield sse.HEARTBEAT
            else:
                steps += 1
                yield mcp_messages.progress(token, steps, each.node)
            each = await anext(told)
        yield mcp_messages.event(each)


async def _padded(message: Message, call: Call) -> AsyncGenerator[bytes, None]:
    yield b"\n"
    async with aclosing(_told(message, call)) as told:
        async for each in told:
            yield each if isinstance(each, bytes) else b"\n"


_Method = Callable[[Principal, ApiContainer, Message], Awaitable[dict[str, Any]]]
#: Clients of 2026-07-28 shake no hands.
_METHODS: dict[tuple[bool, str], _Method] = {
    (False, "initialize"): _initialize,
    (False, "ping"): _ping,
    (False, "tools/list"): _list_tools,
    (True, "server/discover"): _discover,
    (True, "tools/list"): _list_tools,
}
