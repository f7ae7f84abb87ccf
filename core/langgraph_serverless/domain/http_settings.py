"""The section ``http`` of langgraph.json, checked. It travels in the manifest, because API functions have nothing else.

Promises that ``HeaderRules`` take time in proportion to the text, whatever the patterns are, and that a header which is a secret
by its name is neither shown to graphs nor logged: those of ``NEVER`` not even if they are named, those of ``BY_NAME_ONLY`` not by a ``*``.

Relies on nothing. ``execution/http_section.py`` reads it; ``http/`` does what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

#: Credentials of this server's own.
NEVER = frozenset({"authorization", "x-api-key", "x-tenant-id", "x-service-key"})
#: Credentials of others, which somebody may want to pass on.
BY_NAME_ONLY = frozenset({"cookie", "proxy-authorization", "x-amz-security-token"})

#: Each removes the routes of some router modules (``http/routers``), wherever they are.
GROUPS: Mapping[str, frozenset[str]] = {
    "assistants": frozenset({"assistants"}),
    "threads": frozenset({"threads", "state", "thread_stream"}),
    "runs": frozenset({"runs", "stream", "protocol", "protocol_events", "protocol_socket", "crons"}),
    "store": frozenset({"store"}),
    "mcp": frozenset({"mcp"}),
    "a2a": frozenset({"a2a"}),
    "meta": frozenset(),
    "ui": frozenset({"ui"}),
}
MIDDLEWARE_FIRST, AUTH_FIRST = "middleware_first", "auth_first"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """Which headers of a request are meant. Patterns are lower case, ``*`` is any text; an exclusion wins."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def selected(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Those of ASGI's headers that are meant, by lower-case name; of several of one name the last."""
        if not self.includes:
            return {}
        found = {}
        for raw, value in headers:
            name = raw.decode("latin-1").lower()
            if self.match(name):
                found[name] = value.decode("latin-1")
        return found

    def match(self, name: str) -> bool:
        """Whether the header of this lower-case name is meant."""
        if name in NEVER or any(matches(pattern, name) for pattern in self.excludes):
            return False
        if name in BY_NAME_ONLY:
            return name in self.includes
        return any(matches(pattern, name) for pattern in self.includes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsSettings:
    """Which pages may call from a browser; what is left out has the defaults of Starlette's ``CORSMiddleware``."""

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ("GET",)
    allow_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    allow_origin_regex: str | None = None
    expose_headers: tuple[str, ...] = ()
    max_age: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The section ``http``; ``disable_webhooks`` is with the webhooks."""

    #: ``./file.py:name`` of a Starlette or FastAPI application
    app: str | None = None
    #: begins with a slash and does not end with one; empty: none
    mount_prefix: str = ""
    #: keys of ``GROUPS``
    disabled: frozenset[str] = frozenset()
    #: None: the deployment's default
    cors: CorsSettings | None = None
    configurable_headers: HeaderRules = field(default_factory=HeaderRules)
    logging_headers: HeaderRules = field(default_factory=HeaderRules)
    auth_first: bool = False
    #: the routes of ``app`` are authenticated too
    enable_custom_route_auth: bool = False

    def has_router(self, name: str) -> bool:
        """Whether the router module's routes are served."""
        return not any(name in GROUPS[group] for group in self.disabled)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        cors = self.cors
        return {
            "app": self.app,
            "mount_prefix": self.mount_prefix,
            "disabled": sorted(self.disabled),
            "cors": None if cors is None else {each.name: _plain(getattr(cors, each.name)) for each in fields(cors)},
            "configurable_headers": _rules_to_json(self.configurable_headers),
            "logging_headers": _rules_to_json(self.logging_headers),
            "auth_first": self.auth_first,
            "enable_custom_route_auth": self.enable_custom_route_auth,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``; a missing key is a KeyError."""
        cors = value["cors"]
        return cls(
            app=value["app"],
            mount_prefix=value["mount_prefix"],
            disabled=frozenset(value["disabled"]),
            cors=None if cors is None else CorsSettings(**{name: _frozen(item) for name, item in cors.items()}),
            configurable_headers=_rules_from_json(value["configurable_headers"]),
            logging_headers=_rules_from_json(value["logging_headers"]),
            auth_first=value["auth_first"],
            enable_custom_route_auth=value["enable_custom_route_auth"],
        )


def is_origin(text: str) -> bool:
    """Whether a browser may send exactly this as a page's origin."""
    return _ORIGIN.fullmatch(text) is not None


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern, in which ``*`` is any text, is all of a name."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    *middle, last = rest
    if not name.startswith(first):
        return False
    at = len(first)
    for part in middle:
        # the first place is as good as any later one
        if (found := name.find(part, at)) < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(last) and name.endswith(last)


def _rules_to_json(rules: HeaderRules) -> dict[str, Any]:
    return {"includes": list(rules.includes), "excludes": list(rules.excludes)}


def _rules_from_json(value: Mapping[str, Any]) -> HeaderRules:
    return HeaderRules(includes=tuple(value["includes"]), excludes=tuple(value["excludes"]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
