"""Who is calling: asks the user's ``@auth.authenticate`` handler about a request.

Promises a ``Principal`` or an exception, for every request anew unless the project has a cache: then an answer holds for requests
with the same values of the headers that it names, for as long as it says. Refusals are never kept. What a handler raises by mistake
is let through and becomes a 500, never a caller.

Studio's requests (``x-auth-scheme: langsmith``) are let in as a user of their own only where the operator says so
(``Settings.studio_auth``; ``dev`` does), as nothing here can verify what they claim.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import Receive, Scope, Send

from langgraph_serverless.auth.handlers import Handlers, refusal
from langgraph_serverless.domain.auth_settings import AuthCache
from langgraph_serverless.domain.principal import STUDIO, STUDIO_KIND, Principal
from langgraph_serverless.domain.users import user_document
from langgraph_serverless.errors import AccessError

#: What the SDK's own exception says by default.
UNAUTHORIZED = "Unauthorized"
#: It is part of keys of the store, which have an end.
LONGEST_TENANT = 256
STUDIO_HEADER, STUDIO_SCHEME = "x-auth-scheme", "langsmith"


class Authenticator:
    """Asks the handler of one project."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        cache: AuthCache | None = None,
        studio: bool = False,
        tenant_from: str | None = None,
    ) -> None:
        """
        Args:
            studio: let Studio's requests in without asking.
            tenant_from: which field of the user is its tenant; None where there are no tenants.
        """
        self._handlers = handlers
        self._cache = _Cache(cache) if cache is not None else None
        self._studio = studio
        self._tenant_from = tenant_from

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Principal:
        """The caller of a request, which has not been routed yet.

        Raises:
            AccessError: the handler refuses it.
            BadRequestError: what the handler returned is no user.
        """
        connection = Request(scope, receive, send) if scope["type"] == "http" else HTTPConnection(scope)
        if self._studio and connection.headers.get(STUDIO_HEADER) == STUDIO_SCHEME:
            return STUDIO
        key = self._cache.key(connection.headers) if self._cache is not None else None
        if self._cache is not None and (known := self._cache.get(key)) is not None:
            return known
        returned = await self._ask(connection)
        document = user_document(returned)
        if document.get("kind") == STUDIO_KIND:  # only we say that
            del document["kind"]
        if not document["is_authenticated"]:
            raise AccessError(UNAUTHORIZED, 401)
        found = Principal.of_user(document, tenant=self._tenant(document), native=_native(returned))
        if self._cache is not None:
            self._cache.put(key, found)
        return found

    def _tenant(self, document: Mapping[str, Any]) -> str:
        if self._tenant_from is None:
            return ""
        tenant = document.get(self._tenant_from)
        if not isinstance(tenant, str | int) or isinstance(tenant, bool) or tenant == "":
            # nobody's rows would be everybody's
            raise AccessError(f"The user has no '{self._tenant_from}', which says whose data it is", 403)
        if len(str(tenant)) > LONGEST_TENANT or "\0" in str(tenant):
            raise AccessError(
                f"The user's '{self._tenant_from}' is too long to say whose data it is, or holds a NUL", 403
            )
        return str(tenant)

    async def _ask(self, connection: HTTPConnection) -> Any:
        arguments = {name: _ARGUMENTS[name](connection) for name in self._handlers.wanted}
        try:
            if inspect.iscoroutinefunction(self._handlers.authenticate):
                return await self._handlers.authenticate(**arguments)
            returned = await asyncio.to_thread(self._handlers.authenticate, **arguments)
            return await returned if inspect.isawaitable(returned) else returned
        except Exception as error:
            if (refused := refusal(error)) is None:
                raise
            raise refused from error


def _native(returned: Any) -> Any:
    """The object itself, if it is more than plain JSON."""
    return None if isinstance(returned, str | dict) else returned


_ARGUMENTS: Mapping[str, Callable[[HTTPConnection], Any]] = {
    "request": lambda connection: connection,
    "path": lambda connection: connection.scope["path"],
    "method": lambda connection: connection.scope.get("method", "GET"),
    # it has not been routed
    "path_params": lambda connection: {},
    "query_params": lambda connection: connection.query_params,
    "headers": lambda connection: dict(connection.scope["headers"]),
    "authorization": lambda connection: connection.headers.get("authorization"),
    # has not been read, and is not for sale to whoever has not been let in
    "body": lambda connection: None,
    "scopes": lambda connection: [],
}


class _Cache:
    """Callers by the values of some headers; those least recently used go first."""

    def __init__(self, settings: AuthCache) -> None:
        self._settings = settings
        self._found: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def key(self, headers: Headers) -> bytes | None:
        """None if none of the headers is there: then the answer has come from something else."""
        # all of a name: which of them counts to the handler, only the handler knows
        values = [headers.getlist(name) for name in self._settings.headers]
        if not any(values):
            return None
        # a digest, as these are credentials
        return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).digest()

    def get(self, key: bytes | None) -> Principal | None:
        if key is None or (kept := self._found.get(key)) is None:
            return None
        until, principal = kept
        if until < time.time():  # not the monotonic clock, which may stand still while a function does
            del self._found[key]
            return None
        self._found.move_to_end(key)
        return principal

    def put(self, key: bytes | None, principal: Principal) -> None:
        if key is None:
            return
        self._found[key] = (time.time() + self._settings.ttl_seconds, principal)
        self._found.move_to_end(key)
        while len(self._found) > self._settings.max_size:
            self._found.popitem(last=False)
