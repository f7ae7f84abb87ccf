"""Requests at the same moment, and deletes of what a worker is busy with: one winner, no server error, no row left behind.

The API is asked over HTTP (ASGI); a real worker with real graphs executes the runs, and its heartbeat and its checkpoints
take part in the races. What is deleted must be gone from every table once the worker has noticed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence.queue import HeartbeatConnection
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
PATIENCE = 30.0
QUICK = {
    "heartbeat_interval": 0.05,
    "lease_duration": 3.0,
    "poll_interval": 0.2,
    "shutdown_grace": 2.0,
    "webhook_allowed_hosts": ("127.0.0.1",),
    "n_jobs_per_worker": 20,
    "pool_max_size": 20,
    "pool_timeout": PATIENCE,
}
LONG = {"assistant_id": "slow_steps", "input": {"log": [], "count": 1000}, "durability": "sync"}
SHORT = {"assistant_id": "steps", "input": {"log": [], "count": 1}}
ASK = {"assistant_id": "ask", "input": {"log": []}}
#: Everywhere that something of a thread may be.
TABLES = {
    "lgs.thread": "thread_id::text",
    "lgs.run": "thread_id::text",
    "lgs.cron": "thread_id::text",
    "lgs.outbox": "thread_id::text",
    "checkpoints": "thread_id",
    "checkpoint_blobs": "thread_id",
    "checkpoint_writes": "thread_id",
}


class Everything(StateContainer, WorkerContainer):
    """All that the laptop's process has."""


@dataclass
class Server:
    """The API, the database behind it, and whatever a test wants to know."""

    http: httpx.AsyncClient
    database: psycopg.AsyncConnection[Any]
    container: Everything
    manifest: Manifest

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, path, json=body, **options)
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.send("POST", path, body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def thread(self, **body: Any) -> str:
        made: str = (await self.post("/threads", body))["thread_id"]
        return made

    async def thread_of(self, assistant_id: str) -> str:
        """A thread as it is after a run of this assistant."""
        thread_id = await self.thread()
        mark = "UPDATE lgs.thread SET metadata = jsonb_build_object('assistant_id', %s::text) WHERE thread_id = %s"
        await self.database.execute(mark, (assistant_id, thread_id))
        return thread_id

    async def one(self, query: str, *parameters: Any) -> Any:
        row = await (await self.database.execute(query, parameters)).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None

    async def until(self, query: str, *parameters: Any) -> None:
        """Once the query's first value is true."""
        deadline = time.monotonic() + PATIENCE
        while not await self.one(query, *parameters):
            assert time.monotonic() < deadline, f"waited for {query} {parameters}"
            await asyncio.sleep(0.02)

    async def left(self, thread_ids: Sequence[str]) -> dict[str, int]:
        """How much there is of these threads, by table."""
        counts = {}
        for table, column in TABLES.items():
            query = f"SELECT count(*) FROM {table} WHERE {column} = ANY(%s)"
            if count := await self.one(query, list(thread_ids)):
                counts[table] = count
        return counts


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture(scope="module")
async def manifest(registry: GraphRegistry) -> Manifest:
    return await build_manifest(registry)


@pytest.fixture
async def server(
    settings: Settings, registry: GraphRegistry, manifest: Manifest, clean_database: None
) -> AsyncIterator[Server]:
    quick = settings.replace(**QUICK, redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}")
    container = Everything(quick, registry=registry, manifest=manifest)
    await container.assistants.ensure_defaults()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield

    app = create_app(container, {"assistants", "threads", "state", "runs", "crons"}, lifespan=lifespan)
    async with (
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://server", timeout=PATIENCE
        ) as http,
        await psycopg.AsyncConnection.connect(quick.database_uri, autocommit=True) as database,
    ):
        yield Server(http, database, container, manifest)
    await container.aclose()


@pytest.fixture
async def worker(server: Server) -> AsyncIterator[None]:
    """A worker that executes the runs; it has let go of all of them when the test is over."""
    worker = server.container.worker()
    task = asyncio.create_task(worker.work())
    yield
    # whatever a test has left running
    await server.send("POST", "/runs/cancel", {"status": "all"})
    await server.until("SELECT NOT EXISTS (SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running'))")
    worker.stop()
    await asyncio.wait_for(task, PATIENCE)


def together(*requests: Awaitable[httpx.Response]) -> Awaitable[list[httpx.Response]]:
    return asyncio.gather(*requests)


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


@pytest.mark.parametrize("path", ["/threads", "/assistants"])
async def test_a_hundred_creates_with_one_id_make_one_row(server: Server, path: str) -> None:
    key, table = ("thread_id", "thread") if path == "/threads" else ("assistant_id", "assistant")
    for if_exists, expected in (("raise", {200: 1, 409: 99}), ("do_nothing", {200: 100})):
        wanted = str(uuid.uuid4())
        body = {key: wanted, "if_exists": if_exists, "graph_id": "steps"}
        answers = await together(*(server.send("POST", path, body | {"metadata": {"n": n}}) for n in range(100)))
        assert statuses(answers) == expected
        [stored] = {answer.json()["metadata"]["n"] for answer in answers if answer.status_code == 200}
        row = await server.one(f"SELECT metadata ->> 'n' FROM lgs.{table} WHERE {key} = %s", wanted)
        assert row == str(stored)


async def test_a_hundred_runs_that_make_their_thread_make_one(server: Server) -> None:
    thread_id = str(uuid.uuid4())
    body = {**SHORT, "if_not_exists": "create", "multitask_strategy": "enqueue"}
    answers = await together(*(server.send("POST", f"/threads/{thread_id}/runs", body) for _ in range(100)))
    assert statuses(answers) == {200: 100}
    assert len({answer.json()["run_id"] for answer in answers}) == 100
    assert (
        await server.one("SELECT count(*) FROM lgs.run WHERE thread_id = %s AND status = 'pending'", thread_id) == 100
    )
    assert (await server.send("GET", f"/threads/{thread_id}")).json()["status"] == "busy"
    rejected = {**body, "multitask_strategy": "reject", "if_not_exists": "create"}
    thread_id = str(uuid.uuid4())
    answers = await together(*(server.send("POST", f"/threads/{thread_id}/runs", rejected) for _ in range(100)))
    assert statuses(answers) == {200: 1, 409: 99}


async def test_a_hundred_changes_of_metadata_lose_no_key(server: Server) -> None:
    thread_id = await server.thread(metadata={"kept": True})
    [assistant] = await server.post("/assistants/search", {"graph_id": "ask"})
    places = (f"/threads/{thread_id}", f"/assistants/{assistant['assistant_id']}")
    answers = await together(
        *(server.send("PATCH", place, {"metadata": {f"k{n}": n}}) for n in range(100) for place in places)
    )
    assert statuses(answers) == {200: 200}
    for place in places:
        metadata = (await server.send("GET", place)).json()["metadata"]
        assert {f"k{n}": n for n in range(100)}.items() <= metadata.items()
    versions = await server.post(f"/assistants/{assistant['assistant_id']}/versions", {"limit": 1000})
    assert sorted(version["version"] for version in versions) == list(range(1, 102))


async def live_threads(server: Server, **run: Any) -> dict[str, str]:
    """Threads with a run that is running, one behind it, one at an interrupt, one that is over and one that is delayed."""
    running, asking, over, delayed = [await server.thread() for _ in range(4)]
    webhook = {"webhook": "http://127.0.0.1:9/never-sent"}
    await server.post(f"/threads/{running}/runs", {**LONG, **webhook, **run})
    await server.post(f"/threads/{running}/runs", {**SHORT, **webhook, "multitask_strategy": "enqueue", **run})
    await server.post(f"/threads/{asking}/runs", {**ASK, **({} if "assistant_id" not in run else run)})
    await server.post(f"/threads/{over}/runs", {**SHORT, **run})
    await server.post(f"/threads/{delayed}/runs", {**SHORT, "after_seconds": 3600, **run})
    # several checkpoints of the one that goes on, and the others where they stay
    await server.until("SELECT count(*) > 3 FROM checkpoints WHERE thread_id = %s", running)
    return {"running": running, "asking": asking, "over": over, "delayed": delayed}


@pytest.mark.usefixtures("worker")
async def test_deleting_threads_with_live_runs_leaves_nothing(server: Server) -> None:
    threads = list((await live_threads(server)).values())
    await server.until("SELECT status = 'interrupted' FROM lgs.thread WHERE thread_id = %s", threads[1])
    for thread_id in threads:
        await server.post(f"/threads/{thread_id}/runs/crons", {"assistant_id": "steps", "schedule": "0 0 1 1 *"})
    answers = await together(*(server.send("DELETE", f"/threads/{thread_id}") for thread_id in threads))
    assert statuses(answers) == {204: 4}
    await idle(server)
    assert await server.left(threads) == {}


async def idle(server: Server) -> None:
    """Whatever a worker was still doing for a deleted run is over once another run has come to its end after it."""
    # the worker's lease is gone: its next heartbeat says so, and three of them are past when this run is
    thread_id = await server.thread()
    body = {"assistant_id": "slow_steps", "input": {"log": [], "count": 3}}
    await server.post(f"/threads/{thread_id}/runs", body)
    await server.until("SELECT status = 'idle' FROM lgs.thread WHERE thread_id = %s", thread_id)
    await server.send("DELETE", f"/threads/{thread_id}")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("delete_threads", [True, False])
async def test_deleting_an_assistant_with_live_runs(server: Server, delete_threads: bool) -> None:
    made = await server.post("/assistants", {"graph_id": "slow_steps"})
    assistant_id = made["assistant_id"]
    running = await server.thread()
    await server.post(f"/threads/{running}/runs", {**LONG, "assistant_id": assistant_id})
    queued = {**LONG, "assistant_id": assistant_id, "multitask_strategy": "enqueue"}
    await server.post(f"/threads/{running}/runs", queued)
    delayed = await server.thread()
    await server.post(f"/threads/{delayed}/runs", {**queued, "after_seconds": 3600})
    elsewhere = await server.thread()
    for place in (f"/threads/{elsewhere}/runs/crons", "/runs/crons"):
        await server.post(place, {"assistant_id": assistant_id, "schedule": "0 0 1 1 *"})
    await server.until("SELECT count(*) > 3 FROM checkpoints WHERE thread_id = %s", running)
    answer = await server.send(
        "DELETE", f"/assistants/{assistant_id}", params={"delete_threads": str(delete_threads).lower()}
    )
    assert answer.status_code == 204
    assert await server.one("SELECT count(*) FROM lgs.cron WHERE assistant_id = %s", assistant_id) == 0
    assert await server.one("SELECT count(*) FROM lgs.assistant_version WHERE assistant_id = %s", assistant_id) == 0
    await idle(server)
    if delete_threads:
        assert await server.left([running, delayed]) == {}
        return
    # its runs go on: they have what they need
    rows = "SELECT count(*) FROM lgs.run WHERE thread_id = ANY(%s) AND status IN ('running', 'pending')"
    assert await server.one(rows, [running, delayed]) == 3
    for thread_id in (running, delayed):
        assert (await server.send("DELETE", f"/threads/{thread_id}")).status_code == 204
    await idle(server)
    assert await server.left([running, delayed]) == {}


@pytest.mark.usefixtures("worker")
async def test_deleting_a_cron_with_a_live_run(server: Server) -> None:
    thread_id = await server.thread()
    cron = await server.post(f"/threads/{thread_id}/runs/crons", {**LONG, "schedule": "* * * * *"})
    stateless = await server.post("/runs/crons", {**LONG, "schedule": "* * * * *"})
    crons = [cron["cron_id"], stateless["cron_id"]]
    scheduler = SchedulerContainer(server.container.settings, manifest=server.manifest)
    (now,) = await (await server.database.execute("SELECT clock_timestamp()")).fetchone()  # type: ignore[misc]
    report = await scheduler.scheduler.tick(now + timedelta(minutes=1))
    assert (report.crons_fired, report.failures) == (2, 0)
    runs = "FROM lgs.run WHERE cron_id = ANY(%s::uuid[])"
    await server.until(f"SELECT count(*) = 2 {runs} AND status = 'running'", crons)
    answers = await together(*(server.send("DELETE", f"/runs/crons/{cron_id}") for cron_id in crons))
    assert statuses(answers) == {204: 2}
    assert (await scheduler.scheduler.tick(now + timedelta(minutes=5))).crons_fired == 0
    await scheduler.aclose()
    # what it has made goes on, and ends as any run does
    assert await server.one(f"SELECT count(*) {runs} AND status = 'running'", crons) == 2
    await server.send("POST", "/runs/cancel", {"status": "all"}, params={"action": "interrupt"})
    await server.until(f"SELECT count(*) = 2 {runs} AND status = 'interrupted'", crons)


@pytest.mark.usefixtures("worker")
async def test_everything_at_once_with_one_thread(server: Server) -> None:
    """Creates, runs, reads, copies, states, prunes and deletes of one id: each is answered, whoever comes first."""
    thread_id = str(uuid.uuid4())
    place = f"/threads/{thread_id}"
    run = {**SHORT, "if_not_exists": "create", "multitask_strategy": "enqueue"}
    requests: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: server.send("POST", "/threads", {"thread_id": thread_id, "if_exists": "do_nothing"}),
        lambda: server.send("POST", f"{place}/runs", run),
        lambda: server.send("POST", f"{place}/runs", {**run, "multitask_strategy": "interrupt"}),
        lambda: server.send("POST", f"{place}/runs", {**run, "multitask_strategy": "rollback"}),
        lambda: server.send("PATCH", place, {"metadata": {"a": 1}}),
        lambda: server.send("DELETE", place),
        lambda: server.send("POST", f"{place}/copy"),
        lambda: server.send("GET", f"{place}/state"),
        lambda: server.send("POST", f"{place}/state", {"values": {"log": ["x"]}, "as_node": "step"}),
        lambda: server.send("POST", "/threads/prune", {"thread_ids": [thread_id]}),
        lambda: server.send("POST", "/threads/prune", {"thread_ids": [thread_id], "strategy": "keep_latest"}),
        lambda: server.send("POST", "/threads/search", {"ids": [thread_id], "limit": 1000}),
        lambda: server.send("POST", "/runs/cancel", {"status": "all"}, params={"action": "rollback"}),
        lambda: server.send("POST", f"{place}/runs/crons", {**SHORT, "schedule": "0 0 1 1 *"}),
    ]
    for _ in range(6):
        answers = await together(*(request() for request in requests * 3))
        assert 404 not in {answer.status_code for answer in answers if "if_not_exists" in str(answer.request.content)}
        copies = [
            answer.json()["thread_id"]
            for answer in answers
            if answer.request.url.path.endswith("copy") and answer.status_code == 200
        ]
        await together(*(server.send("DELETE", f"/threads/{copy}") for copy in copies))
        assert await server.left(copies) == {}
    await server.send("DELETE", place)
    await idle(server)
    assert await server.left([thread_id]) == {}


@pytest.mark.usefixtures("worker")
async def test_prunes_of_busy_threads_meet_heartbeats_and_new_runs(server: Server) -> None:
    for _ in range(4):
        threads = [await server.thread() for _ in range(12)]
        made = await together(*(server.send("POST", f"/threads/{thread_id}/runs", LONG) for thread_id in threads))
        assert statuses(made) == {200: 12}
        await server.until(
            "SELECT count(*) > 5 FROM lgs.run WHERE thread_id = ANY(%s::uuid[]) AND status = 'running'", threads
        )
        more = {**SHORT, "multitask_strategy": "enqueue"}
        answers = await together(
            *(server.send("POST", "/threads/prune", {"thread_ids": threads[:: (-1) ** n]}) for n in range(4)),
            *(server.send("POST", f"/threads/{thread_id}/runs", more) for thread_id in threads),
        )
        pruned = sum(answer.json()["pruned_count"] for answer in answers[:4])
        assert pruned == 12
        assert set(statuses(answers[4:])) <= {200, 404}
        assert await server.left(threads) == {}
    await idle(server)
    assert await server.left(threads) == {}


async def test_assistants_with_crons_on_each_others_threads_are_deleted_at_once(server: Server) -> None:
    for _ in range(10):
        made = [await server.post("/assistants", {"graph_id": "steps"}) for _ in range(4)]
        ids = [assistant["assistant_id"] for assistant in made]
        threads = [await server.thread_of(assistant_id) for assistant_id in ids]
        for thread_id in threads:
            for assistant_id in ids:
                cron = {"assistant_id": assistant_id, "schedule": "0 0 1 1 *"}
                await server.post(f"/threads/{thread_id}/runs/crons", cron)
        cron = {"assistant_id": ids[0], "schedule": "0 0 1 1 *"}
        answers = await together(
            *(server.send("DELETE", f"/assistants/{assistant_id}?delete_threads=true") for assistant_id in ids),
            *(server.send("POST", f"/threads/{thread_id}/runs/crons", cron) for thread_id in threads),
            server.send("POST", "/threads/prune", {"thread_ids": threads}),
            server.send("POST", "/threads/search", {"ids": threads}),
        )
        assert statuses(answers[:4]) == {204: 4}
        assert set(statuses(answers[4:8])) <= {200, 404}
        assert await server.left(threads) == {}
        assert await server.one("SELECT count(*) FROM lgs.cron WHERE assistant_id = ANY(%s::uuid[])", ids) == 0


@pytest.mark.usefixtures("worker")
async def test_a_copy_of_a_thread_at_an_interrupt_goes_on_by_itself(server: Server) -> None:
    thread_id = await server.thread()
    await server.post(f"/threads/{thread_id}/runs", ASK)
    await server.until("SELECT status = 'interrupted' FROM lgs.thread WHERE thread_id = %s", thread_id)
    copy = await server.post(f"/threads/{thread_id}/copy", None)
    original = (await server.send("GET", f"/threads/{thread_id}")).json()
    assert [copy[key] for key in ("status", "values", "interrupts")] == [
        original[key] for key in ("status", "values", "interrupts")
    ]
    place = f"/threads/{copy['thread_id']}"
    states = [(await server.send("GET", f"{each}/state")).json() for each in (f"/threads/{thread_id}", place)]
    assert states[0]["checkpoint_id"] == states[1]["checkpoint_id"]
    assert (states[1]["next"], states[1]["interrupts"]) == (["question"], states[0]["interrupts"])
    histories = [await server.post(f"{each}/history", {"limit": 100}) for each in (f"/threads/{thread_id}", place)]
    assert [state["checkpoint_id"] for state in histories[0]] == [state["checkpoint_id"] for state in histories[1]]
    await server.post(f"{place}/runs", {"assistant_id": "ask", "command": {"resume": "yes"}})
    await server.until("SELECT status = 'idle' FROM lgs.thread WHERE thread_id = %s", copy["thread_id"])
    assert (await server.send("GET", place)).json()["values"]["log"] == ["asked: yes"]
    assert (await server.send("GET", f"/threads/{thread_id}")).json()["status"] == "interrupted"


@pytest.mark.usefixtures("worker")
async def test_a_copy_while_a_run_writes_is_a_state_that_the_thread_had(server: Server) -> None:
    thread_id = await server.thread()
    await server.post(f"/threads/{thread_id}/runs", LONG)
    await server.until("SELECT count(*) > 2 FROM checkpoints WHERE thread_id = %s", thread_id)
    for _ in range(5):
        copies = [await server.post(f"/threads/{thread_id}/copy", None) for _ in range(4)]
        for copy in copies:
            state = (await server.send("GET", f"/threads/{copy['thread_id']}/state")).json()
            log, left = state["values"]["log"], state["values"]["count"]
            assert (len(log), set(log)) == (1000 - left, {"step"})
            history = await server.post(f"/threads/{copy['thread_id']}/history", {"limit": 1000})
            ids = [each["checkpoint_id"] for each in history]
            parents = [each["parent_checkpoint_id"] for each in history]
            assert ids[1:] == parents[:-1], "a checkpoint without its parent"
            # as of the last settled run: nobody works on it
            assert copy["status"] == "idle"
    await server.send("DELETE", f"/threads/{thread_id}")


async def waiting(server: Server, count: int) -> None:
    """Once this many transactions wait for another one's row."""
    await server.until(
        "SELECT count(DISTINCT pid) >= %s FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()",
        count,
    )


@asynccontextmanager
async def held(server: Server, query: str, *parameters: Any) -> AsyncIterator[None]:
    """Somebody else has these rows for now."""
    async with await psycopg.AsyncConnection.connect(server.container.settings.database_uri) as connection:
        await connection.execute(query, parameters)  # type: ignore[arg-type]
        yield
        await connection.rollback()


async def test_an_assistant_and_its_thread_deleted_at_once_do_not_wait_for_each_other(server: Server) -> None:
    assistant_id = (await server.post("/assistants", {"graph_id": "steps"}))["assistant_id"]
    thread_id = await server.thread_of(assistant_id)
    body = {"assistant_id": assistant_id, "schedule": "0 0 1 1 *"}
    cron = await server.post(f"/threads/{thread_id}/runs/crons", body)
    async with held(server, "SELECT 1 FROM lgs.cron WHERE cron_id = %s FOR UPDATE", cron["cron_id"]):
        first = asyncio.create_task(server.send("DELETE", f"/assistants/{assistant_id}?delete_threads=true"))
        await waiting(server, 1)
        second = asyncio.create_task(server.send("DELETE", f"/threads/{thread_id}"))
        await waiting(server, 2)
    assert (await first).status_code == 204
    assert (await second).status_code == 404
    assert await server.left([thread_id]) == {}


async def test_a_prune_and_a_heartbeat_do_not_wait_for_each_other(server: Server) -> None:
    threads = [uuid.UUID(int=1), uuid.UUID(int=2)]
    # the other way round than the threads are
    runs = [uuid.UUID(int=22), uuid.UUID(int=11)]
    tokens = [uuid.uuid4(), uuid.uuid4()]
    for thread_id, run_id, token in zip(threads, runs, tokens, strict=True):
        await server.thread(thread_id=str(thread_id))
        await server.database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, attempt, lease_token,"
            " lease_expires_at, lease_history) VALUES (%s, %s, gen_random_uuid(), 'steps', '{}', 'running', 1, %s,"
            " now() + interval '1 minute', jsonb_build_array(jsonb_build_object('token', %s::text)))",
            (run_id, thread_id, token, str(token)),
        )
    beats = HeartbeatConnection(server.container.settings.database_uri, timeout=PATIENCE)
    leases = [Lease(run_id=run_id, token=token, epoch=1) for run_id, token in zip(runs, tokens, strict=True)]
    async with held(server, "SELECT 1 FROM lgs.run WHERE run_id = %s FOR UPDATE", min(runs)):
        beat = asyncio.create_task(asyncio.to_thread(beats.beat, leases, 60.0))
        await waiting(server, 1)
        prune = asyncio.create_task(server.send("POST", "/threads/prune", {"thread_ids": list(map(str, threads))}))
        await waiting(server, 2)
    await beat
    assert (await prune).json() == {"pruned_count": 2}
    await asyncio.to_thread(beats.close)
    assert await server.left(list(map(str, threads))) == {}
