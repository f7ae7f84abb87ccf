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
from click.testing import CliRunner
from deployment import Process, command, environment
from dev_server import PATIENCE, free_port, until

from langgraph_serverless.cli.main import main

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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "REDIS_URI=redis://127.0.0.1:1"], "DATABASE_URI is not set: it names your Postgres"),
        (
            ["worker", "DATABASE_URI=postgresql://me:secret@nowhere"],
            "REDIS_URI is not set: it names your Redis or Valkey",
        ),
        (
            ["worker", "DATABASE_URI=postgresql://me:secret@nowhere", "REDIS_URI=http://wrong"],
            "REDIS_URI is not valid: must start with redis://",
        ),
    ],
)
def test_wrong_variables_are_one_sentence(monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str) -> None:
    """Said before anything else happens, so this process may ask for it."""
    role, *variables = arguments
    for name in {*os.environ} - {*environment({})}:
        monkeypatch.delenv(name)
    for name, _, value in (variable.partition("=") for variable in [*variables, "LOG_JSON=true"]):
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, [role, "--config", str(EXAMPLES), "--port", str(free_port())])
    assert_one_sentence(done.exit_code, done.output, sentence)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_a_process_cannot_serve_with_is_one_sentence(databases: Any, redis_uri: str, workers: str) -> None:
    """Of several, the command that has started them says it. That Postgres cannot be reached is said in the same place."""
    empty = databases.create(migrated=False)
    done = subprocess.run(
        command("serve", "--workers", workers, "--config", str(EXAMPLES), "--port", str(free_port())),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment({"DATABASE_URI": empty, "REDIS_URI": redis_uri}),
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    databases.drop(empty)
    said = "more. Run 'langgraph-serverless migrate' with the same DATABASE_URI"
    assert_one_sentence(done.returncode, done.stdout, said)


def assert_one_sentence(code: int, said: str, sentence: str) -> None:
    assert code == 1, said
    assert said.startswith("Error: "), said
    assert said.count("\n") == 1, said
    assert sentence in said
    assert "secret" not in said


def test_several_processes_behind_one_socket(start: Start, tmp_path: Path) -> None:
    """One that dies is replaced, also while it starts and the other one serves; SIGTERM ends all of them, and frees the socket."""
    path = tmp_path / "api.sock"
    serve = start("serve", "--workers", "2", "--with-worker", "--mount-prefix", "/api", "--uds", str(path))
    until(lambda: serve.output.count('"action":"serving"') == 2 or not serve.running, "both to serve")
    before = children_of(serve)
    assert len(before) == 2
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://api", timeout=PATIENCE) as client:
        run = {"assistant_id": "minimal", "input": {"text": "a", "reply": "b"}}
        assert client.post("/api/runs/wait", json=run).status_code == 200
        victim, survivor = before
        victim.kill()
        instead = until(lambda: [child for child in children_of(serve) if child not in before], "another child")
        instead[0].kill()
        until(lambda: '"action":"server_not_started"' in serve.output, "its end to be told")
        until(lambda: serve.output.count('"action":"serving"') == 3, "one more to serve")
        now = children_of(serve)
        assert len(now) == 2
        assert survivor in now, "it has served all the time"
        assert client.get("/ok?check_db=1").json() == {"ok": True, "services": {}}
    assert serve.stop() == 0
    assert not any(map(psutil.Process.is_running, now))
    assert not path.exists()
    assert "Traceback" not in serve.output


@pytest.mark.slow  # of the same code in a quick test: test_dev_command.py
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
