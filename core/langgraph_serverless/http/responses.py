"""Responses: compact JSON by orjson, written once, never validated again.

Timestamps always have six digits and ``+00:00``, whatever the database session's time zone; orjson alone would leave the
digits out on whole seconds. UUIDs and enums become strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.responses import Response

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
_ZERO = timedelta(0)


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a response holds a datetime without a time zone")
        if value.tzinfo is not UTC and value.utcoffset() != _ZERO:
            value = value.astimezone(UTC)
        return value.isoformat() if value.microsecond else value.isoformat(timespec="microseconds")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a response holds a {type(value).__name__}, which has no JSON form")


def dump(document: Any) -> bytes:
    """The document as the bytes of a response."""
    return orjson.dumps(document, default=_default, option=_OPTIONS)


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(dump(document), status, headers, "application/json")


def no_content() -> Response:
    """204 without a body, the answer to a successful DELETE."""
    return Response(status_code=204)


def returns(model: Any, description: str = "Success") -> dict[int | str, dict[str, Any]]:
    """What to give a route as ``responses=``, so that the OpenAPI document shows the model."""
    return {200: {"model": model, "description": description}}
