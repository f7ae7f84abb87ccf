"""Routes whose arguments are worked out once, when they are declared, instead of for every request.

FastAPI's own way to an endpoint walks the tree of its dependencies for each request, with two stacks for those that must be closed,
a response for headers that they may set, and a second table of errors: a sixth of a request's CPU time for a tree that never changes.
Routers here say ``APIRouter(route_class=Route)`` and write endpoints as ever. The tree, the parameters and the description of the
API are FastAPI's; so is every value that a request gives: only what it leaves out is not asked about again.

Promises FastAPI's order: dependencies as they are declared, each once, then the endpoint's own parameters, and all that is wrong with
them in one ``RequestValidationError``. Refuses, when a module is imported, an endpoint that needs more: one that returns no ``Response``,
plain functions, generators, cookies, forms, background tasks.

``Dispatch`` finds the route in a table by method, first part and number of parts of the path, in the order of the routes.
Whatever it does not find (404, 405, a slash too many, a mounted application) is the router's, which looks at all of them.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

#: Defaults that nobody can change.
_CONSTANTS = (str, int, float, bool, type(None), tuple)
#: What an endpoint or a dependency may not ask for here.
_UNKNOWN = (
    "cookie_params", "body_params", "websocket_param_name", "http_connection_param_name", "response_param_name",
    "background_tasks_param_name", "security_scopes_param_name", "concurrency",
)  # fmt: skip


class Route(APIRoute):
    """One route; see the module."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        answer = self.get_route_handler()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await answer(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app

    def get_route_handler(self) -> Any:
        """How a request is answered.

        Raises:
            TypeError: the endpoint needs what is not known here.
        """
        if self.response_model is not None:
            raise TypeError(f"{self.path}: an endpoint must say that it returns a Response")
        steps: list[_Step] = []
        _plan(self.dependant, steps, {})
        *dependencies, endpoint = steps

        async def answer(request: Request) -> Response:
            results: list[Any] = []
            errors: list[Any] = []
            for step in dependencies:
                values = step.values(request, results, errors)
                results.append(_WRONG if values is None else await step.call(**values))
            values = endpoint.values(request, results, errors)
            if errors or values is None:
                raise RequestValidationError(errors)
            response: Response = await endpoint.call(**values)
            return response

        return answer


def _plan(dependant: Dependant, steps: list[_Step], known: dict[Any, int]) -> int:
    """Adds what must be called for this, in order; the number of its own step."""
    needed = [(each.name or "", _plan(each, steps, known)) for each in dependant.dependencies]
    if dependant.call not in known:
        steps.append(_Step(dependant, needed))
        known[dependant.call] = len(steps) - 1
    return known[dependant.call]


class _Step:
    """One function to call, and where its arguments come from."""

    __slots__ = ("_defaults", "_headers", "_path", "_query", "_request", "_results", "call")

    def __init__(self, dependant: Dependant, needed: Sequence[tuple[str, int]]) -> None:
        call = dependant.call
        if call is None or not inspect.iscoroutinefunction(call):
            raise TypeError(f"{call} must be an async function")
        if asked := [name for name in _UNKNOWN if getattr(dependant, name)]:
            raise TypeError(f"{call.__name__} asks for what Route does not know: {', '.join(asked)}")
        self.call: Callable[..., Awaitable[Any]] = call
        self._results = needed
        self._request = dependant.request_param_name
        self._path = [(field, field.name, field.alias) for field in dependant.path_params]
        self._query = _Optional(dependant.query_params)
        self._headers = _Optional(dependant.header_params)
        self._defaults = {**self._query.defaults, **self._headers.defaults}

    def values(self, request: Request, results: Sequence[Any], errors: list[Any]) -> dict[str, Any] | None:
        """The arguments; None if something is wrong with them, which is added to ``errors``."""
        scope, before = request.scope, len(errors)
        values = self._defaults.copy()
        whole = True
        for name, number in self._results:
            values[name] = results[number]
            whole = whole and results[number] is not _WRONG
        for field, name, alias in self._path:
            values[name], wrong = field.validate(scope["path_params"][alias], values, loc=("path", alias))
            errors += wrong
        if self._query.may_be_in(scope["query_string"]):
            _read(self._query.fields, request.query_params, values, errors)
        if self._headers.may_be_in(scope["headers"]):
            _read(self._headers.fields, request.headers, values, errors)
        if self._request is not None:
            values[self._request] = request
        return values if whole and len(errors) == before else None


#: What a dependency has come to that was not called.
_WRONG = object()


class _Optional:
    """Parameters of one kind: what they are where a request leaves all of them out, and how one sees that it may not."""

    __slots__ = ("_names", "_required", "defaults", "fields")

    def __init__(self, fields: Sequence[Any]) -> None:
        self.fields = fields
        self._required = any(
            field.field_info.is_required()
            or field.field_info.validate_default
            or not isinstance(field.default, _CONSTANTS)
            for field in fields
        )
        self.defaults = {} if self._required else {field.name: field.default for field in fields}
        said = {name for field in fields for name in (field.name, field.alias, field.validation_alias) if name}
        self._names = {form.lower().encode() for name in said for form in (name, name.replace("_", "-"))}

    def may_be_in(self, given: bytes | Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether this query, or one of these headers, may be one of them, or one must be there."""
        if not self.fields:
            return False
        return self._required or (bool(given) if isinstance(given, bytes) else not self._names.isdisjoint(dict(given)))


def _read(fields: Sequence[Any], given: Any, values: dict[str, Any], errors: list[Any]) -> None:
    """FastAPI's reading of query or headers, into ``values``."""
    found, wrong = request_params_to_args(fields, given)
    values.update(found)
    errors += wrong


class Dispatch:
    """Around a router: goes to the route of a request without asking all those before it."""

    def __init__(self, router: Any) -> None:
        self._router: ASGIApp = router
        self._table: Mapping[tuple[str, str, int], list[tuple[Any, Route | None]]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, root = scope["path"], scope.get("root_path", "")
            if root and path.startswith(f"{root}/"):
                path = path[len(root) :]
            if self._table is None:
                self._table = _table(self._router.routes)  # type: ignore[attr-defined]
            for regex, route in self._table.get((scope["method"], path[1:].partition("/")[0], path.count("/")), ()):
                if (found := regex.match(path)) is not None:
                    if route is None:
                        break
                    scope["router"], scope["route"], scope["endpoint"] = self._router, route, route.endpoint
                    scope["path_params"] = {**scope.get("path_params", {}), **found.groupdict()}
                    await route.app(scope, receive, send)
                    return
        await self._router(scope, receive, send)


def _table(routes: Sequence[BaseRoute]) -> Mapping[tuple[str, str, int], list[tuple[Any, Route | None]]]:
    """Routes by method, first part of the path and number of its parts, in their order, each with its expression."""
    table: defaultdict[tuple[str, str, int], list[tuple[Any, Route | None]]] = defaultdict(list)
    anything: list[tuple[Any, Route | None]] = []
    for route in routes:
        keys = _keys(route)
        entry = (getattr(route, "path_regex", _ANY), route if isinstance(route, Route) else None)
        if not keys and not isinstance(route, WebSocketRoute):
            anything.append(entry)
        for key in keys:
            # what is before it, and may be anything, is asked first
            table[key] += [each for each in anything if each not in table[key]]
            table[key].append(entry)
    return table


#: Of a route that does not say which paths it takes.
_ANY = re.compile("")


def _keys(route: BaseRoute) -> Sequence[tuple[str, str, int]]:
    """Where a route is in the table; nowhere if the first part of its path, or their number, may be anything."""
    path, methods = getattr(route, "path", ""), getattr(route, "methods", None)
    first, _, rest = path[1:].partition("/")
    if not methods or "{" in first or ":" in rest:
        return ()
    return [(method, first, path.count("/")) for method in methods]
