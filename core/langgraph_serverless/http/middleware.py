"""What happens around every request, as plain ASGI: request id, span, body limit, CORS, HEAD, counters, log, the last resort.

``Cors`` is outermost, so that scripts can read errors too. ``Observed`` gives the request its id and its place in a trace, which
whatever it leads to goes on with, counts and logs it, and turns an exception that nothing knows into
500 ``Internal Server Error`` with the traceback in the log. If the response has already started, it lets the exception
through, so that the server breaks the connection: a client must not take half an answer for a whole one.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langgraph_serverless import tracing
from langgraph_serverless.domain.http_settings import CorsSettings, HeaderRules
from langgraph_serverless.domain.idempotency import REPLAYED
from langgraph_serverless.domain.passed_headers import passing
from langgraph_serverless.domain.runs import correlation
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.function_client import CORRELATION
from langgraph_serverless.http.authentication import CLOSE, FOREIGN
from langgraph_serverless.http.body import too_large
from langgraph_serverless.http.responses import json_response
from langgraph_serverless.numbers import REQUEST_BOUNDS, Histogram
from langgraph_serverless.redaction import CREDENTIALS, concealing_credentials
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import saying

logger = logging.getLogger("langgraph_serverless.http")

#: It is stored with each run.
_LONGEST_REQUEST_ID = 256
REQUEST_ID = "x-request-id"
_NO_HEADERS = HeaderRules()
_NOTHING: AbstractContextManager[None] = nullcontext()
#: Characters of a header's value in a log line.
_LONGEST_LOGGED = 1024

#: Any origin may call unless ``CORS_ALLOW_ORIGINS`` says otherwise, and none with cookies. ``location`` is exposed because clients find the run they have just made in it, and ``idempotency-replayed``
#: because they cannot tell a repeat otherwise.
CORS_DEFAULTS: Mapping[str, Any] = {
    "allow_origins": ["*"],
    "allow_methods": ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"],
    "allow_headers": ["*"],
    "allow_private_network": True,
    "expose_headers": ["x-pagination-total", "x-pagination-next", "content-location", "location", REPLAYED.lower()],
    "max_age": 600,
}


class Cors(CORSMiddleware):
    """Starlette's, except that a preflight is always told that private networks are fine, and that it also looks at what CORS does not.

    A browser lets any page open a socket and send a form, and adds the user's cookies. So a page of an origin that may not call
    opens no socket, and one that may not call with cookies is not taken for the user for them (``authentication.FOREIGN``).
    """

    def __init__(self, app: ASGIApp, options: Mapping[str, Any]) -> None:
        super().__init__(app, **options)
        self._with_cookies = bool(options.get("allow_credentials"))
        if self.allow_private_network:
            self.preflight_headers["Access-Control-Allow-Private-Network"] = "true"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and all(name != b"origin" for name, _ in scope["headers"]):
            await self._without_origin(scope, receive, send)
            return
        origin = _header(scope, b"origin") if scope["type"] in ("http", "websocket") else ""
        if origin and origin.partition("://")[2] != _header(scope, b"host"):
            allowed = self.is_allowed_origin(origin)
            if scope["type"] == "websocket" and not allowed:
                await receive()  # the client's request to connect
                await send({"type": "websocket.close", "code": CLOSE + 403, "reason": "This origin may not call"})
                return
            scope[FOREIGN] = not (allowed and self._with_cookies)
        await super().__call__(scope, receive, send)

    async def _without_origin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No page has sent this. What Starlette would do, without its objects: to say that another origin may get another answer."""

        async def vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                said = [value for name, value in headers if name.lower() == b"vary"]
                if said:
                    MutableHeaders(raw=headers)["vary"] = b", ".join([*said, b"Origin"]).decode("latin-1")
                else:
                    headers.append((b"vary", b"Origin"))
                message["headers"] = headers
            await send(message)

        await self.app(scope, receive, vary)


def cors_options(
    settings: Settings, section: CorsSettings | None, *, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``Cors`` is to allow. The section replaces the default; origins that the environment names replace its origins.

    Args:
        own: the origins of the project's application, if it says by itself which pages may call: what it does not allow is not allowed here.

    Raises:
        ProjectError: credentials for any origin.
    """
    named = settings.cors_allow_origins if settings.cors_allow_origins != ("*",) else None
    if section is None:
        return {
            **CORS_DEFAULTS,
            **(own or {}),
            **({"allow_origins": named, "allow_origin_regex": None} if named else {}),
        }
    options = {**asdict(section), "allow_private_network": True}
    if named is not None:
        options |= {"allow_origins": named, "allow_origin_regex": None}
        if "*" in named and section.allow_credentials:
            raise ProjectError(
                "CORS_ALLOW_ORIGINS has '*', and http.cors.allow_credentials is true: name the origins only."
            )
    return options


class RequestCounter:
    """Requests that this process has answered, by method, route and status, and how long they took by method and route."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: defaultdict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(REQUEST_BOUNDS))

    def add(self, method: str, path: str, status: int, seconds: float) -> None:
        self.requests[method, path, status] += 1
        self.seconds[method, path].add(seconds)


class Observed:
    """Request id, span, log line, counter, headers for graphs, and 500 for what nobody expected."""

    def __init__(
        self,
        app: ASGIApp,
        counter: RequestCounter,
        *,
        logged: HeaderRules = _NO_HEADERS,
        passed: HeaderRules = _NO_HEADERS,
    ) -> None:
        """
        Args:
            logged: headers that are part of the log line.
            passed: those that graphs get to see.
        """
        self._app = app
        self._counter = counter
        self._logged = logged
        self._passed = passed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # of several of one name the first
        sent = dict(reversed(scope["headers"]))
        request_id, parent = _correlation(scope, sent)
        scope.setdefault("state", {})["request_id"] = request_id
        headers = self._headers(scope, request_id)
        secret = _NOTHING if CREDENTIALS.isdisjoint(sent) else concealing_credentials(scope["headers"])
        with saying(correlation(request_id, parent)), passing(headers), secret:
            if scope["type"] == "http":
                await self._observe(scope, receive, send, request_id, parent)
            else:  # each of its commands belongs to the trace; how long it is open says nothing
                with tracing.span("websocket", kind="server", parent=parent):
                    await self._app(scope, receive, send)

    def _headers(self, scope: Scope, request_id: str) -> dict[str, str]:
        """What graphs get to see."""
        headers = self._passed.selected(scope["headers"])
        if self._passed.includes and self._passed.match(REQUEST_ID):
            headers.setdefault(REQUEST_ID, request_id)
        return headers

    async def _observe(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, parent: TraceContext | None
    ) -> None:
        started = time.perf_counter()
        # 499 is what nginx calls a client that left before the answer
        status, whole = 499, False

        async def observe(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        with tracing.span(scope["method"], kind="server", parent=parent) as span:
            try:
                await self._app(scope, receive, observe)
            except ClientDisconnect:
                # the client has left before its body was complete; there is nobody to answer
                pass
            except Exception:
                logger.exception("Unexpected error", extra=self._fields(scope, 500, started, request_id))
                if status == 499:
                    status = 500
                    await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
                elif not whole:
                    raise
            finally:
                route = scope.get("route")
                path = (getattr(route, "path", "") if route is not None else "") or "unmatched"
                self._counter.add(scope["method"], path, status, time.perf_counter() - started)
                span.name(f"{scope['method']} {path}")
                span.set(**{"http.request.method": scope["method"], "http.route": path})
                span.set(**{"http.response.status_code": status, "langgraph.request_id": request_id})
                if status >= 500:
                    span.fail(str(status))
                if logger.isEnabledFor(logging.INFO):
                    self._log(scope, status, self._fields(scope, status, started, request_id))

    def _log(self, scope: Scope, status: int, fields: dict[str, Any]) -> None:
        """As ``logger.info`` does, which would look through the stack for whoever calls it."""
        values = (scope["method"], scope["path"], status)
        logger.handle(
            logger.makeRecord(logger.name, logging.INFO, __file__, 0, "%s %s %s", values, None, "_observe", fields)
        )

    def _fields(self, scope: Scope, status: int, started: float, request_id: str) -> dict[str, Any]:
        headers = self._logged.selected(scope["headers"])
        return {
            **({"headers": {name: value[:_LONGEST_LOGGED] for name, value in headers.items()}} if headers else {}),
            "action": "request",
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
            "request_id": request_id,
        }


def _correlation(scope: Scope, headers: Mapping[bytes, bytes]) -> tuple[str, TraceContext | None]:
    """What connects this request with others: its id, which is the client's, API Gateway's or ours, and its place in a trace."""
    event = scope.get("aws.event") or {}
    # of another function of the stack that has passed the request on; no client can write it
    passed = event.get(CORRELATION) or {}
    parent = TraceContext.from_json(passed.get("trace"))
    if parent is None and b"traceparent" in headers:
        parent = TraceContext.of(
            headers[b"traceparent"].decode("latin-1"), headers.get(b"tracestate", b"").decode("latin-1")
        )
    sent = headers.get(b"x-request-id", b"").decode("latin-1")[:_LONGEST_REQUEST_ID]
    named = passed.get("request_id") or sent or (event.get("requestContext") or {}).get("requestId")
    return str(named or uuid.uuid4()), parent


class LastResort:
    """500 for what nobody expected, where the user's middleware is between this and ``Observed`` and is to see an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            raise
        except Exception:
            if scope["type"] != "http" or started:
                raise
            logger.exception("Unexpected error", extra={"action": "request", "path": scope["path"], "status": 500})
            await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)


class PlainTarget:
    """Refuses a NUL character in the path or the query, which nothing that is stored can hold."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode("latin-1")
            found = [name for name, value in parse_qsl(query) if "\0" in name + value] if "%00" in query else []
            where = f"parameter '{found[0][:100]}'" if found else "path" if "\0" in scope["path"] else ""
            if where:
                await json_response({"detail": f"The {where} holds a NUL character"}, 422)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a large body before it is read; one without a length is counted while it is."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length.isdecimal():
            if int(length) > self._limit:
                error = too_large(self._limit)
                await json_response({"detail": error.detail}, error.status)(scope, receive, send)
                return
            await self._app(scope, receive, send)
            return
        seen, started = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive() if seen <= self._limit else {"type": "http.disconnect"}
            seen += len(message.get("body", b""))
            # no error of ours: the user's own routes and middleware may be reading, each in its way
            return message if seen <= self._limit else {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            nonlocal started
            if seen <= self._limit or started:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        except Exception:
            if seen <= self._limit or started:
                raise
        if seen > self._limit and not started:
            error = too_large(self._limit)
            await json_response({"detail": error.detail}, error.status)(scope, receive, send)


class HeadAsGet:
    """HEAD answers what GET does without the body, and 405 names it where GET is allowed; FastAPI's routes do neither."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                headers = MutableHeaders(scope=message)
                allowed = headers.get("allow", "").split(", ")
                if "GET" in allowed and "HEAD" not in allowed:
                    headers["allow"] = ", ".join(["HEAD", *allowed])
            if head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # a copy, as the server looks at its own to know that no body follows
        inner = {**scope, "method": "GET"} if head else scope
        try:
            await self._app(inner, receive, answer)
        finally:
            # requests are counted by route
            if "route" in inner:
                scope["route"] = inner["route"]


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return ""
