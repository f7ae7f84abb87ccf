"""``python -m bench.footprint``: what a run leaves in Postgres and Redis, and what it asks of them.

These are the figures on which ``langgraph-serverless plan`` counts (``langgraph_serverless/planning/footprint.py``). Batches of runs
that differ in one thing only, in supersteps, bytes or events, are compared with one another, so that the difference is that
thing's. Bytes and counts depend on nothing but the versions; milliseconds of CPU are this machine's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import redis
from dev_server import DevServer

from bench import ROOT

PROJECT = ROOT / "bench" / "project"
AT_ONCE = 10


@dataclass(frozen=True)
class Amounts:
    """What there is, or has been so far."""

    database_bytes: float
    wal_bytes: float
    commits: float
    redis_bytes: float
    redis_commands: float
    database_cpu_ms: float
    redis_cpu_ms: float
    server_cpu_ms: float

    def since(self, before: Amounts, runs: int) -> Amounts:
        """What each of the runs has added."""
        return Amounts(
            **{name: (value - getattr(before, name)) / runs for name, value in asdict(self).items()},
        )


@dataclass(frozen=True)
class Batch:
    """Runs of a kind."""

    steps: int = 1
    bytes: int = 0
    events: int = 0
    background: bool = True


#: Batches that are compared: (name, more of it, less of it, by how much they differ).
COMPARED = {
    "run": (Batch(steps=1), None, 1),
    "superstep": (Batch(steps=21), Batch(steps=1), 20),
    "state_kilobyte": (Batch(steps=11, bytes=10_240), Batch(steps=11), 11 * 10),
    "event": (Batch(steps=1, events=200), Batch(steps=1, events=1), 199),
    "stream": (Batch(steps=1, background=False), Batch(steps=1), 1),
}


def measure(server: DevServer, runs: int = 100) -> dict[str, Amounts]:
    """What one of each adds, from ``runs`` runs of every batch, each on a thread of its own."""
    per_batch: dict[Batch, Amounts] = {}
    _play(server, Batch(), 20)  # the first ones prepare statements and grow pools
    for more, less, _ in COMPARED.values():
        for batch in filter(None, (more, less)):
            if batch not in per_batch:
                before = _amounts(server)
                _play(server, batch, runs)
                per_batch[batch] = _amounts(server).since(before, runs)
    nothing = Amounts(*[0.0] * len(asdict(per_batch[Batch()])))
    return {
        name: per_batch[more].since(per_batch[less] if less else nothing, difference)
        for name, (more, less, difference) in COMPARED.items()
    }


def _play(server: DevServer, batch: Batch, runs: int) -> None:
    asyncio.run(_all(server.url, batch, runs))


async def _all(url: str, batch: Batch, runs: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    body = {
        "assistant_id": "footprint",
        "input": {"steps": batch.steps, "bytes": batch.bytes, "events": batch.events, "step": 0},
        "stream_mode": ["custom"],
        "stream_resumable": True,
    }

    async def one(client: httpx.AsyncClient) -> None:
        async with gate:
            thread = (await client.post("/threads", json={})).raise_for_status().json()["thread_id"]
            if batch.background:
                run = (await client.post(f"/threads/{thread}/runs", json=body)).raise_for_status().json()
                await client.get(f"/threads/{thread}/runs/{run['run_id']}/join")
                run = (await client.get(f"/threads/{thread}/runs/{run['run_id']}")).json()
                assert run["status"] == "success", run
            else:
                answer = (await client.post(f"/threads/{thread}/runs/stream", json=body)).raise_for_status()
                assert "event: error" not in answer.text, answer.text

    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        await asyncio.gather(*(one(client) for _ in range(runs)))


def _amounts(server: DevServer) -> Amounts:
    with psycopg.connect(server.database_uri, autocommit=True) as connection:
        # what a session has counted is seen by others a second after its transaction
        connection.execute("SELECT pg_sleep(1.1), pg_stat_clear_snapshot()")
        size, wal, commits = connection.execute(
            "SELECT (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'm')),"
            " pg_current_wal_insert_lsn() - '0/0'::pg_lsn,"
            " (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())"
        ).fetchone() or (0, 0, 0)
    with redis.Redis.from_url(server.redis_uri) as client:
        memory: Any = client.info("memory")
        stats: Any = client.info("stats")
    cpu = {"postgres": 0.0, "valkey-server": 0.0, "server": 0.0}
    for process in set(_processes(server)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # a session that has just ended; its server counts it from now on
            continue
        ended = times.children_user + times.children_system  # Postgres counts its sessions that have ended
        kind = process.name() if process.name() in cpu else "server"
        cpu[kind] += (times.user + times.system + (ended if kind == "postgres" else 0.0)) * 1000
    return Amounts(
        database_bytes=float(size),
        wal_bytes=float(wal),
        commits=float(commits),
        redis_bytes=float(memory["used_memory_dataset"]),
        redis_commands=float(stats["total_commands_processed"]),
        database_cpu_ms=cpu["postgres"],
        redis_cpu_ms=cpu["valkey-server"],
        server_cpu_ms=cpu["server"],
    )


def _processes(server: DevServer) -> Iterator[psutil.Process]:
    assert server.process is not None
    yield from psutil.Process(server.process.pid).children(recursive=True)
    folder = str(server.data_dir)
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] in ("postgres", "valkey-server") and folder in " ".join(process.info["cmdline"] or ()):
            yield process
            yield from process.children(recursive=True)


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(PROJECT / "langgraph.json", Path(folder) / "data")
        try:
            measured = measure(server.start(), runs)
        finally:
            server.close()
    for name, amounts in measured.items():
        print(name, json.dumps({key: round(value, 3) for key, value in asdict(amounts).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
