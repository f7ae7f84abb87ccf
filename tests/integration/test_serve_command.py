"""``serve`` and ``worker`` one by one: what they refuse, in a sentence, and the ways in which they end."""

from __future__ import annotations

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


def children_of(command: Process) -> list[psutil.Process]:
    assert command.running, command.output
    return psutil.Process(command.process.pid).children()


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
    """One that dies is replaced, also while it starts and the other one serves; one of them ticks; SIGTERM ends all of them."""
    serve = start("serve", "--workers", "2", "--with-worker", "--mount-prefix", "/api").ready()
    until(lambda: serve.output.count('"action":"serving"') == 2, "both to serve")
    before = children_of(serve)
    assert len(before) == 2
    made = httpx.post(
        f"{serve.url}/api/runs/wait", json={"assistant_id": "minimal", "input": {"text": "a", "reply": "b"}}, timeout=60
    )
    assert made.status_code == 200, made.text
    victim, survivor = before
    victim.kill()
    instead = until(lambda: [child for child in children_of(serve) if child not in before], "another child")
    instead[0].kill()
    until(lambda: '"action":"server_not_started"' in serve.output, "its end to be told")
    until(lambda: serve.output.count('"action":"serving"') == 3, "one more to serve")
    now = children_of(serve)
    assert len(now) == 2
    assert survivor in now, "it has served all the time"
    assert serve.is_ready()
    assert serve.stop() == 0
    assert not any(map(psutil.Process.is_running, now))
    assert "Traceback" not in serve.output


def test_the_death_of_the_command_ends_its_processes(start: Start) -> None:
    serve = start("serve", "--workers", "2")
    until(lambda: len(children_of(serve)) == 2, "two children")
    children = children_of(serve)
    serve.kill()
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
