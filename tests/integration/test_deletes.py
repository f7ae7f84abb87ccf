"""Deleting threads, runs, assistants and crons whose runs are live, wherever these are: what goes, what stays, no orphans (R22).

Every kind of delete meets every state that a run can be in, all of them at once, with two workers and their heartbeats.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import DictRow
from worker_container import MakeContainer, working

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, MultitaskStrategy, RunRequest
from langgraph_serverless.errors import NotFoundError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
PATIENCE = 30.0
#: Everywhere that something of a thread may be.
TABLES = {
    "thread": "lgs.thread WHERE thread_id::text",
    "run": "lgs.run WHERE thread_id::text",
    "cron": "lgs.cron WHERE thread_id::text",
    "outbox": "lgs.outbox WHERE thread_id::text",
    "checkpoints": "checkpoints WHERE thread_id",
    "blobs": "checkpoint_blobs WHERE thread_id",
    "writes": "checkpoint_writes WHERE thread_id",
}
STATE = {"checkpoints", "blobs", "writes"}
LONG: dict[str, Any] = {"input": {"log": [], "count": 1000}, "durability": Durability.SYNC}
ASKING: dict[str, Any] = {"input": {"log": []}, "durability": Durability.SYNC}
#: Nobody listens there, and whoever tries will try again in minutes.
WEBHOOK = "http://127.0.0.1:9/never-there"

STATES = (
    "delayed",  # pending
    "queued",  # pending behind one that is running
    "running",  # with one of two workers
    "handed on",  # given back by a worker, and not taken by the next one yet
    "lost",  # with a worker that is not heard of any more
    "asking",  # waits for a human
    "webhook",  # over, and its webhook is still to be delivered
    "over",
)


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry, clean_database: None) -> WorkerContainer:
    return await worker_on(
        registry,
        heartbeat_interval=0.05,
        lease_duration=5.0,
        poll_interval=0.2,
        shutdown_grace=3.0,
        n_jobs_per_worker=30,
        pool_max_size=20,
        pool_timeout=PATIENCE,
        webhook_allowed_hosts=("127.0.0.1",),
    )


@pytest.fixture
async def scheduler(container: WorkerContainer) -> AsyncIterator[SchedulerContainer]:
    scheduler = SchedulerContainer(container.settings, manifest=container.catalog.manifest)
    yield scheduler
    await scheduler.aclose()


@dataclass
class Case:
    """One delete of one run in one state."""

    kind: str
    state: str
    assistant_id: uuid.UUID
    thread_id: uuid.UUID
    #: The run that is in this state, and all runs of the thread.
    run_id: uuid.UUID
    runs: int
    cron_id: uuid.UUID | None = None


async def rows(container: WorkerContainer, query: Any, *parameters: Any) -> list[DictRow]:
    async with container.database.connection() as connection:
        cursor = await connection.execute(query, parameters)
        return await cursor.fetchall() if cursor.description else []


async def until(container: WorkerContainer, query: str, *parameters: Any) -> None:
    """Once the query finds nothing."""
    deadline = time.monotonic() + PATIENCE
    while found := await rows(container, query, *parameters):
        assert time.monotonic() < deadline, f"{query}: {found[:3]}"
        await asyncio.sleep(0.03)


async def left(container: WorkerContainer, thread_id: uuid.UUID) -> dict[str, int]:
    """How much there is of a thread, by table."""
    counts = {}
    for name, place in TABLES.items():
        ((row),) = await rows(container, f"SELECT count(*) AS n FROM {place} = %s", str(thread_id))
        if row["n"]:
            counts[name] = row["n"]
    return counts


async def make(container: WorkerContainer, kind: str, state: str) -> Case:
    """A thread with a run that is, or will be, in this state."""
    graph = {"asking": "ask", "over": "steps", "webhook": "steps"}.get(state, "slow_steps")
    assistant = await container.assistants.create(ANONYMOUS, graph_id=graph)
    thread = await container.threads.create(ANONYMOUS)

    async def run(**request: Any) -> uuid.UUID:
        wanted = RunRequest(assistant_id=str(assistant.assistant_id), **request)
        return (await container.runs.create(ANONYMOUS, wanted, thread_id=thread.thread_id)).run_id

    short = {"input": {"log": [], "count": 1}, "durability": Durability.SYNC}
    given = {
        "delayed": {**short, "after_seconds": 3600},
        "asking": ASKING,
        "webhook": {**short, "webhook": WEBHOOK},
        "over": short,
    }
    run_id, runs = await run(**given.get(state, LONG)), 1
    if state == "queued":
        run_id, runs = await run(**short, multitask_strategy=MultitaskStrategy.ENQUEUE), 2
    return Case(kind, state, assistant.assistant_id, thread.thread_id, run_id, runs)


async def arrange(container: WorkerContainer, scheduler: SchedulerContainer, workers: AsyncExitStack) -> list[Case]:
    """All cases, with their runs where they have to be; two workers go on with those that are executed."""
    cases = [
        await make(container, kind, state) for state in ("handed on", "lost") for kind in DELETES if kind != "cron"
    ]
    handed_on = [case.run_id for case in cases if case.state == "handed on"]
    lost = [case.run_id for case in cases if case.state == "lost"]
    # a worker takes all of them and gives them back; then the later ones go to one that is not heard of any more
    async with working(container):
        begun = """SELECT 1 FROM lgs.run r WHERE run_id = ANY(%s)
            AND (SELECT count(*) FROM checkpoints c WHERE c.thread_id = r.thread_id::text) < 3"""
        await until(container, begun, [*handed_on, *lost])
    given_back = await rows(container, "SELECT run_id FROM lgs.run WHERE status = 'pending' AND resuming")
    assert {row["run_id"] for row in given_back} == {*handed_on, *lost}
    # not to be taken again by those that are started now
    await rows(container, "UPDATE lgs.run SET available_at = now() + interval '1 h' WHERE run_id = ANY(%s)", handed_on)
    claimed = await QueueRepository(container.database).claim(owner="dead", limit=100, lease=3600)
    assert {run.run.run_id for run in claimed} == set(lost)

    rest = [state for state in STATES if state not in ("handed on", "lost")]
    cases += [await make(container, kind, state) for kind in DELETES if kind != "cron" for state in rest]
    cases.append(await fired(container, scheduler))
    for _ in range(2):
        await workers.enter_async_context(working(container))
    wanted = {"running": "running", "asking": "success", "webhook": "success", "over": "success"}
    for state, status in wanted.items():
        runs = [case.run_id for case in cases if case.state == state]
        await until(container, "SELECT 1 FROM lgs.run WHERE run_id = ANY(%s) AND status <> %s", runs, status)
    busy = [str(case.thread_id) for case in cases if case.state in ("running", "queued")]
    saved = "SELECT thread_id FROM unnest(%s::text[]) AS t (thread_id) WHERE (SELECT count(*) FROM checkpoints c WHERE c.thread_id = t.thread_id) < 3"
    await until(container, saved, busy)
    for case in cases:
        if case.kind in ("thread", "prune"):
            body = {"assistant_id": str(case.assistant_id), "schedule": "0 0 1 1 *"}
            await container.crons.create(ANONYMOUS, body, thread_id=case.thread_id)
    return cases


async def fired(container: WorkerContainer, scheduler: SchedulerContainer) -> Case:
    """The run of a cron on a thread."""
    case = await make(container, "cron", "over")
    body = {"assistant_id": "slow_steps", "schedule": "* * * * *", "input": LONG["input"], "durability": "sync"}
    cron = await container.crons.create(ANONYMOUS, body, thread_id=case.thread_id)
    assert cron.next_run_date is not None
    assert (await scheduler.scheduler.tick(cron.next_run_date)).crons_fired == 1
    [made] = await rows(container, "SELECT run_id FROM lgs.run WHERE cron_id = %s", cron.cron_id)
    return Case("cron", "running", case.assistant_id, case.thread_id, made["run_id"], 2, cron.cron_id)


DELETES: dict[str, Callable[[WorkerContainer, Case], Awaitable[Any]]] = {
    "thread": lambda its, case: its.threads.delete(ANONYMOUS, case.thread_id),
    "prune": lambda its, case: its.threads.prune(ANONYMOUS, [case.thread_id]),
    "run": lambda its, case: its.runs.delete(ANONYMOUS, case.thread_id, case.run_id),
    "assistant": lambda its, case: its.assistants.delete(ANONYMOUS, case.assistant_id),
    "assistant with threads": lambda its, case: its.assistants.delete(
        ANONYMOUS, case.assistant_id, delete_threads=True
    ),
    "cron": lambda its, case: its.crons.delete(ANONYMOUS, case.cron_id or uuid.UUID(int=0)),
}


def check(case: Case, found: dict[str, int]) -> None:
    """What must be left once everybody has noticed."""
    told = f"{case.kind}, {case.state}: {found}"
    if case.kind in ("thread", "prune", "assistant with threads"):
        # a webhook that was promised is still delivered, and forgotten a week later; it needs nothing else
        assert found == ({"outbox": 1} if case.state == "webhook" else {}), told
    elif case.kind == "run":
        assert found.get("run", 0) == case.runs - 1, told
        assert found["thread"] == 1, told
        assert found.get("outbox", 0) == (case.state == "webhook"), told
        if case.state != "queued":  # there the other run goes on
            assert not STATE & set(found), told
    else:  # what an assistant or a cron has made stays and goes on
        assert (found["thread"], found["run"], found.get("cron", 0)) == (1, case.runs, 0), told
        if case.state not in ("delayed",):
            assert set(found) >= STATE, told


async def test_every_delete_meets_every_state(container: WorkerContainer, scheduler: SchedulerContainer) -> None:
    async with AsyncExitStack() as workers:
        cases = await arrange(container, scheduler, workers)
        owners = await rows(container, "SELECT DISTINCT lease_owner FROM lgs.run WHERE status = 'running'")
        assert len(owners) >= 2  # the dead one, and at least one that lives
        outcomes = await asyncio.gather(
            *(DELETES[case.kind](container, case) for case in cases), return_exceptions=True
        )
        refused = {
            (case.kind, case.state): error
            for case, error in zip(cases, outcomes, strict=True)
            if isinstance(error, BaseException)
        }
        assert refused == {}
        # three heartbeats later every worker knows
        heartbeat = "SELECT 1 FROM lgs.run WHERE lease_owner <> 'dead' AND status = 'running' AND lease_expires_at < %s + interval '5 s'"
        [moment] = await rows(container, "SELECT clock_timestamp() + interval '0.2 s' AS at")
        await until(container, heartbeat, moment["at"])
        by_kind: dict[str, int] = defaultdict(int)
        for case in cases:
            check(case, await left(container, case.thread_id))
            by_kind[case.kind] += 1
        assert by_kind == dict.fromkeys(set(DELETES) - {"cron"}, len(STATES)) | {"cron": 1}
        # what goes on ends as ever, and then goes without a trace as well
        await container.runs.cancel_by_status(ANONYMOUS, "all", CancelAction.INTERRUPT, "enough")
        await rows(
            container,
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 s' WHERE lease_owner = 'dead' AND status = 'running'",
        )
        await rows(container, "UPDATE lgs.run SET available_at = now() WHERE status = 'pending'")
        await until(container, "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')")
    threads = [case.thread_id for case in cases]
    for case in cases:
        assert case.kind not in ("assistant", "cron") or (await left(container, case.thread_id))["run"] == case.runs
    await container.threads.prune(ANONYMOUS, threads)
    left_over = {name for thread_id in threads for name in await left(container, thread_id)}
    assert left_over <= {"outbox"}
    tables = [place.partition(" ")[0] for name, place in TABLES.items() if name != "outbox"]
    assert {table: count for table in tables if (count := await rows(container, f"SELECT 1 FROM {table}"))} == {}


async def test_a_run_that_is_being_made_while_its_assistant_is_deleted_with_its_threads(
    container: WorkerContainer,
) -> None:
    """Stateless, so that nobody knows its thread yet: it comes first and goes along, or second and is refused."""
    assistant = await container.assistants.create(ANONYMOUS, graph_id="steps")
    request = RunRequest(assistant_id=str(assistant.assistant_id), input={}, on_completion="keep")
    async with container.database.transaction() as connection:
        await container.runs.create_within(connection, ANONYMOUS, request, thread_id=None)
        deleting = asyncio.create_task(
            container.assistants.delete(ANONYMOUS, assistant.assistant_id, delete_threads=True)
        )
        await until_somebody_waits(container)
    await asyncio.wait_for(deleting, PATIENCE)
    assert await rows(container, "SELECT 1 FROM lgs.thread") == await rows(container, "SELECT 1 FROM lgs.run") == []

    assistant = await container.assistants.create(ANONYMOUS, graph_id="steps")
    request = RunRequest(assistant_id=str(assistant.assistant_id), input={}, on_completion="keep")
    async with container.database.transaction() as connection:
        await connection.execute(
            "SELECT 1 FROM lgs.assistant WHERE assistant_id = %s FOR UPDATE", (assistant.assistant_id,)
        )
        creating = asyncio.create_task(container.runs.create(ANONYMOUS, request, thread_id=None))
        await until_somebody_waits(container)
        await connection.execute("DELETE FROM lgs.assistant WHERE assistant_id = %s", (assistant.assistant_id,))
    with pytest.raises(NotFoundError):
        await asyncio.wait_for(creating, PATIENCE)
    assert await rows(container, "SELECT 1 FROM lgs.thread") == []


async def until_somebody_waits(container: WorkerContainer) -> None:
    waiting = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    await until(container, waiting)


async def test_runs_and_deletes_of_their_assistants_at_once(
    container: WorkerContainer, scheduler: SchedulerContainer, settings: Settings
) -> None:
    """Whoever wins, nobody waits for somebody who waits for him, and no thread of a deleted assistant is left."""
    for _ in range(5):
        made = [await container.assistants.create(ANONYMOUS, graph_id="steps") for _ in range(4)]
        threads = [await container.threads.create(ANONYMOUS) for _ in made]
        due = "UPDATE lgs.cron SET next_run_date = now() - interval '1 s'"
        for assistant, thread in zip(made, threads, strict=True):
            body = {"assistant_id": str(assistant.assistant_id), "schedule": "0 5 * * *"}
            for place in (None, thread.thread_id):
                await container.crons.create(ANONYMOUS, body, thread_id=place)
        await rows(container, due)

        async def run(assistant_id: uuid.UUID, thread_id: uuid.UUID | None) -> None:
            request = RunRequest(assistant_id=str(assistant_id), input={}, on_completion="keep")
            await container.runs.create(ANONYMOUS, request, thread_id=thread_id)

        ids = [assistant.assistant_id for assistant in made]
        answers = await asyncio.gather(
            *(run(each, None) for each in ids for _ in range(3)),
            *(container.assistants.delete(ANONYMOUS, each, delete_threads=True) for each in ids),
            *(run(each, thread.thread_id) for each in ids for thread in threads),
            scheduler.scheduler.tick(),
            return_exceptions=True,
        )
        unexpected = [
            each for each in answers if isinstance(each, BaseException) and not isinstance(each, NotFoundError)
        ]
        assert unexpected == []
        # threads that were made for an assistant go with it; those that were there may have been used by others since
        kept = {thread.thread_id for thread in threads}
        here = {row["thread_id"] for row in await rows(container, "SELECT thread_id FROM lgs.thread")}
        assert here <= kept
        await container.threads.prune(ANONYMOUS, list(kept))
        for table in ("thread", "run", "cron"):
            assert await rows(container, f"SELECT 1 FROM lgs.{table}") == []
