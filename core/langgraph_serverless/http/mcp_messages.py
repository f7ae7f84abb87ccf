"""Messages of the Model Context Protocol over streamable HTTP: reading one, and the forms of answers.

``read_message`` and ``Message.check`` promise a request of a version that is served, whose headers say what its body says, or raise:
``RefusedError`` for what is no message (its words are those of a LangGraph server), ``RpcError`` for what the protocol has a code for.
Clients of 2026-07-28 say with each request who they are, and a wrong message is an HTTP error to them; to others it is always 200.

Relies on ``http/body.py`` for harmless JSON. Knows nothing of tools.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from langgraph_serverless import __version__
from langgraph_serverless.domain.mcp import ASSUMED_VERSION, MODERN_VERSIONS, VERSIONS
from langgraph_serverless.http.body import MalformedJsonError, read_json
from langgraph_serverless.http.middleware import Cors
from langgraph_serverless.http.responses import dump, json_response

INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32600, -32601, -32602, -32603
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
#: What of these is an HTTP error to clients of 2026-07-28.
_STATUS = {METHOD_NOT_FOUND: 404, INTERNAL_ERROR: 200}

VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "mcp-protocol-version", "mcp-method", "mcp-name"
_META = "io.modelcontextprotocol/"
_ENVELOPE = (f"{_META}protocolVersion", f"{_META}clientCapabilities")
SERVER = {"name": "LangGraph", "version": __version__}


class RefusedError(Exception):
    """No message of the protocol."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.response = json_response({"error": reason}, status)


class RpcError(Exception):
    """An error that the protocol has a code for."""

    def __init__(self, code: int, reason: str, data: Any = None, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.body = {"code": code, "message": reason, **({"data": data} if data is not None else {})}
        self.code = code
        #: Whatever the client's version is.
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request of a client; without an id something that is not answered."""

    method: str
    id: str | int | float | None
    params: Mapping[str, Any] = field(default_factory=dict)
    #: Which part of it is not what it must be; empty if all are.
    malformed: str = ""
    version: str = ASSUMED_VERSION
    takes_events: bool = False

    @property
    def is_modern(self) -> bool:
        return self.version in MODERN_VERSIONS

    @property
    def progress_token(self) -> str | int | None:
        meta = self.params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, Mapping) else None
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    def answer(self, result: Mapping[str, Any]) -> bytes:
        if self.is_modern:
            meta = {f"{_META}serverInfo": SERVER}
            result = {**result, "resultType": "complete", "_meta": meta}
        return dump({"jsonrpc": "2.0", "id": self.id, "result": result})

    def failure(self, error: RpcError) -> bytes:
        return dump({"jsonrpc": "2.0", "id": self.id, "error": error.body})

    def refusal(self, error: RpcError) -> Response:
        """The answer to a request that is wrong."""
        status = error.status or (_STATUS.get(error.code, 400) if self.is_modern else 200)
        return Response(self.failure(error), status, media_type="application/json")

    def check(self, headers: Mapping[str, str]) -> None:
        """Whether this is a request of a version that is served.

        Raises:
            RpcError
        """
        if self.version not in VERSIONS:
            about = {"supported": list(VERSIONS), "requested": self.version}
            raise RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", about, status=400)
        if self.malformed:
            raise RpcError(
                INVALID_REQUEST if self.malformed == "method" else INVALID_PARAMS, f"Invalid {self.malformed}"
            )
        if self.is_modern:
            self._check_envelope(headers)

    def _check_envelope(self, headers: Mapping[str, str]) -> None:
        """What a client of 2026-07-28 says twice, so that others on the way need not read bodies, must be the same."""
        meta = self.params.get("_meta")
        meta = meta if isinstance(meta, Mapping) else {}
        if missing := [name for name in _ENVELOPE if name not in meta]:
            raise RpcError(INVALID_PARAMS, f"params._meta lacks {' and '.join(missing)}")
        said = [
            (VERSION_HEADER, self.version, meta[_ENVELOPE[0]]),
            (METHOD_HEADER, headers.get(METHOD_HEADER), self.method),
        ]
        if self.method == "tools/call" and "name" in self.params:
            said.append((NAME_HEADER, _decoded(headers.get(NAME_HEADER)), self.params["name"]))
        for name, in_header, in_body in said:
            if in_header != in_body:
                raise RpcError(HEADER_MISMATCH, f"The header {name} is not what the body says")


async def read_message(request: Request) -> Message:
    """The one message of a request.

    Raises:
        RefusedError: there is none.
    """
    _check_origin(request)
    takes_events = _takes_events(request.headers.get("accept", ""))
    try:
        document = await read_json(request)
    except MalformedJsonError:
        raise RefusedError("Invalid JSON") from None
    if not isinstance(document, dict):
        raise RefusedError("Invalid message format.")
    if document.get("jsonrpc") != "2.0":
        raise RefusedError("Invalid JSON-RPC message. Missing or invalid jsonrpc version.")
    if not document.keys() & {"method", "id"}:
        raise RefusedError("Invalid message format. A message is a JSON-RPC request, response or notification.")
    key, method, params = document.get("id"), document.get("method"), document.get("params")
    if isinstance(key, dict | list | bool):
        raise RefusedError("Invalid message format. The id of a request is a string or a number.")
    return Message(
        # what has none is an answer, of which there is nothing to do
        id=key if "method" in document else None,
        method=method if isinstance(method, str) else "",
        params=params if isinstance(params, dict) else {},
        malformed="method" if not isinstance(method, str) else "params" if not isinstance(params, dict | None) else "",
        version=request.headers.get(VERSION_HEADER, ASSUMED_VERSION),
        takes_events=takes_events,
    )


def event(message: bytes) -> bytes:
    """A message in an answer of several."""
    return b"event: message\r\ndata: %b\r\n\r\n" % message


def progress(token: str | int, done: int, about: str) -> bytes:
    """What tells the client that something has happened."""
    params = {"progressToken": token, "progress": done, "message": about}
    return event(dump({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))


def _check_origin(request: Request) -> None:
    """A page whose host has become this machine (DNS rebinding) must not be served; who may call is what CORS says."""
    if (origin := request.headers.get("origin")) is None:
        return
    for each in request.app.user_middleware:
        options = each.kwargs["options"] if each.cls is Cors else {}
        # with no origin at all the project's own application says who may call
        if (options.get("allow_origins") or options.get("allow_origin_regex")) and not CORSMiddleware(
            request.app, **options
        ).is_allowed_origin(origin):
            raise RefusedError("This origin may not call", 403)


def _takes_events(accept: str) -> bool:
    """Whether the client takes server-sent events; otherwise it takes JSON.

    Raises:
        RefusedError: it takes neither.
    """
    types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    events = bool(types & {"text/event-stream", "text/*", "*/*"})
    if not events and not types & {"application/json", "application/*"}:
        raise RefusedError("Accept header must include application/json or text/event-stream")
    return events


def _decoded(header: str | None) -> str | None:
    """A name that no header could hold is sent as ``=?base64?...?=``."""
    if header is None or not (header.startswith("=?base64?") and header.endswith("?=")):
        return header
    try:
        return base64.b64decode(header[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
