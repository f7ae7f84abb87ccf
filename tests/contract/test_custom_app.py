"""The user's own application (``http.app``): what it is around, what wins, when it starts, and ``get_client()`` within it.

Compared with the official server; where it differs on purpose is in ``docs/adr/0029-the-users-app.md``.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from dev_server import ROOT, DevServer, free_port, until
from langgraph_sdk.client import LangGraphClient

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "custom_app"
AUTH = """
from langgraph_sdk import Auth
auth = Auth()
@auth.authenticate
async def authenticate(authorization: str | None):
    if authorization != "Bearer zed":
        raise Auth.exceptions.HTTPException(401, "who are you?")
    return {"identity": "zed", "permissions": ["read"]}
@auth.on
async def own(ctx, value):
    if isinstance(value.get("metadata"), dict):
        value["metadata"]["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}
"""
ZED = {"authorization": "Bearer zed"}


@pytest.fixture(scope="module")
def databases_of_tests(databases: Any, redis_uri: str) -> dict[str, str]:
    return {
        "DATABASE_URI": databases.create(),
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"custom-{free_port()}",
        "SCHEDULER_INTERVAL_SECS": "3600",
        "CUSTOM_APP_LOG": "",
    }


def serve(root: Path, environ: dict[str, str], http: dict[str, Any], **keys: Any) -> DevServer:
    """The project with another section ``http``."""
    project = root / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (project / "auth.py").write_text(AUTH)
    config = json.loads((project / "langgraph.json").read_text())
    config["http"] |= http
    (project / "langgraph.json").write_text(json.dumps(config | keys))
    return DevServer(project / "langgraph.json", root / "data", environ).start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, databases_of_tests: dict[str, str]) -> Iterator[DevServer]:
    root = tmp_path_factory.mktemp("custom")
    started = serve(root, {**databases_of_tests, "CUSTOM_APP_LOG": str(root / "log")}, {})
    yield started
    assert started.stop() == 0
    # the client still had the server to ask
    assert (root / "log").read_text() == "started with 1 assistants\nstopped"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, databases_of_tests: dict[str, str]) -> Iterator[DevServer]:
    """With authentication of everything, before the middleware, and below a path."""
    section = {"mount_prefix": "/api", "middleware_order": "auth_first", "enable_custom_route_auth": True}
    environ = {**databases_of_tests, "REDIS_KEY_PREFIX": f"guarded-{free_port()}"}
    auth = {"auth": {"path": "./auth.py:auth"}}
    started = serve(tmp_path_factory.mktemp("guarded"), environ, section, **auth)
    yield started
    started.close()


@pytest.fixture
async def http(server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
async def zed(guarded: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{guarded.url}/api", timeout=30, headers=ZED) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "answer"),
    [
        # theirs win, each for its method only
        ("GET", "/info", 200, {"mine": True}),
        ("GET", "/threads", 200, "threads of mine"),
        ("GET", "/threads/mine", 200, "one of mine"),
        ("GET", "/threads/nobody", 422, {"detail": "Invalid thread ID: must be a UUID"}),
        ("POST", "/threads/mine", 405, {"detail": "Method Not Allowed"}),
        ("GET", "/depends?x_token=yes", 200, "yes"),
        ("GET", "/sub/list", 200, "/sub"),
        ("GET", "/sub/none", 404, {"detail": "Not Found"}),
        ("GET", "/orders/3", 200, {"laps": 3}),
        # their handlers see their errors only
        ("GET", "/orders/0", 418, {"order": "failed"}),
        ("GET", "/orders/404", 404, {"mine": "not found"}),
        ("GET", "/threads/00000000-0000-0000-0000-000000000000", 404, None),
        ("GET", "/nowhere", 404, {"detail": "Not Found"}),
        # what is not theirs is not found, whatever is near it
        ("POST", "/hello", 404, {"detail": "Not Found"}),
        ("GET", "/hello/", 404, {"detail": "Not Found"}),
        ("HEAD", "/hello", 404, None),
        ("GET", "/ok", 200, {"ok": True, "services": {}}),
        ("GET", "/static/none.txt", 404, {"mine": "not found"}),
    ],
)
async def test_routes(http: httpx.AsyncClient, method: str, path: str, status: int, answer: Any) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert answer is None or response.json() == answer
    assert "mine" not in response.json() if path.endswith("000") else True
    # their middleware is around all of them
    assert response.headers["x-marked"] == "42"


async def test_the_other_methods_of_a_path_stay_the_servers(http: httpx.AsyncClient) -> None:
    response = await http.post("/threads", json={})
    assert response.status_code == 200
    assert response.headers["x-marked"] == "42"
    assert (await http.get(f"/threads/{response.json()['thread_id']}")).status_code == 200
    redirected = await http.post("/threads/search/", json={})
    assert (redirected.status_code, httpx.URL(redirected.headers["location"]).path) == (307, "/threads/search")


async def test_files_and_what_the_start_has_left(http: httpx.AsyncClient) -> None:
    assert (await http.get("/static/hello.txt")).text == "hello from a file\n"
    hello = (await http.get("/hello")).json()
    expected = {"path": "/hello", "here": "/hello", "root_path": "", "mine": True, "state": 7}
    assert hello == {**expected, "user": None, "permissions": None}


async def test_middleware_may_answer_for_the_server(http: httpx.AsyncClient) -> None:
    refused = await http.get("/ok", params={"refuse": "1"})
    assert (refused.status_code, refused.text) == (403, "refused by the middleware")


async def test_what_nobody_expected_is_500_without_details(http: httpx.AsyncClient, server: DevServer) -> None:
    response = await http.get("/orders/500")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    until(lambda: "a secret of the orders" in server.output, "its line of the log")


async def test_a_large_body_is_refused_for_their_routes_too(http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(22):
            yield b"x" * 2**20

    assert (await http.post("/read", content=b"x" * 100)).json() == 100
    assert (await http.post("/read", content=pieces())).status_code == 413


async def test_sockets(server: DevServer) -> None:
    address = server.url.replace("http", "ws")
    async with websockets.connect(f"{address}/socket") as socket:
        await socket.send("me")
        assert await socket.recv() == "hello me at /socket"
    async with websockets.connect(f"{address}/threads/{uuid.uuid4()}/stream/events") as socket:
        await socket.send(json.dumps({"id": 1, "method": "subscription.subscribe", "params": {"channels": ["values"]}}))
        assert json.loads(await socket.recv())["id"] == 1
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"{address}/nowhere")
    assert caught.value.response.status_code == 403


async def test_the_client_of_this_process(http: httpx.AsyncClient) -> None:
    called = (await http.get("/call")).json()
    assert called["events"] == ["metadata", "values", "values"]
    assert (await http.get(f"/threads/{called['thread_id']}")).json()["status"] == "idle"


@pytest.mark.parametrize("do", ["call", "call_from_thread"])
async def test_the_client_of_this_process_in_a_node(http: httpx.AsyncClient, do: str) -> None:
    run = {"assistant_id": "agent", "input": {"do": do}}
    said = (await http.post("/runs/wait", json=run)).json()["said"]
    if do == "call":
        assert said["inner"] is True
        assert (await http.get(f"/threads/{said['thread_id']}")).json()["metadata"]["made"] == "by a node"
    else:
        assert said == 1


async def test_pieces_flow_through_the_middleware_and_a_client_that_leaves_is_noticed(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    run = {"assistant_id": "agent", "input": {"do": "wait"}, "on_disconnect": "cancel"}
    async with asyncio.timeout(30), http.stream("POST", f"/threads/{thread_id}/runs/stream", json=run) as response:
        # the first event is here although the run goes on
        assert "metadata" in await anext(response.aiter_text())
        run_id = response.headers["content-location"].rpartition("/")[2]
    async with asyncio.timeout(30):
        while (found := (await http.get(f"/threads/{thread_id}/runs/{run_id}")).json())["status"] != "interrupted":
            assert found["status"] in ("pending", "running")
            await asyncio.sleep(0.05)
    async with asyncio.timeout(10), http.stream("GET", "/slowly") as response:
        assert await anext(response.aiter_text()) == "first\n"


async def test_one_description_of_both(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert (document["info"]["title"], document["info"]["version"]) == ("Orders", "9.1")
    assert document["paths"]["/info"]["get"]["operationId"] == "info_info_get"
    assert {"get", "post"} <= set(document["paths"]["/threads"])
    assert document["paths"]["/threads"]["post"]["operationId"] == "create_thread"
    schemas = document["components"]["schemas"]
    answer = document["paths"]["/orders/{number}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    # both have a model of this name
    assert answer == {"$ref": "#/components/schemas/Run_app"}
    assert list(schemas["Run_app"]["properties"]) == ["laps"]
    assert "run_id" in schemas["Run"]["properties"]
    assert "swagger" in (await http.get("/docs")).text.lower()


async def test_headers_for_graphs(http: httpx.AsyncClient) -> None:
    headers = {
        "x-foo": "1",
        "X-Bar": "2",
        "x-no-baz": "3",
        "user-agent": "mine",
        "authorization": "Bearer secret-of-the-caller",
        "x-api-key": "secret",
        "thread_id": "not-mine",
        "checkpoint_id": "not-mine",
        "checkpoint_ns": "not-mine",
        "__pregel_resuming": "1",
        "langgraph_auth_user_id": "admin",
    }
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    run = {"assistant_id": "agent", "input": {}, "config": {"configurable": {"x-foo": "the client's", "own": "yes"}}}
    said = (await http.post(f"/threads/{thread_id}/runs/wait", json=run, headers=headers)).json()["said"]
    request_id = said.pop("x-request-id")
    assert said.pop("langgraph_request_id") == request_id
    shown = {key: value for key, value in said.items() if key.startswith("x-") or key in {*headers, "own"}}
    assert shown == {
        "x-foo": "1",
        "x-bar": "2",
        "user-agent": "mine",
        "own": "yes",
        "thread_id": thread_id,
        "langgraph_auth_user_id": "",
        "checkpoint_ns": shown["checkpoint_ns"],
    }
    assert shown["checkpoint_ns"].startswith("act:")
    # of that run only
    thread = (await http.get(f"/threads/{thread_id}")).json()
    assert thread["config"]["configurable"] == {"x-foo": "the client's", "own": "yes"}
    await http.post(f"/threads/{thread_id}/state", json={"values": {"said": "x"}}, headers={"x-foo": "of the update"})
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    assert state["metadata"]["x-foo"] == "of the update"


async def test_headers_of_every_way_to_make_a_run(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    run, headers = {"assistant_id": "agent", "input": {}}, {"x-foo": "1"}
    command = {"id": 1, "method": "run.start", "params": run}
    for path, body in (
        ("/runs", run),
        ("/runs/batch", [run]),
        ("/runs/stream", run),
        (f"/threads/{thread_id}/runs", run),
        (f"/threads/{thread_id}/runs/stream", run),
        (f"/threads/{thread_id}/commands", command),
    ):
        response = await http.post(path, json=body, headers=headers)
        assert response.status_code == 200, (path, response.text)
        if path in ("/runs", f"/threads/{thread_id}/runs"):
            assert response.json()["kwargs"]["config"]["configurable"]["x-foo"] == "1"
        elif path == "/runs/batch":
            assert response.json()[0]["kwargs"]["config"]["configurable"]["x-foo"] == "1"
        elif path.endswith("stream"):
            assert '"x-foo":"1"' in response.text
    runs = (await http.get(f"/threads/{thread_id}/runs")).json()
    assert len(runs) == 3
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "agent", "arguments": {"do": "say"}}}
    accepted = {**headers, "accept": "application/json, text/event-stream"}
    assert "x-foo" in (await http.post("/mcp", json=call, headers=accepted)).text
    assert all(one["kwargs"]["config"]["configurable"]["x-foo"] == "1" for one in runs)


async def test_headers_of_the_log(http: httpx.AsyncClient, server: DevServer) -> None:
    headers = {"x-shown": "shown-in-the-log", "x-no-show": "hidden-from-it", "authorization": "Bearer hidden-from-it"}
    await http.get("/ok", headers=headers)
    until(lambda: "shown-in-the-log" in server.output, "its line of the log")
    line = next(line for line in server.output.splitlines() if "shown-in-the-log" in line)
    assert "GET /ok 200" in line
    assert "hidden-from-it" not in server.output


# behind authentication, below a path


async def test_their_routes_are_authenticated_if_they_are_to_be(zed: httpx.AsyncClient, guarded: DevServer) -> None:
    hello = (await zed.get("/hello")).json()
    assert (hello["user"], hello["permissions"]) == ("zed", ["read"])
    async with httpx.AsyncClient(base_url=f"{guarded.url}/api") as nobody:
        for path in ("/hello", "/info", "/threads/mine", "/nowhere", "/sub/list", "/static/hello.txt"):
            response = await nobody.get(path)
            assert (response.status_code, response.json()) == (401, {"detail": "who are you?"})
            # who is refused does not get to the middleware
            assert "x-marked" not in response.headers
        assert (await nobody.get("/ok")).status_code == 200


async def test_only_health_is_at_the_root(zed: httpx.AsyncClient, guarded: DevServer) -> None:
    async with httpx.AsyncClient(base_url=guarded.url, headers=ZED) as root:
        assert [(await root.get(path)).status_code for path in ("/ok", "/", "/info", "/hello", "/docs", "/apix")] == [
            200,
            200,
            404,
            404,
            404,
            404,
        ]
        assert (await root.post("/threads", json={})).status_code == 404
    hello = (await zed.get("/hello")).json()
    assert (hello["path"], hello["here"], hello["root_path"]) == ("/api/hello", "/api/hello", "/api")
    assert (await zed.get("/sub/list")).json() == "/api/sub"
    document = (await zed.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/api"}]
    assert "/threads" in document["paths"]
    assert "openapi.json" in (await zed.get("/docs")).text
    redirected = await zed.post("/threads/search/", json={})
    assert httpx.URL(redirected.headers["location"]).path == "/api/threads/search"


async def test_locations_are_for_clients_that_know_the_prefix(guarded: DevServer) -> None:
    async with httpx.AsyncClient(base_url=f"{guarded.url}/api", headers=ZED, timeout=30) as http:
        sdk = LangGraphClient(http)
        thread = await sdk.threads.create()
        parts = [part.event async for part in sdk.runs.stream(thread["thread_id"], "agent", input={})]
        assert parts[0] == "metadata"
        run = {"assistant_id": "agent", "input": {}}
        response = await http.post(f"/threads/{thread['thread_id']}/runs/wait", json=run)
        # as the SDK goes there, relative to its address
        assert (await http.get(response.headers["location"])).status_code == 200


@pytest.mark.parametrize("do", ["call", "call_from_below"])
async def test_a_node_acts_as_the_user_of_its_run_and_a_route_as_the_server(zed: httpx.AsyncClient, do: str) -> None:
    run = {"assistant_id": "agent", "input": {"do": do}}
    said = (await zed.post("/runs/wait", json=run)).json()["said"]
    thread = (await zed.get(f"/threads/{said['thread_id']}")).json()
    assert thread["metadata"]["owner"] == "zed"
    called = (await zed.get("/call")).json()
    # nobody owns it, so handlers hide it from whoever asks from outside
    assert (await zed.get(f"/threads/{called['thread_id']}")).status_code == 404
