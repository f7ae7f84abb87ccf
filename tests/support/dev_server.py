"""The real ``langgraph-serverless dev`` as a subprocess, for tests that drive it from outside and kill it.

A ``DevServer`` is one data folder and one port; the command on it may be ended in every way and started again. What the
command printed is in ``output``, over all starts. A pytest plugin too (``tests/conftest.py`` names it): ``dev_servers``
makes servers that are gone when the test is over, ``examples_server`` is one on the examples that all tests share,
``sample_server`` one on a project of many graphs.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg.rows import dict_row

ROOT = Path(__file__).parent.parent.parent
#: Longest time (seconds) for one step of a test on a machine that is busy with others.
PATIENCE = 60.0
#: Times short enough for tests that wait for leases to run out.
SHORT_LEASES = {
    "LEASE_DURATION_SECS": "3",
    "HEARTBEAT_INTERVAL_SECS": "1",
    "SWEEP_INTERVAL_SECS": "0.5",
    "QUEUE_POLL_INTERVAL_SECS": "1",
    "STREAM_KEEPALIVE_SECS": "1",
}
#: Variables of the caller that would change what is tested.
FOREIGN = ("DATABASE", "POSTGRES", "REDIS", "LANGGRAPH", "CHAT_MODEL", "LANGSMITH")


def until(condition: Callable[[], Any], what: str, *, patience: float = PATIENCE, every: float = 0.02) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        time.sleep(every)
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@dataclass
class DevServer:
    """One data folder, one port, and the command that may run on them."""

    config: Path
    data_dir: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.data_dir.with_suffix(".output")

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def start(self) -> DevServer:
        """Start the command and return once it serves."""
        assert self.process is None, "it runs already"
        started_before = self.output.count("Ctrl-C stops everything") if self.log.exists() else 0
        environ = {name: value for name, value in os.environ.items() if not any(word in name for word in FOREIGN)}
        script = "from langgraph_serverless.cli.main import main; main()"
        arguments = ["--config", str(self.config), "--data-dir", str(self.data_dir), "--port", str(self.port)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", script, "dev", *arguments, "--no-reload", *self.options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environ, **self.environ},
                start_new_session=True,
            )
        process = self.process
        until(
            lambda: self.output.count("Ctrl-C stops everything") > started_before or process.poll() is not None,
            f"the server to start: {self.output}",
        )
        assert process.poll() is None, self.output
        return self

    @property
    def server_pid(self) -> int:
        """The process that serves; the command itself only supervises it."""
        return until(lambda: next(iter(self._children()), None), "a server process")

    def _children(self) -> list[int]:
        assert self.process is not None
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return [
                child.pid for child in children if "langgraph_serverless.cli.laptop.serve" in " ".join(child.cmdline())
            ]
        return []

    def kill(self) -> None:
        """``kill -9`` of the command; returns once its server has ended as well and nobody listens on the port."""
        assert self.process is not None
        server = self.server_pid
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process = None
        until(lambda: not _alive(server), "the server to end with its command", patience=5)
        # a moment later: the kernel closes a process's sockets after its first thread is gone
        until(self._port_is_free, "the port to be free", patience=5)

    def _port_is_free(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def kill_server(self) -> None:
        """``kill -9`` of the server process only; the command starts another one."""
        before = self.server_pid
        os.kill(before, signal.SIGKILL)
        until(lambda: any(pid != before for pid in self._children()), "another server process")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the command to stop; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(PATIENCE)

    def close(self) -> None:
        """Leave nothing running, whatever the test has come to."""
        if self.process is None and (self.data_dir / "run").exists():
            self._end_databases()
        elif self.process is not None:
            process, self.process = self.process, None
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self._end_databases()

    def _end_databases(self) -> None:
        """What a killed command leaves for the next one."""
        for process in psutil.process_iter(["name", "cmdline"]):
            if process.info["name"] in {"postgres", "valkey-server"} and str(self.data_dir) in " ".join(
                process.info["cmdline"] or []
            ):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)  # Postgres: stop now, and in order

    def client(self, **options: Any) -> LangGraphClient:
        return get_client(url=self.url, api_key=None, **options)

    @property
    def database_uri(self) -> str:
        """The embedded database, or the one the server was given."""
        given = self.environ.get("DATABASE_URI")
        found = re.findall(r"Postgres  +(postgresql://\S+)", self.output)
        return given or found[-1]

    @property
    def redis_uri(self) -> str:
        given = self.environ.get("REDIS_URI")
        found = re.findall(r"Redis  +(\S+)", self.output)
        return given or found[-1]

    def rows(self, query: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """What the database says, behind the API's back."""
        with psycopg.connect(self.database_uri, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


MakeServer = Callable[..., DevServer]


@pytest.fixture
def dev_servers(tmp_path: Path) -> Iterator[MakeServer]:
    """Starts servers: ``dev_servers(config, NAME=value)``; ``options=("--n-jobs-per-worker", "3")`` adds options."""
    made: list[DevServer] = []

    def make(config: Path, *, options: tuple[str, ...] = (), **environ: str) -> DevServer:
        server = DevServer(config, tmp_path / f"data{len(made)}", environ, options)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def examples_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """The examples, served as a newcomer does it."""
    server = DevServer(
        ROOT / "examples" / "langgraph.json",
        tmp_path_factory.mktemp("examples") / "data",
        {"SCHEDULER_INTERVAL_SECS": "0.5"},
    )
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server for tests of bad input, which may fill it with whatever it takes; its crons do not fire."""
    server = DevServer(
        ROOT / "tests" / "fixtures" / "projects" / "differential" / "langgraph.json",
        tmp_path_factory.mktemp("hostile") / "data",
        {"SCHEDULER_INTERVAL_SECS": "3600"},
    )
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def sample_server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """The differential project, whose graphs have every shape, for tests of clients."""
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"sample-{free_port()}",
        "SCHEDULER_INTERVAL_SECS": "0.5",
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    }
    config = ROOT / "tests" / "fixtures" / "projects" / "differential" / "langgraph.json"
    server = DevServer(config, tmp_path_factory.mktemp("sample") / "data", environ)
    try:
        yield server.start()
    finally:
        server.close()
        databases.drop(uri)


@pytest.fixture(scope="session")
def agents_server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """Agents for other agents; they may be told to notify this machine."""
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"agents-{free_port()}",
        "SCHEDULER_INTERVAL_SECS": "0.5",
        "STREAM_KEEPALIVE_SECS": "0.5",
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    }
    config = ROOT / "tests" / "fixtures" / "projects" / "agents" / "langgraph.json"
    server = DevServer(config, tmp_path_factory.mktemp("agents") / "data", environ)
    try:
        yield server.start()
    finally:
        server.close()
        databases.drop(uri)
