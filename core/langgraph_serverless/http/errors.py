"""The one table from errors to responses.

Every ``ServerError`` answers ``{"detail": text}`` with its own status. Errors of Postgres that bad input can still provoke
(NUL characters, numbers out of range, strings too long to index) are the client's: 422. Whatever is not in the table is a
fault of ours: 500, plain text, with the traceback in the log (``middleware.py`` does that, as it sees all of them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import psycopg
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from langgraph_serverless.errors import AccessError, NamespaceLabelError, QuotaError, ServerError, UnavailableError
from langgraph_serverless.http.idempotency import replayed
from langgraph_serverless.http.responses import json_response
from langgraph_serverless.http.validation import show
from langgraph_serverless.services.idempotency import AnsweredBeforeError

#: Characters of an error's text that a client gets to read.
_LONGEST_DETAIL = 2000

Handler = Callable[[Request, Exception], Awaitable[Response]]


async def server_error(_request: Request, error: Exception) -> Response:
    known = cast(ServerError, error)
    detail = known.detail
    if len(detail) > _LONGEST_DETAIL:
        # it names what the client has sent, which may be megabytes
        detail = f"{detail[:_LONGEST_DETAIL]}..."
    return json_response({"detail": detail}, known.status)


async def unavailable(_request: Request, error: Exception) -> Response:
    known = cast(UnavailableError | QuotaError, error)
    return json_response({"detail": known.detail}, known.status, {"Retry-After": str(known.retry_after)})


async def access_denied(_request: Request, error: Exception) -> Response:
    known = cast(AccessError, error)
    return json_response({"detail": known.detail}, known.status, known.headers)


async def namespace_label(_request: Request, error: Exception) -> Response:
    """The one error that the wire has as plain text."""
    known = cast(NamespaceLabelError, error)
    return PlainTextResponse(known.detail, known.status)


async def answered_before(_request: Request, error: Exception) -> Response:
    """No error to the client, who gets the answer to the first request of its key."""
    return replayed(cast(AnsweredBeforeError, error).answer)


async def http_exception(_request: Request, error: Exception) -> Response:
    known = cast(HTTPException, error)
    return json_response({"detail": known.detail}, known.status_code, known.headers)


async def invalid_parameter(_request: Request, error: Exception) -> Response:
    """A query or path parameter that FastAPI could not read; bodies never come here."""
    found: dict[str, Any] = cast(RequestValidationError, error).errors()[0]
    name = found["loc"][-1]
    return json_response({"detail": f"Invalid value for parameter '{name}': {show(found.get('input'))}"}, 422)


async def refused_by_database(_request: Request, error: Exception) -> Response:
    known = cast(psycopg.Error, error)
    reason = known.diag.message_primary or str(known)
    return json_response({"detail": f"The request holds a value that cannot be stored: {reason}"}, 422)


HANDLERS: dict[Any, Handler] = {
    ServerError: server_error,
    AccessError: access_denied,
    NamespaceLabelError: namespace_label,
    UnavailableError: unavailable,
    QuotaError: unavailable,
    AnsweredBeforeError: answered_before,
    HTTPException: http_exception,
    RequestValidationError: invalid_parameter,
    psycopg.DataError: refused_by_database,
    psycopg.errors.ProgramLimitExceeded: refused_by_database,
}
