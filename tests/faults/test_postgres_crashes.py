"""Postgres crashes while runs save without waiting for the disk (durability ``async``): no end that somebody has seen is lost, every
run ends right, and no checkpoint misses a value that another one has written. What is repeated is counted.

A crash is the death of one of its processes: the others are ended at once, and it recovers from what is on disk.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from cluster import PROJECT
from dev_server import DevServer, MakeServer, until
from figures import Figures, sizes
from tolls import leases_lost, repeats
from workload import assert_invariants

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres

STEPS = 40
TIMES = {
    "LEASE_DURATION_SECS": "6",
    "HEARTBEAT_INTERVAL_SECS": "1",
    "SWEEP_INTERVAL_SECS": "0.5",
    "QUEUE_POLL_INTERVAL_SECS": "0.5",
    "SCHEDULER_INTERVAL_SECS": "0.5",
    "MAX_ATTEMPTS": "20",
}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to be killed."""
    server = EmbeddedPostgres(tmp_path / "own")
    yield server
    server.stop()


@pytest.fixture
def server(postgres: EmbeddedPostgres, dev_servers: MakeServer, tmp_path: Path) -> DevServer:
    return dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), DATABASE_URI=postgres.start(), **TIMES)


@sizes(timeout=1200, runs=(10, 300), crashes=(1, 30))
async def test_a_crash_loses_no_end_and_leaves_whole_checkpoints(
    server: DevServer, postgres: EmbeddedPostgres, size: SimpleNamespace, seed: int, figures: Figures, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    made: dict[str, tuple[str, str]] = {}
    seen: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:

        async def make(number: int) -> None:
            given = {"name": f"r{number}-", "steps": STEPS, "seconds": 0.01 if size.full else 0.005}
            body = {"assistant_id": "steps", "input": given, "if_not_exists": "create", "durability": "async"}
            thread_id = f"00000000-0000-4000-8000-{number:012d}"
            while True:
                key = {"Idempotency-Key": f"run-{number}"}
                answer = await http.post(f"/threads/{thread_id}/runs", json=body, headers=key)
                if answer.status_code == 200:
                    made[answer.json()["run_id"]] = (thread_id, given["name"])
                    return
                await asyncio.sleep(0.05)

        async def look() -> None:
            for run_id, (thread_id, _) in made.items():
                if run_id not in seen:
                    answer = await http.get(f"/threads/{thread_id}/runs/{run_id}")
                    if answer.status_code == 200 and answer.json()["status"] not in {"pending", "running"}:
                        seen[run_id] = answer.json()["status"]

        lost_ends = 0
        for crash in range(size.crashes + 1):
            portion = size.runs // (size.crashes + 1)
            await asyncio.gather(*(make(crash * portion + number) for number in range(portion)))
            if crash == size.crashes:
                break
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            await look()
            _crash(postgres, chance)
            await asyncio.to_thread(until, lambda: _answers(server), "Postgres to recover")
            statuses = {row["run_id"]: row["status"] for row in server.rows("SELECT run_id::text, status FROM lgs.run")}
            lost_ends += sum(statuses.get(run_id) != status for run_id, status in seen.items())

        async with asyncio.timeout(600 if size.full else 60):
            while len(seen) < len(made):
                await look()
                await asyncio.sleep(0.05)
        wrong, torn = 0, 0
        for thread_id, name in made.values():
            right = [f"{name}{step}" for step in range(1, STEPS + 1)]
            states = (await http.post(f"/threads/{thread_id}/history", json={"limit": 200})).json()
            wrong += states[0]["values"].get("log") != right
            torn += sum(not _whole(state["values"], right) for state in states)
    again, lost = repeats(tmp_path / "journal"), leases_lost(server)
    figures(
        "R6 crashes",
        runs=len(made),
        crashes=size.crashes,
        lost_ends=lost_ends,
        failed=sum(status != "success" for status in seen.values()),
        wrong=wrong,
        torn=torn,
        leases_lost=lost.total(),
        repeats=again.total(),
        most_repeats_of_a_run=max(again.values(), default=0),
        seed=seed,
    )
    assert lost_ends == wrong == torn == 0
    assert set(seen.values()) == {"success"}
    await assert_invariants(server.database_uri, worker=True)


def _whole(values: dict[str, Any], right: list[str]) -> bool:
    """Whether a checkpoint has all that had been written when it was."""
    done = values.get("done")
    return values.get("log", []) == right[:done] if done is not None else not values.get("log")


def _crash(postgres: EmbeddedPostgres, chance: random.Random) -> None:
    assert postgres.pid is not None
    backends = [child for child in psutil.Process(postgres.pid).children() if "postgres" in child.name()]
    chance.choice(backends).kill()


def _answers(server: DevServer) -> bool:
    try:
        return bool(server.rows("SELECT 1"))
    except Exception:
        return False
