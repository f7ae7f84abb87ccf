"""A Valkey of a test's own, on a port: one that wants a password, or one in cluster mode, which the shared one is not.

``valkey`` is a pytest fixture that starts them: ``valkey("--requirepass", "x")`` gives a server that answers. In cluster mode
(``cluster=True``) the one node has all 16,384 slots, so that a plain client may ask it anything that a cluster allows, and is
refused what a cluster refuses: as the one endpoint of ElastiCache Serverless does.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from langgraph_serverless.cli.laptop.valkey import _binary

PATIENCE = 30.0


@dataclass(frozen=True)
class OwnValkey:
    """One that runs."""

    port: int
    password: str = ""

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, password: str | None = None) -> redis.Redis:
        given = self.password if password is None else password
        return redis.Redis(port=self.port, password=given or None, decode_responses=True)

    def process_id(self) -> int:
        """Of whoever answers at the port."""
        with redis.Redis(port=self.port, password=self.password or None, socket_timeout=2) as client:
            return int(client.info("server")["process_id"])


Start = Callable[..., OwnValkey]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers, and ends them with the module's last test: a cluster takes two seconds until it answers."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str, cluster: bool = False, password: str = "") -> OwnValkey:
        for _ in range(5):
            if server := attempt(*options, cluster=cluster, password=password):
                return server
        raise AssertionError("every port was taken by others")

    def attempt(*options: str, cluster: bool, password: str) -> OwnValkey | None:
        folder = tmp_path_factory.mktemp("valkey")
        server = OwnValkey(_free_port(), password)
        settings = ["--port", str(server.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
        if password:
            settings += ["--requirepass", password]
        if cluster:
            # the bus has a port of its own, which is 10,000 higher unless told
            settings += ["--cluster-enabled", "yes", "--cluster-port", str(_free_port())]
        with (folder / "log").open("wb") as log:
            running.append(process := subprocess.Popen([str(_binary()), *settings], stdout=log, stderr=log))

        def answers() -> bool:  # it, and not whoever has taken the port before it did
            return process.poll() is not None or server.process_id() == process.pid

        until(answers, log=folder / "log")
        if process.poll() is not None:
            return None
        client = server.client()
        if cluster:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")), log=folder / "log")
        client.close()
        return server

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(condition: Callable[[], object], *, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):  # nobody, or somebody else
            pass
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.02)
