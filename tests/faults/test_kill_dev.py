"""``kill -9`` and SIGTERM of the dev command, and of its server alone, in the middle of many runs.

What was acknowledged ends right after a restart on the same data, and clients that followed a run see all of it.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT
from dev_server import SHORT_LEASES, MakeServer
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]

#: 20 runs: streamed, waited for, queued behind others, stateless.
TWENTY = {"single": 5, "queued": 4, "stateless": 3, "waits": 4, "streams": 4}


@pytest.fixture
def workload(dev_servers: MakeServer, workload_on: MakeWorkload, tmp_path: Path) -> Workload:
    server = dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), **SHORT_LEASES)
    return workload_on(server)


async def test_kill_9_of_the_command(workload: Workload) -> None:
    server = workload.server
    await workload.start(**TWENTY)
    await workload.under_way()
    await asyncio.to_thread(server.kill)
    finished = sum(row["status"] == "success" for row in workload.rows().values())
    assert len(workload.rows()) == 20, "acknowledged, so it is there"
    assert finished < 20, "too late for a test"

    await asyncio.to_thread(server.start)
    await workload.all_right()
    repeats = workload.repeats()
    assert max(repeats.values()) <= 1, "durability sync: the superstep in flight at most"
    for run_id, row in workload.rows().items():
        assert row["attempt"] <= 2
        assert row["handoffs"] == 0
        assert repeats[run_id] <= row["attempt"] - 1
    await assert_invariants(server.database_uri, worker=True)


async def test_kill_9_of_the_server_alone(workload: Workload) -> None:
    server = workload.server
    await workload.start(single=3, queued=2, waits=2, streams=3)
    await workload.under_way()
    await asyncio.to_thread(server.kill_server)
    await workload.all_right()
    assert max(workload.repeats().values()) <= 1
    assert "The server ended by itself (SIGKILL)" in server.output
    await assert_invariants(server.database_uri, worker=True)


async def test_sigterm_hands_runs_on(workload: Workload) -> None:
    """R12: a planned stop is no attempt, no error, and repeats nothing that reached its superstep boundary."""
    server = workload.server
    await workload.start(**TWENTY)
    await workload.under_way()
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(server.start)
    await workload.all_right()
    rows = workload.rows().values()
    assert {row["attempt"] for row in rows} == {1}
    assert 1 <= sum(row["handoffs"] for row in rows) <= 10
    assert sum(workload.repeats().values()) == 0
    for run in workload.runs:
        if run.events is not None:
            steps = [event.data["step"] for event in run.events if event.event == "custom"]
            assert steps == list(range(1, run.steps + 1)), "a planned stop shows in no stream"
            assert [event.data.get("attempt") for event in run.events if event.event == "metadata"] == [1]
    await assert_invariants(server.database_uri, worker=True)


async def test_sigterm_releases_runs_that_do_not_drain(
    dev_servers: MakeServer, workload_on: MakeWorkload, tmp_path: Path, databases: Any, redis_uri: str
) -> None:
    journal, uri = tmp_path / "journal", databases.create()
    try:
        # a database that is still there after the command
        addresses = {"DATABASE_URI": uri, "REDIS_URI": redis_uri, "REDIS_KEY_PREFIX": uuid.uuid4().hex}
        server = dev_servers(PROJECT, JOURNAL=str(journal), **addresses, **SHORT_LEASES)
        workload = workload_on(server, seconds=30)  # longer than the grace
        await workload.start(single=2)
        await workload.under_way(2)
        assert await asyncio.to_thread(server.stop) == 0
        rows = workload.rows().values()
        assert [(row["status"], row["attempt"], row["handoffs"]) for row in rows] == [("pending", 0, 1)] * 2
        assert {row["last_error"] for row in rows} == {None}
        await assert_invariants(uri)
    finally:
        databases.drop(uri)


async def test_a_join_goes_on_over_restarts(workload: Workload) -> None:
    """A stream that is left and joined again by its last event id, while the server is killed in between."""
    server, client = workload.server, workload.client
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread_id,
        "steps",
        input={"name": "s", "steps": 12, "seconds": 0.2},
        stream_mode="custom",
        stream_resumable=True,
        durability="sync",
    )
    last, seen = "-1", []
    for part_of_it in range(3):
        async for event in client.runs.join_stream(thread_id, run["run_id"], last_event_id=last):
            seen.append(event)
            last = event.id or last
            if part_of_it < 2 and event.event == "custom" and event.data["step"] == 4 * (part_of_it + 1):
                break
        if part_of_it == 0:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        elif part_of_it == 1:
            assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)
    ids = [event.id for event in seen]
    assert len(ids) == len(set(ids))
    assert ids == sorted(ids, key=lambda event_id: [int(part) for part in event_id.split("-")])
    steps = [event.data["step"] for event in seen if event.event == "custom"]
    assert sorted(set(steps)) == list(range(1, 13))
    assert len(steps) <= 13, "the kill may repeat the step in flight"
    assert [event.data["attempt"] for event in seen if event.event == "metadata"] == [1, 2]
    whole = [event async for event in client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")]
    assert [(event.id, event.event, event.data) for event in whole] == [
        (event.id, event.event, event.data) for event in seen
    ]
