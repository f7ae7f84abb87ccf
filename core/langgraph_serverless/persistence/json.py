"""JSON into and out of Postgres.

``jsonb`` refuses two things that Python strings may hold: NUL characters and lone surrogates. Both are dropped when a
document is written, as there is no way to keep them; the edges of the server refuse them in requests where it matters.
Values of graphs (messages, models, dataclasses) are turned into plain JSON by ``dump_json`` of the domain first.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from psycopg.types.json import Jsonb, set_json_loads

# an escaped NUL, unless its backslash is itself escaped
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

set_json_loads(orjson.loads)


def dump_jsonb(value: Any) -> bytes:
    """The text of a document as ``jsonb`` takes it."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        text = orjson.dumps(without_surrogates(value))
    return _NUL.sub(rb"\1", text) if b"\\u0000" in text else text


def without_surrogates(value: Any) -> Any:
    """The same document with lone surrogates replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {without_surrogates(str(key)): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_surrogates(item) for item in value]
    return value


def storable(value: Any) -> Any:
    """The same document as ``jsonb`` would keep it, for filters that are bound by others."""
    return orjson.loads(dump_jsonb(value))


def same_json(one: Any, other: Any) -> bool:
    """Whether both are written in the same way."""
    return one is other or dump_jsonb(one) == dump_jsonb(other)


def jsonb(value: Any) -> Jsonb:
    """Bind a document of plain JSON values to a ``jsonb`` parameter."""
    return Jsonb(value, dumps=dump_jsonb)
