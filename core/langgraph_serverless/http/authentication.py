"""Authentication before routing, as plain ASGI: whoever is not let in learns nothing, not even which paths there are.

Promises that behind it every request has its caller in ``scope["state"]["principal"]`` (``deps.get_caller`` reads it) and, for the
user's own routes, ``request.user`` and ``request.auth``. A few paths are public (``PUBLIC``), as whoever watches a server has no
account; what else is exempt, such as the user's own routes, says whoever builds the application. A preflight never comes here.

Without an authenticator everybody is ``ANONYMOUS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials
from starlette.types import ASGIApp, Receive, Scope, Send

from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.domain.tenants import acting_for
from langgraph_serverless.domain.users import User
from langgraph_serverless.errors import AccessError, BadRequestError, ServerError
from langgraph_serverless.http.responses import json_response

if TYPE_CHECKING:
    from langgraph_serverless.auth.authentication import Authenticator

#: Health, versions, numbers and the description of the API. Whoever wants them hidden turns them off (``http.disable_meta``).
PUBLIC = frozenset({"/", "/ok", "/info", "/metrics", "/docs", "/openapi.json"})
#: Where the caller is kept in a request's state.
PRINCIPAL = "principal"
#: In a scope: who has sent it, if that is known already: an outer ``Authentication`` has found it, or the request comes from this
#: process (``in_process``). No client can write there.
CALLER = "langgraph_serverless.caller"
#: In a scope: true if a page has sent it whose origin may not call with cookies. Then what a browser sends by itself is nobody's word.
FOREIGN = "langgraph_serverless.foreign"
#: A socket's close codes are 4000 and the status that a request would have had.
CLOSE = 4000

Exempt = Callable[[Scope], bool]


class Authentication:
    """Lets requests through whose caller is known."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator | None, exempt: Exempt | None = None) -> None:
        """``exempt`` says which requests need no caller, by default those of ``PUBLIC``."""
        self._app = app
        self._authenticator = authenticator
        self._exempt = exempt or is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        caller = ANONYMOUS
        # a request that nobody has looked at gets to see no rows, where there is somebody to look
        tenant = ANONYMOUS.tenant if self._authenticator is None else None
        known: Principal | None = scope.get(CALLER)
        if known is not None:
            caller, tenant = known, known.tenant
        elif self._authenticator is not None and not self._exempt(scope):
            if scope.get(FOREIGN):
                scope["headers"] = [pair for pair in scope["headers"] if not _is_ambient(*pair)]
            try:
                caller = await self._authenticator(scope, receive, send)
            except (AccessError, BadRequestError) as error:
                await _refuse(error, scope, receive, send)
                return
            scope[CALLER] = caller
            scope["user"] = caller.native if caller.native is not None else User(caller.user or {"identity": ""})
            scope["auth"] = AuthCredentials(list(caller.permissions))
            tenant = caller.tenant
        scope.setdefault("state", {})[PRINCIPAL] = caller
        with acting_for(tenant):
            await self._app(scope, receive, send)


def _is_ambient(name: bytes, value: bytes) -> bool:
    return name == b"cookie" or (name == b"authorization" and value[:6].lower() == b"basic ")


def is_public(scope: Scope) -> bool:
    """Whether the request is for one of ``PUBLIC``, wherever the application is mounted."""
    path: str = scope["path"]
    prefix = scope.get("root_path", "")
    if prefix and path.startswith(f"{prefix}/"):
        path = path[len(prefix) :]
    return scope["type"] == "http" and path in PUBLIC


async def _refuse(error: ServerError, scope: Scope, receive: Receive, send: Send) -> None:
    headers = error.headers if isinstance(error, AccessError) else None
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        # Starlette names the events as the scope's type wants them
        await json_response({"detail": error.detail}, error.status, headers)(scope, receive, send)
        return
    await receive()  # the client's request to connect
    await send({"type": "websocket.close", "code": CLOSE + error.status, "reason": error.detail[:100]})


def caller_of(scope: Scope) -> Principal:
    """Who has sent the request. Of one that ``Authentication`` has not seen: nobody may act for it."""
    caller: Principal = scope["state"][PRINCIPAL]
    return caller
