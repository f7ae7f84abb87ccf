"""Postgres is restarted every few seconds while clients make runs and read (R6): nothing is lost or stuck, and what a request is
refused with in the meantime is 503 with ``Retry-After``, for no longer than the database is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cluster import PROJECT
from dev_server import DevServer, MakeServer
from figures import Figures, percentile, sizes
from tolls import leases_lost, repeats
from workload import assert_invariants

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres

STEPS = 3
TIMES = {
    "LEASE_DURATION_SECS": "6",
    "HEARTBEAT_INTERVAL_SECS": "1",
    "SWEEP_INTERVAL_SECS": "1",
    "QUEUE_POLL_INTERVAL_SECS": "1",
    "SCHEDULER_INTERVAL_SECS": "2",
}
FINAL = {"success", "error", "timeout", "interrupted"}
#: Requests to read that are made for each run.
READS = 4
#: No request takes longer (seconds), on a machine that is busy with others.
LONGEST = 20.0


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedPostgres(tmp_path / "own")
    yield server
    server.stop()


@pytest.fixture
def server(postgres: EmbeddedPostgres, dev_servers: MakeServer, tmp_path: Path) -> DevServer:
    return dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), DATABASE_URI=postgres.start(), **TIMES)


@dataclass
class Clients:
    """Requests at a steady pace, whatever becomes of them."""

    http: httpx.AsyncClient
    runs: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    refused: int = 0
    #: Whatever was neither right nor a proper 503.
    wrong: list[str] = field(default_factory=list)
    took: list[float] = field(default_factory=list)

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """The answer; None if the request was refused."""
        self.asked += 1
        began = time.monotonic()
        try:
            answer = await self.http.request(method, path, **options)
        except httpx.HTTPError as error:
            self.wrong.append(f"{method} {path}: {error!r}")
            return None
        self.took.append(time.monotonic() - began)
        if answer.status_code == 503 and answer.headers.get("retry-after"):
            self.refused += 1
            return None
        if answer.status_code != 200:
            self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
            return None
        return answer.json()

    async def make(self, number: int) -> None:
        """A run on a thread of its own, asked for until it is acknowledged; its key makes sure that it is one."""
        given = {"name": f"r{number}-", "steps": STEPS, "seconds": 0.2}
        thread = f"00000000-0000-4000-8000-{number:012d}"
        body = {"assistant_id": "steps", "input": given, "if_not_exists": "create", "durability": "sync"}
        while True:
            headers = {"Idempotency-Key": f"run-{number}"}
            made = await self.ask("POST", f"/threads/{thread}/runs", json=body, headers=headers)
            if made is not None:
                self.runs[made["run_id"]] = thread
                return
            await asyncio.sleep(1)

    async def look(self, chance: random.Random) -> None:
        if not self.runs:
            return
        run_id, thread_id = chance.choice(list(self.runs.items()))
        method, path, body = chance.choice(
            [
                ("GET", f"/threads/{thread_id}", None),
                ("GET", f"/threads/{thread_id}/runs/{run_id}", None),
                ("GET", f"/threads/{thread_id}/runs", None),
                ("POST", f"/threads/{thread_id}/history", {}),
                ("POST", "/threads/search", {"limit": 5}),
                ("POST", "/assistants/count", {}),
            ]
        )
        await self.ask(method, path, json=body)


@sizes(timeout=2400, minutes=(0.12, 20.0), runs=(40, 5000))
async def test_runs_and_requests_outlive_many_restarts(
    server: DevServer, postgres: EmbeddedPostgres, size: SimpleNamespace, seed: int, figures: Figures, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    between, away = ((5.0, 40.0), (0.0, 2.0)) if size.full else ((1.0, 2.0), (0.0, 1.0))
    began = time.monotonic()
    until = began + size.minutes * 60
    down, restarts = 0.0, 0

    async def restart() -> None:
        nonlocal down, restarts
        while time.monotonic() + between[1] < until:
            await asyncio.sleep(chance.uniform(*between))
            stopped = time.monotonic()
            await asyncio.to_thread(postgres.stop)
            await asyncio.sleep(chance.uniform(*away))
            await asyncio.to_thread(postgres.start)
            down += time.monotonic() - stopped
            restarts += 1

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits) as http:
        clients = Clients(http)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(restart())
            for number in range(size.runs):
                tasks.create_task(clients.make(number))
                for part in range(READS):
                    tasks.create_task(clients.look(random.Random(f"{seed} {number} {part}")))
                    pause = began + size.minutes * 60 * (number + part / READS) / size.runs - time.monotonic()
                    await asyncio.sleep(max(0.0, pause))
        lasted = time.monotonic() - began
        outcomes = await _calm(server, clients.runs, patience=120 if size.full else 40)
    journal = tmp_path / "journal"
    rows = server.rows("SELECT run_id::text AS run_id, output FROM lgs.run")
    right = {f"r{number}-": [f"r{number}-{step}" for step in range(1, STEPS + 1)] for number in range(size.runs)}
    done = Counter(tuple((row["output"] or {}).get("log") or ()) for row in rows)
    again, lost_leases = repeats(journal), leases_lost(server)
    counts = {
        "lost": sum(run_id not in outcomes for run_id in clients.runs),
        "stuck": sum(status not in FINAL for status in outcomes.values()),
        "failed": sum(status in FINAL - {"success"} for status in outcomes.values()),
        "wrong_outputs": sum(done[tuple(log)] != 1 for log in right.values()),
        "not_503": len(clients.wrong),
    }
    figures(
        "R6",
        minutes=lasted / 60,
        restarts=restarts,
        runs=len(clients.runs),
        **counts,
        errors=f"{clients.refused}/{clients.asked}",
        errors_percent=100 * clients.refused / clients.asked,
        downtime_percent=100 * down / lasted,
        slowest=max(clients.took),
        request_p99=percentile(clients.took, 99),
        leases_lost=lost_leases.total(),
        repeats=again.total(),
        seed=seed,
    )
    assert counts == dict.fromkeys(counts, 0), clients.wrong[:10]
    assert restarts
    assert len(outcomes) == size.runs
    assert max(clients.took) < LONGEST
    assert clients.refused / clients.asked <= down / lasted + 0.01
    await assert_invariants(server.database_uri, worker=True)


async def _calm(server: DevServer, runs: dict[str, str], *, patience: float) -> dict[str, str]:
    """How all runs have ended, once they have or the patience has."""
    deadline = time.monotonic() + patience
    while True:
        rows = server.rows("SELECT run_id::text AS run_id, status FROM lgs.run")
        outcomes = {row["run_id"]: row["status"] for row in rows}
        if set(outcomes.values()) <= FINAL or time.monotonic() > deadline:
            return outcomes
        await asyncio.sleep(0.2)
