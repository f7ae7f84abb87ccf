"""The API for the project's own code in this process (``langgraph_sdk.get_client()`` without an address).

The same routes and rules as from outside, without the user's application around them and below no prefix. Whom a call acts for:

* within a run, and where a factory makes a graph, the user, and the handlers of ``auth`` are asked as they are about every request of
  that user;
* elsewhere (a route of the project's own, its start) the server itself, whom nobody asks.

Relies on ``Authentication``, which takes the caller from the scope, where no client can write. Imports the application when it is
first used: a worker has no other use for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langgraph_serverless.domain.principal import SERVER, Principal
from langgraph_serverless.domain.users import User
from langgraph_serverless.loopback import offered, on_whose_behalf

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from langgraph_serverless.containers.api import ApiContainer
    from langgraph_serverless.containers.graphs import GraphContainer

#: The routes of the state function.
_STATES = re.compile(r"/threads/[^/]+/(state(/[^/]+)?|history)")


@asynccontextmanager
async def serving(container: ApiContainer) -> AsyncIterator[None]:
    """Within this, on the running event loop, the container's API answers."""
    with offered(lambda: _app(container), lambda: _caller(container)):
        yield


@asynccontextmanager
async def serving_beside(container: GraphContainer) -> AsyncIterator[None]:
    """The same for a container that is no API's: one is made at the first call, with connections of its own."""
    made: list[ApiContainer] = []

    def make() -> Any:
        settings = container.settings.replace(pool_min_size=0)
        made.append(_state_container()(settings, registry=container.registry, manifest=container.catalog.manifest))
        return _app(made[0])

    with offered(make, lambda: _caller(container)):
        try:
            yield
        finally:
            for each in made:
                await each.aclose()


def _app(container: ApiContainer) -> Any:
    from langgraph_serverless.http.app import create_app  # noqa: PLC0415

    app = create_app(container, inside=True)
    return app if "state" in container.resources else _WithStates(app, container)


class _WithStates:
    """For an API function of a project with code of its own: states take the graphs, which are imported when one is asked for."""

    def __init__(self, app: ASGIApp, container: ApiContainer) -> None:
        self._app = app
        self._container = container
        self._states: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _STATES.fullmatch(scope["path"]):
            await self._with_graphs()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _with_graphs(self) -> ASGIApp:
        if self._states is None:
            from langgraph_serverless.http.app import create_app  # noqa: PLC0415

            settings = self._container.settings.replace(pool_min_size=0)
            states = _state_container()(settings, manifest=self._container.catalog.manifest)
            self._states = create_app(states, ("state",), inside=True)
        return self._states


def _state_container() -> Any:
    # by its name: API functions come by here, and it is made of langgraph
    return import_module("langgraph_serverless.containers.state").StateContainer


def _caller(container: ApiContainer) -> dict[str, Any]:
    from langgraph_serverless.http.authentication import CALLER  # noqa: PLC0415

    user, named = _user_of_run(), container.settings.tenant_from
    if user is None:
        return {CALLER: SERVER}
    tenant = user.get(named) if named else None
    return {CALLER: Principal.of_user(user, tenant="" if tenant is None else str(tenant))}


def _user_of_run() -> Mapping[str, Any] | None:
    """The user of the run that this code belongs to; None outside of runs, and where nobody is asked who they are."""
    user = on_whose_behalf()
    if user is None:
        module = sys.modules.get("langchain_core.runnables.config")  # where it is not loaded, no run can be
        config = module.var_child_runnable_config.get() if module is not None else None
        user = ((config or {}).get("configurable") or {}).get("langgraph_auth_user")
    if isinstance(user, User):
        return user.to_json()
    return user if isinstance(user, Mapping) else None
