"""The section ``checkpointer`` of langgraph.json, checked.

``read_thread_ttl`` promises the time to live that threads are made with, or a one-sentence ``ProjectError`` that names the file
and the key. ``sweep_interval_minutes`` and ``sweep_limit`` are checked and not needed: the scheduler's every tick removes
what is due, in batches. ``inactive_keys`` names what has no effect, for a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.threads import Ttl, TtlStrategy
from langgraph_serverless.errors import ProjectError

_TTL_KEYS = frozenset({"default_ttl", "strategy", "sweep_interval_minutes", "sweep_limit"})
#: Postgres's calendar ends in the year 294276.
MOST_MINUTES = 1e9


def read_thread_ttl(section: Mapping[str, Any] | None, config_path: Path) -> Ttl | None:
    """The time to live of threads that are made without one; None if they are kept."""
    key = f"{config_path}: checkpointer.ttl"
    ttl = (section or {}).get("ttl")
    if ttl is None:
        return None
    if not isinstance(ttl, dict):
        raise ProjectError(f"{key} must be an object.")
    strategy = ttl.get("strategy", "delete")
    if strategy not in tuple(TtlStrategy):
        raise ProjectError(f"{key}.strategy must be 'delete' or 'keep_latest'.")
    for name in ("default_ttl", "sweep_interval_minutes", "sweep_limit"):
        value = ttl.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_MINUTES:
            raise ProjectError(f"{key}.{name} must be a number above 0.")
    minutes = ttl.get("default_ttl")
    return None if minutes is None else Ttl(strategy=TtlStrategy(strategy), minutes=minutes)


def inactive_keys(section: Mapping[str, Any] | None) -> list[str]:
    """Keys of the section that have no effect yet, with their paths."""
    return [f"checkpointer.{key}" for key in sorted(section or {}) if key in ("path", "serde")]


def unknown_keys(section: Mapping[str, Any] | None) -> list[str]:
    """Keys of the section and below that have no meaning, with their paths."""
    section = section or {}
    ttl = section.get("ttl") or {}
    return [
        *(f"checkpointer.{key}" for key in sorted(section.keys() - {"path", "serde", "ttl"})),
        *(f"checkpointer.ttl.{key}" for key in sorted(ttl.keys() - _TTL_KEYS)),
    ]
