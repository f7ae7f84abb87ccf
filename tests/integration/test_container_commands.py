"""What the example for compose runs, run here without containers: its commands, its variables, its order, its health checks.

Images are not built by tests. What the kernel does to the first process of a container is tried where a namespace can be had.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from container_files import CONTAINER, compose, health_command
from deployment import command, environment
from dev_server import PATIENCE, free_port, until
from langgraph_sdk import get_sync_client

ROOT = Path(__file__).parents[2]
NAMESPACE = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


@pytest.fixture
def addresses(databases: Any, redis_uri: str) -> Iterator[dict[str, str]]:
    """In place of those that compose gives."""
    uri = databases.create(migrated=False)
    yield {"DATABASE_URI": uri, "REDIS_URI": redis_uri, "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}"}
    databases.drop(uri)


def has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


class Container:
    """A service of compose as a process, in a folder that it cannot expect anything of."""

    def __init__(self, service: str, addresses: dict[str, str], folder: Path, *, first: bool = False) -> None:
        told = compose()["services"][service]
        self.port = free_port()
        words = [str(word) if str(word) != "8000" else str(self.port) for word in told["command"]]
        environ = {**told["environment"], **addresses, "LANGGRAPH_CONFIG": str(ROOT / "examples" / "langgraph.json")}
        self.environ = environment({**environ, "PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1"})
        self.log = folder / f"{service}.output"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*(NAMESPACE if first else ()), *command(*words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environ,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def healthy(self) -> bool:
        """As Docker asks."""
        assert self.process.poll() is None, self.output
        python, *rest = health_command((CONTAINER / "Dockerfile").read_text())
        assert python == "python"
        return (
            subprocess.run([sys.executable, *rest], env=self.environ, capture_output=True, check=False).returncode == 0
        )

    def kill(self) -> None:
        for process in psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []:
            process.kill()
        self.process.kill()
        self.process.wait(PATIENCE)


@pytest.mark.slow  # the roles, their variables and their ends have quicker tests: test_containers.py, test_serve.py
@pytest.mark.timeout(300)
def test_compose_without_containers(addresses: dict[str, str], tmp_path: Path) -> None:
    """Migrate ends with 0, then the API and a worker become healthy, execute a run, and end in order."""
    first = has_namespaces()
    migrate = Container("migrate", addresses, tmp_path)
    assert migrate.process.wait(PATIENCE) == 0, migrate.output
    containers = [Container(service, addresses, tmp_path, first=first) for service in ("api", "worker")]
    try:
        for container in containers:
            until(container.healthy, f"it to be healthy: {container.output}", every=0.2)
        with get_sync_client(url=f"http://127.0.0.1:{containers[0].port}", api_key=None) as client:
            output = client.runs.wait(None, "minimal", input={"text": "Hello", "reply": "Hello"})
        assert output["reply"] == "You said: Hello"
        for container in containers:
            # in a namespace it is the only child of `unshare`, and has no default for a signal
            pid = psutil.Process(container.process.pid).children()[0].pid if first else container.process.pid
            os.kill(pid, signal.SIGTERM)
            assert container.process.wait(PATIENCE) == 0, container.output
            assert '"action":"stopped"' in container.output, "logs are JSON where nobody looks"
    finally:
        for container in containers:
            container.kill()
    with psycopg.connect(addresses["DATABASE_URI"]) as connection:
        assert connection.execute("SELECT count(*) FROM lgs.run WHERE status <> 'success'").fetchone() == (0,)


def test_the_first_process_of_a_container_can_be_stopped_while_it_starts(
    addresses: dict[str, str], tmp_path: Path
) -> None:
    """The kernel drops signals to a namespace's first process as long as it has not asked for them."""
    if not has_namespaces():
        pytest.skip("no namespace of processes can be had here")
    worker = Container("worker", addresses, tmp_path, first=True)
    try:
        child = until(lambda: next(iter(psutil.Process(worker.process.pid).children()), None), "the process")

        def ended() -> bool:
            if worker.process.poll() is not None:
                return True
            if child.is_running():
                child.send_signal(signal.SIGTERM)
            return False

        until(ended, "it to end", every=0.05)
        assert worker.process.returncode == 128 + signal.SIGTERM, worker.output
    finally:
        worker.kill()
