"""Query parameters, which are text and are read leniently: what is not understood means the default, or 422 where said."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from langgraph_serverless.errors import InvalidInputError


def read_flag(value: str) -> bool:
    """``true`` and ``1`` in any case are true, everything else is false."""
    return value.strip().lower() in ("true", "1", "yes", "on")


def read_switch(value: str) -> bool:
    """``true`` in any case is true, everything else is false: for what a slip should not set off."""
    return value.lower() == "true"


def read_list(values: Sequence[str] | None) -> list[str]:
    """A parameter that may be repeated, or one JSON array, which the JavaScript SDK 2.0 makes of several values."""
    given = list(values or ())
    if len(given) != 1 or not given[0].startswith("["):
        return given
    try:
        unpacked = orjson.loads(given[0])
    except orjson.JSONDecodeError:
        return given
    return unpacked if all(isinstance(value, str) for value in unpacked) else given


def wants_minimal(prefer: str) -> bool:
    """Whether a ``Prefer`` header asks for an answer without a body."""
    return "return=minimal" in (part.strip() for part in prefer.split(","))


def read_xray(value: str) -> bool | int:
    """``true``, ``false`` (or nothing) or how many levels of subgraphs are shown.

    Raises:
        InvalidInputError: if it is something else.
    """
    if value in ("true", "True"):
        return True
    if value in ("false", "False", ""):
        return False
    try:
        depth = int(value)
    except ValueError:
        depth = 0
    if depth < 1:
        raise InvalidInputError("Invalid xray value")
    return depth
