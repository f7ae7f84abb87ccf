"""The HTTP application: one FastAPI app over the resources that a process serves.

A function asks for one resource, a laptop for all. Router modules are imported by name and only if asked for, because the
``state`` router needs langgraph and the others must not load it. The app opens nothing; whoever made the container closes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from types import MethodType
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Scope

from langgraph_serverless import __version__
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.http import openapi
from langgraph_serverless.http.authentication import Authentication, is_public
from langgraph_serverless.http.encryption_context import EncryptionContext
from langgraph_serverless.http.errors import HANDLERS
from langgraph_serverless.http.middleware import (
    BodyLimit,
    Cors,
    HeadAsGet,
    LastResort,
    Observed,
    PlainTarget,
    RequestCounter,
    cors_options,
)
from langgraph_serverless.http.mounted import BelowPrefix
from langgraph_serverless.http.routes import Dispatch
from langgraph_serverless.http.security_headers import SecurityHeaders
from langgraph_serverless.http.user_app import UserApp

RESOURCES = ("assistants", "threads", "state", "runs", "stream", "crons", "store", "mcp", "a2a", "system")
#: The routers of a resource that has more than the one of its name.
ROUTERS = {"stream": ("stream", "thread_stream", "protocol", "protocol_events", "protocol_socket")}

#: What is left of the system's routes without ``meta``.
HEALTH = "/ok"

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class Application(FastAPI):
    """FastAPI with the middleware that is given to it, the table of errors, and nothing else around its routes.

    What is left out has no work here: ``Observed`` answers what nobody expected, ``BodyLimit`` refuses large bodies, telemetry is
    off, and ``Route`` has no files and no generators to close.
    """

    def build_middleware_stack(self) -> ASGIApp:
        inner = ExceptionMiddleware(Dispatch(self.router), handlers=self.exception_handlers)
        app: ASGIApp = inner
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app


def create_app(
    container: ApiContainer,
    resources: Collection[str] | None = None,
    *,
    lifespan: Lifespan | None = None,
    work: Lifespan | None = None,
    inside: bool = False,
) -> FastAPI:
    """An app that serves ``resources``; by default everything that the container can serve.

    Args:
        lifespan: around that of the user's application, which may use what this has started.
        work: within it; it may use what the user's application has started.
        inside: for whoever is in this process: without the user's application, and below no prefix.

    Raises:
        ProjectError: the user's application cannot be used.
    """
    wanted = container.resources if resources is None else frozenset(resources)
    if unknown := wanted - set(RESOURCES):
        raise ValueError(f"unknown resources: {sorted(unknown)}")
    http = container.catalog.manifest.http
    # the pages of the API's description belong to the system resource
    described = "meta" not in http.disabled
    documented = "system" in wanted and described
    counter = RequestCounter()
    user = None if inside else _user_app(container)
    app = Application(
        title=openapi.TITLE,
        version=__version__,
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,  # a page of ours (``docs_page``) is in the system router
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        exception_handlers=dict(HANDLERS),
        middleware=_middleware(container, counter, user, "" if inside else container.mount_prefix),
        lifespan=_lifespan(lifespan, user, work),
        # its own spans and records would say what is in queries and errors; those of `Observed` do not
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.container = container
    app.state.counter = counter
    app.state.user_app = user and user.app
    #: What tells further numbers of this process in Prometheus's text format, say its worker's; who has it adds it.
    app.state.metrics = []
    app.openapi = MethodType(openapi.document, app)  # type: ignore[method-assign]
    for resource in RESOURCES:
        if resource in wanted:
            for name in filter(http.has_router, ROUTERS.get(resource, (resource,))):
                routes = import_module(f"langgraph_serverless.http.routers.{name}").router.routes
                if name == "system" and not described:
                    routes = [route for route in routes if route.path == HEALTH]
                # include_router would build every route a second time
                app.router.routes.extend(routes)
    return app


def _user_app(container: ApiContainer) -> UserApp | None:
    http, config_path = container.catalog.manifest.http, container.settings.config_path
    if http.app is None:
        return None
    return UserApp(container.user_app, spec=http.app, key=f"{config_path}: http.app" if config_path else "http.app")


def _middleware(
    container: ApiContainer, counter: RequestCounter, user: UserApp | None, prefix: str
) -> list[Middleware]:
    """From the outside to the inside. The user's middleware is around all routes: around authentication too, unless that is to be first."""
    http = container.catalog.manifest.http
    options = cors_options(container.settings, http.cors, own=user.origins if user is not None else None)
    cors, limit = Middleware(Cors, options=options), Middleware(BodyLimit, limit=container.settings.max_body_bytes)
    authentication = Middleware(Authentication, authenticator=container.authenticator)
    outside = [Middleware(SecurityHeaders), *([Middleware(BelowPrefix, prefix=prefix)] if prefix else [])]
    observed = Middleware(Observed, counter=counter, logged=http.logging_headers, passed=http.configurable_headers)
    cipher = container.cipher
    inside = [authentication, *([Middleware(EncryptionContext, context_for=cipher.context_for)] if cipher else [])]
    if user is None:
        return [*outside, cors, observed, Middleware(PlainTarget), *inside, limit, Middleware(HeadAsGet)]
    inside = [Middleware(LastResort), Middleware(PlainTarget), *inside, Middleware(HeadAsGet)]
    nobody = partial(Authentication, authenticator=container.authenticator, exempt=lambda _: False)
    authenticated = nobody if http.enable_custom_route_auth else _as_it_is
    if not http.auth_first:
        around = Middleware(user.around, own=lambda router: Cors(authenticated(router), options=options))
        return [*outside, observed, limit, around, cors, *inside]

    def exempt(scope: Scope) -> bool:
        return not http.enable_custom_route_auth if user.takes(scope) else is_public(scope)

    first = Middleware(Authentication, authenticator=container.authenticator, exempt=exempt)
    # once more inside, as the user's middleware may send a request elsewhere; who is known already is not asked again
    return [*outside, cors, observed, limit, first, Middleware(user.around, own=authenticated), *inside]


def _as_it_is(app: ASGIApp) -> ASGIApp:
    return app


def _lifespan(outer: Lifespan | None, user: UserApp | None, work: Lifespan | None) -> Lifespan | None:
    """One around the other; what the user's leaves is there for every request."""
    if user is None and work is None:
        return outer

    @asynccontextmanager
    async def whole(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as running:
            if outer is not None:
                await running.enter_async_context(outer(app))
            state = await running.enter_async_context(user.lifespan()) if user is not None else {}
            if work is not None:
                await running.enter_async_context(work(app))
            yield state

    return whole
