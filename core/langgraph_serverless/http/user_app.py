"""The project's own application (``http.app``): its middleware around all routes, its routes before the server's.

::

    request -> the user's middleware -> a route of the user's that takes this path and this method?
                                          yes -> the user's router, with their exception handlers
                                          no  -> the server's application

Promises that nothing of the user's application changes: it may be started on its own as well, and is seen as ``request.app`` by its
middleware and its routes. A path whose method is not the user's is the server's, as is everything that no route of theirs takes; so
``redirect_slashes`` and 405 are only ever about the server's routes, and their exception handlers see none of its errors.

Health and the pages of the description are no routes of the user's (``KEPT``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langgraph_serverless.errors import ProjectError

#: Stay the server's, whatever is mounted at the root: probes ask for the first, and the others describe both applications.
KEPT = frozenset({"/ok", "/docs", "/openapi.json"})

#: Arguments of ``CORSMiddleware``.
_ORIGINS: Mapping[str, Any] = {"allow_origins": (), "allow_origin_regex": None, "allow_credentials": False}

Around = Callable[[ASGIApp], ASGIApp]


class UserApp:
    """One application, as the server uses it."""

    def __init__(self, app: object, *, spec: str, key: str = "http.app") -> None:
        """
        Args:
            spec: ``./app.py:app``, for messages.
            key: where that is written, for messages.

        Raises:
            ProjectError: it is none that could be asked for its routes.
        """
        if not isinstance(app, Starlette):
            raise ProjectError(
                f"{key}: '{spec}' is of type {type(app).__name__}; it must be a Starlette or FastAPI application. Another ASGI "
                "application can be mounted in one: Starlette(routes=[Mount('/path', app=yours)])."
            )
        self.app = app
        self._spec, self._key = spec, key

    @property
    def origins(self) -> Mapping[str, Any] | None:
        """Which pages may call from a browser, if it says so by itself (``CORSMiddleware``)."""
        for each in self.app.user_middleware:
            if isinstance(each.cls, type) and issubclass(each.cls, CORSMiddleware):
                return {name: each.kwargs.get(name, none) for name, none in _ORIGINS.items()}
        return None

    def takes(self, scope: Scope) -> bool:
        """Whether a route of it answers this request."""
        path: str = scope.get("path", "")
        if scope["type"] not in ("http", "websocket") or path.removeprefix(scope.get("root_path", "")) in KEPT:
            return False
        return any(route.matches(scope)[0] is Match.FULL for route in self.app.routes)

    def around(self, server: ASGIApp, *, own: Around) -> ASGIApp:
        """Both: the user's middleware around the user's routes and the server's application.

        Args:
            own: what is put around the user's routes only.
        """
        router = self.app.router
        inner = own(router)

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            if self.takes(scope):
                await inner(scope, receive, send)
                return
            # a copy: to the user's middleware, which goes on while this answers, the application is theirs
            served = {**scope, "app": scope[_SERVER]}

            def tell() -> None:
                scope.update({key: served[key] for key in _TOLD if key in served})

            async def telling(message: Message) -> None:
                tell()
                await send(message)

            try:
                await server(served, receive, telling)
            finally:
                tell()

        # the one place where both Starlette and FastAPI take what is innermost from
        self.app.router = dispatch  # type: ignore[assignment]
        try:
            stack = self.app.build_middleware_stack()
        finally:
            self.app.router = router
        return _Entered(self.app, stack)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[dict[str, Any]]:
        """Its start and its stop; yields what it leaves for its requests.

        Raises:
            ProjectError: it does not start.
        """
        running = self.app.router.lifespan_context(self.app)
        try:
            state = await running.__aenter__()
        except Exception as error:
            said = f"{type(error).__name__}: {error}".rstrip(".: ")
            raise ProjectError(f"{self._key}: the lifespan of '{self._spec}' failed at its start: {said}.") from error
        try:
            yield dict(state or {})
        except BaseException as error:
            # whatever else has ended the server, it may put its own things in order
            if not await running.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            await running.__aexit__(None, None, None)


#: Where the server's own application is kept while the user's is in charge.
_SERVER = "langgraph_serverless.app"
#: What the user's middleware may want to know of a request to the server.
_TOLD = ("route", "endpoint", "path_params", "user", "auth")


class _Entered:
    """What Starlette's ``__call__`` does, for a stack that is not the application's own."""

    def __init__(self, app: Starlette, stack: ASGIApp) -> None:
        self._app = app
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SERVER], scope["app"] = scope["app"], self._app
        try:
            await self._stack(scope, receive, send)
        finally:
            scope["app"] = scope[_SERVER]
