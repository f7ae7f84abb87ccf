"""What a request costs before and after the service's work, counted: files, imports, middleware, writes, bytes of headers."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from deployment import Process
from dev_server import ROOT

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "run_path" / "langgraph.json"
#: Rounds after which a process has all that it needs.
WARM = 3

#: Tells every file that is opened, and every module that is imported, without opening one for it.
HOOK = """
import os, sys
said = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND)
def note(event, arguments):
    if event in ("open", "import"):
        os.write(said, f"{event} {arguments[0]}\\n".encode())
sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Server:
    """``serve --with-worker``, and where it tells what it opens and imports."""

    process: Process
    noted: Path


@pytest.fixture(scope="module")
def server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, uri = tmp_path_factory.mktemp("requests"), databases.create()
    (folder / "sitecustomize.py").write_text(HOOK)
    noted = folder / "noted"
    noted.touch()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(PROJECT),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "core")]),
        "NOTED": str(noted),
        "DATABASE_POOL_MAX_SIZE": "2",
    }
    process = Process(("serve", "--with-worker"), environ, folder / "log")
    try:
        yield Server(process.ready(), noted)
    finally:
        process.kill()
        databases.drop(uri)


def one_of_each(client: httpx.Client) -> None:
    """A request of every kind that clients send all the time."""

    def ask(method: str, path: str, **options: Any) -> Any:
        answer = client.request(method, path, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    thread = ask("POST", "/threads", json={"metadata": {"kind": "budget"}})["thread_id"]
    for path in ("", "/state", "/history", "/runs"):
        ask("GET", f"/threads/{thread}{path}")
    ask("PATCH", f"/threads/{thread}", json={"metadata": {"more": 1}})
    ask("POST", "/threads/search", json={"metadata": {"kind": "budget"}})
    ask("POST", "/threads/count", json={})
    ask("POST", "/assistants/search", json={})
    ask("PUT", "/store/items", json={"namespace": ["a"], "key": "k", "value": {"v": 1}})
    ask("GET", "/store/items", params={"namespace": "a", "key": "k"})
    ask("POST", "/store/items/search", json={"namespace_prefix": ["a"]})
    run = {"assistant_id": "steps", "input": {"count": 2}}
    for path in ("/runs/wait", f"/threads/{thread}/runs/wait"):
        ask("POST", path, json=run)
    for path in ("/runs/stream", f"/threads/{thread}/runs/stream"):
        with client.stream("POST", path, json={**run, "stream_mode": ["values"]}) as stream:
            assert b"event: values" in stream.read()
    made = ask("POST", f"/threads/{thread}/runs", json=run)["run_id"]
    ask("GET", f"/threads/{thread}/runs/{made}/join")
    ask("GET", f"/threads/{thread}/runs/{made}")
    ask("GET", f"/threads/{thread}/state")
    ask("POST", f"/threads/{thread}/state", json={"values": {"log": ["x"]}, "as_node": "step"})
    ask("GET", f"/threads/{thread}/history", params={"limit": 5})
    for path in ("/ok", "/info", "/metrics"):
        client.get(path).raise_for_status()
    assert client.get(f"/threads/{uuid.uuid4()}").status_code == 404
    assert client.post("/threads", content=b"{").status_code == 422
    ask("DELETE", f"/threads/{thread}")


def test_a_warm_server_opens_no_file_and_imports_nothing(server: Server) -> None:
    with httpx.Client(base_url=server.process.url, timeout=60) as client:
        for _ in range(WARM):
            one_of_each(client)
        before = server.noted.stat().st_size
        one_of_each(client)
        one_of_each(client)
    told = server.noted.read_text()
    assert "import langgraph_serverless" in told, "the hook is not at work"
    assert told[before:] == ""


def test_an_answer_comes_as_a_whole_and_says_no_more_than_it_must(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.process.port)) as connection:
        connection.settimeout(30)
        for _ in range(20):
            connection.sendall(b"GET /info HTTP/1.1\r\nHost: here\r\n\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert body.endswith(b"}"), "head and body in one write"
    names = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:]}
    policies = {b"cache-control", b"referrer-policy", b"vary", b"x-content-type-options"}
    assert names == {b"date", b"content-type", b"content-length", *policies}
    assert len(head) < 260


def layers(app: Any) -> list[str]:
    """What is around the routes, from the outside to the inside."""
    found = []
    while app is not None:
        found.append(type(app).__name__)
        app = getattr(app, "app", None) or getattr(app, "_app", None)
    return found


async def test_only_the_middleware_that_is_configured_is_in_the_stack(settings: Settings) -> None:
    container = ApiContainer(settings, manifest=Manifest.of({}))
    assert layers(create_app(container).build_middleware_stack()) == [
        "SecurityHeaders",
        "Cors",
        "Observed",
        "PlainTarget",
        "Authentication",
        "BodyLimit",
        "HeadAsGet",
        "ExceptionMiddleware",
        "Dispatch",
    ]
    await container.aclose()
