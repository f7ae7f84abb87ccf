"""A sandbox of the API is frozen between two requests, and Postgres closes its connections meanwhile (R28): the first request after
the thaw succeeds. The API is a process of its own that gets SIGSTOP and SIGCONT.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from dev_server import PATIENCE, free_port, until

SERVE = """
import os, uvicorn
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

graph = GraphManifest(
    graph_id="chat", description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
)
container = ApiContainer(Settings.from_env(os.environ), manifest=Manifest.of({"chat": graph}))
uvicorn.run(create_app(container), host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", ws="none")
"""
#: Whoever else is connected to this database of its own: the API.
CLOSE = "SELECT pg_terminate_backend(pid, 5000) AS closed FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def api(databases: Any, redis_uri: str) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Its URL, its database and its process."""
    uri, port = databases.create(), free_port()
    environ = {
        **os.environ,
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"frozen-{port}",
        "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "1",
        "PORT": str(port),
    }
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environ, cwd=Path(__file__).parent)
    try:
        yield f"http://127.0.0.1:{port}", uri, process
    finally:
        process.kill()
        process.wait()
        databases.drop(uri)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.post("/threads", json={}).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("times", [5])
def test_the_first_request_after_a_thaw_succeeds(api: tuple[str, str, subprocess.Popen[bytes]], times: int) -> None:
    url, uri, process = api
    with (
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
        psycopg.connect(uri, autocommit=True) as admin,
    ):
        until(lambda: _ready(client), "the API to start")
        for number in range(times):
            process.send_signal(signal.SIGSTOP)
            closed = [row[0] for row in admin.execute(CLOSE).fetchall()]
            assert closed == [True], closed
            process.send_signal(signal.SIGCONT)
            # one that begins with a transaction, and one that is a single statement
            method, path = ("POST", "/threads") if number % 2 else ("POST", "/threads/search")
            answer = client.request(method, path, json={}, headers={"Idempotency-Key": f"thaw-{number}"})
            assert answer.status_code == 200, answer.text
