"""The HTTP application: one FastAPI app over the resources that a process serves.

A function asks for one resource, a laptop for all. Router modules are imported by name and only if asked for, because the
``state`` router needs langgraph and the others must not load it. The app opens nothing; whoever made the container closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from types import MethodType
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from langgraph_serverless import __version__
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.http import openapi
from langgraph_serverless.http.authentication import Authentication
from langgraph_serverless.http.encryption_context import EncryptionContext
from langgraph_serverless.http.errors import HANDLERS
from langgraph_serverless.http.middleware import (
    CORS_DEFAULTS,
    BodyLimit,
    Cors,
    HeadAsGet,
    Observed,
    PlainTarget,
    RequestCounter,
)
from langgraph_serverless.http.security_headers import SecurityHeaders

RESOURCES = ("assistants", "threads", "state", "runs", "stream", "crons", "store", "mcp", "a2a", "system")
#: The routers of a resource that has more than the one of its name.
ROUTERS = {"stream": ("stream", "thread_stream", "protocol", "protocol_events", "protocol_socket")}

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def create_app(
    container: ApiContainer, resources: Collection[str] | None = None, *, lifespan: Lifespan | None = None
) -> FastAPI:
    """An app that serves ``resources``; by default everything that the container can serve."""
    wanted = container.resources if resources is None else frozenset(resources)
    if unknown := wanted - set(RESOURCES):
        raise ValueError(f"unknown resources: {sorted(unknown)}")
    # the pages of the API's description belong to the system resource
    documented = "system" in wanted
    counter = RequestCounter()
    app = FastAPI(
        title=openapi.TITLE,
        version=__version__,
        openapi_url="/openapi.json" if documented else None,
        docs_url=None,  # a page of ours (``docs_page``) is in the system router
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        exception_handlers=dict(HANDLERS),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(Cors, options={**CORS_DEFAULTS, "allow_origins": container.settings.cors_allow_origins}),
            Middleware(Observed, counter=counter),
            Middleware(PlainTarget),
            Middleware(Authentication, authenticator=container.authenticator),
            Middleware(EncryptionContext, context_for=container.cipher.context_for if container.cipher else None),
            Middleware(BodyLimit, limit=container.settings.max_body_bytes),
            Middleware(HeadAsGet),
        ],
        lifespan=lifespan,
        # its own spans and records would say what is in queries and errors; those of `Observed` do not
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.container = container
    app.state.counter = counter
    #: What tells further numbers of this process in Prometheus's text format, say its worker's; who has it adds it.
    app.state.metrics = []
    app.openapi = MethodType(openapi.document, app)  # type: ignore[method-assign]
    for resource in RESOURCES:
        if resource in wanted:
            for name in ROUTERS.get(resource, (resource,)):
                router = import_module(f"langgraph_serverless.http.routers.{name}").router
                # include_router would build every route a second time
                app.router.routes.extend(router.routes)
    return app
