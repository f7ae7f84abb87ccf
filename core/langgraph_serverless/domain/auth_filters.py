"""Filters that authorisation handlers return: which rows a caller may see, by their metadata.

``parse_filter`` reads what a handler returned and refuses everything it does not know: an operator that is passed over would show
everything to everybody. ``Filter.matches`` judges one row; ``persistence/filters.py`` says the same in SQL, and a property test
holds the two against each other. The forms::

    {"owner": "a"}   {"owner": {"$eq": "a"}}     equal
    {"tags": {"$contains": "x"}}                 a list that has x
    {"tags": {"$contains": ["x", "y"]}}          a list that has all of them
    {"$or": [filter, ...]}, {"$and": [...]}      combinations; keys beside each other must all match

Relies on nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

#: Handlers are trusted, but one that nests what a client sent must not exhaust the stack.
_DEEPEST = 20


class FilterError(ValueError):
    """A handler has returned what is no filter. Nobody gets to see anything then."""


@dataclass(frozen=True, slots=True)
class Equal:
    """The key is there and has this value."""

    key: str
    value: Any

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return self.key in metadata and same(metadata[self.key], self.value)


@dataclass(frozen=True, slots=True)
class Contains:
    """The key is a list that has all of these."""

    key: str
    values: Sequence[Any]

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        found = metadata.get(self.key)
        if not isinstance(found, list | tuple):
            return False
        return all(any(same(item, value) for item in found) for value in self.values)


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of them match; so it is with none."""

    parts: Sequence[Filter]

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of them matches; so none does with none."""

    parts: Sequence[Filter]

    def matches(self, metadata: Mapping[str, Any]) -> bool:
        return any(part.matches(metadata) for part in self.parts)


Filter = Equal | Contains | AllOf | AnyOf


def parse_filter(raw: Mapping[str, Any]) -> Filter | None:
    """What a handler returned, as a filter; None if it says nothing.

    Raises:
        FilterError: it has an operator or a value that is not known.
    """
    parts = list(_parts(raw, 0))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def both(first: Filter | None, second: Filter | None) -> Filter | None:
    """What both let through."""
    if first is None or second is None:
        return second if first is None else first
    return AllOf((first, second))


def visible(metadata: Mapping[str, Any], allowed: Filter | None) -> bool:
    """Whether a row with this metadata may be seen; without a filter, any may."""
    return allowed is None or allowed.matches(metadata)


def _parts(raw: Any, depth: int) -> Iterator[Filter]:
    if not isinstance(raw, Mapping):
        raise FilterError(f"a filter must be a dict, not {type(raw).__name__}")
    if depth > _DEEPEST:
        raise FilterError("the filter is nested too deeply")
    for key, wanted in raw.items():
        if not isinstance(key, str):
            raise FilterError(f"a filter's keys must be strings, not {type(key).__name__}")
        if key in ("$or", "$and"):
            if not isinstance(wanted, list | tuple):
                raise FilterError(f"'{key}' must be a list of filters")
            parts = tuple(AllOf(tuple(_parts(each, depth + 1))) for each in wanted)
            yield AnyOf(parts) if key == "$or" else AllOf(parts)
        elif key.startswith("$"):
            raise FilterError(f"unknown operator '{key}'")
        elif isinstance(wanted, Mapping) and any(str(name).startswith("$") for name in wanted):
            yield from _operators(key, wanted)
        else:
            yield Equal(key, _plain(wanted, key))


def _operators(key: str, wanted: Mapping[Any, Any]) -> Iterator[Filter]:
    for operator, value in wanted.items():
        if operator == "$eq":
            yield Equal(key, _plain(value, key))
        elif operator == "$contains":
            values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
            plain = tuple(_plain(each, key) for each in values)
            if any(isinstance(each, dict | list) for each in plain):
                raise FilterError(f"'$contains' of '{key}' takes strings, numbers, booleans and null")
            yield Contains(key, plain)
        else:
            raise FilterError(f"unknown operator '{operator}' of '{key}'")


def _plain(value: Any, key: str) -> Any:
    """The value as JSON has it."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each, key) for each in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(each, key) for name, each in value.items()}
    raise FilterError(f"'{key}' is compared with a {type(value).__name__}, which metadata cannot hold")


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(type(one) is type(other) or _numbers(one, other)) and bool(one == other)


def _numbers(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)
