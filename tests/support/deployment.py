"""``serve`` and ``worker`` as processes of their own behind a load balancer, as containers are run, for tests that end them.

A ``Deployment`` is one database, one address for clients, and the commands that serve it; each may be stopped, killed and started
again. The balancer is one for TCP: it asks nobody how they are, and passes a connection to the next process that takes it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
from dev_server import FOREIGN, PATIENCE, free_port, until
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg.rows import dict_row

SCRIPT = "from langgraph_serverless.cli.main import main; main()"


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Of a command: the caller's, without what would change what is tested."""
    foreign = (*FOREIGN, "LOG_", "MOUNT_PREFIX", "WEB_CONCURRENCY")
    return {name: value for name, value in os.environ.items() if not any(word in name for word in foreign)} | {**own}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", SCRIPT, *arguments]


@dataclass
class Process:
    """One ``serve`` or ``worker``, with the port on which it tells how it is."""

    arguments: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command(*self.arguments, "--port", str(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(self.environ),
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10)

    def is_ready(self) -> bool:
        assert self.running, self.output
        try:
            return self.get("/ok?check_db=1").status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> Process:
        until(self.is_ready, f"{self.arguments} to be ready: {self.output}")
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        self.signal()
        return self.ended()

    def kill(self) -> None:
        if self.running:
            self.process.kill()
        self.process.wait(PATIENCE)


class Balancer:
    """One address in front of several; runs on a thread of its own."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self._turn = count()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(PATIENCE)
        assert self._server is not None
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self._started.set()
        self._loop.run_forever()
        self._server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn, ports = next(self._turn), list(self.ports)
        for number in range(len(ports)):
            try:
                there = await asyncio.open_connection("127.0.0.1", ports[(turn + number) % len(ports)])
                break
            except OSError:
                continue
        else:
            writer.transport.abort()
            return
        pair = (writer, there[1])
        await asyncio.gather(self._forward(reader, there[1], pair), self._forward(there[0], writer, pair))

    @staticmethod
    async def _forward(
        source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # the other direction has ended: so does this one
        finally:
            for writer in pair:
                writer.close()


@dataclass
class Deployment:
    """Commands on one database, behind one address."""

    environ: dict[str, str]
    folder: Path
    balancer: Balancer = field(default_factory=Balancer)
    made: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.balancer.port}"

    @property
    def database_uri(self) -> str:
        return self.environ["DATABASE_URI"]

    def client(self) -> LangGraphClient:
        return get_client(url=self.url, api_key=None)

    def rows(self, query: str, parameters: Any = ()) -> list[dict[str, Any]]:
        """What the database says."""
        with psycopg.connect(self.database_uri, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]

    def start(self, role: str, *options: str, **environ: str) -> Process:
        """``serve`` or ``worker``; returns at once."""
        log = self.folder / f"{len(self.made)}-{role}.output"
        self.made.append(Process((role, *options), {**self.environ, **environ}, log))
        if role == "serve":
            self.balancer.ports.append(self.made[-1].port)
        return self.made[-1]

    def close(self) -> None:
        for process in self.made:
            process.kill()
        self.balancer.close()
