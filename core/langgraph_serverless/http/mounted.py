"""An application below a path, as proxies have it: ``/api/threads`` and ``/threads`` are the same.

Some proxies take the prefix off before they pass a request on, others do not, and probes come past all of them; so both are
answered. The application sees the prefix as ``root_path``, which its own pages need to find each other.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from langgraph_serverless.http.responses import json_response

#: Health.
_AT_THE_ROOT = frozenset({"/", "/ok"})


class BelowPrefix:
    """``app`` below ``prefix`` only (``http.mount_prefix``): all else is 404, except the health at the root, which probes ask for.

    API Gateway has matched the path already, with the base path of a domain or without it; there, both are answered.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._mounted = Mounted(app, prefix)
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == self._prefix or path.startswith(f"{self._prefix}/") or path in _AT_THE_ROOT or "aws.event" in scope:
            await self._mounted(scope, receive, send)
        elif scope["type"] == "http":
            await json_response({"detail": "Not Found"}, 404)(scope, receive, send)
        else:
            await WebSocketClose()(scope, receive, send)


class Mounted:
    """``app`` below ``prefix``, which begins with a slash and does not end with one."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            prefix, path = self._prefix, scope["path"]
            if path == prefix:
                path = f"{prefix}/"
            elif not path.startswith(f"{prefix}/"):
                path = prefix + path
            scope = {**scope, "path": path, "root_path": prefix}
        await self._app(scope, receive, send)
