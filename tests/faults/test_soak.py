"""An hour of ordinary work, in which nothing may grow that should not (R26): memory, connections, Redis, dead rows.

Runs of every kind are made at an even pace and followed as clients do; ``MINUTES`` and ``RUNS`` say for how long and how many.
Memory is the resident set of each process; its slope is that of a line through all samples after the first quarter, when
caches and pools are full. Redis and temporary threads are looked at once everything has had the time to expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from cluster import PROJECT
from figures import Figures
from langgraph_sdk import get_client
from redis import Redis
from whole_site import Site, own_site
from workload import assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project

MINUTES, RUNS = float(os.environ.get("MINUTES", "60")), int(os.environ.get("RUNS", "10000"))
#: What is kept for ten minutes otherwise; so the end of a short soak is like that of a long one (seconds).
KEPT = 20
TICK = 10.0
#: The keys of an idle deployment.
FEW = 2
TABLES = ("lgs.run", "lgs.thread", "checkpoints", "checkpoint_writes", "checkpoint_blobs", "lgs.outbox")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * 3600)]


class Watch:
    """Samples of everything that may grow."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.done = 0
        self.memory: dict[str, list[tuple[int, float]]] = {}
        self.connections: list[tuple[int, int]] = []

    async def keep(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(max(1.0, MINUTES))

    def look(self) -> None:
        named = {f"api{number}": api for number, api in enumerate(self._site.apis)}
        named |= {f"worker{number}": place and place.process for number, place in enumerate(self._site.places)}
        for name, process in named.items():
            assert process is not None
            size = psutil.Process(process.pid).memory_info().rss / 2**20
            self.memory.setdefault(name, []).append((self.done, size))
        [row] = self._site.rows("SELECT count(*) AS open FROM pg_stat_activity WHERE backend_type = 'client backend'")
        self.connections.append((self.done, row["open"]))

    def settled(self, samples: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        return [sample for sample in samples if sample[0] >= self.done / 4]

    def slope(self, name: str) -> float:
        """MB per thousand runs."""
        done, sizes = zip(*self.settled(self.memory[name]), strict=True)
        return 1000 * statistics.linear_regression(done, sizes).slope


async def test_nothing_grows_that_should_not(tmp_path: Path, figures: Figures) -> None:
    kept = {"TEMPORARY_THREAD_RETENTION_SECS": str(KEPT), "RESUMABLE_STREAM_TTL_SECONDS": str(KEPT)}
    # leases as they are by default
    usual = {"LEASE_DURATION_SECS": "30", "HEARTBEAT_INTERVAL_SECS": "10", "SWEEP_INTERVAL_SECS": "5"}
    async with own_site(tmp_path, apis=1, workers=2, **kept, **usual) as site:
        site.start_all()
        await site.up()
        with Redis.from_url(site.environ["REDIS_URI"]) as redis:
            before = _redis(redis)
            watch = Watch(site)
            async with _ticking(site):
                outcomes = await _work(site, watch)
                connections = [open_ for _, open_ in watch.settled(watch.connections)]
                # everything that is kept for a while is gone after it
                deadline = time.monotonic() + 3 * KEPT + 4 * TICK
                while (after := _redis(redis))["keys"] > before["keys"] + FEW and time.monotonic() < deadline:
                    await asyncio.sleep(1)
                temporary = "SELECT count(*) AS left FROM lgs.thread WHERE temporary"
                while (left := site.rows(temporary)[0]["left"]) and time.monotonic() < deadline:
                    await asyncio.sleep(1)
        slopes = {name: watch.slope(name) for name in watch.memory}
        bloat = _bloat(site.database_uri)
        figures(
            "R26",
            minutes=MINUTES,
            runs=watch.done,
            failed=outcomes.total() - outcomes["success"],
            **{f"slope_{name}_mb_per_1000": slope for name, slope in slopes.items()},
            **{f"rss_{name}_mb": samples[-1][1] for name, samples in watch.memory.items()},
            connections_least=min(connections),
            connections_most=max(connections),
            redis_keys_before=before["keys"],
            redis_keys_after=after["keys"],
            redis_mb_grown=after["mb"] - before["mb"],
            temporary_threads_left=left,
            bloat_percent=100 * max(bloat.values(), default=0.0),
        )
        assert outcomes == {"success": watch.done}
        # a short soak has not done enough for a slope
        assert MINUTES < 10 or all(slope < 1 for slope in slopes.values()), slopes
        assert max(connections) <= min(connections) + 10, watch.connections
        assert after["keys"] <= before["keys"] + FEW
        assert after["mb"] < before["mb"] + 4
        assert left == 0
        # nor has autovacuum, which waits for a fifth of the rows and a minute
        assert MINUTES < 30 or all(share < 0.2 for share in bloat.values()), bloat
        await assert_invariants(site.database_uri, worker=True)


async def _work(site: Site, watch: Watch) -> Counter[str]:
    client = get_client(url=site.url, api_key=None)
    outcomes: Counter[str] = Counter()
    following: set[asyncio.Task[None]] = set()
    places = asyncio.Semaphore(50)

    async def follow(number: int) -> None:
        try:
            outcomes[await _one(client, number)] += 1
            watch.done += 1
        finally:
            places.release()

    watching = asyncio.create_task(watch.keep())
    began = time.monotonic()
    for number in range(RUNS):
        await asyncio.sleep(max(0.0, began + number * MINUTES * 60 / RUNS - time.monotonic()))
        await places.acquire()
        task = asyncio.create_task(follow(number))
        following.add(task)
        task.add_done_callback(following.discard)
    while following:
        await asyncio.gather(*following)
    assert not watching.done(), watching.exception()
    watch.look()
    watching.cancel()
    await client.aclose()
    return outcomes


async def _one(client: Any, number: int) -> str:
    """A run of one of five kinds, from its making to its end; what became of it."""
    name, steps = f"s{number}-", 3
    given: dict[str, Any] = {"input": {"name": name, "steps": steps, "seconds": 0.05}}
    right = [f"{name}{step}" for step in range(1, steps + 1)]
    kind = number % 5
    if kind == 0:
        return _judged((await client.runs.wait(None, "steps", **given))["log"], right)
    if kind == 1:
        last: Any = None
        async for part in client.runs.stream(None, "steps", **given, stream_mode=["values", "custom"]):
            last = part.data if part.event == "values" else last
        return _judged(last["log"], right)
    thread_id = (await client.threads.create())["thread_id"]
    if kind == 2:
        return _judged((await client.runs.wait(thread_id, "steps", **given))["log"], right)
    run = await client.runs.create(thread_id, "steps", **given, durability="sync" if kind == 3 else "exit")
    if kind == 3:
        return _judged((await client.runs.join(thread_id, run["run_id"]))["log"], right)
    async for _ in client.runs.join_stream(thread_id, run["run_id"]):
        pass
    return _judged((await client.threads.get_state(thread_id))["values"]["log"], right)


def _judged(log: list[str], right: list[str]) -> str:
    return "success" if log == right else f"wrong: {log}"


@asynccontextmanager
async def _ticking(site: Site) -> AsyncIterator[None]:
    """The scheduler, as a deployment has it."""
    manifest = await build_manifest(GraphRegistry.load(read_project(PROJECT)))
    container = SchedulerContainer(site.settings(), manifest=manifest)

    async def tick() -> None:
        while True:
            await container.scheduler.tick()
            await asyncio.sleep(TICK)

    ticking = asyncio.create_task(tick())
    try:
        yield
        assert not ticking.done(), ticking.exception()
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        await container.aclose()


def _redis(redis: Any) -> dict[str, float]:
    return {"keys": redis.dbsize(), "mb": redis.info("memory")["used_memory"] / 2**20}


def _bloat(uri: str) -> dict[str, float]:
    """Of each large table, the share of its file that a rewrite would give back,."""
    shares = {}
    with psycopg.connect(uri, autocommit=True) as connection:
        for table in TABLES:
            size = connection.execute("SELECT pg_relation_size(%s::regclass)", (table,)).fetchone()[0]  # type: ignore[index]
            connection.execute(f"VACUUM FULL {table}")  # type: ignore[arg-type]
            tight = connection.execute("SELECT pg_relation_size(%s::regclass)", (table,)).fetchone()[0]  # type: ignore[index]
            if size > 4 * 2**20:
                shares[table] = 1 - tight / size
    return shares
