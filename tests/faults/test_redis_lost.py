"""Redis is emptied, stopped and started again under runs that are waited for and streamed (R8, the fast form).

Nothing that counts is in Redis: every run ends right and nobody hangs; a stream that lost events ends with what the run came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT
from dev_server import PATIENCE, SHORT_LEASES, DevServer, MakeServer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from workload import Acknowledged, MakeWorkload, Workload, assert_invariants, run_log

from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedValkey(tmp_path / "own")
    yield server
    server.stop()


@pytest.fixture
def server(valkey: EmbeddedValkey, dev_servers: MakeServer, tmp_path: Path) -> DevServer:
    uri = valkey.start()
    return dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), REDIS_URI=uri, **SHORT_LEASES)


async def followed(workload: Workload, runs: int) -> list[asyncio.Task[None]]:
    """Runs that clients follow, half by waiting and half by streaming; each ends when its client knows the outcome."""

    async def wait(run: Acknowledged) -> None:
        run.output = await workload.client.runs.wait(None, **workload._request(run))

    async def stream(run: Acknowledged) -> None:
        async for part in workload.client.runs.stream(
            None, **workload._request(run), stream_mode=["values", "custom"], stream_resumable=True
        ):
            if part.event == "values":
                run.output = part.data

    return [asyncio.create_task((wait if number % 2 else stream)(workload._new())) for number in range(runs)]


async def all_followed(workload: Workload, tasks: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    for run in workload.runs:
        assert run.output is not None, f"{run} ended without a state"
        assert run.output["log"] == run_log(run)
    rows = workload.server.rows("SELECT status, attempt FROM lgs.run")
    assert rows == [{"status": "success", "attempt": 1}] * len(workload.runs)
    await assert_invariants(workload.server.database_uri, worker=True)


async def test_flushall_every_half_second(server: DevServer, workload_on: MakeWorkload) -> None:
    workload = workload_on(server, seconds=0.3)

    async def flush() -> None:
        async with Redis.from_url(server.redis_uri) as redis:
            while True:
                await redis.flushall()
                await asyncio.sleep(0.5)

    flushing = asyncio.create_task(flush())
    tasks = await followed(workload, 20)
    await all_followed(workload, tasks)
    assert not flushing.done()
    flushing.cancel()


@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_redis_goes_away_for_a_while(
    server: DevServer, valkey: EmbeddedValkey, workload_on: MakeWorkload, how: str
) -> None:
    workload = workload_on(server, seconds=0.4)
    tasks = await followed(workload, 10)
    await workload.under_way(10)
    if how == "killed":
        assert valkey._process is not None
        valkey._process.kill()
    await asyncio.to_thread(valkey.stop)
    # without it: what runs goes on, what is asked for is done
    tasks += await followed(workload, 6)
    stateless = await workload.client.runs.create(None, "steps", input={"name": "x", "steps": 1, "seconds": 0})
    workload.runs.append(Acknowledged(name="x", steps=1, output={"log": ["x1"]}))
    assert stateless["status"] == "pending"
    await asyncio.sleep(2)  # the length of the outage
    await asyncio.to_thread(valkey.start)
    tasks += await followed(workload, 4)
    await all_followed(workload, tasks)
    # and it is used again
    with suppress(RedisError):
        async with Redis.from_url(server.redis_uri) as redis:
            assert await redis.dbsize()


async def test_nothing_hangs_without_redis(
    server: DevServer, valkey: EmbeddedValkey, workload_on: MakeWorkload
) -> None:
    """For good: streams fall back to the final state, waits to the row, cancels to the heartbeat."""
    await asyncio.to_thread(valkey.stop)
    workload = workload_on(server, seconds=0.05)
    client: Any = workload.client
    await all_followed(workload, await followed(workload, 6))
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "steps", input={"name": "c", "steps": 1000, "seconds": 0.1})
    async with asyncio.timeout(PATIENCE):
        while (await client.runs.get(thread_id, run["run_id"]))["status"] == "pending":
            await asyncio.sleep(0.05)
        await client.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
