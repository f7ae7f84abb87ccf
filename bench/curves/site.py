"""This server as a deployment has it: one ``serve`` for the API, and workers beside it, each a process.

They are the real commands on the databases given. Nothing is pinned to a processor: what workers take from the databases and
the API is part of the curve.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from dev_server import free_port
from psycopg.rows import dict_row

from bench.client import Client
from bench.curves import PROJECT
from bench.launch import launched

_COMMAND = (sys.executable, "-P", "-c", "from langgraph_serverless.cli.main import main; main()")
#: Seconds until what was asked for must have happened.
PATIENCE = 120.0


@dataclass(frozen=True)
class Process:
    """A command that answers."""

    url: str
    process: psutil.Process

    def cpu(self) -> float:
        """CPU seconds so far, of its children too."""
        return sum(_cpu(each) for each in [self.process, *self.process.children(recursive=True)])

    def memory(self) -> float:
        """MiB of it and its children."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(each.memory_info().rss for each in family) / 2**20


@dataclass(frozen=True)
class Site:
    """Two databases, and what is started on them."""

    folder: Path
    database_uri: str
    redis_uri: str
    #: Postgres' first process, if it is known.
    postgres: psutil.Process | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def serve(self) -> Iterator[Process]:
        """The API, without a worker."""
        with self._command("serve", "--migrate") as process:
            yield process

    @contextmanager
    def workers(self, count: int, jobs: int = 10) -> Iterator[list[Process]]:
        with ExitStack() as stack:
            yield [stack.enter_context(self._command("worker", "--n-jobs", str(jobs))) for _ in range(count)]

    @contextmanager
    def _command(self, *arguments: str) -> Iterator[Process]:
        port = free_port()
        command = [*_COMMAND, *arguments, "--config", str(PROJECT), "--port", str(port)]
        environ = {"DATABASE_URI": self.database_uri, "REDIS_URI": self.redis_uri, **self.environ}
        log = self.folder / f"{arguments[0]}-{port}.log"
        with launched(command, port, log, cwd=self.folder, environ=environ) as pid:
            yield Process(f"http://127.0.0.1:{port}", psutil.Process(pid))

    def rows(self, query: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """What the database says."""
        with psycopg.connect(self.database_uri, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def execute(self, statement: str) -> None:
        """A statement that gives no rows."""
        with psycopg.connect(self.database_uri, autocommit=True) as connection:
            connection.execute(statement)

    def postgres_cpu(self) -> float:
        """CPU seconds of Postgres so far; 0 if nobody knows its process."""
        if self.postgres is None:
            return 0.0
        family = [self.postgres, *self.postgres.children()]
        ended = self.postgres.cpu_times()  # it counts its sessions that have ended
        return sum(_cpu(each) for each in family) + ended.children_user + ended.children_system


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


async def post_runs(client: Client, body: Mapping[str, Any], count: int) -> list[str]:
    """Create runs in the background, each on a thread of its own; the threads."""
    gate, made = asyncio.Semaphore(16), [""] * count

    async def one(number: int) -> None:
        async with gate:
            made[number] = (await client.json("POST", "/threads", {}))["thread_id"]
            await client.json("POST", f"/threads/{made[number]}/runs", body)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return made


async def until_over(site: Site) -> None:
    """Return once no run is left.

    Raises:
        TimeoutError: some are.
    """
    deadline = time.monotonic() + PATIENCE
    query = "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running') LIMIT 1"
    while await asyncio.to_thread(site.rows, query):
        if time.monotonic() > deadline:
            raise TimeoutError(f"runs were left after {PATIENCE:.0f} s; see {site.folder}")
        await asyncio.sleep(0.1)
