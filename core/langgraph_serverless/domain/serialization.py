"""Turns what graphs hold into JSON.

Pydantic models (messages among them) are dumped flat, dataclasses become objects, sets and deques lists, bytes base64,
UUIDs, dates, paths and decimals strings, durations their seconds, exceptions what clients learn of them, LangGraph's ``Send`` its node
and arguments, and everything unknown its ``repr``. Nothing is imported for it: kinds are told apart by what they can do, so
this module is as light as its callers.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import orjson

from langgraph_serverless.domain.run_errors import describe

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _default(value: Any) -> Any:
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump()
    if callable(dump := getattr(value, "_asdict", None)):
        return dump()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | deque):
        return list(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):  # a subclass
        return str.__str__(value)
    if isinstance(value, BaseException):
        return describe(value, mask=True)
    if type(value).__name__ == "Send" and hasattr(value, "node"):
        return {"node": value.node, "args": value.arg}
    return repr(value)


def dump_json(value: Any) -> bytes:
    """Compact UTF-8 JSON of anything. Never raises: what has no JSON form becomes a string."""
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_plain(value, 200), default=repr)


def to_json(value: Any) -> Any:
    """The same as a document of plain dicts, lists, strings and numbers."""
    return orjson.loads(dump_json(value))


def _plain(value: Any, depth: int) -> Any:
    """The slow way, for what orjson refuses: lone surrogates, huge integers, keys of odd types, deep or endless nesting."""
    if depth == 0:
        return "..."
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_plain(str(key), depth): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_plain(item, depth - 1) for item in value]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: _plain(getattr(value, name), depth - 1) for name in value.__dataclass_fields__}
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError):
        return _plain(_default(value), depth - 1)
