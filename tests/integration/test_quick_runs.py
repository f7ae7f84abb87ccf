"""Runs that are made in one statement are what the transaction would have made, whatever is changed or deleted meanwhile."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, MultitaskStrategy, Run, RunRequest
from langgraph_serverless.errors import ConflictError, NotFoundError
from langgraph_serverless.persistence import run_creation
from langgraph_serverless.services import quick_runs
from langgraph_serverless.services.quick_runs import QuickRuns
from langgraph_serverless.settings import Settings

PATIENCE = 20.0
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
GRAPH = GraphManifest(graph_id="echo", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
OTHER = replace(GRAPH, graph_id="other")

pytestmark = pytest.mark.usefixtures("clean_database")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[ApiContainer]:
    # nobody executes anything
    own = settings.replace(redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}", webhook_allowed_hosts=("127.0.0.1",))
    container = ApiContainer(own, manifest=Manifest.of({"echo": GRAPH, "other": OTHER}))
    await container.assistants.ensure_defaults()
    yield container
    async with container.database.connection() as connection:
        await connection.execute("TRUNCATE lgs.thread, lgs.outbox CASCADE")
        await connection.execute("DELETE FROM lgs.assistant")
    await container.aclose()


async def rows(api: ApiContainer, query: str, *parameters: Any) -> list[dict[str, Any]]:
    async with api.database.connection() as connection:
        return await (await connection.execute(query, parameters)).fetchall()


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs are made in a transaction."""

    async def never(*_: Any) -> None:
        return None

    monkeypatch.setattr(QuickRuns, "create", never)


REQUESTS = {
    "plain": RunRequest(assistant_id="echo", input={"a": "\0b", "n": 1.0}),
    "metadata": RunRequest(
        assistant_id="echo",
        metadata={"run": 1, "thread": "the run's", "langgraph_auth_user": "x", "assistant_id": "y"},
        config={"metadata": {"config": 1, "thread": "the config's"}, "tags": ["t"], "configurable": {"k": 1}},
    ),
    "delayed": RunRequest(assistant_id="echo", after_seconds=60, multitask_strategy=MultitaskStrategy.REJECT),
    "kept": RunRequest(
        assistant_id="echo", on_completion="keep", webhook="http://127.0.0.1:9/never-there", if_not_exists="create"
    ),
}


async def made(api: ApiContainer, request: RunRequest, where: str) -> dict[str, Any]:
    """A run and its thread as they are stored and were answered, without what is never the same twice."""
    thread_id: uuid.UUID | None = None
    if where in {"thread", "used"}:
        metadata = {"thread": "its own", "langgraph_auth_user_id": "z", "more": [1]}
        thread_id = (await api.threads.create(ANONYMOUS, metadata=metadata)).thread_id
    if where == "used":
        await api.runs.create(ANONYMOUS, RunRequest(assistant_id="other"), thread_id=thread_id)
    if where == "new":
        thread_id, request = uuid.uuid4(), replace(request, if_not_exists="create")
    if where == "used" and request.multitask_strategy is MultitaskStrategy.REJECT:
        with pytest.raises(ConflictError):
            await api.runs.create(ANONYMOUS, request, thread_id=thread_id)
        return {}
    run = await api.runs.create(ANONYMOUS, request, thread_id=thread_id)
    [row] = await rows(api, "SELECT * FROM lgs.run WHERE run_id = %s", run.run_id)
    [thread] = await rows(api, "SELECT * FROM lgs.thread WHERE thread_id = %s", run.thread_id)
    assert (row["metadata"], row["kwargs"]) == (run.metadata, run.kwargs)
    assert (row["created_at"], row["updated_at"]) == (run.created_at, run.updated_at)
    assert (row["created_at"].timestamp() - request.after_seconds == thread["created_at"].timestamp()) == (
        where in {"alone", "new"}
    )
    configurable = row["kwargs"]["config"]["configurable"]
    for key in ("run_id", "thread_id", "__request_start_time_ms__"):
        configurable.pop(key)
    return {
        "run": {
            key: value for key, value in row.items() if not key.endswith("_at") and key not in {"run_id", "thread_id"}
        },
        "thread": {key: value for key, value in thread.items() if not key.endswith("_at") and key != "thread_id"},
        "ttl": thread["expires_at"] is None,
    }


@pytest.mark.parametrize("where", ["alone", "new", "thread", "used"])
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
async def test_one_statement_makes_what_the_transaction_makes(
    api: ApiContainer, request_: RunRequest, where: str, request: pytest.FixtureRequest
) -> None:
    quick = await made(api, request_, where)
    request.getfixturevalue("slowly")
    assert quick == await made(api, request_, where)


async def test_a_changed_assistant_counts_at_once(api: ApiContainer) -> None:
    """This process knows the version before; the others have changed it, taken it back, or made it anew under its id."""
    assistant = await api.assistants.create(ANONYMOUS, graph_id="echo", config={"configurable": {"n": 0}})

    async def number() -> tuple[str, Any]:
        run = await api.runs.create(ANONYMOUS, RunRequest(assistant_id=str(assistant.assistant_id)), thread_id=None)
        [row] = await rows(api, "SELECT graph_id FROM lgs.run WHERE run_id = %s", run.run_id)
        return row["graph_id"], run.kwargs["config"]["configurable"].get("n")

    assert await number() == ("echo", 0)
    change = {"graph_id": "other", "config": {"configurable": {"n": 1}}}
    await api.assistants.update(ANONYMOUS, assistant.assistant_id, change)
    assert await number() == ("other", 1)
    await api.assistants.set_latest(ANONYMOUS, assistant.assistant_id, 1)
    assert await number() == ("echo", 0)
    await api.assistants.delete(ANONYMOUS, assistant.assistant_id)
    with pytest.raises(NotFoundError):
        await number()
    await api.assistants.create(
        ANONYMOUS, graph_id="echo", config={"configurable": {"n": 3}}, assistant_id=assistant.assistant_id
    )
    assert await number() == ("echo", 3)


async def test_an_assistant_that_changes_all_the_time_is_taken_under_its_lock(
    api: ApiContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant = await api.assistants.create(ANONYMOUS, graph_id="echo", config={"configurable": {"n": 0}})
    create, changes = quick_runs.create_run, 0

    async def overtaken(*arguments: Any, **options: Any) -> Any:
        nonlocal changes
        changes += 1
        change = {"config": {"configurable": {"n": changes}}}
        await api.assistants.update(ANONYMOUS, assistant.assistant_id, change)
        return await create(*arguments, **options)

    monkeypatch.setattr(quick_runs, "create_run", overtaken)
    run = await api.runs.create(ANONYMOUS, RunRequest(assistant_id=str(assistant.assistant_id)), thread_id=None)
    assert run.kwargs["config"]["configurable"]["n"] == changes == quick_runs._ATTEMPTS


async def test_few_assistants_are_known_at_once(api: ApiContainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_runs, "MOST_ASSISTANTS", 2)
    for graph_id in ("echo", "other", "echo"):
        assistant = await api.assistants.create(ANONYMOUS, graph_id=graph_id)
        await api.runs.create(ANONYMOUS, RunRequest(assistant_id=str(assistant.assistant_id)), thread_id=None)
        assert len(api.runs._quick._known) <= 2


async def while_locked(
    api: ApiContainer, lock: str, key: uuid.UUID, last: str, task: Callable[[], Awaitable[Any]]
) -> asyncio.Task[Any]:
    """A task that has waited for a lock, whose holder has then done something."""
    async with await psycopg.AsyncConnection.connect(api.settings.database_uri) as holder:
        await holder.execute(sql.SQL(lock), (key,))  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(task())
        async with asyncio.timeout(PATIENCE):
            while not await rows(api, WAITING):
                assert not waiting.done(), waiting
                await asyncio.sleep(0.01)
        await holder.execute(sql.SQL(last), (key,))  # type: ignore[arg-type]
        await holder.commit()
    await asyncio.wait([waiting], timeout=PATIENCE)
    assert waiting.done()
    return waiting


async def test_a_run_that_waits_for_the_delete_of_its_thread_is_not_made(api: ApiContainer) -> None:
    thread = (await api.threads.create(ANONYMOUS)).thread_id
    await api.runs.create(ANONYMOUS, RunRequest(assistant_id="echo"), thread_id=None)  # the assistant is known
    lock, delete = (
        "SELECT FROM lgs.thread WHERE thread_id = %s FOR UPDATE",
        "DELETE FROM lgs.thread WHERE thread_id = %s",
    )
    create = RunRequest(assistant_id="echo")
    task = await while_locked(api, lock, thread, delete, lambda: api.runs.create(ANONYMOUS, create, thread_id=thread))
    assert isinstance(task.exception(), NotFoundError)
    assert await rows(api, "SELECT 1 FROM lgs.run WHERE thread_id = %s", thread) == []
    # one that may make it does
    thread = (await api.threads.create(ANONYMOUS, metadata={"old": True})).thread_id
    create = replace(create, if_not_exists="create", metadata={"new": True})
    task = await while_locked(api, lock, thread, delete, lambda: api.runs.create(ANONYMOUS, create, thread_id=thread))
    assert task.result().metadata.get("new")
    [row] = await rows(api, "SELECT metadata, status FROM lgs.thread WHERE thread_id = %s", thread)
    assert (row["metadata"].get("old"), row["metadata"].get("new"), row["status"]) == (None, True, "busy")


async def test_a_run_that_waits_for_its_thread_takes_what_that_is_then(api: ApiContainer) -> None:
    thread = (await api.threads.create(ANONYMOUS, metadata={"said": "before"})).thread_id
    lock = "SELECT FROM lgs.thread WHERE thread_id = %s FOR UPDATE"
    change = 'UPDATE lgs.thread SET metadata = \'{"said": "meanwhile"}\' WHERE thread_id = %s'
    request = RunRequest(assistant_id="echo")
    task = await while_locked(api, lock, thread, change, lambda: api.runs.create(ANONYMOUS, request, thread_id=thread))
    run: Run = task.result()
    assert run.metadata["said"] == run.kwargs["config"]["metadata"]["said"] == "meanwhile"
    busy = "UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s"
    request = replace(request, multitask_strategy=MultitaskStrategy.REJECT)
    thread = (await api.threads.create(ANONYMOUS)).thread_id
    task = await while_locked(api, lock, thread, busy, lambda: api.runs.create(ANONYMOUS, request, thread_id=thread))
    assert isinstance(task.exception(), ConflictError)
    await rows(api, "UPDATE lgs.thread SET status = 'idle' WHERE thread_id = %s RETURNING 1", thread)


@pytest.mark.parametrize("with_threads", [False, True])
async def test_a_run_that_waits_for_the_delete_of_its_assistant_is_not_made(
    api: ApiContainer, with_threads: bool
) -> None:
    assistant = await api.assistants.create(ANONYMOUS, graph_id="echo")
    request = RunRequest(assistant_id=str(assistant.assistant_id), if_not_exists="create")
    used, new = (await api.threads.create(ANONYMOUS)).thread_id, uuid.uuid4()
    first = await api.runs.create(ANONYMOUS, request, thread_id=used)
    lock = "SELECT FROM lgs.assistant WHERE assistant_id = %s FOR UPDATE"
    delete = "DELETE FROM lgs.assistant WHERE assistant_id = %s"
    if with_threads:
        thread = "(SELECT thread_id FROM lgs.run WHERE assistant_id = %s)"
        delete = f"DELETE FROM lgs.thread WHERE thread_id IN {thread}"
    for thread_id in (used, new):
        await api.assistants.create(
            ANONYMOUS, graph_id="echo", assistant_id=assistant.assistant_id, return_existing=True
        )
        task = await while_locked(
            api,
            lock,
            assistant.assistant_id,
            delete,
            lambda thread_id=thread_id: api.runs.create(ANONYMOUS, request, thread_id=thread_id),  # type: ignore[misc]
        )
        if with_threads:  # then it has made its thread anew
            assert task.result().run_id != first.run_id
        else:
            assert isinstance(task.exception(), NotFoundError)
            assert await rows(api, "SELECT 1 FROM lgs.thread WHERE thread_id = %s", new) == []


async def test_creates_and_deletes_of_everything_at_once(api: ApiContainer, seed: int, figures: Any) -> None:
    """Threads, assistants, and assistants with their threads go while runs are made on them: no orphans, no deadlocks, nobody waits for
    ever, one thread's runs are in the order in which they were answered, and a thread is busy while it has a run."""
    rng = random.Random(seed)
    threads = [uuid.uuid4() for _ in range(4)]
    ids = [uuid.uuid4() for _ in range(3)]
    counts = {"made": 0, "refused": 0, "deleted": 0}

    async def create() -> None:
        thread, assistant = rng.choice([*threads, None]), rng.choice([*map(str, ids), "echo"])
        request = RunRequest(
            assistant_id=assistant,
            if_not_exists=rng.choice(["create", "reject"]),
            multitask_strategy=rng.choice([*MultitaskStrategy, MultitaskStrategy.ENQUEUE, MultitaskStrategy.ENQUEUE]),
            metadata={"n": rng.random()},
        )
        try:
            run = await api.runs.create(ANONYMOUS, request, thread_id=thread)
        except (NotFoundError, ConflictError):
            counts["refused"] += 1
        else:
            counts["made"] += 1
            assert run.metadata["n"] == request.metadata["n"]

    async def change() -> None:
        thread, assistant = rng.choice(threads), rng.choice(ids)
        kind = rng.randrange(6)
        try:
            if kind == 0:
                await api.threads.delete(ANONYMOUS, thread)
            elif kind == 1:
                await api.assistants.delete(ANONYMOUS, assistant, delete_threads=rng.random() < 0.5)
            elif kind <= 3:
                await api.assistants.create(ANONYMOUS, graph_id="echo", assistant_id=assistant, return_existing=True)
            elif kind == 4:
                await api.assistants.update(ANONYMOUS, assistant, {"metadata": {"m": rng.random()}})
            else:
                live = await rows(api, "SELECT run_id FROM lgs.run WHERE thread_id = %s", thread)
                run_ids = [row["run_id"] for row in live]
                await api.runs.cancel(ANONYMOUS, thread, run_ids, rng.choice(list(CancelAction)), "test")
            counts["deleted"] += kind in {0, 1}
        except (NotFoundError, ConflictError):
            counts["refused"] += 1

    async with asyncio.timeout(PATIENCE * 3):
        for _ in range(20):
            await asyncio.gather(*(create() if rng.random() < 0.7 else change() for _ in range(12)))
    wrong = await rows(
        api,
        "SELECT t.thread_id, t.status FROM lgs.thread t WHERE (t.status = 'busy') <>"
        " EXISTS (SELECT FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))",
    )
    assert wrong == []
    assert counts["made"] > 20
    figures("quick creates", **counts, seed=seed)


async def test_many_creates_on_one_thread_form_a_queue(api: ApiContainer) -> None:
    thread = uuid.uuid4()
    request = RunRequest(assistant_id="echo", if_not_exists="create")
    made = await asyncio.gather(*(api.runs.create(ANONYMOUS, request, thread_id=thread) for _ in range(20)))
    stored = await rows(
        api, "SELECT run_id, created_at FROM lgs.run WHERE thread_id = %s ORDER BY created_at, run_id", thread
    )
    assert {row["run_id"] for row in stored} == {run.run_id for run in made}
    assert len({row["created_at"] for row in stored}) == 20  # each after it had the thread
    [one] = await rows(api, "SELECT metadata, created_at FROM lgs.thread WHERE thread_id = %s", thread)
    assert one["created_at"] == stored[0]["created_at"]


def test_the_outcomes_are_those_of_the_function() -> None:
    text = (run_creation._SQL.path.parent / "migrations" / "0027_post_queue_functions.sql").read_text()
    assert all(f"'{outcome.value}'" in text for outcome in run_creation.Outcome)
