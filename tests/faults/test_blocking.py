"""Synchronous nodes that block do not stall the others: 8 of 10 slots sleep while another run streams its tokens."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest
from cluster import PROJECT
from dev_server import PATIENCE, SHORT_LEASES, MakeServer
from workload import MakeWorkload

pytestmark = pytest.mark.timeout(90)


async def test_blocking_nodes_stall_neither_streams_nor_heartbeats(
    dev_servers: MakeServer, workload_on: MakeWorkload, tmp_path: Path
) -> None:
    server = dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), **SHORT_LEASES)
    workload = workload_on(server)
    client = workload.client
    blocking = [await client.runs.create(None, "blocking", input={"seconds": 6}) for _ in range(8)]
    await workload.under_way(8)
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        stream = client.runs.stream(None, "tokens", input={"steps": 40, "seconds": 0.05}, stream_mode="custom")
        arrived = [time.monotonic() async for part in stream if part.event == "custom"]
        answer = await client.runs.wait(None, "tokens", input={"steps": 1, "seconds": 0})
    took = time.monotonic() - began
    statuses = [row["status"] for row in server.rows("SELECT status FROM lgs.run WHERE graph_id = 'blocking'")]
    assert statuses == ["running"] * 8, f"all of the stream came while they slept; it took {took:.1f} s"
    assert answer["log"] == ["spoken"]
    assert len(arrived) == 40
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    assert max(gaps) < 1.0, f"largest gap between tokens: {max(gaps):.2f} s"
    for run in blocking:
        thread_id = server.rows("SELECT thread_id FROM lgs.run WHERE run_id = %s", (run["run_id"],))[0]["thread_id"]
        assert (await client.runs.join(str(thread_id), run["run_id"]))["log"] == ["slept"]
    attempts = server.rows("SELECT DISTINCT attempt FROM lgs.run")
    assert attempts == [{"attempt": 1}], "they slept for two leases, and kept them"
