"""Routes that work out their arguments once, and the table that finds them: the same as FastAPI's own, for what they take."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.http.routes import Dispatch, Route
from langgraph_serverless.settings import Settings

calls: list[str] = []


async def first(request: Request) -> str:
    calls.append("first")
    return request.method


async def second(of_first: Annotated[str, Depends(first)], x_number: Annotated[int, Header()] = 7) -> str:
    calls.append("second")
    return f"{of_first} {x_number}"


def positive(value: Any) -> int:
    return abs(int(value))


async def endpoint(
    request: Request,
    of_second: Annotated[str, Depends(second)],
    of_first: Annotated[str, Depends(first)],
    number: Annotated[int, BeforeValidator(positive)],
    limit: int = 10,
    word: Annotated[str | None, Query(alias="w")] = None,
    many: Annotated[list[str] | None, Query()] = None,
    last_event_id: Annotated[str | None, Header()] = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    calls.append("endpoint")
    told = [of_second, of_first, number, limit, word, many, last_event_id, accept == "text/plain"]
    return JSONResponse([*told, request.url.path])


async def needing(q: int, h: Annotated[int, Header()], text: str = "t") -> Response:
    return JSONResponse([q, h, text])


def application(route_class: type[APIRoute]) -> Any:
    router = APIRouter(route_class=route_class)
    router.get("/numbers/{number}")(endpoint)
    router.get("/needing")(needing)
    app = FastAPI()
    app.router.routes.extend(router.routes)

    async def wrong(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONResponse([[each["type"], each["loc"]] for each in error.errors()], 422)

    app.add_exception_handler(RequestValidationError, wrong)
    return app


async def told(route_class: type[APIRoute], path: str, headers: dict[str, str]) -> tuple[int, Any, list[str]]:
    calls.clear()
    transport = httpx.ASGITransport(application(route_class))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        answer = await client.get(path, headers=headers)
    return answer.status_code, answer.json(), calls.copy()


PATHS = ("/numbers/-3", "/numbers/3?limit=2&w=a&w=b", "/numbers/3?many=1&many=2", "/numbers/3?limit=x&many=1", "/numbers/3?",
         "/needing", "/needing?q=1", "/needing?q=x&text=u", "/needing?q=1&other=2")  # fmt: skip
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"X-Number": "8", "h": "1"},
    {"X-Number": "eight", "h": "one"},
    {"Last-Event-ID": "5", "Accept": "text/plain"},
    {"last_event_id": "6"},
)


@pytest.mark.parametrize(("path", "headers"), [*itertools.product(PATHS, HEADERS)])
async def test_an_endpoint_is_given_what_fastapi_gives_it(path: str, headers: dict[str, str]) -> None:
    assert await told(Route, path, headers) == await told(APIRoute, path, headers)


async def cookies(session: Annotated[str, Cookie()] = "") -> Response:
    return Response(session)


def plain() -> Response:
    return Response()


async def document() -> dict[str, int]:
    return {}


@pytest.mark.parametrize("asked", [cookies, plain, document])
def test_what_is_not_known_is_refused_when_it_is_declared(asked: Any) -> None:
    with pytest.raises(TypeError):
        APIRouter(route_class=Route).get("/")(asked)


async def test_every_route_is_found_as_by_looking_at_all_of_them() -> None:
    settings = Settings(database_uri="postgresql://nobody@127.0.0.1:1/none", redis_uri="redis://127.0.0.1:1")
    app = create_app(ApiContainer(settings, manifest=Manifest.of({})))
    routes = app.router.routes
    names = {route.path.replace("{", "").replace("}", "") for route in routes if isinstance(route, APIRoute)}
    paths = {
        *names,
        *(f"{name}/" for name in names),
        *(f"{name}/more" for name in names),
        "",
        "/nothing",
        "//",
        "/threads//state",
    }
    found: list[Any] = []

    async def router(scope: Any, _receive: Any, _send: Any) -> None:
        found.append(next((r for r in routes if r.matches(scope)[0] is Match.FULL), None))

    router.routes = [_Noting(route, found) if isinstance(route, Route) else route for route in routes]  # type: ignore[attr-defined]
    dispatch = Dispatch(router)
    quick = 0
    for path, method, root in itertools.product(sorted(paths), ("GET", "POST", "PUT", "PATCH", "DELETE"), ("", "/api")):
        scope = {"type": "http", "method": method, "path": root + path, "root_path": root}
        expected = next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)
        await dispatch(scope, None, None)  # type: ignore[arg-type]
        assert found.pop() is expected, (method, path)
        quick += "endpoint" in scope
    assert quick > 2 * 60, "most are found in the table"


class _Noting(Route):
    """A route that is not carried out."""

    def __init__(self, route: Route, found: list[Any]) -> None:
        self.__dict__.update(route.__dict__)

        async def app(scope: Any, _receive: Any, _send: Any) -> None:
            assert scope["route"] is self
            found.append(route)

        self.app = app


async def test_a_mounted_application_keeps_its_place() -> None:
    asked: list[str] = []

    async def mounted(scope: Any, _receive: Any, _send: Any) -> None:
        asked.append("mounted")

    app = application(Route)
    app.router.routes.insert(0, Mount("/numbers", app=mounted))
    scope = {"type": "http", "method": "GET", "path": "/numbers/3", "root_path": "", "headers": [], "query_string": b""}
    await Dispatch(app.router)(scope, None, None)  # type: ignore[arg-type]
    assert asked == ["mounted"]
