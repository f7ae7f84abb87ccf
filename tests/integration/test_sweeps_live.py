"""Sweeps in the midst of live runs: what goes on finds all that it needs, and nothing that lives is touched (R29).

Threads of graphs that need more than their newest checkpoint are used by runs while schedulers tick as fast as they can and
every thread's time is over before each tick.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from figures import Figures, sizes
from worker_container import working
from workload import assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.domain.threads import Ttl, TtlStrategy
from langgraph_serverless.errors import NotFoundError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "sweeping" / "langgraph.json"
PATIENCE = 60.0
#: Whatever is deleted of the state of a thread that has a live run.
NOTE_DELETES = """
CREATE TABLE public.touched (thread_id text, place text);
CREATE FUNCTION public.note_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.touched
    SELECT OLD.thread_id::text, TG_TABLE_NAME FROM lgs.run r
    WHERE r.thread_id::text = OLD.thread_id::text AND r.status IN ('pending', 'running');
    RETURN OLD;
END
$$;
""" + "".join(
    f"CREATE TRIGGER note_delete BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION public.note_delete();\n"
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "lgs.thread")
)


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
def own_database(databases: Any) -> Iterator[str]:
    """With triggers that no other test should have."""
    uri = databases.create()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(NOTE_DELETES)
    yield uri
    databases.drop(uri)


class Everything(StateContainer, WorkerContainer):
    """Workers, and who reads states."""


@dataclass
class Bench:
    container: Everything
    scheduler: SchedulerContainer
    ticks: int = 0
    pruned: int = 0
    purged: int = 0

    async def rows(self, query: Any, *parameters: Any) -> list[Any]:
        async with self.container.database.connection() as connection:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def thread(self, strategy: TtlStrategy = TtlStrategy.KEEP_LATEST) -> uuid.UUID:
        made = await self.container.threads.create(ANONYMOUS, ttl=Ttl(strategy=strategy, minutes=60))
        return made.thread_id

    async def run(self, graph: str, thread_id: uuid.UUID | None, **request: Any) -> uuid.UUID:
        wanted = RunRequest(assistant_id=graph, **request)
        return (await self.container.runs.create(ANONYMOUS, wanted, thread_id=thread_id)).run_id

    async def over(self, *run_ids: uuid.UUID) -> None:
        # users, workers and schedulers that never pause share one event loop here: at full size a run takes a minute
        deadline = time.monotonic() + 5 * PATIENCE
        for run_id in run_ids:
            while (result := await self.container.runs.result(run_id)) is None or not result.status.is_final:
                assert time.monotonic() < deadline, f"{run_id} does not end"
                await asyncio.sleep(0.02)
            assert result.status == "success", result

    async def state(self, thread_id: uuid.UUID) -> tuple[Any, ...]:
        """What a client sees of the newest state, and what a run would go on from."""
        found = await self.container.state.get(ANONYMOUS, thread_id, subgraphs=True)
        assert found is not None
        tasks = [(task.name, getattr(task.state, "values", None), task.interrupts) for task in found.tasks]
        return found.values, found.next, tasks, found.config

    async def sweep(self) -> None:
        """Every time is over, of threads that live as well; then a tick."""
        await self.rows(
            """UPDATE lgs.thread SET expires_at = now() - interval '1 s' WHERE thread_id = ANY(ARRAY(
                SELECT thread_id FROM lgs.thread WHERE ttl_minutes IS NOT NULL FOR UPDATE SKIP LOCKED))"""
        )
        report = await self.scheduler.scheduler.tick()
        assert report.failures == 0
        self.ticks += 1
        self.pruned += report.threads_pruned
        self.purged += report.threads_purged

    async def sweep_for_ever(self) -> None:
        while True:
            await self.sweep()


@pytest.fixture
async def bench(settings: Settings, registry: GraphRegistry, own_database: str) -> AsyncIterator[Bench]:
    own = settings.replace(
        database_uri=own_database,
        redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}",
        poll_interval=0.2,
        temporary_retention=0.0,
        pool_timeout=PATIENCE,
    )
    manifest = await build_manifest(registry)
    container = Everything(own, registry=registry, manifest=manifest)
    await container.assistants.ensure_defaults()
    scheduler = SchedulerContainer(own, manifest=manifest)
    yield Bench(container, scheduler)
    await container.aclose()
    await scheduler.aclose()
    await assert_invariants(own_database)


@dataclass
class User:
    """Somebody who uses one thread, and knows what its state must be."""

    bench: Bench
    chance: random.Random
    thread_id: uuid.UUID
    different: int = 0

    async def compare(self, log: list[str]) -> None:
        """The state is what was expected, and what a sweep leaves of it is the same."""
        before = await self.bench.state(self.thread_id)
        await self.bench.sweep()
        after = await self.bench.state(self.thread_id)
        self.different += before != after
        assert after == before
        assert after[0]["log"] == log

    def durability(self) -> Durability:
        return self.chance.choice(list(Durability))

    async def deltas(self, rounds: int) -> None:
        log: list[str] = []
        for number in range(rounds):
            # sometimes several in a row, so that the thread is busy from one to the next
            several = [f"{number}.{k}" for k in range(self.chance.choice((1, 1, 3)))]
            runs = []
            for word in several:
                given = {"log": [word], "rest": [word]}
                runs.append(await self.bench.run("deltas", self.thread_id, input=given, durability=self.durability()))
                log += [word, f"a{len(log) + 1}"]
            await self.bench.over(*runs)
            await self.compare(log)

    async def remembering(self, rounds: int) -> None:
        log: list[str] = []
        for number in range(rounds):
            # what its parent gives a subgraph that has a memory of the same name is added to it each time: watch `memory` only
            given = {"log": [f"{number}"]}
            await self.bench.over(
                await self.bench.run("remembering", self.thread_id, input=given, durability=self.durability())
            )
            before = await self.bench.state(self.thread_id)
            await self.bench.sweep()
            after = await self.bench.state(self.thread_id)
            assert after == before
            log = [word for word in after[0]["log"] if word.startswith("remembers")]
            assert log[-1] == f"remembers {number}", after

    async def asking(self, rounds: int) -> None:
        log: list[str] = []
        for number in range(rounds):
            given = {"log": [f"{number}"]}
            await self.bench.over(await self.bench.run("asking", self.thread_id, input=given))
            log.append(f"{number}")
            await self.compare(log)  # with the question that it waits at
            answer = {"resume": f"{number}"}
            await self.bench.over(await self.bench.run("asking", self.thread_id, command=answer))
            state = await self.bench.state(self.thread_id)
            assert state[0]["log"][-1] == f"answer {number}"
            log = state[0]["log"]
            await self.compare(log)


@sizes(timeout=3600, threads=(2, 10), runs=(3, 40))
async def test_sweeps_touch_nothing_that_lives(
    bench: Bench, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    chance, threads, rounds = random.Random(seed), size.threads, size.runs
    users = [User(bench, random.Random(chance.random()), await bench.thread()) for _ in range(threads * 3)]
    uses = ("deltas", "remembering", "asking")
    # with their runs from the start: a thread that nobody uses goes as soon as its time is over
    slow = [await bench.thread(TtlStrategy.DELETE) for _ in range(threads)]
    resting = [await bench.run("slow", thread_id, input={"log": []}) for thread_id in slow]
    stateless = [await bench.run("slow", None, input={"log": []}) for _ in range(threads)]
    async with working(bench.container), working(bench.container):
        sweeping = asyncio.create_task(bench.sweep_for_ever())
        using = asyncio.gather(*(getattr(user, uses[n % 3])(rounds) for n, user in enumerate(users)))
        try:
            await asyncio.wait([sweeping, using], return_when=asyncio.FIRST_COMPLETED)
            if sweeping.done():
                await sweeping  # why it ended
            await using
            # those go with the next sweep after their runs have ended, and were there until then
            deadline = time.monotonic() + PATIENCE
            # a tick says what it has done when all of it is done, which is after the rows have gone
            while bench.purged < len(resting) + len(stateless) or await bench.rows(
                "SELECT 1 FROM lgs.run WHERE run_id = ANY(%s)", [*resting, *stateless]
            ):
                assert time.monotonic() < deadline, "runs of threads whose time is over are left"
                await asyncio.sleep(0.05)
        finally:
            for task in (using, sweeping):
                task.cancel()
            await asyncio.wait([using, sweeping])
    for thread_id in slow:
        with pytest.raises(NotFoundError):
            await bench.container.threads.get(ANONYMOUS, thread_id)
    touched = await bench.rows("SELECT DISTINCT thread_id, place FROM public.touched")
    made = (await bench.rows("SELECT count(*) AS n FROM lgs.run"))[0]["n"] + len(resting) + len(stateless)
    figures(
        "R29",
        threads=len(users) + len(slow),
        runs=made,
        ticks=bench.ticks,
        pruned=bench.pruned,
        purged=bench.purged,
        different=sum(user.different for user in users),
        live_touched=len(touched),
        seed=seed,
    )
    assert touched == []
    assert bench.purged == len(resting) + len(stateless)
    assert bench.pruned > len(users)


async def test_an_item_that_is_read_while_it_is_swept_stays(bench: Bench) -> None:
    """Whoever reads an item lengthens its time under its lock: a sweep passes it by, or looks again."""
    for key in ("read", "held", "over"):
        await bench.container.store.put(ANONYMOUS, namespace=["a"], key=key, value={}, ttl=60)
    await bench.rows("UPDATE store SET expires_at = now() - interval '1 s'")
    longer = "UPDATE store SET expires_at = now() + interval '1 h' WHERE key = %s"
    await bench.rows(longer, "read")
    async with bench.container.database.transaction() as connection:
        await connection.execute(longer, ("held",))  # not committed: the sweep sees the old time
        assert (await bench.scheduler.scheduler.tick()).items_swept == 1
    assert (await bench.scheduler.scheduler.tick()).items_swept == 0
    assert {row["key"] for row in await bench.rows("SELECT key FROM store")} == {"read", "held"}
    before = (await bench.rows("SELECT min(expires_at) AS at FROM store"))[0]["at"]
    await bench.rows("UPDATE store SET expires_at = now() + interval '1 s'")
    for key in ("read", "held"):
        assert await bench.container.store.get(ANONYMOUS, namespace=["a"], key=key, refresh_ttl=True) is not None
    assert (await bench.rows("SELECT min(expires_at) AS at FROM store"))[0]["at"] >= before
