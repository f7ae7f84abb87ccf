"""The section ``checkpointer`` of langgraph.json, checked.

``read_thread_ttl`` promises the time to live that threads are made with, ``read_serde`` what checkpoints may hold, or a
one-sentence ``ProjectError`` that names the file and the key. ``sweep_interval_minutes`` and ``sweep_limit`` are checked and not
needed: the scheduler's every tick removes what is due, in batches. What would make stored data call code is refused, and so is a saver
of the project's own, which could not keep what is promised of runs (docs/adr/0030-configuration-and-safe-loading.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.threads import Ttl, TtlStrategy
from langgraph_serverless.errors import ProjectError

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


@dataclass(frozen=True, kw_only=True)
class Serde:
    """``checkpointer.serde``: classes that may be made when checkpoints are read, besides those that schemas name."""

    #: modules and names
    msgpack: frozenset[tuple[str, str]] = frozenset()
    #: each part of a module, then the name, as old documents have it
    json: frozenset[tuple[str, ...]] = frozenset()

    @property
    def classes(self) -> dict[tuple[str, str], str]:
        """Module and name, and the key that lists them."""
        by_json = {(".".join(parts[:-1]), parts[-1]): "allowed_json_modules" for parts in self.json}
        return by_json | dict.fromkeys(self.msgpack, "allowed_msgpack_modules")


def read_serde(section: Mapping[str, Any] | None, config_path: Path) -> Serde:
    """What checkpoints may hold.

    Raises:
        ProjectError: also if anything at all is to be allowed, or the section names a saver.
    """
    section = section or {}
    if section.get("path") is not None:
        raise ProjectError(
            f"{config_path}: checkpointer.path is not supported: a saver of your own could not keep two workers from writing to"
            " one thread, nor take part in cancels, copies and times to live; remove the key, checkpoints are kept in Postgres."
        )
    key, serde = f"{config_path}: checkpointer.serde", section.get("serde")
    if serde is None:
        return Serde()
    if not isinstance(serde, dict):
        raise ProjectError(f"{key} must be an object.")
    pickle = serde.get("pickle_fallback")
    if pickle is not None and pickle is not False:
        raise ProjectError(
            f"{key}.pickle_fallback is not supported, as whoever can write to the database could run code here; remove it, and keep"
            " plain data, dataclasses, pydantic models and enums in the state."
        )
    return Serde(
        msgpack=frozenset(
            (".".join(parts[:-1]), parts[-1]) for parts in _classes(serde, "allowed_msgpack_modules", key)
        ),
        json=frozenset(_classes(serde, "allowed_json_modules", key)),
    )


def _classes(serde: Mapping[str, Any], name: str, key: str) -> list[tuple[str, ...]]:
    entries = serde.get(name)
    if entries is None or entries is False:
        return []
    if entries is True:
        raise ProjectError(
            f"{key}.{name} cannot be true, as a checkpoint could then call anything that Python can import; list the classes, as in"
            ' [["my_package.models", "Order"]]. Those that the schemas of your graphs name are allowed anyway.'
        )
    if not isinstance(entries, list):
        raise ProjectError(f'{key}.{name} must be a list of classes, such as [["my_package.models", "Order"]].')
    found = []
    for entry in entries:
        texts = entry if isinstance(entry, list) and all(isinstance(part, str) for part in entry) else []
        parts = tuple(".".join(texts).split("."))
        if len(texts) < 2 or not all(part.isidentifier() for part in parts):
            raise ProjectError(
                f"{key}.{name}: {json.dumps(entry)[:200]} must be a module and a name, such as"
                ' ["my_package.models", "Order"].'
            )
        found.append(parts)
    return found
