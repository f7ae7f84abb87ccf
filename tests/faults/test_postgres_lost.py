"""Postgres restarts under requests and runs: requests get 503 in time and never hang, runs go on where they were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import PROJECT
from dev_server import SHORT_LEASES, DevServer, MakeServer
from tolls import leases_lost
from workload import RECONNECTING, MakeWorkload, assert_invariants

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]

#: Longest time (seconds) until a request is refused: the pool's timeout and a little.
AT_MOST = 8.0


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedPostgres(tmp_path / "own")
    yield server
    server.stop()


@pytest.fixture
def server(postgres: EmbeddedPostgres, dev_servers: MakeServer, tmp_path: Path) -> DevServer:
    return dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), DATABASE_URI=postgres.start(), **SHORT_LEASES)


async def test_requests_are_refused_while_it_is_away_and_work_afterwards(
    server: DevServer, postgres: EmbeddedPostgres
) -> None:
    body = {"assistant_id": "steps", "input": {"name": "p", "steps": 1, "seconds": 0}}
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        assert (await http.post("/runs/wait", json=body)).json()["log"] == ["p1"]
        await asyncio.to_thread(postgres.stop)

        async def refused(method: str, path: str, json: Any) -> tuple[str, int]:
            began = time.monotonic()
            answer = await http.request(method, path, json=json)
            assert time.monotonic() - began < AT_MOST, f"{path} took {time.monotonic() - began:.1f} s"
            assert answer.headers.get("retry-after"), path
            assert "postgres" not in answer.text.lower(), answer.text
            return path, answer.status_code

        asked = [
            ("POST", "/threads", {}),
            ("GET", f"/threads/{thread_id}", None),
            ("GET", f"/threads/{thread_id}/state", None),
            ("POST", f"/threads/{thread_id}/history", {}),
            ("POST", f"/threads/{thread_id}/runs", body),
            ("POST", f"/threads/{thread_id}/runs/wait", body),
            ("POST", f"/threads/{thread_id}/runs/stream", body),
            ("POST", "/runs", body),
            ("POST", "/runs/batch", [body]),
            ("POST", "/assistants/search", {}),
            ("POST", "/store/items/search", {"namespace_prefix": []}),
            ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}}),
            ("POST", "/runs/crons", {**body, "schedule": "* * * * *"}),
        ]
        answers = await asyncio.gather(*(refused(*each) for each in asked))
        assert {status for _, status in answers} == {503}, [each for each in answers if each[1] != 503]
        await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(20):
            while (answer := await http.post("/runs/wait", json=body)).status_code == 503:
                await asyncio.sleep(0.1)
        assert answer.json()["log"] == ["p1"]


async def test_runs_outlive_restarts(
    dev_servers: MakeServer, postgres: EmbeddedPostgres, workload_on: MakeWorkload, tmp_path: Path
) -> None:
    # leases that outlast a restart, also of a machine that is busy with others: three lost ones would end a run
    times = {**SHORT_LEASES, "LEASE_DURATION_SECS": "10"}
    server = dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), DATABASE_URI=postgres.start(), **times)
    workload = workload_on(server, seconds=0.4)
    await workload.start(single=3, queued=2, stateless=1, waits=2, streams=2)
    await workload.under_way(10)
    for _ in range(2):
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        await asyncio.sleep(0.5)  # some time in which the server is there
    await workload.all_right()
    repeated, lost = workload.repeats(), leases_lost(server)
    assert all(repeated[run.run_id] <= lost[run.run_id] for run in workload.runs), (repeated, lost)
    await assert_invariants(server.database_uri, worker=True)


async def test_runs_outlive_an_outage_longer_than_their_leases(
    server: DevServer, postgres: EmbeddedPostgres, workload_on: MakeWorkload
) -> None:
    workload = workload_on(server, seconds=0.4)
    await workload.start(single=4, stateless=2, waits=2, streams=2)
    await workload.under_way(10)
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(5)  # leases last three
    await asyncio.to_thread(postgres.start)
    await workload.all_right()
    repeated, lost = workload.repeats(), leases_lost(server)
    assert all(repeated[run.run_id] <= lost[run.run_id] for run in workload.runs), (repeated, lost)
    await assert_invariants(server.database_uri, worker=True)
