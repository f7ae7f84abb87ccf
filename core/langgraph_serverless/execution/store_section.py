"""The section ``store`` of langgraph.json, checked.

``read_store`` promises ``StoreSettings`` in which every value has its type and range, or a one-sentence ``ProjectError`` that
names the file and the key. ``embed`` is only looked at as text; ``embeddings.py`` finds what it means. A store of the project's own
is opened by ``own_store.py``, and needs nothing else of the section.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.store import StoreIndex, StoreSettings, StoreTtl
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import parse_target

#: pgvector's ``vector`` takes no more
MOST_DIMS = 16_000
#: Postgres has no interval of more minutes than that, and nobody a use for it
MOST_MINUTES = 2**31 - 1


def read_store(section: Mapping[str, Any] | None, config_path: Path) -> StoreSettings:
    """What the section says; without one, the defaults."""
    section = section or {}
    index, ttl = (_part(section, name, config_path) for name in ("index", "ttl"))
    path = section.get("path")
    if path is not None:
        key = f"{config_path}: store.path"
        if not isinstance(path, str):
            raise ProjectError(f"{key} must be './file.py:name' of what makes a store.")
        parse_target(config_path.parent, path, key=key)
        if index is not None or ttl is not None:
            raise ProjectError(
                f"{key} and store.{'index' if index is not None else 'ttl'}: a store of your own has its own; remove one."
            )
    return StoreSettings(
        path=path,
        index=None if index is None else _index(index, f"{config_path}: store.index"),
        ttl=StoreTtl() if ttl is None else _ttl(ttl, f"{config_path}: store.ttl"),
    )


def _part(section: Mapping[str, Any], name: str, config_path: Path) -> Mapping[str, Any] | None:
    part = section.get(name)
    if part is not None and not isinstance(part, dict):
        raise ProjectError(f"{config_path}: 'store.{name}' must be an object.")
    return part


def _index(index: Mapping[str, Any], key: str) -> StoreIndex:
    dims, embed, fields = index.get("dims"), index.get("embed"), index.get("fields")
    if isinstance(dims, bool) or not isinstance(dims, int) or not 1 <= dims <= MOST_DIMS:
        raise ProjectError(f"{key}.dims must be a whole number from 1 to {MOST_DIMS}, the length of one embedding.")
    if not isinstance(embed, str) or not embed.strip(":"):
        raise ProjectError(f"{key}.embed must be 'provider:model', './file.py:name' or 'package.module:name'.")
    if isinstance(fields, str):
        fields = [fields]
    if fields is not None and (not isinstance(fields, list) or not all(isinstance(path, str) for path in fields)):
        raise ProjectError(f"{key}.fields must be a list of paths, such as 'text', 'meta.title' or '$' for everything.")
    return StoreIndex(dims=dims, embed=embed, fields=tuple(dict.fromkeys(fields or ["$"])))


def _ttl(ttl: Mapping[str, Any], key: str) -> StoreTtl:
    refresh = ttl.get("refresh_on_read", True)
    if not isinstance(refresh, bool):
        raise ProjectError(f"{key}.refresh_on_read must be true or false.")
    return StoreTtl(
        default_ttl=_minutes(ttl, "default_ttl", key),
        refresh_on_read=refresh,
        sweep_interval_minutes=_minutes(ttl, "sweep_interval_minutes", key),
    )


def _minutes(ttl: Mapping[str, Any], name: str, key: str) -> float | None:
    minutes = ttl.get(name)
    if minutes is None:
        return None
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not math.isfinite(minutes):
        raise ProjectError(f"{key}.{name} must be a number of minutes or null.")
    if not 0 < minutes <= MOST_MINUTES:
        raise ProjectError(f"{key}.{name} must be more than 0 and at most {MOST_MINUTES} minutes.")
    return float(minutes)
