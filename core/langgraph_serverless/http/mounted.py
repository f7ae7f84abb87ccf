"""An application below a path, as proxies have it: ``/api/threads`` and ``/threads`` are the same.

Some proxies take the prefix off before they pass a request on, others do not, and probes come past all of them; so both are
answered. The application sees the prefix as ``root_path``, which its own pages need to find each other.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


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
