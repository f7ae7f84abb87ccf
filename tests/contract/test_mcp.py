"""MCP as clients see it: the official client in both of its eras, and messages by hand, against a server that executes the graphs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from dev_server import DevServer
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from langgraph_serverless import __version__
from langgraph_serverless.cli.server.application import ServerApplication
from langgraph_serverless.domain import mcp as ours
from langgraph_serverless.settings import Settings
from mcp import Client, MCPError

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "tests" / "fixtures" / "projects" / "tools" / "langgraph.json"
PATIENCE = 30.0
GRAPHS = {"increment", "waits", "refuses", "fails", "asks", "times", "chat"}
BOTH = {"accept": "application/json, text/event-stream"}
JSON = {"accept": "application/json"}


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The API and a worker in this process, each on a thread; the address."""
    interval = sys.getswitchinterval()
    with ThreadPoolExecutor(1) as thread_without_loop:
        made = thread_without_loop.submit(ServerApplication, settings, with_worker=True, with_scheduler=False)
    config = uvicorn.Config(made.result().app, host="127.0.0.1", port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)
    sys.setswitchinterval(interval)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def database(databases: Any) -> Iterator[str]:
    uri = databases.create()
    yield uri
    databases.drop(uri)


@pytest.fixture(scope="module")
def url(database: str, redis_uri: str) -> Iterator[str]:
    environ = {
        "DATABASE_URI": database,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(PROJECT),
        "STREAM_KEEPALIVE_SECS": "0.1",
        "CORS_ALLOW_ORIGINS": "https://pages.example",
    }
    with serving(Settings.from_env(environ)) as found:
        yield found


@pytest.fixture(params=["legacy", "auto"])
def official(request: pytest.FixtureRequest, url: str) -> Client:
    """By hand-shake, and as the protocol's newest version has it. To be entered by the test, in whose task it must end."""
    return Client(f"{url}/mcp", mode=request.param, read_timeout_seconds=PATIENCE)


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, headers=BOTH) as client:
        yield client


def request_of(method: str, params: Any = None, *, key: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": key, "method": method, **({"params": params} if params is not None else {})}


def calling(tool: str, **arguments: Any) -> dict[str, Any]:
    return request_of("tools/call", {"name": tool, "arguments": arguments})


def runs(database: str) -> list[str]:
    with psycopg.connect(database) as connection:
        return [str(row[0]) for row in connection.execute("SELECT status FROM lgs.run").fetchall()]


# -- the official client ---------------------------------------------------------------------------------------------


def test_every_version_that_the_official_client_knows_is_served() -> None:
    assert (ours.HANDSHAKE_VERSIONS, ours.MODERN_VERSIONS) == (HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS)


async def test_graphs_are_tools(official: Client) -> None:
    async with official as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == GRAPHS
        times, chat, increment = tools["times"], tools["chat"], tools["increment"]
        assert (times.title, times.description) == ("times", "Tool based on the times assistant")
        assert times.input_schema["properties"].keys() == {"word", "count"}
        assert times.input_schema["required"] == ["word", "count"]
        assert times.output_schema == {"type": "object", "properties": {"text": {"title": "Text"}}}
        assert times.annotations is not None
        assert times.annotations.read_only_hint is False
        assert chat.description == "Says it again."
        assert chat.input_schema["properties"]["messages"]["type"] == "string"
        assert "$defs" not in chat.input_schema
        assert increment.input_schema["properties"]["input"]["type"] == "integer"
        assert increment.output_schema is None


async def test_calling_tools(official: Client) -> None:
    async with official as client:
        await client.list_tools()  # so that it checks what comes out
        result = await client.call_tool("times", {"word": "ha", "count": 3})
        assert (result.is_error, result.structured_content) == (False, {"text": "hahaha"})
        assert json.loads(result.content[0].text) == {"text": "hahaha"}  # type: ignore[union-attr]

        result = await client.call_tool("chat", {"messages": "hello", "language": "en"})
        assert [each["content"] for each in result.structured_content["messages"]] == ["hello", "[en] hello"]

        result = await client.call_tool("increment", {"input": 41})
        assert (result.content[0].text, result.structured_content) == ("42", None)  # type: ignore[union-attr]


async def test_a_question_is_part_of_what_comes_out(official: Client) -> None:
    async with official as client:
        result = await client.call_tool("asks", {"word": "a", "count": 1})
        assert result.is_error is False
        assert result.structured_content["__interrupt__"][0]["value"] == {"question": "Which word?"}


async def test_errors_of_graphs_are_results(official: Client) -> None:
    async with official as client:
        for tool, said in (("fails", "UnlistedError"), ("refuses", "ValueError: count must not be negative")):
            result = await client.call_tool(tool, {"word": "a", "count": 1})
            assert (result.is_error, result.content[0].text) == (True, said)  # type: ignore[union-attr]


async def test_errors_of_calls(official: Client) -> None:
    async with official as client:
        with pytest.raises(MCPError, match="Unknown tool: nope"):
            await client.call_tool("nope", {})
        with pytest.raises(MCPError, match="Method not found: prompts/list"):
            await client.list_prompts()


async def test_a_long_call_keeps_its_connection_and_tells_its_steps(official: Client) -> None:
    async with official as client:
        seen: list[tuple[float, str | None]] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            seen.append((done, message))

        result = await client.call_tool("waits", {"seconds": 0.5}, progress_callback=progress)
        assert result.structured_content == {"seconds": 0.5}
        assert seen[:1] == [(1, "first")]


async def test_who_gives_up_waiting_cancels_the_run(official: Client, database: str) -> None:
    async with official as client:
        with pytest.raises((TimeoutError, MCPError)):
            await client.call_tool("waits", {"seconds": 60}, read_timeout_seconds=0.4)
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            await nothing_left(database)
    # one that has shaken hands only stops listening, and leaves when it is closed
    await nothing_left(database)


async def test_assistants_are_tools_with_names_of_their_own(http: httpx.AsyncClient, official: Client) -> None:
    async with official as client:
        made = []
        for number in range(2):
            body = {"graph_id": "times", "name": "Say it (twice)", "description": f"number {number}"}
            made.append((await http.post("/assistants", json=body)).json()["assistant_id"])
        shadow = (await http.post("/assistants", json={"graph_id": "fails", "name": "times"})).json()["assistant_id"]
        try:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tools["Say_it_twice"].description == "number 0"
            assert tools[f"Say_it_twice_{made[1].replace('-', '')[:8]}"].description == "number 1"
            assert tools["Say_it_twice"].title == "Say it (twice)"
            # whoever makes an assistant takes no other tool's place
            for name in ("times", "Say_it_twice", made[1]):
                assert (await client.call_tool(name, {"word": "a", "count": 2})).is_error is False
            assert (await client.call_tool(shadow, {"word": "a", "count": 2})).is_error is True
        finally:
            for each in (*made, shadow):
                await http.delete(f"/assistants/{each}")


def test_the_guides_program(examples_server: DevServer) -> None:
    page, program = (ROOT / "docs/guides/mcp.md").read_text(), ROOT / "docs" / "examples" / "mcp_client.py"
    assert f"```python\n{program.read_text()}```\n" in page
    command = [sys.executable, program, examples_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```\n" in page, done.stdout


# -- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_both_paths_answer_without_a_redirect(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.post(path, json=request_of("ping", key="a"))
    assert (answer.status_code, answer.json()) == (200, {"jsonrpc": "2.0", "id": "a", "result": {}})
    assert answer.headers["content-type"] == "application/json"
    refused = [await http.request(method, path) for method in ("GET", "HEAD", "DELETE", "PUT")]
    assert [(each.status_code, each.content) for each in refused[:3]] == [(405, b""), (405, b""), (404, b"")]
    assert refused[3].status_code == 405


async def test_versions(http: httpx.AsyncClient) -> None:
    for asked, got in (
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        (None, "2025-11-25"),
        ([], "2025-11-25"),
    ):
        answer = (await http.post("/mcp", json=request_of("initialize", {"protocolVersion": asked}))).json()
        assert answer["result"] == {
            "protocolVersion": got,
            "capabilities": {"tools": {"listChanged": False}},
            "serverInfo": {"name": "LangGraph", "version": __version__},
        }
    older = await http.post("/mcp", json=request_of("tools/list"), headers={"mcp-protocol-version": "2025-03-26"})
    newer = await http.post("/mcp", json=request_of("tools/list"), headers={"mcp-protocol-version": "2025-06-18"})
    assert "outputSchema" not in older.text
    assert "outputSchema" in newer.text
    body = calling("times", word="a", count=1)
    assert (await http.post("/mcp", json=body, headers=JSON)).json()["result"].keys() == {"content"}
    answer = await http.post("/mcp", json=body, headers={"mcp-protocol-version": "2025-11-25", **JSON})
    assert answer.json()["result"]["structuredContent"] == {"text": "a"}
    answer = await http.post("/mcp", json=request_of("ping"), headers={"mcp-protocol-version": "2099-01-01"})
    assert answer.status_code == 400
    assert answer.json()["error"]["data"] == {"supported": list(ours.VERSIONS), "requested": "2099-01-01"}


MISSING = "Invalid JSON-RPC message. Missing or invalid jsonrpc version."
ACCEPT = "Accept header must include application/json or text/event-stream"


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{", {}, 400, "Invalid JSON"),
        (b"", {}, 400, "Invalid JSON"),
        (b"[]", {}, 400, "Invalid message format."),
        (b"3", {}, 400, "Invalid message format."),
        (b"{}", {}, 400, MISSING),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', {}, 400, MISSING),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"accept": "text/html"}, 400, ACCEPT),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
            {"origin": "https://elsewhere.example"},
            403,
            "This origin may not call",
        ),
    ],
)
async def test_what_is_no_message(
    http: httpx.AsyncClient, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    answer = await http.post("/mcp", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


async def test_what_is_not_answered(http: httpx.AsyncClient) -> None:
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
    ):
        answer = await http.post("/mcp", json=body)
        assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (request_of("prompts/list"), -32601, "Method not found: prompts/list"),
        (request_of("server/discover"), -32601, "Method not found: server/discover"),
        (request_of("tools/call", {"name": "nope"}), -32602, "Unknown tool: nope"),
        (request_of("tools/call", {"name": "no\0pe"}), -32602, "Unknown tool: no\0pe"),
        (request_of("tools/call"), -32602, "Unknown tool: None"),
        (request_of("tools/call", {"name": "n" * 9000}), -32602, f"Unknown tool: {'n' * 200}"),
        (request_of("m" * 9000), -32601, f"Method not found: {'m' * 200}"),
        (
            request_of("tools/call", {"name": "times", "arguments": [1]}),
            -32602,
            "The arguments of a tool are an object",
        ),
        (request_of("tools/list", {"cursor": "x"}), -32602, "Invalid cursor"),
        (request_of("tools/list", {"cursor": 3}), -32602, "Invalid cursor"),
        (request_of("tools/list", [1]), -32602, "Invalid params"),
        ({**request_of("x"), "method": 3}, -32600, "Invalid method"),
    ],
)
async def test_what_the_protocol_has_a_code_for(
    http: httpx.AsyncClient, body: dict[str, Any], code: int, message: str
) -> None:
    answer = await http.post("/mcp", json=body)
    assert (answer.status_code, answer.json()["id"], answer.json()["error"]) == (
        200,
        1,
        {"code": code, "message": message},
    )


async def test_pages(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph_serverless.services.mcp.PAGE", 3)
    seen, cursor = [], None
    while True:
        params = {} if cursor is None else {"cursor": cursor}
        result = (await http.post("/mcp", json=request_of("tools/list", params))).json()["result"]
        seen.append([tool["name"] for tool in result["tools"]])
        cursor = result.get("nextCursor")
        if cursor is None:
            break
    assert [len(page) for page in seen] == [3, 3, 1]
    assert {name for page in seen for name in page} == GRAPHS


async def test_a_client_of_json_gets_json_behind_newlines(http: httpx.AsyncClient) -> None:
    answer = await http.post("/mcp", json=calling("waits", seconds=0.4), headers=JSON)
    assert answer.headers["content-type"] == "application/json"
    assert answer.content.startswith(b"\n")
    assert answer.json()["result"] == {"content": [{"type": "text", "text": '{"seconds":0.4}'}]}


async def test_a_client_that_takes_events_gets_them_when_a_call_takes_long(http: httpx.AsyncClient) -> None:
    answer = await http.post("/mcp", json=calling("waits", seconds=0.4))
    assert answer.headers["content-type"].startswith("text/event-stream")
    *beats, message, end = answer.text.split("\r\n\r\n")
    assert set(beats) == {": heartbeat"}
    assert end == ""
    name, data = message.split("\r\n")
    assert name == "event: message"
    assert json.loads(data.removeprefix("data: "))["result"]["content"][0]["text"] == '{"seconds":0.4}'


@pytest.mark.parametrize("headers", [BOTH, JSON])
async def test_who_leaves_cancels_the_run(http: httpx.AsyncClient, database: str, headers: dict[str, str]) -> None:
    async with http.stream("POST", "/mcp", json=calling("waits", seconds=60), headers=headers) as answer:
        async for _ in answer.aiter_raw():
            break
        assert runs(database) != []
    await nothing_left(database)


async def nothing_left(database: str) -> None:
    """A run of a tool goes with its thread when it has ended, so a cancelled one is gone too."""
    async with asyncio.timeout(PATIENCE):
        while any(status in ("pending", "running") for status in runs(database)):
            await asyncio.sleep(0.05)


ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN = {"mcp-protocol-version": "2026-07-28"}


async def test_the_newest_version_says_everything_with_each_request(http: httpx.AsyncClient) -> None:
    headers = {**MODERN, "mcp-method": "server/discover"}
    answer = await http.post("/mcp", json=request_of("server/discover", {"_meta": ENVELOPE}), headers=headers)
    result = answer.json()["result"]
    assert result["supportedVersions"] == list(ours.VERSIONS)
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "LangGraph"

    name = {"mcp-method": "tools/call", "mcp-name": "=?base64?dGltZXM=?=", **MODERN, **JSON}
    params = {"name": "times", "arguments": {"word": "a", "count": 1}, "_meta": ENVELOPE}
    answer = await http.post("/mcp", json=request_of("tools/call", params), headers=name)
    assert answer.json()["result"]["structuredContent"] == {"text": "a"}


@pytest.mark.parametrize(
    ("method", "params", "headers", "status", "code"),
    [
        ("tools/list", {}, {"mcp-method": "tools/list"}, 400, -32602),
        ("tools/list", {"_meta": ENVELOPE}, {}, 400, -32020),
        ("tools/list", {"_meta": ENVELOPE}, {"mcp-method": "tools/call"}, 400, -32020),
        ("tools/list", {"_meta": {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2025-11-25"}}, {"mcp-method": "tools/list"}, 400, -32020),
        ("tools/call", {"name": "times", "_meta": ENVELOPE}, {"mcp-method": "tools/call"}, 400, -32020),
        ("tools/call", {"name": "times", "_meta": ENVELOPE}, {"mcp-method": "tools/call", "mcp-name": "=?base64?%?="}, 400, -32020),
        ("tools/call", {"name": "nope", "_meta": ENVELOPE}, {"mcp-method": "tools/call", "mcp-name": "nope"}, 400, -32602),
        ("initialize", {"_meta": ENVELOPE}, {"mcp-method": "initialize"}, 404, -32601),
    ],
)  # fmt: skip
async def test_to_the_newest_version_a_wrong_message_is_an_http_error(
    http: httpx.AsyncClient, method: str, params: dict[str, Any], headers: dict[str, str], status: int, code: int
) -> None:
    answer = await http.post("/mcp", json=request_of(method, params), headers={**MODERN, **headers})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


# -- a project with users --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(databases: Any, redis_uri: str) -> Iterator[str]:
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(PROJECT.parents[1] / "tenants" / "langgraph.json"),
    }
    with serving(Settings.from_env(environ)) as found:
        yield found
    databases.drop(uri)


def of(url: str, token: str) -> httpx.AsyncClient:
    headers = {**JSON, "mcp-protocol-version": "2025-11-25", "authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, timeout=PATIENCE, headers=headers)


async def test_users_see_and_call_their_own_tools_and_run_them_as_themselves(guarded: str) -> None:
    async with of(guarded, "alice@acme") as alice, of(guarded, "eve@other") as eve:
        made = (await alice.post("/assistants", json={"graph_id": "who", "name": "of alice"})).json()["assistant_id"]
        seen = {}
        for name, client in (("alice", alice), ("eve", eve)):
            tools = (await client.post("/mcp", json=request_of("tools/list"))).json()["result"]["tools"]
            seen[name] = {tool["name"] for tool in tools}
        assert seen == {"alice": {"echo", "who", "ask", "of_alice"}, "eve": {"echo", "who", "ask"}}
        for tool in ("of_alice", made):
            answer = await alice.post("/mcp", json=calling(tool))
            found = answer.json()["result"]["structuredContent"]["found"]
            assert (found["identity"], found["org"]) == ("alice", "acme")
            hidden = await eve.post("/mcp", json=calling(tool))
            assert hidden.json()["error"] == {"code": -32602, "message": f"Unknown tool: {tool}"}
        theirs = await eve.post("/mcp", json=calling("who"))
        assert theirs.json()["result"]["structuredContent"]["found"]["identity"] == "eve"


async def test_who_is_nobody_or_may_do_nothing_is_told_so_by_http(guarded: str) -> None:
    async with httpx.AsyncClient(base_url=guarded, headers=BOTH) as nobody, of(guarded, "denied@acme") as denied:
        assert (await nobody.post("/mcp", json=request_of("tools/list"))).status_code == 401
        assert (await nobody.get("/mcp")).status_code == 401
        for body in (request_of("tools/list"), calling("echo")):
            answer = await denied.post("/mcp", json=body)
            assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})


async def test_the_official_client_brings_its_own_headers(guarded: str) -> None:
    headers = {"authorization": "Bearer alice@acme"}
    async with (
        create_mcp_http_client(headers=headers) as carrier,
        Client(streamable_http_client(f"{guarded}/mcp", http_client=carrier)) as client,
    ):
        result = await client.call_tool("who", {})
        assert result.structured_content["found"]["identity"] == "alice"
