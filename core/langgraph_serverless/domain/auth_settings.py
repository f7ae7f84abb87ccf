"""The section ``auth`` of langgraph.json, checked. It travels in the manifest, because every API function authenticates.

Relies on nothing. ``execution/auth_section.py`` reads it; ``auth/`` does what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthCache:
    """For how long the answer of the authentication holds for requests with the same values of some headers."""

    #: lower case
    headers: tuple[str, ...]
    ttl_seconds: float
    max_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """The section ``auth``."""

    #: ``./file.py:name`` of a ``langgraph_sdk.Auth``
    path: str
    #: Studio's requests are authenticated like any other
    disable_studio_auth: bool = False
    #: ``securitySchemes`` and ``security`` of the OpenAPI document
    openapi: Mapping[str, Any] | None = None
    cache: AuthCache | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        cache = self.cache
        return {
            "path": self.path,
            "disable_studio_auth": self.disable_studio_auth,
            "openapi": dict(self.openapi) if self.openapi is not None else None,
            "cache": None
            if cache is None
            else {"headers": list(cache.headers), "ttl_seconds": cache.ttl_seconds, "max_size": cache.max_size},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AuthSettings:
        """The inverse of ``to_json``; a missing key is a KeyError."""
        cache = value["cache"]
        return cls(
            path=value["path"],
            disable_studio_auth=value["disable_studio_auth"],
            openapi=value["openapi"],
            cache=None
            if cache is None
            else AuthCache(
                headers=tuple(cache["headers"]), ttl_seconds=cache["ttl_seconds"], max_size=cache["max_size"]
            ),
        )
