"""For whom a request's data is encrypted, as plain ASGI behind ``Authentication``.

What a client says in ``X-Encryption-Context`` (JSON in Base64), and what the project's context handler makes of that and of the user, goes
to the handlers of everything that the request stores, and is stored beside it. It is no secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.authentication import UnauthenticatedUser
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from langgraph_serverless.domain.encryption import encrypting_for
from langgraph_serverless.errors import EncryptionError, InvalidInputError
from langgraph_serverless.http.authentication import is_public
from langgraph_serverless.http.responses import json_response

HEADER = "x-encryption-context"
#: Characters of the header: it is stored beside each value that the request encrypts, and a body of a few kilobytes has thousands.
LONGEST = 1024

ContextFor = Callable[[Any, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class EncryptionContext:
    """Applies to HTTP requests and to everything that a socket commands."""

    def __init__(self, app: ASGIApp, context_for: ContextFor | None) -> None:
        """Without ``context_for`` nothing is encrypted."""
        self._app = app
        self._context_for = context_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._context_for is None or scope["type"] not in ("http", "websocket") or is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            user = scope.get("user") or UnauthenticatedUser()
            found = await self._context_for(user, _sent(Headers(scope=scope)))
        except (InvalidInputError, EncryptionError) as error:
            if scope["type"] != "http":
                await receive()
                await send({"type": "websocket.close", "code": 4000 + error.status, "reason": error.detail[:100]})
                return
            await json_response({"detail": error.detail}, error.status)(scope, receive, send)
            return
        with encrypting_for(found):
            await self._app(scope, receive, send)


def _sent(headers: Headers) -> dict[str, Any]:
    sent = headers.get(HEADER)
    if not sent:
        return {}
    if len(sent) > LONGEST:
        raise InvalidInputError(f"The header X-Encryption-Context may have {LONGEST} characters.")
    try:
        context = orjson.loads(base64.b64decode(sent, validate=True))
    except (binascii.Error, ValueError):
        context = None
    if not isinstance(context, dict):
        raise InvalidInputError("The header X-Encryption-Context must be a JSON object in Base64.")
    return context
