"""``serve`` and ``worker`` one by one: what they refuse, in a sentence, and the ways in which they end."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from deployment import Process, command, environment
from dev_server import PATIENCE, free_port, until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "langgraph.json"

Start = Callable[..., Process]


@pytest.fixture
def start(databases: Any, redis_uri: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a command on a migrated database of its own."""
    made: list[Process] = []
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(EXAMPLES),
    }

    def begin(*arguments: str, **more: str) -> Process:
        made.append(Process(arguments, {**environ, **more}, tmp_path / f"{len(made)}.output"))
        return made[-1]

    yield begin
    for process in made:
        process.kill()
    databases.drop(uri)


def test_what_is_wrong_is_one_sentence(databases: Any, redis_uri: str, tmp_path: Path) -> None:
    empty = databases.create(migrated=False)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"graphs": {}}')
    nowhere = "postgresql://me:secret@127.0.0.1:1/none"
    both = {"DATABASE_URI": empty, "REDIS_URI": redis_uri}
    cases: dict[str, tuple[list[str], dict[str, str]]] = {
        "DATABASE_URI is not set: it names your Postgres": (["serve"], {"REDIS_URI": redis_uri}),
        "REDIS_URI is not set: it names your Redis or Valkey": (["worker"], {"DATABASE_URI": empty}),
        "Postgres at postgresql://me@127.0.0.1:1/none (DATABASE_URI) cannot be reached": (
            ["serve", "--workers", "2"],
            {"DATABASE_URI": nowhere, "REDIS_URI": redis_uri},
        ),
        "more. Run 'langgraph-serverless migrate' with the same DATABASE_URI": (["worker"], both),
        "Redis at http://wrong (REDIS_URI) cannot": (["worker"], {**both, "REDIS_URI": "http://wrong"}),
    }
    started = {
        sentence: subprocess.Popen(
            command(*arguments, "--config", str(EXAMPLES), "--port", str(free_port())),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(environ),
            text=True,
        )
        for sentence, (arguments, environ) in cases.items()
    }
    try:
        for sentence, process in started.items():
            said, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 1, said
            assert said.startswith("Error: "), said
            assert said.count("\n") == 1, said
            if "http://wrong" in sentence:
                assert "REDIS_URI is not valid: must start with redis://" in said
            else:
                assert sentence in said
            assert "secret" not in said
    finally:
        databases.drop(empty)


def test_several_processes_behind_one_socket(start: Start) -> None:
    """One that dies is replaced, one of them ticks, and SIGTERM ends all of them, as does the command's own death."""
    serve = start("serve", "--workers", "2", "--with-worker", "--mount-prefix", "/api").ready()
    children = psutil.Process(serve.process.pid).children()
    assert len(children) == 2
    made = httpx.post(
        f"{serve.url}/api/runs/wait", json={"assistant_id": "minimal", "input": {"text": "a", "reply": "b"}}, timeout=60
    )
    assert made.status_code == 200, made.text
    os.kill(children[0].pid, signal.SIGKILL)

    def replaced() -> bool:
        now = psutil.Process(serve.process.pid).children()
        return len(now) == 2 and children[0].pid not in {child.pid for child in now}

    until(replaced, "another child")
    assert serve.is_ready()
    until(lambda: serve.output.count('"action":"serving"') >= 3, "it to serve")
    children = psutil.Process(serve.process.pid).children()
    assert serve.stop() == 0
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in serve.output

    other = start("serve", "--workers", "2")
    until(lambda: len(psutil.Process(other.process.pid).children()) == 2, "two children")
    children = psutil.Process(other.process.pid).children()
    other.kill()
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), "them to end")


def test_a_stop_while_it_starts(start: Start) -> None:
    worker = start("worker")
    until(lambda: psutil.Process(worker.process.pid).num_threads() >= 1, "it to run")
    worker.signal()
    assert worker.ended() in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert "Traceback" not in worker.output


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    serve = start("serve", "--uds", str(path), "--no-scheduler")
    until(lambda: f"serving on {path}" in serve.output or not serve.running, "it to serve")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://api/ok?check_db=1").json() == {"ok": True, "services": {}}
    assert serve.stop() == 0
    assert not path.exists()
