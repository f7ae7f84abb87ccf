"""The section ``auth`` of langgraph.json, checked.

``read_auth`` promises ``AuthSettings`` in which every value has its type and range, or a one-sentence ``ProjectError`` that names the
file and the key. The object that ``path`` names is looked at when it is loaded (``auth/handlers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.auth_settings import AuthCache, AuthSettings
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import parse_target

#: Where the section says nothing.
TTL_SECONDS, MAX_SIZE = 60.0, 1000
#: A caller who was shut out must not be let in for days.
LONGEST_TTL = 86_400.0


def read_auth(section: Mapping[str, Any] | None, root: Path, config_path: Path) -> AuthSettings | None:
    """What the section says; None without one."""
    if not section:
        return None
    key, path = f"{config_path}: auth", section.get("path")
    if not isinstance(path, str):
        raise ProjectError(f"{key}.path must be './file.py:name' of a langgraph_sdk.Auth.")
    parse_target(root, path, key=f"{key}.path")
    studio = section.get("disable_studio_auth", False)
    if not isinstance(studio, bool):
        raise ProjectError(f"{key}.disable_studio_auth must be true or false.")
    openapi = section.get("openapi")
    if openapi is not None and not isinstance(openapi, dict):
        raise ProjectError(f"{key}.openapi must be an object with 'securitySchemes' and 'security'.")
    return AuthSettings(
        path=path,
        disable_studio_auth=studio,
        openapi=openapi or None,
        cache=_cache(section.get("cache"), f"{key}.cache"),
    )


def _cache(cache: Any, key: str) -> AuthCache | None:
    if cache is None:
        return None
    if not isinstance(cache, dict):
        raise ProjectError(f"{key} must be an object.")
    headers, ttl, size = cache.get("cache_keys"), cache.get("ttl_seconds", TTL_SECONDS), cache.get("max_size", MAX_SIZE)
    if not isinstance(headers, list) or not headers or not all(isinstance(name, str) and name for name in headers):
        raise ProjectError(f"{key}.cache_keys must be a list of the headers that the answer depends on.")
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= LONGEST_TTL:
        raise ProjectError(f"{key}.ttl_seconds must be a number of seconds, more than 0 and at most {LONGEST_TTL:.0f}.")
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 1_000_000:
        raise ProjectError(f"{key}.max_size must be a whole number from 1 to 1000000.")
    return AuthCache(headers=tuple(name.lower() for name in headers), ttl_seconds=float(ttl), max_size=size)
