"""The user's application as the server uses it: what it must be, which requests are its own, its start and its stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.http_settings import GROUPS, HttpSettings
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import AccessError, ProjectError
from langgraph_serverless.http.app import RESOURCES, create_app
from langgraph_serverless.http.openapi_merge import merged
from langgraph_serverless.http.user_app import UserApp
from langgraph_serverless.settings import Settings

SETTINGS = Settings.from_env({"DATABASE_URI": "postgresql://nowhere/none"})


class Container(ApiContainer):
    """Of a project whose application has been loaded."""

    def __init__(self, app: object, **http: Any) -> None:
        super().__init__(SETTINGS, manifest=Manifest.of({}, http=HttpSettings(app="./app.py:app", **http)))
        self.__dict__["user_app"] = app


def client(app: object, **http: Any) -> httpx.AsyncClient:
    served = create_app(Container(app, **http), ("system", "assistants"))
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api")


async def mine(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("mine")(scope, receive, send)


@pytest.mark.parametrize("app", [mine, "app", None, object()])
def test_what_is_no_application_is_refused_with_what_to_do(app: object) -> None:
    with pytest.raises(ProjectError) as caught:
        create_app(Container(app) if app is not None else Container(0))
    assert "must be a Starlette or FastAPI application" in str(caught.value)
    assert "Mount('/path', app=yours)" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_what_is_mounted_at_the_root_takes_all_but_health_and_the_description() -> None:
    async with client(Starlette(routes=[Mount("/", app=mine)])) as http:
        for path in ("/", "/info", "/assistants/x", "/nowhere"):
            assert (await http.get(path)).text == "mine"
        assert (await http.get("/ok")).json()["ok"] is True
        assert (await http.get("/openapi.json")).json()["info"]["title"] == "LangGraph Server"


async def test_health_and_the_description_stay_the_servers() -> None:
    app = FastAPI()
    for path in ("/ok", "/docs", "/openapi.json", "/info"):
        app.add_api_route(path, lambda: "mine")
    async with client(app) as http:
        assert (await http.get("/info")).json() == "mine"
        assert (await http.get("/ok")).json()["ok"] is True
        assert "/assistants/search" in (await http.get("/openapi.json")).json()["paths"]
        assert "content-security-policy" in (await http.get("/docs")).headers


async def test_their_application_stays_as_it_is() -> None:
    app = FastAPI()
    app.add_api_route("/mine", lambda: 1)
    router, middleware = app.router, list(app.user_middleware)
    async with client(app) as http:
        assert (await http.get("/mine")).json() == 1
    assert (app.router, app.user_middleware, app.middleware_stack) == (router, middleware, None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alone") as alone:
        assert (await alone.get("/mine")).json() == 1
        assert (await alone.get("/ok")).status_code == 404


async def test_where_they_say_which_pages_may_call_the_default_does_not_apply() -> None:
    page, other = {"origin": "https://page.example"}, {"origin": "https://other.example"}
    own = Starlette(middleware=[Middleware(CORSMiddleware, allow_origins=["https://page.example"])])
    async with client(own) as http:
        assert (await http.get("/ok", headers=page)).headers["access-control-allow-origin"] == page["origin"]
        assert "access-control-allow-origin" not in (await http.get("/ok", headers=other)).headers
        asked = {**other, "access-control-request-method": "GET"}
        assert (await http.options("/ok", headers=asked)).status_code == 400
        # clients of runs find their way by these
        assert "location" in (await http.get("/ok", headers=page)).headers["access-control-expose-headers"]
    async with client(Starlette()) as http:
        assert (await http.get("/ok", headers=other)).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("origin", "status"), [("https://page.example", 200), ("https://other.example", 403)])
async def test_what_asks_for_the_origin_itself_asks_them_too(origin: str, status: int) -> None:
    own = Starlette(middleware=[Middleware(CORSMiddleware, allow_origins=["https://page.example"])])
    served = create_app(Container(own), ("mcp",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://api") as http:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"origin": origin, "accept": "application/json, text/event-stream"}
        assert (await http.post("/mcp", json=ping, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("environ", "section", "prefix"), [("", "", ""), ("", "/a", "/a"), ("/b/", "/a", "/b"), ("/b", "", "/b")]
)
def test_the_prefix_of_the_environment_wins(environ: str, section: str, prefix: str) -> None:
    settings = Settings.from_env({"DATABASE_URI": "postgresql://nowhere/none", "MOUNT_PREFIX": environ})
    manifest = Manifest.of({}, http=HttpSettings(mount_prefix=section))
    assert ApiContainer(settings, manifest=manifest).mount_prefix == prefix


@pytest.mark.parametrize("auth_first", [False, True])
async def test_middleware_that_fails_is_500_and_no_more(auth_first: bool) -> None:
    class Failing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError("a secret")

    async with client(Starlette(middleware=[Middleware(Failing)]), auth_first=auth_first) as http:
        response = await http.get("/ok")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert response.headers["x-content-type-options"] == "nosniff"


async def knock(scope: Scope, receive: Receive, send: Send) -> Principal:
    """An authenticator."""
    if (b"authorization", b"zed") not in scope["headers"]:
        raise AccessError("who are you?", 401)
    return Principal.of_user({"identity": "zed", "permissions": ["read"]})


class Elsewhere:
    """Middleware that sends requests to another path, and notes what it sees."""

    seen: list[tuple[str, str | None]]

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            Elsewhere.seen.append((scope["path"], scope["user"].identity if "user" in scope else None))
            if scope["path"] == "/mine/then/theirs":
                scope["path"] = "/assistants/x"
        await self.app(scope, receive, send)


@pytest.mark.parametrize("auth_first", [False, True])
@pytest.mark.parametrize("own_routes", [False, True])
async def test_who_is_asked_who_they_are_and_when(auth_first: bool, own_routes: bool) -> None:
    async def whoami(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.user.identity if "user" in request.scope else "nobody")

    Elsewhere.seen = []
    routes = [Route("/mine", whoami), Route("/info", whoami), Route("/mine/then/theirs", whoami)]
    app = Starlette(routes=routes, middleware=[Middleware(Elsewhere)])
    container = Container(app, auth_first=auth_first, enable_custom_route_auth=own_routes)
    container.__dict__["authenticator"] = knock
    transport = httpx.ASGITransport(create_app(container, ("system", "assistants")), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        for path in ("/mine", "/info"):
            stranger, known = await http.get(path), await http.get(path, headers={"authorization": "zed"})
            assert (stranger.status_code, stranger.text) == (
                (401, '{"detail":"who are you?"}') if own_routes else (200, "nobody")
            )
            assert known.text == ("zed" if own_routes else "nobody")
        # the server's are behind it whatever the order, also where middleware has sent the request there
        for path in ("/assistants/x", "/nowhere", "/mine/then/theirs"):
            assert (await http.get(path)).status_code == 401
            # 422: it has got through
            assert (await http.get(path, headers={"authorization": "zed"})).status_code in (404, 422)
        assert (await http.get("/ok")).status_code == 200
        # a preflight carries no credentials
        asked = {"origin": "https://page.example", "access-control-request-method": "GET"}
        for path in ("/mine", "/assistants/x"):
            assert (await http.options(path, headers=asked)).status_code == 200
    strangers = [path for path, user in Elsewhere.seen if user is None]
    assert ("/assistants/x" in strangers) != auth_first
    assert ("/nowhere" in strangers) != auth_first
    assert (("/assistants/x", "zed") in Elsewhere.seen) == auth_first


def running(happened: list[str], *, fails: bool = False) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, int]]:
        if fails:
            raise ValueError("no model")
        happened.append("theirs starts")
        yield {"number": 7}
        happened.append("theirs stops")

    return FastAPI(lifespan=lifespan)


def around(name: str, happened: list[str], *, fails: bool = False) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if fails:
            raise RuntimeError("the work cannot begin")
        happened.append(f"{name} starts")
        try:
            yield
        finally:
            happened.append(f"{name} stops")

    return lifespan


async def test_theirs_starts_between_the_databases_and_the_work_and_stops_in_the_same_order() -> None:
    happened: list[str] = []
    app = create_app(Container(running(happened)), lifespan=around("base", happened), work=around("work", happened))
    async with app.router.lifespan_context(app) as state:
        assert state == {"number": 7}
    starts = ["base starts", "theirs starts", "work starts"]
    assert happened == [*starts, "work stops", "theirs stops", "base stops"]


async def test_if_the_server_does_not_start_theirs_is_stopped() -> None:
    happened: list[str] = []
    base, work = around("base", happened), around("work", happened, fails=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            happened.append("theirs stops")

    app = create_app(Container(FastAPI(lifespan=lifespan)), lifespan=base, work=work)
    with pytest.raises(RuntimeError, match="the work cannot begin"):
        async with app.router.lifespan_context(app):
            pass
    assert happened == ["base starts", "theirs stops", "base stops"]


async def test_if_theirs_does_not_start_it_is_said_in_a_sentence_and_the_server_is_stopped() -> None:
    happened: list[str] = []
    app = create_app(Container(running(happened, fails=True)), lifespan=around("base", happened))
    with pytest.raises(ProjectError) as caught:
        async with app.router.lifespan_context(app):
            pass
    assert str(caught.value) == "http.app: the lifespan of './app.py:app' failed at its start: ValueError: no model."
    assert happened == ["base starts", "base stops"]


async def test_a_stop_that_is_cancelled_reaches_them() -> None:
    stopped = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            stopped.set()

    user = UserApp(FastAPI(lifespan=lifespan), spec="./app.py:app")

    async def serve() -> None:
        async with user.lifespan():
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


@pytest.mark.parametrize(
    ("group", "gone", "left"),
    [
        ("assistants", "/assistants/{assistant_id}", "/threads"),
        ("threads", "/threads/{thread_id}/state", "/threads/{thread_id}/runs"),
        ("threads", "/threads/{thread_id}/stream", "/threads/{thread_id}/commands"),
        ("runs", "/runs/crons", "/threads/{thread_id}/stream"),
        ("runs", "/threads/{thread_id}/commands", "/threads/{thread_id}/history"),
        ("store", "/store/items", "/info"),
        ("mcp", "/mcp", "/info"),
        ("a2a", "/a2a/{assistant_id}", "/mcp"),
        ("a2a", "/.well-known/agent-card.json", "/mcp"),
        ("meta", "/info", "/ok"),
        ("meta", "/metrics", "/assistants"),
        ("meta", "/docs", "/threads"),
        ("meta", "/openapi.json", "/ok"),
        ("meta", "/", "/ok"),
    ],
)
def test_groups_of_routes_can_be_taken_away(group: str, gone: str, left: str) -> None:
    def paths(**http: Any) -> set[str]:
        container = ApiContainer(SETTINGS, manifest=Manifest.of({}, http=HttpSettings(**http)))
        return {getattr(route, "path", "") for route in create_app(container, RESOURCES).routes}

    assert gone in paths()
    assert gone not in (without := paths(disabled=frozenset({group})))
    assert left in without


async def test_without_meta_health_says_no_more_than_that() -> None:
    container = ApiContainer(SETTINGS, manifest=Manifest.of({}, http=HttpSettings(disabled=frozenset(GROUPS))))
    transport = httpx.ASGITransport(create_app(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        for path in ("/ok", "/ok?check_db=1"):
            assert (await http.get(path)).json() == {"ok": True}
        for path in ("/", "/info", "/metrics", "/docs", "/openapi.json", "/assistants/x", "/mcp", "/store/items"):
            response = await http.get(path)
            assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_descriptions_are_merged_by_operation() -> None:
    server = {
        "openapi": "3.1.0",
        "info": {"title": "Server", "version": "1", "description": "About"},
        "tags": [{"name": "Runs"}],
        "security": [{"key": []}],
        "paths": {"/a": {"get": {"operationId": "a"}, "post": {"operationId": "b"}}},
        "components": {"schemas": {"Run": {"type": "object"}, "Same": {"type": "string"}}},
    }
    reference = {"$ref": "#/components/schemas/Run"}
    user = {
        "info": {"title": "Mine", "version": "2"},
        "paths": {"/a": {"get": {"operationId": "mine", "answer": reference}}, "/b": {"get": {}}},
        "components": {"schemas": {"Run": {"type": "integer"}, "Same": {"type": "string"}}},
    }
    both = merged(server, user)
    assert both["info"] == {"title": "Mine", "version": "2", "description": "About"}
    assert both["paths"]["/a"] == {
        "get": {"operationId": "mine", "answer": {"$ref": "#/components/schemas/Run_app"}},
        "post": {"operationId": "b", "security": [{"key": []}]},
    }
    assert both["paths"]["/b"] == {"get": {}}
    assert both["components"]["schemas"] == {
        "Run": {"type": "object"},
        "Run_app": {"type": "integer"},
        "Same": {"type": "string"},
    }
    assert "security" not in both
