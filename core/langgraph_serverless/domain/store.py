"""What a project says about its long-term memory, and what a search may ask of an item.

``StoreSettings`` is the section ``store`` of langgraph.json, checked. It travels in the manifest, because functions without
the project need it: they do not embed, but must know that somebody has to, how long items live and how often to sweep.

Relies on nothing. Never knows how vectors are made or kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph_serverless.errors import BadRequestError

OPERATORS = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIndex:
    """How items are made searchable by meaning."""

    #: numbers per vector
    dims: int
    #: ``provider:model``, ``./file.py:name`` or ``package.module:name``, as written
    embed: str
    #: paths of what is embedded of an item that does not say itself; ``$`` is the whole value
    fields: tuple[str, ...] = ("$",)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTtl:
    """How long items live, in minutes."""

    #: None: for ever
    default_ttl: float | None = None
    #: whether reading an item starts its time anew
    refresh_on_read: bool = True
    #: None: expired items are removed as soon as a sweep comes by
    sweep_interval_minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The section ``store`` of langgraph.json."""

    #: None: there is no semantic search
    index: StoreIndex | None = None
    ttl: StoreTtl = field(default_factory=StoreTtl)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        index, ttl = self.index, self.ttl
        return {
            "index": None
            if index is None
            else {"dims": index.dims, "embed": index.embed, "fields": list(index.fields)},
            "ttl": {
                "default_ttl": ttl.default_ttl,
                "refresh_on_read": ttl.refresh_on_read,
                "sweep_interval_minutes": ttl.sweep_interval_minutes,
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoreSettings:
        """The inverse of ``to_json``; a missing key is a KeyError."""
        index = value["index"]
        return cls(
            index=None
            if index is None
            else StoreIndex(dims=index["dims"], embed=index["embed"], fields=tuple(index["fields"])),
            ttl=StoreTtl(**value["ttl"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a search asks of one top-level key of an item's value."""

    key: str
    #: one of ``OPERATORS``
    operator: str
    operand: Any


def conditions(wanted: Mapping[str, Any]) -> list[Condition]:
    """A filter, taken apart: a value that is an object with operators asks for those, any other one for equality.

    Raises:
        BadRequestError: if there is an operator that does not exist.
    """
    found = []
    for key, value in wanted.items():
        if isinstance(value, Mapping) and any(name.startswith("$") for name in value):
            for operator, operand in value.items():
                if operator not in OPERATORS:
                    raise BadRequestError(f"Unsupported operator: {operator}")
                found.append(Condition(key=key, operator=operator, operand=operand))
        else:
            found.append(Condition(key=key, operator="$eq", operand=value))
    return found
