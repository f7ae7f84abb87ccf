"""What a project says about its long-term memory, and what a search may ask of an item.

``StoreSettings`` is the section ``store`` of langgraph.json, checked. It travels in the manifest, because functions without
the project need it: they do not embed, but must know that somebody has to, how long items live and how often to sweep.

Relies on nothing. Never knows how vectors are made or kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph_serverless.errors import BadRequestError, NamespaceLabelError

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
    #: ``./file.py:name`` of a store of the project's own, which has what it has; None: the built-in one
    path: str | None = None

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
            "path": self.path,
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
            path=value["path"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a search asks of one place in an item's value."""

    #: the keys that lead to it
    path: tuple[str, ...]
    #: one of ``OPERATORS``, or ``object`` if that is all that is asked
    operator: str
    operand: Any = None


def conditions(wanted: Mapping[str, Any]) -> list[Condition]:
    """A filter, taken apart: an object with operators asks for those, one without for its keys, any other value for equality.

    Raises:
        BadRequestError: if there is an operator that does not exist.
    """
    return list(_conditions((), wanted))


def _conditions(path: tuple[str, ...], wanted: Mapping[str, Any]) -> Iterator[Condition]:
    for key, value in wanted.items():
        place = (*path, key)
        if not isinstance(value, Mapping):
            yield Condition(path=place, operator="$eq", operand=value)
        elif any(name.startswith("$") for name in value):
            for operator, operand in value.items():
                if operator not in OPERATORS:
                    raise BadRequestError(f"Unsupported operator: {operator}")
                yield Condition(path=place, operator=operator, operand=operand)
        else:
            yield Condition(path=place, operator="object")
            yield from _conditions(place, value)


def check_labels(namespace: Sequence[str]) -> None:
    """Raises: NamespaceLabelError: if a label is empty or holds a period."""
    for label in namespace:
        if not label or "." in label:
            raise NamespaceLabelError(label)
