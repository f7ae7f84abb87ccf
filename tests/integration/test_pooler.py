"""Everything behind a transaction pooler, as behind RDS Proxy: an API and workers that share four connections of PgBouncer.

Slow, and only where there is a ``pgbouncer`` in the path or in the variable PGBOUNCER (``apt-get install pgbouncer``): no wheel
has it. Prepared statements are off, as in the template; ``tests/unit/test_session_state.py`` says what else would break.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cluster import PROJECT, Cluster, served
from dev_server import SHORT_LEASES, until
from figures import Figures
from psycopg.conninfo import conninfo_to_dict
from workload import assert_invariants

PGBOUNCER = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed, and no wheel has it"),
]

RUNS = int(os.environ.get("RUNS", "40"))


@pytest.fixture
def pooler(databases: Any, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a new database, and another one through the pooler."""
    direct = databases.create()
    place = conninfo_to_dict(direct)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"""
[databases]
* = host={place["host"]} user={place.get("user") or "postgres"}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
server_reset_query =
""",
        encoding="utf-8",
    )
    # it does not run as root; whom Postgres runs as may enter the folder of its socket
    owner = pwd.getpwuid(Path(str(place["host"])).stat().st_uid).pw_name
    readable = Path(f"/tmp/pgbouncer-{port}.ini")
    shutil.copy(settings, readable)
    readable.chmod(0o644)
    log = (tmp_path / "pgbouncer.log").open("wb")
    process = subprocess.Popen(
        [str(PGBOUNCER), str(readable)], stdout=log, stderr=log, user=owner if os.geteuid() == 0 else None
    )
    uri = f"postgresql://anybody@127.0.0.1:{port}/{place['dbname']}"

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "pgbouncer.log").read_text()
        try:
            psycopg.connect(uri, prepare_threshold=None).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        until(answers, "PgBouncer")
        yield direct, uri
    finally:
        process.terminate()
        process.wait(10)
        log.close()
        readable.unlink()
        databases.drop(direct)


@pytest.fixture
def pooled(pooler: tuple[str, str], redis_uri: str, tmp_path: Path) -> Iterator[Cluster]:
    environ = {
        "DATABASE_URI": pooler[1],
        "DATABASE_PREPARED_STATEMENTS": "false",
        "DATABASE_POOL_MAX_SIZE": "10",
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{tmp_path.name}",
        "LANGGRAPH_CONFIG": str(PROJECT),
        "JOURNAL": str(tmp_path / "journal"),
        **SHORT_LEASES,
    }
    cluster = Cluster(environ, tmp_path)
    try:
        with served(cluster.settings()) as cluster.url:
            yield cluster
            cluster.close()
    finally:
        cluster.close()


async def test_runs_threads_crons_and_the_store_behind_a_pooler(
    pooled: Cluster, pooler: tuple[str, str], figures: Figures
) -> None:
    pooled.worker()
    victim = pooled.worker()
    async with pooled.client() as client:
        thread_ids = [(await client.threads.create())["thread_id"] for _ in range(10)]

        async def one(number: int) -> str:
            thread_id = thread_ids[number % len(thread_ids)]
            given = {"name": f"r{number}-", "steps": 3, "seconds": 0.05}
            run = await client.runs.create(thread_id, "steps", input=given, multitask_strategy="enqueue")
            await client.store.put_item(["runs"], run["run_id"], {"number": number}, index=False)
            if number == RUNS // 2:
                victim.kill()
                pooled.worker()
            await client.runs.join(thread_id, run["run_id"])
            return str((await client.runs.get(thread_id, run["run_id"]))["status"])

        statuses = await asyncio.gather(*(one(number) for number in range(RUNS)))
        assert statuses == ["success"] * RUNS
        assert len((await client.store.search_items(["runs"], limit=1000))["items"]) == RUNS
        for thread_id in thread_ids:
            assert (await client.threads.get(thread_id))["values"]["done"] == 3
        cron = await client.crons.create("steps", schedule="0 0 1 1 *", input={})
        await client.crons.delete(cron["cron_id"])
        stream = client.runs.stream(thread_ids[0], "steps", input={"name": "s", "steps": 2, "seconds": 0.05})
        assert "values" in [part.event async for part in stream]
    await assert_invariants(pooler[0])
    figures("pooler", runs=RUNS, lost=0, kills=1, connections=4)
