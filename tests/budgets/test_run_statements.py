"""What a run costs of the database: statements, which are round trips, and commits, of its whole life; and what functions there hold.

Every statement outside of a transaction is a round trip and a commit by itself. Counted while one worker executes runs and nothing else
is due: what a worker does every few seconds is not part of a run.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from worker_container import MakeContainer, working

import langgraph_serverless
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.queries import Queries

PERSISTENCE = Path(langgraph_serverless.__file__).parent / "persistence"
PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
NAMES = {queries[name]: name for path in PERSISTENCE.glob("*.sql") for queries in [Queries(path)] for name in queries}
#: Whatever reads checkpoints.
READS = {NAMES[text] for text in NAMES if "FROM checkpoints" in text and "lgs.run" not in text}
#: What goes on beside runs, and what a worker does before it has any.
BESIDE = {"requeue_expired", "claim_exhausted", "claim_webhooks", "bury_webhooks"}
PATIENCE = 30.0


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry, clean_database: None) -> WorkerContainer:
    return await worker_on(registry, poll_interval=60.0, sweep_interval=60.0)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each statement was sent: by its name, or by its first word."""
    counted: Counter[str] = Counter()
    execute = psycopg.AsyncCursor.execute

    async def count(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(self)
        name = NAMES.get(text) or ("read" if "checkpoint" in text else text.split()[0].lower())
        name = "read" if name in READS else name
        if name not in BESIDE:
            counted[name] += 1
        return await execute(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", count)
    return counted


async def cost(
    container: WorkerContainer, sent: Counter[str], request: RunRequest, thread: uuid.UUID | None = None
) -> dict[str, int]:
    """Of the second such run: the first one learns what there is of its assistant."""
    async with working(container) as worker:
        async with asyncio.timeout(PATIENCE):
            while not sent["claim"]:  # it has looked for the first time, and for trials too
                await asyncio.sleep(0.01)
        for number in (1, 2):
            sent.clear()
            await container.runs.create(ANONYMOUS, request, thread_id=thread)
            async with asyncio.timeout(PATIENCE):
                while worker._report.succeeded < number:
                    await asyncio.sleep(0.01)
        return dict(sent)


ONE = RunRequest(assistant_id="steps", input={"count": 1, "log": []})
TWENTY = RunRequest(assistant_id="steps", input={"count": 20, "log": []}, durability=Durability.SYNC)


async def test_a_run_of_its_own_takes_three_commits(container: WorkerContainer, sent: Counter[str]) -> None:
    """Its checkpoints are written with its end, unless it takes longer than they may wait."""
    found = await cost(container, sent, ONE)
    saves = found.pop("save", 0)
    assert found == {"create_run": 1, "claim": 1, "settle": 1}
    assert saves <= 3  # on a machine that is slow


async def test_a_run_on_a_used_thread_takes_four(container: WorkerContainer, sent: Counter[str]) -> None:
    thread = (await container.threads.create(ANONYMOUS)).thread_id
    found = await cost(container, sent, ONE, thread)
    saves = found.pop("save", 0)
    assert found == {"create_run": 1, "claim": 1, "read": 1, "settle": 1}
    assert saves <= 3


async def test_twenty_supersteps_take_one_commit_each(container: WorkerContainer, sent: Counter[str]) -> None:
    """Each of them is on disk before the next one begins."""
    found = await cost(container, sent, TWENTY)
    saves = found.pop("save", 0)
    assert found == {"create_run": 1, "claim": 1, "settle": 1}
    assert 20 <= saves <= 24


async def test_a_burst_is_not_claimed_one_by_one(container: WorkerContainer, sent: Counter[str]) -> None:
    """All of them rang before the worker came. It takes as many rings at once as it has slots, and looks again when it was full."""
    runs = 40
    for _ in range(runs):
        await container.runs.create(ANONYMOUS, ONE, thread_id=None)
    sent.clear()
    async with working(container) as worker, asyncio.timeout(PATIENCE):
        while worker._report.succeeded < runs:
            await asyncio.sleep(0.01)
        # rings for runs that others have taken along are taken ten at a time
        while await container.redis.llen(f"{container.settings.redis_key_prefix}:{{queue}}:tokens"):
            await asyncio.sleep(0.01)
    print(f"\n{runs} runs at once: {dict(sent)}")
    assert sent["settle"] == runs
    assert sent["claim"] <= runs + 10


async def test_an_idle_worker_asks_only_now_and_then(container: WorkerContainer, sent: Counter[str]) -> None:
    """A run that has ended on a thread without others gives no cause to look; one with others does."""
    thread = (await container.threads.create(ANONYMOUS)).thread_id
    for _ in range(3):
        await container.runs.create(ANONYMOUS, ONE, thread_id=thread)
    async with working(container) as worker, asyncio.timeout(PATIENCE):
        while worker._report.succeeded < 3:
            await asyncio.sleep(0.01)
        claims = sent["claim"]
        assert claims >= 3
        await container.runs.create(ANONYMOUS, ONE, thread_id=None)
        while worker._report.succeeded < 4 or len(worker._jobs):
            await asyncio.sleep(0.01)
        assert sent["claim"] == claims + 1


# -- functions ------------------------------------------------------------------------------------------------------

_FUNCTION = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (lgs\.\w+_v\d+)\(")


def _functions() -> Iterator[str]:
    for path in sorted((PERSISTENCE / "migrations").glob("[0-9]*.sql")):
        yield from _FUNCTION.findall(path.read_text())


def test_functions_of_statements_are_named_once() -> None:
    """A function never changes: what does something else has another name, as two versions run side by side."""
    names = list(_functions())
    assert len(names) == len(set(names))
    assert {"lgs.create_run_v1", "lgs.settle_v1", "lgs.roll_back_v1", "lgs.next_due_v1"} <= set(names)


async def test_what_functions_hold_is_valid(container: WorkerContainer) -> None:
    """They are not looked into when they are made: so each way through them is gone once, and every statement prepared."""
    run, token, thread = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    async with await psycopg.AsyncConnection.connect(container.settings.database_uri) as connection:

        async def call(statement: str, *parameters: Any) -> Any:
            cursor = await connection.execute(statement, parameters)  # type: ignore[arg-type]
            return await cursor.fetchall()

        [(assistant, version, time)] = await call(
            "SELECT assistant_id, version, updated_at FROM lgs.assistant WHERE graph_id = 'steps'"
        )
        create = (
            "SELECT outcome, waits FROM lgs.create_run_v1(%s, %s, '', %s, %s, %s, 'steps', %s, '{}', false, 'delete', 5,"
            " '{}', %s, '{\"config\": {\"metadata\": {}}}', %s, 'http://127.0.0.1', 0, '{\"a\": 1}', '{}', '{\"traceparent\": \"x\"}')"
        )

        async def makes(run: uuid.UUID, *, version: int = version, new: bool = True, strategy: str = "enqueue") -> Any:
            given = (run, thread, assistant, version, time, new, "{}", strategy)
            [made] = await call(create, *given)
            return made

        assert await makes(run, version=version + 1) == ("stale", None)
        assert await makes(run, new=False) == ("missing", None)
        assert await makes(run) == ("made", False)
        assert await makes(uuid.uuid4()) == ("made", True)
        assert await makes(uuid.uuid4(), strategy="reject") == ("busy", None)
        [(due,)] = await call("SELECT lgs.next_due_v1()")
        assert due < 1  # they were due after this transaction has begun
        settle = (
            "SELECT settled, more, outbox_id IS NOT NULL, cancel_action FROM lgs.settle_v1(%s, %s, %s, '{}', '{}', '{}', %s,"
            " NULL, true, NULL, NULL, NULL, 'idle', true, '{}', '{}', NULL, 60)"
        )
        assert await call(settle, run, token, thread, "success") == []
        begin = (
            "UPDATE lgs.run SET status = 'running', lease_token = %s, lease_expires_at = now(), cancel_action = %s"
            " WHERE run_id = %s RETURNING 1"
        )
        await call(begin, token, "interrupt", run)
        assert await call(settle, run, token, thread, "success") == [(False, None, False, "interrupt")]
        assert await call(settle, run, token, thread, "interrupted") == [(True, True, True, None)]
        roll_back = "SELECT more, outbox_id IS NOT NULL FROM lgs.roll_back_v1(%s, %s, %s, '{}', 60)"
        assert await call(roll_back, run, token, thread) == []
        [(made,)] = await call("SELECT run_id FROM lgs.run WHERE thread_id = %s AND status = 'pending'", thread)
        await call(begin, token, None, made)
        assert await call(roll_back, made, token, thread) == [(False, True)]
        await connection.rollback()
