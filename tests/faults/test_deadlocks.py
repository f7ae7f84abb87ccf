"""Everything that locks rows, at once on a few threads: requests, workers, crons and sweeps take their locks in one order, so
Postgres never has to break a deadlock, and nobody is refused for one. The count is Postgres's own.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from figures import Figures, sizes
from worker_container import working
from workload import assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent / "project" / "langgraph.json"
THREADS, ASSISTANTS, CLIENTS = 4, 2, 12
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
INPUT = {"name": "d", "steps": 2, "seconds": 0.01}


class Everything(StateContainer, WorkerContainer):
    """All that the laptop's process has."""


class Client:
    """One of many that do whatever comes to their minds, to what all of them share."""

    def __init__(self, http: httpx.AsyncClient, chance: random.Random, statuses: Counter[int]) -> None:
        self._http = http
        self._chance = chance
        self._statuses = statuses
        self._threads = [f"00000000-0000-4000-8000-{number:012d}" for number in range(THREADS)]
        self._assistants = [f"00000000-0000-4000-8000-{number:012d}" for number in range(100, 100 + ASSISTANTS)]

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = await self._http.request(method, path, json=body, **options)
        self._statuses[answer.status_code] += 1
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.status_code == 200 else None

    async def once(self) -> None:
        """Any request."""
        chance = self._chance
        thread, other = chance.sample(self._threads, 2)
        assistant = chance.choice(self._assistants)
        run = {
            "assistant_id": chance.choice(["steps", assistant]),
            "input": INPUT,
            "if_not_exists": "create",
            "multitask_strategy": chance.choice(["enqueue", "enqueue", "interrupt", "rollback", "reject"]),
        }
        cron = {"assistant_id": chance.choice(["steps", assistant]), "schedule": "* * * * *", "input": INPUT}
        key = {"Idempotency-Key": f"key-{chance.randrange(10**6)}"}
        where = chance.randrange(20)
        if where < 6:
            await self.send("POST", f"/threads/{thread}/runs", run, headers=key if where < 2 else {})
        elif where < 7:
            await self.send("POST", "/runs/batch", [{**run, "multitask_strategy": "enqueue"} for _ in "12"])
        elif where < 10:
            runs = await self.send("GET", f"/threads/{thread}/runs") or []
            if runs and where == 7:
                await self.send("DELETE", f"/threads/{thread}/runs/{chance.choice(runs)['run_id']}")
            elif runs:
                ids = [each["run_id"] for each in chance.sample(runs, min(3, len(runs)))]
                action = chance.choice(["interrupt", "rollback"])
                await self.send("POST", f"/runs/cancel?action={action}", {"thread_id": thread, "run_ids": ids})
        elif where < 11:
            await self.send("POST", "/runs/cancel", {"status": chance.choice(["pending", "running", "all"])})
        elif where < 12:
            await self.send("DELETE", f"/threads/{thread}")
        elif where < 13:
            strategy = chance.choice(["delete", "keep_latest"])
            await self.send("POST", "/threads/prune", {"thread_ids": [thread, other], "strategy": strategy})
        elif where < 14:
            await self.send("POST", "/threads", {"thread_id": thread, "if_exists": "do_nothing"}, headers=key)
        elif where < 15:
            await self.send("PATCH", f"/threads/{thread}", {"metadata": {"at": time.time()}})
        elif where < 16:
            await self.send("POST", f"/threads/{thread}/state", {"values": {"log": ["x"]}, "as_node": "begin"})
        elif where < 17:
            await self.send("POST", f"/threads/{thread}/copy", {})
        elif where < 18:
            made = {"assistant_id": assistant, "graph_id": "steps", "if_exists": "do_nothing"}
            await self.send("POST", "/assistants", made)
            await self.send("PATCH", f"/assistants/{assistant}", {"metadata": {"at": time.time()}})
        elif where < 19:
            delete_threads = chance.choice(["true", "false"])
            await self.send("DELETE", f"/assistants/{assistant}?delete_threads={delete_threads}")
        else:
            await self.send("POST", chance.choice([f"/threads/{thread}/runs/crons", "/runs/crons"]), cron)


@pytest.fixture
async def settings_of_own(
    settings: Settings, databases: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Settings]:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    uri = databases.create()
    yield settings.replace(
        database_uri=uri,
        redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}",
        pool_max_size=8,
        pool_timeout=30,
        heartbeat_interval=0.1,
        lease_duration=2.0,
        poll_interval=0.1,
        sweep_interval=0.1,
    )
    databases.drop(uri)


@sizes(timeout=600, seconds=(4, 120))
async def test_nobody_waits_for_each_other(
    settings_of_own: Settings, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    registry = GraphRegistry.load(read_project(PROJECT))
    manifest = await build_manifest(registry)
    statuses: Counter[int] = Counter()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield

    async with AsyncExitStack() as stack:
        container = Everything(settings_of_own, registry=registry, manifest=manifest)
        stack.push_async_callback(container.aclose)
        await container.assistants.ensure_defaults()
        scheduler = SchedulerContainer(settings_of_own, manifest=manifest)
        stack.push_async_callback(scheduler.aclose)
        app = create_app(container, {"assistants", "threads", "state", "runs", "crons"}, lifespan=lifespan)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)
        )
        database = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(settings_of_own.database_uri, autocommit=True)
        )
        until = time.monotonic() + size.seconds
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while time.monotonic() < until:
                await database.execute("UPDATE lgs.cron SET next_run_date = now()")
                await scheduler.scheduler.tick()
                ticks += 1

        async def act(number: int) -> None:
            client = Client(http, random.Random(f"{seed} {number}"), statuses)
            while time.monotonic() < until:
                await client.once()

        async with working(container), working(container):
            try:
                async with asyncio.TaskGroup() as tasks:
                    for number in range(CLIENTS):
                        tasks.create_task(act(number))
                    tasks.create_task(tick())
                    tasks.create_task(tick())
            finally:
                deadlocks = await _deadlocks(database)
                figures(
                    "Deadlocks",
                    seconds=size.seconds,
                    requests=statuses.total(),
                    ticks=ticks,
                    found=deadlocks,
                    seed=seed,
                )
            await database.execute("DELETE FROM lgs.cron")
            await http.post("/runs/cancel", json={"status": "all"})
            async with asyncio.timeout(60):
                while await (
                    await database.execute("SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')")
                ).fetchone():
                    await asyncio.sleep(0.05)
    assert deadlocks == 0
    assert statuses[200] > 20
    await assert_invariants(settings_of_own.database_uri)


async def _deadlocks(database: psycopg.AsyncConnection[Any]) -> int:
    await database.execute("SELECT pg_stat_clear_snapshot()")
    [count] = await (await database.execute(DEADLOCKS)).fetchone() or (0,)
    return int(count)
