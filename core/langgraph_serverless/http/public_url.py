"""The address under which a client has reached this server, for what has to name itself absolutely, as agent cards do.

Proxies say what they have changed (``X-Forwarded-Proto``, ``-Host``, ``-Prefix``), API Gateway's event has the stage, and an application below a
path knows that (``mounted.py``). A client may say anything in these headers; what is made of them goes back to nobody else, so such
answers must not be kept by caches, and what is no host or path is left out.
"""

from __future__ import annotations

import re

from starlette.types import Scope

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def public_url(scope: Scope) -> str:
    """Without a slash at its end."""
    scheme = _first(scope, b"x-forwarded-proto").lower()
    host = next(
        (name for name in (_first(scope, b"x-forwarded-host"), _first(scope, b"host")) if _HOST.fullmatch(name)), None
    )
    if host is None:
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    scheme = scheme if scheme in ("http", "https") else scope.get("scheme", "http")
    return f"{scheme}://{host}{_prefix(scope)}"


def _prefix(scope: Scope) -> str:
    root: str = scope.get("root_path", "").rstrip("/")
    forwarded = _first(scope, b"x-forwarded-prefix").rstrip("/")
    outer = forwarded if _PREFIX.fullmatch(forwarded) else ""
    if outer.endswith(root):
        return _stage(scope) + outer
    return _stage(scope) + outer + root


def _stage(scope: Scope) -> str:
    """What API Gateway has taken off the path."""
    event = scope.get("aws.event") or {}
    whole: str = (event.get("requestContext") or {}).get("path") or ""
    path: str = event.get("path") or ""
    return whole[: -len(path)].rstrip("/") if path and whole.endswith(path) else ""


def _first(scope: Scope, name: bytes) -> str:
    """The first value of a header; each proxy adds its own behind it."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text.partition(",")[0].strip()
    return ""
