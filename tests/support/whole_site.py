"""A whole deployment as processes on databases of its own, for tests in which any part of it may fail.

Like ``cluster.py``, but the APIs are processes too, Postgres and Valkey belong to the test, and the last worker reaches
Postgres through a proxy that can be stopped. Whatever has been killed is started again by number, under its old address.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from cluster import PROJECT, Cluster, WorkerProcess
from dev_server import PATIENCE, ROOT, SHORT_LEASES, free_port
from psycopg.conninfo import conninfo_to_dict
from tcp_proxy import TcpProxy

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres
from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.persistence.migrate import migrate


class Site(Cluster):
    """A cluster whose APIs are processes too, on databases of its own."""

    def __init__(
        self,
        environ: dict[str, str],
        folder: Path,
        postgres: EmbeddedPostgres,
        valkey: EmbeddedValkey,
        proxy: TcpProxy,
        *,
        apis: int,
        workers: int,
    ) -> None:
        super().__init__(environ, folder)
        self.postgres, self.valkey, self.proxy = postgres, valkey, proxy
        self.ports = [free_port() for _ in range(apis)]
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        self.apis: list[subprocess.Popen[bytes] | None] = [None] * apis
        self.places: list[WorkerProcess | None] = [None] * workers

    def serve(self, number: int) -> None:
        """Start this API, or start it again if it is gone."""
        if (running := self.apis[number]) is not None and running.poll() is None:
            return
        with (self.folder / f"api{number}.output").open("ab") as output:
            self.apis[number] = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "support" / "api_main.py"), str(self.ports[number])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )

    def kill_api(self, number: int) -> None:
        if (running := self.apis[number]) is not None:
            running.kill()
            running.wait(PATIENCE)

    def work(self, number: int) -> None:
        """Start this worker, or start it again if it is gone."""
        there = self.places[number]
        if there is None or not there.running:
            behind = {"DATABASE_URI": self._behind_proxy()} if number == len(self.places) - 1 else {}
            self.places[number] = self.worker(**behind)

    def kill_worker(self, number: int) -> None:
        if (there := self.places[number]) is not None:
            there.kill()

    def start_all(self) -> None:
        for number in range(len(self.apis)):
            self.serve(number)
        for number in range(len(self.places)):
            self.work(number)

    async def up(self) -> None:
        """Once every API answers."""
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient() as http:
            for number, port in enumerate(self.ports):
                while True:
                    self.serve(number)
                    try:
                        if (await http.get(f"http://127.0.0.1:{port}/ok?check_db=1")).is_success:
                            break
                    except httpx.HTTPError:
                        pass  # not yet
                    await asyncio.sleep(0.2)

    def _behind_proxy(self) -> str:
        target = conninfo_to_dict(self.database_uri)
        return f"postgresql://{target['user']}@127.0.0.1:{self.proxy.port}/{target['dbname']}?sslmode=disable"

    def close(self) -> None:
        super().close()
        for number in range(len(self.apis)):
            self.kill_api(number)


@asynccontextmanager
async def own_site(folder: Path, *, apis: int, workers: int, **environ: str) -> AsyncIterator[Site]:
    """Nothing runs on it yet but its databases."""
    postgres, valkey = EmbeddedPostgres(folder / "own"), EmbeddedValkey(folder / "own")
    try:
        uri, redis_uri = await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
        await migrate(uri)
        target = conninfo_to_dict(uri)
        async with TcpProxy.to(str(target["host"]), int(target["port"])) as proxy:
            settings = {
                "DATABASE_URI": uri,
                "REDIS_URI": redis_uri,
                "LANGGRAPH_CONFIG": str(PROJECT),
                "JOURNAL": str(folder / "journal"),
                **SHORT_LEASES,
                **environ,
            }
            site = Site(settings, folder, postgres, valkey, proxy, apis=apis, workers=workers)
            try:
                yield site
            finally:
                site.close()
    finally:
        postgres.stop()
        valkey.stop()
