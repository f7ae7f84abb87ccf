"""An API and any number of worker processes on one database, as a deployment has them, for tests of what happens between them.

The API runs in this process on a thread of its own, so it survives what the workers do. Workers are real processes that can
be paused, killed and started again. ``cluster`` is a pytest fixture, made anew for each test.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn
from dev_server import PATIENCE, ROOT, SHORT_LEASES, until
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg.rows import dict_row

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = ROOT / "tests" / "faults" / "project" / "langgraph.json"


@dataclass
class WorkerProcess:
    """One worker."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def owner(self) -> str:
        """Its name in the leases; empty if it has not claimed a run yet."""
        found = re.search(r"worker=(worker-[0-9a-f]+)", self.output)
        return found[1] if found else ""

    def pause(self) -> None:
        """As a sandbox that is frozen, or a machine that swaps: no thread of it runs any more."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.running:
            self.process.kill()  # also ends a stopped one
        self.process.wait(PATIENCE)


@dataclass
class Cluster:
    """One database, one API, some workers."""

    environ: dict[str, str]
    folder: Path
    url: str = ""
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def database_uri(self) -> str:
        return self.environ["DATABASE_URI"]

    @property
    def journal(self) -> Path:
        return Path(self.environ["JOURNAL"])

    def settings(self, **overrides: Any) -> Settings:
        return Settings.from_env(self.environ, **overrides)

    def client(self) -> LangGraphClient:
        return get_client(url=self.url, api_key=None)

    def worker(self, **environ: str) -> WorkerProcess:
        """Start a worker; it takes runs about a second later."""
        log = self.folder / f"worker{len(self.workers)}.output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "worker_main.py")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environ, **environ},
                start_new_session=True,
            )
        self.workers.append(WorkerProcess(process, log))
        return self.workers[-1]

    @asynccontextmanager
    async def supervised(self, workers: int = 1, **environ: str) -> AsyncIterator[None]:
        """Workers that are started again whenever they have died, as a supervisor or the platform does it."""

        async def watch() -> None:
            while True:
                if sum(worker.running for worker in self.workers) < workers:
                    self.worker(**environ)
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def rows(self, query: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """What the database says."""
        with psycopg.connect(self.database_uri, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, databases: Any, redis_uri: str, tmp_path: Path) -> Iterator[Cluster]:
    """An API on the project of ``tests/faults``, or on the parameter, and no worker yet; leases are short."""
    environ = {
        "DATABASE_URI": databases.create(),
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(getattr(request, "param", PROJECT)),
        "JOURNAL": str(tmp_path / "journal"),
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
        **SHORT_LEASES,
    }
    cluster = Cluster(environ, tmp_path)
    try:
        with served(cluster.settings()) as cluster.url:
            yield cluster
            cluster.close()
    finally:
        cluster.close()
        databases.drop(cluster.database_uri)


class served:
    """The API on a thread and an event loop of its own."""

    def __init__(self, settings: Settings) -> None:
        assert settings.config_path is not None
        registry = GraphRegistry.load(read_project(settings.config_path))
        # on a thread, as the tests' own event loop is running already
        manifests: list[Any] = []
        builder = threading.Thread(target=lambda: manifests.append(asyncio.run(build_manifest(registry))))
        builder.start()
        builder.join()
        container = ApiContainer(settings, manifest=manifests[0])
        if registry.priority_handler is not None:  # is asked where the project is
            container = StateContainer(settings, registry=registry, manifest=manifests[0])

        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncIterator[None]:
            await container.assistants.ensure_defaults()
            yield
            await container.aclose()

        app = create_app(container, lifespan=lifespan)
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, name="api", daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), "the API")
        assert self._thread.is_alive(), "the API did not start"
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        deadline = time.monotonic() + PATIENCE
        self._thread.join(PATIENCE)
        assert time.monotonic() < deadline, "the API does not stop"
