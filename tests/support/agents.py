"""What tests of the Agent-to-Agent protocol share: an assistant's id, calls by JSON-RPC, and a receiver of notifications."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from langgraph_serverless.domain.ids import default_assistant_id

#: Longest time (seconds) for one step of a test on a machine that is busy with others.
PATIENCE = 60.0


def path_of(graph: str) -> str:
    """Where the default assistant of a graph is called."""
    return f"/a2a/{default_assistant_id(graph)}"


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"kind": "text", "text": text}], "messageId": str(uuid.uuid4()), **more}


def call(method: str, params: Any, call_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}


async def ask(client: httpx.AsyncClient, graph: str, method: str, params: Any, **headers: str) -> dict[str, Any]:
    """The whole answer to a call."""
    response = await client.post(path_of(graph), json=call(method, params), headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == 1
    return answer


async def result(client: httpx.AsyncClient, graph: str, method: str, params: Any, **headers: str) -> Any:
    answer = await ask(client, graph, method, params, **headers)
    assert "error" not in answer, answer
    return answer["result"]


async def error(client: httpx.AsyncClient, graph: str, method: str, params: Any, **headers: str) -> tuple[int, str]:
    found = (await ask(client, graph, method, params, **headers))["error"]
    return found["code"], found["message"]


async def frames(client: httpx.AsyncClient, graph: str, method: str, params: Any) -> list[dict[str, Any]]:
    """What a stream tells, one result after the other."""
    async with client.stream("POST", path_of(graph), json=call(method, params)) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), await response.aread()
        lines = [line async for line in response.aiter_lines()]
    return [json.loads(line.removeprefix("data: "))["result"] for line in lines if line.startswith("data: ")]


@dataclass
class Receiver:
    """Takes notifications on this machine."""

    url: str
    received: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def at_least(self, count: int) -> list[tuple[dict[str, str], dict[str, Any]]]:
        deadline = time.monotonic() + PATIENCE
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} notifications came"
            time.sleep(0.02)
        return self.received


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.received.append(({name.lower(): value for name, value in self.headers.items()}, json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Receiver(f"http://127.0.0.1:{server.server_address[1]}/notified")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
