"""``langgraph-serverless dev``: starting, stopping, hot reload, and one sentence for what goes wrong.

The real command with real databases; only the application is a small stand-in, so that this file says nothing about runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

STANDIN = """
import asyncio, contextlib, os
from fastapi import FastAPI
from langgraph_serverless.errors import ProjectError

def create(settings, *, config_path):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        names = {}
        try:
            exec((config_path.parent / "graph.py").read_text(), names)
        except Exception as error:
            raise ProjectError(f"graphs.one: graph.py cannot be imported ({error}).") from error
        app.state.answer = names["answer"]
        yield
        if names["answer"] == "slow to stop":
            print("asked to stop", flush=True)
            await asyncio.sleep(60)

    app = FastAPI(lifespan=lifespan)
    app.get("/ok")(lambda: {"ok": True})
    app.get("/where")(lambda: {
        "answer": app.state.answer, "pid": os.getpid(), "database": settings.database_uri, "redis": settings.redis_uri,
        "jobs": settings.n_jobs_per_worker,
    })
    return app
"""
DEADLINE = 40.0


class Dev:
    """One run of the command, its output collected."""

    def __init__(self, arguments: list[str], environ: Mapping[str, str]) -> None:
        script = "import sys; from langgraph_serverless.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", script, "dev", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environ),
            cwd=Path(arguments[1]).parent,
            start_new_session=True,  # a terminal's process group of its own
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until(self, condition: Callable[[], Any]) -> Any:
        """The condition's first true value."""
        deadline = time.monotonic() + DEADLINE
        while not (value := condition()):
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return value

    def says(self, text: str) -> None:
        self.until(lambda: text in self.output or self.process.poll() is not None)
        assert text in self.output, self.output

    @property
    def url(self) -> str:
        self.says("Ctrl-C stops everything")
        found = re.search(r"API +(http://\S+)", self.output)
        assert found, self.output
        return found[1]

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and body; 0 while nobody answers."""
        try:
            answer = httpx.get(f"{self.url}{path}", timeout=5)
        except httpx.TransportError:
            return 0, None
        return answer.status_code, answer.json()

    def where(self) -> dict[str, Any]:
        """What the application says of itself; empty while it does not answer."""
        status, body = self.answer("/where")
        return body if status == 200 else {}

    def end(self, number: signal.Signals) -> int:
        """Signal as a terminal does, to the whole group; the exit code."""
        os.killpg(self.process.pid, number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def abandon(self) -> None:
        """Leave nothing behind, whatever the test has come to."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the cluster is made once; a test may leave servers behind for the next to find."""
    return tmp_path_factory.mktemp("dev-data")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "standin.py").write_text(STANDIN)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "graph.py").write_text("answer = 1; graph = None\n")
    (tmp_path / "project" / "uvicorn.py").write_text("raise ImportError('a file of the user, not the library')")
    (tmp_path / "project" / "langgraph.json").write_text('{"graphs": {"one": "./graph.py:graph"}}')
    return tmp_path / "project"


@pytest.fixture
def environ(project: Path) -> dict[str, str]:
    keep = {name: value for name, value in os.environ.items() if "DATABASE" not in name and "REDIS" not in name}
    keep = {name: value for name, value in keep.items() if "POSTGRES" not in name}
    return keep | {"PYTHONPATH": str(project.parent), "PYTHONWARNINGS": "ignore"}


Start = Callable[..., Any]


@pytest.fixture
def start(project: Path, data_dir: Path, environ: dict[str, str]) -> Iterator[Start]:
    started: list[Dev] = []

    def start(*more: str, **variables: str) -> Dev:
        arguments = ["--config", str(project / "langgraph.json"), "--data-dir", str(data_dir), "--port", "0"]
        started.append(Dev([*arguments, "--app", "standin:create", *more], environ | variables))
        return started[-1]

    yield start
    for command in started:
        command.abandon()


def server_pids(data_dir: Path) -> set[int]:
    """The databases that run on this folder."""
    found = set()
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        if process.info["name"] in {"postgres", "valkey-server"} and str(data_dir) in " ".join(
            process.info["cmdline"] or []
        ):
            found.add(process.info["pid"])
    return found


@contextmanager
def nothing_runs_after(data_dir: Path) -> Iterator[None]:
    yield
    assert server_pids(data_dir) == set()


def test_start_stop_and_start_again(start: Start, data_dir: Path, project: Path) -> None:
    with nothing_runs_after(data_dir):
        first = start("--n-jobs-per-worker", "3")
        where = first.where()
        assert where["jobs"] == 3
        assert where["redis"].startswith("unix://")
        assert "Graphs    one\n" in first.output
        assert f"Data      {data_dir}\n" in first.output
        assert "curl -s http://127.0.0.1:" in first.output
        assert "\033" not in first.output, "no colour where there is no terminal"
        with psycopg.connect(where["database"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            assert connection.execute("SELECT count(*) FROM lgs.migration").fetchone() != (0,)
        port = httpx.URL(first.url).port
        assert first.end(signal.SIGINT) == 0
        assert first.output.endswith(f"Stopped. The data stays in {data_dir}\n")
        assert "Traceback" not in first.output
    with nothing_runs_after(data_dir):
        second = start("--port", str(port))  # free at once
        with psycopg.connect(second.where()["database"]) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert second.end(signal.SIGTERM) == 0
    assert not (project / ".langgraph_serverless").exists()


def test_kill_9_leaves_the_port_free_and_databases_to_be_found(start: Start, data_dir: Path) -> None:
    first = start()
    child, port = first.where()["pid"], httpx.URL(first.url).port
    left = server_pids(data_dir)
    first.process.kill()
    first.until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    with nothing_runs_after(data_dir):
        second = start("--port", str(port))
        assert second.where()["pid"] != child
        assert server_pids(data_dir) == left
        assert second.end(signal.SIGINT) == 0


def test_ctrl_c_twice_ends_at_once(start: Start, data_dir: Path, project: Path) -> None:
    (project / "graph.py").write_text("answer = 'slow to stop'")
    command = start(BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS="60")
    child = command.where()["pid"]
    os.killpg(command.process.pid, signal.SIGINT)
    command.says("asked to stop")
    began = time.monotonic()
    assert command.end(signal.SIGINT) == 130
    assert time.monotonic() - began < 5
    command.until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    command.until(lambda: not server_pids(data_dir))


def test_edits_take_effect_and_broken_ones_are_told(start: Start, data_dir: Path, project: Path) -> None:
    command = start()
    before, databases = command.where(), server_pids(data_dir)
    # the watch begins with the server; edit until one is seen
    attempts = iter(range(1000))
    command.until(
        lambda: (project / "graph.py").write_text(f"answer = 2 # {next(attempts)}") and "changed" in command.output
    )
    # several have been made: one that is told late makes the server start once more, now or at any moment after this
    command.until(lambda: (now := command.where()).get("answer") == 2 and now["pid"] != before["pid"])

    (project / "graph.py").write_text("answer = 1 / 0")
    command.says("Error: graphs.one: graph.py cannot be imported (division by zero).\n")
    command.says("Waiting for an edit")
    told = {"detail": "graphs.one: graph.py cannot be imported (division by zero)."}
    command.until(lambda: command.answer("/where") == (503, told))
    (project / "graph.py").write_text("answer = 3")
    command.until(lambda: command.where().get("answer") == 3)

    (project / "langgraph.json").write_text("{")
    command.says("not valid JSON")
    (project / "langgraph.json").write_text('{"graphs": {"one": "./graph.py:graph"}}')
    command.until(lambda: command.where().get("answer") == 3)

    assert server_pids(data_dir) == databases, "the databases stay"
    assert "Traceback" not in command.output
    assert command.end(signal.SIGINT) == 0


def test_a_server_that_dies_is_started_again(start: Start) -> None:
    command = start("--no-reload")
    for _ in range(2):
        pid = command.where()["pid"]
        os.kill(pid, signal.SIGKILL)
        command.until(lambda pid=pid: command.where().get("pid", pid) != pid)
    assert "The server ended by itself (SIGKILL)" in command.output
    os.kill(command.where()["pid"], signal.SIGKILL)
    assert command.ended() == 1
    assert "Error: The server ended by itself 3 times in 30 seconds (SIGKILL).\n" in command.output


def test_a_server_that_dies_again_and_again_is_started_again_after_a_pause(start: Start) -> None:
    """Or a few poison runs would end everybody's service, and never their own attempts."""
    command = start()

    def killed_too_often() -> bool:
        if pid := command.where().get("pid"):
            os.kill(pid, signal.SIGKILL)
        return "Waiting for an edit of the project, or 10 s\n" in command.output

    command.until(killed_too_often)
    command.until(command.where)
    assert command.end(signal.SIGINT) == 0


def test_a_second_command_on_the_same_data_is_one_sentence(start: Start, data_dir: Path) -> None:
    first = start()
    assert first.where()
    second = start()
    assert second.ended() == 1
    assert f"Error: The data folder {data_dir} is in use by another process ({first.process.pid});" in second.output
    assert first.where(), "the first is not disturbed"
    assert first.end(signal.SIGINT) == 0


def test_servers_of_ones_own_are_used(start: Start, tmp_path: Path, databases: Any, redis_uri: str) -> None:
    uri = databases.create(migrated=False)
    try:
        command = start("--data-dir", str(tmp_path / "unused"), DATABASE_URI=uri, REDIS_URI=redis_uri)
        where = command.where()
        assert (where["database"], where["redis"]) == (uri, redis_uri)
        assert command.end(signal.SIGINT) == 0
        assert command.output.endswith("Stopped.\n")
        assert not (tmp_path / "unused").exists()
    finally:
        databases.drop(uri)


def refused(command: Dev) -> str:
    """What the command printed after it could not start."""
    assert command.ended() == 1, command.output
    assert "Traceback" not in command.output
    return command.output.splitlines()[-1]


def test_a_graph_that_cannot_be_imported_is_one_sentence(start: Start, project: Path, data_dir: Path) -> None:
    (project / "graph.py").write_text("import nothing_of_this_name")
    with nothing_runs_after(data_dir):
        expected = "Error: graphs.one: graph.py cannot be imported (No module named 'nothing_of_this_name')."
        assert refused(start()) == expected
    debugged = start("--debug")
    assert debugged.ended() == 1
    assert "ModuleNotFoundError" in debugged.output


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"graphs": {"one": "./missing.py:graph"}}, r"missing\.py"),
        ({}, r"'graphs' is missing"),
    ],
)
def test_a_wrong_project_is_refused_before_anything_starts(
    start: Start, project: Path, tmp_path: Path, config: Any, sentence: str
) -> None:
    (project / "langgraph.json").write_text(json.dumps(config))
    said = refused(start("--data-dir", str(tmp_path / "unused")))
    assert re.match(f"Error: .*{sentence}", said)
    assert not (tmp_path / "unused").exists()


def test_a_port_in_use_is_refused_before_anything_starts(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(start("--port", str(port), "--data-dir", str(tmp_path / "unused")))
    assert said == (
        f"Error: Port {port} on 127.0.0.1 is in use by another program; stop it or choose another port with --port."
    )
    assert not (tmp_path / "unused").exists()


def test_wrong_settings_and_unreachable_servers_are_one_sentence(start: Start, tmp_path: Path) -> None:
    unused = ("--data-dir", str(tmp_path / "unused"))
    said = refused(start(*unused, BG_JOB_TIMEOUT_SECS="soon"))
    assert said.startswith("Error: BG_JOB_TIMEOUT_SECS is not valid")
    said = refused(
        start(*unused, DATABASE_URI="postgresql://me:hunter2@127.0.0.1:1/app", REDIS_URI="redis://:hunter2@127.0.0.1:1")
    )
    assert (
        said
        == "Error: Postgres at postgresql://me@127.0.0.1:1/app (DATABASE_URI) cannot be reached: Connection refused."
    )
