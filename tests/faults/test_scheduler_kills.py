"""Schedulers that are killed: between any two statements of a tick, and again and again while others tick beside them (R16).

Real processes, SIGKILL, and the database's own time.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from figures import Figures, sizes
from psycopg.rows import dict_row
from scheduler_main import processes, tick_and_die, tick_for_ever

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.crons import Cron
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

GRAPH = GraphManifest(graph_id="chat", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
MANIFEST = Manifest.of({"chat": GRAPH})
PATIENCE = 60.0
SECOND = timedelta(seconds=1)


@pytest.fixture
async def container(settings: Settings, clean_database: None) -> AsyncIterator[SchedulerContainer]:
    container = SchedulerContainer(settings.replace(cron_least_interval=0, pool_max_size=2), manifest=MANIFEST)
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()


@pytest.fixture
async def database(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    connecting = psycopg.AsyncConnection.connect(database_uri, autocommit=True, row_factory=dict_row)
    async with await connecting as connection:
        yield connection


async def cron(container: SchedulerContainer, schedule: str, *, on_thread: bool = False, **body: Any) -> Cron:
    thread = await container.threads.create(ANONYMOUS) if on_thread else None
    payload = {"assistant_id": "chat", "schedule": schedule, **body}
    return await container.crons.create(ANONYMOUS, payload, thread_id=thread and thread.thread_id)


async def test_killed_between_any_two_statements(
    container: SchedulerContainer, database: psycopg.AsyncConnection[Any], figures: Figures
) -> None:
    """A run exists exactly if its cron has moved on, and the next tick makes what is missing."""
    crons = [await cron(container, "0 5 * * *"), await cron(container, "0 5 * * *", on_thread=True)]
    outcomes: Counter[str] = Counter()
    for step in range(1, 100):
        due = []
        for each in crons:
            back = (
                "UPDATE lgs.cron SET next_run_date = now() - interval '1 h' WHERE cron_id = %s RETURNING next_run_date"
            )
            row: Any = await (await database.execute(back, (each.cron_id,))).fetchone()
            due.append((each.cron_id, row["next_run_date"]))
        process = processes.Process(target=tick_and_die, args=(container.settings, MANIFEST, step))
        process.start()
        await asyncio.to_thread(process.join, PATIENCE)
        assert process.exitcode in (0, -signal.SIGKILL), f"step {step}: {process.exitcode}"
        made = await runs(database)
        assert set(made.values()) <= {1}
        assert set(made) <= set(due)
        state = "SELECT cron_id, next_run_date FROM lgs.cron WHERE next_run_date <= now()"
        left = {(row["cron_id"], row["next_run_date"]) for row in await (await database.execute(state)).fetchall()}
        assert left == set(due) - set(made), f"step {step}"
        outcomes[f"{len(made)} made"] += 1
        # whoever died was one of many
        assert await fired_by_ticks(container, len(left)) == len(left), f"step {step}"
        assert await runs(database) == dict.fromkeys(due, 1)
        await database.execute("DELETE FROM lgs.run")
        await database.execute("DELETE FROM lgs.thread WHERE temporary")
        await database.execute("UPDATE lgs.thread SET status = settled_status")
        if outcomes["2 made"] == 3:  # what follows has nothing to do with crons
            break
    figures("R16 statements", killed_at=step, **{name.replace(" ", "_"): count for name, count in outcomes.items()})
    # before the first run, between the two, and after both
    assert outcomes["0 made"] > 5
    assert outcomes["1 made"] > 5
    assert outcomes["2 made"] == 3


async def fired_by_ticks(container: SchedulerContainer, wanted: int) -> int:
    """What is fired by a tick, or by those after it while the locks of a process that was killed are still held."""
    deadline, fired = time.monotonic() + PATIENCE, 0
    while True:
        report = await container.scheduler.tick()
        assert (report.crons_failed, report.failures) == (0, 0)
        fired += report.crons_fired
        if fired >= wanted or time.monotonic() > deadline:
            return fired


async def runs(database: psycopg.AsyncConnection[Any]) -> dict[tuple[Any, datetime], int]:
    """How many runs there are for each cron and time."""
    query = "SELECT cron_id, cron_due_at, count(*) AS n FROM lgs.run GROUP BY 1, 2"
    rows = await (await database.execute(query)).fetchall()
    return {(row["cron_id"], row["cron_due_at"]): row["n"] for row in rows}


@sizes(timeout=1800, schedulers=(3, 10), kills=(4, 100), seconds=(2.5, 180.0))
async def test_killed_while_others_tick(
    container: SchedulerContainer,
    database: psycopg.AsyncConnection[Any],
    size: SimpleNamespace,
    seed: int,
    figures: Figures,
) -> None:
    chance = random.Random(seed)
    crons = [await cron(container, "* * * * * *", on_thread=number % 4 == 0) for number in range(8)]

    def start() -> Any:
        process = processes.Process(target=tick_for_ever, args=(container.settings, MANIFEST), daemon=True)
        process.start()
        return process

    running = [start() for _ in range(size.schedulers)]
    try:
        await until(database, "SELECT count(*) > 8 AS yes FROM lgs.run")
        deadlines = sorted(time.monotonic() + chance.uniform(0, size.seconds) for _ in range(size.kills))
        for deadline in [*deadlines, time.monotonic() + size.seconds]:
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            victim = chance.randrange(size.schedulers)
            assert all(process.is_alive() for process in running)
            running[victim].kill()
            running[victim].join(PATIENCE)
            running[victim] = start()
        # those that go on have made up for what was due
        await until(database, "SELECT min(next_run_date) > %s AS yes FROM lgs.cron", await now(database))
    finally:
        for process in running:
            process.kill()
            process.join(PATIENCE)
    query = "SELECT cron_id, cron_due_at, created_at FROM lgs.run ORDER BY cron_id, cron_due_at"
    made = await (await database.execute(query)).fetchall()
    duplicated = len(made) - len({(run["cron_id"], run["cron_due_at"]) for run in made})
    missed = late = 0
    for each in crons:
        mine = [run for run in made if run["cron_id"] == each.cron_id]
        assert all(run["cron_due_at"].microsecond == 0 for run in mine)
        for run, later in pairwise(mine):
            # the next time was counted from the tick, which was before the run was made: it is no later than the next second
            following = run["created_at"].replace(microsecond=0) + SECOND
            missed += later["cron_due_at"] > following
            late += later["cron_due_at"] > run["cron_due_at"] + SECOND
    left = await (await database.execute("SELECT count(*) AS n FROM lgs.cron WHERE next_run_date IS NULL")).fetchone()
    figures(
        "R16 kills",
        schedulers=size.schedulers,
        kills=size.kills + 1,
        crons=len(crons),
        fired=len(made),
        duplicated=duplicated,
        missed=missed,
        collapsed=late,
        seed=seed,
    )
    assert (duplicated, missed, left) == (0, 0, {"n": 0})


async def now(database: psycopg.AsyncConnection[Any]) -> datetime:
    row: Any = await (await database.execute("SELECT clock_timestamp() AS now")).fetchone()
    moment: datetime = row["now"]
    return moment


async def until(database: psycopg.AsyncConnection[Any], query: str, *parameters: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        row: Any = await (await database.execute(query, parameters)).fetchone()  # type: ignore[arg-type]
        if row["yes"]:
            return
        assert time.monotonic() < deadline, query
        await asyncio.sleep(0.02)
