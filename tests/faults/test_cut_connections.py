"""The connection to Postgres is cut in the middle, at a random byte or at each statement in turn: what a client was told
holds, nothing is half done, runs go on (R2, R7)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from dev_server import PATIENCE
from figures import Figures, sizes
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from tcp_proxy import TcpProxy, untouched
from wire import through
from worker_container import MakeContainer, working
from workload import assert_invariants

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest, RunStatus
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parent / "project" / "langgraph.json"
QUICK: dict[str, Any] = {
    "heartbeat_interval": 0.2,
    "lease_duration": 1.0,
    "poll_interval": 0.1,
    "sweep_interval": 0.1,
    "pool_timeout": 2.0,
    "pool_max_size": 4,
    "prepared_statements": False,  # so that every statement is on its way as text
}


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[TcpProxy]:
    target = conninfo_to_dict(settings.database_uri)
    async with TcpProxy.to(str(target["host"]), int(target["port"])) as proxy:
        yield proxy


@pytest.fixture
async def container(
    settings: Settings, worker_on: MakeContainer, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[WorkerContainer]:
    """An API and workers that reach the database through the proxy."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    behind = make_conninfo(settings.database_uri, host="127.0.0.1", port=proxy.port, sslmode="disable")
    yield await worker_on(PROJECT, **QUICK, database_uri=behind)
    proxy.rule = untouched


def rows(settings: Settings, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """What the database says, not through the proxy."""
    with psycopg.connect(settings.database_uri, row_factory=dict_row) as connection:
        return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]


def the_run(settings: Settings, run_id: uuid.UUID) -> dict[str, Any]:
    (row,) = rows(settings, "SELECT * FROM lgs.run WHERE run_id = %s", run_id)
    return row


async def test_a_write_whose_connection_is_cut_is_done_or_refused(
    container: WorkerContainer, proxy: TcpProxy, settings: Settings
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    left = 0

    def rule(data: bytes, _from_client: bool, _connection: int) -> int | None:
        nonlocal left
        left -= len(data)
        return max(0, len(data) + left) if left <= 0 else None

    statuses: list[int] = []
    threads: list[str] = []
    transport = httpx.ASGITransport(create_app(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for number in range(40):
            thread_id, left = str(new_id()), 10**9
            threads.append(thread_id)
            proxy.rule = rule
            body = {"assistant_id": "steps", "input": {}, "if_not_exists": "create", "after_seconds": 3600}
            left = chance.randrange(1, 9000)
            answer = await http.post(f"/threads/{thread_id}/runs", json=body)
            proxy.rule = untouched
            statuses.append(answer.status_code)
            made = rows(settings, "SELECT status FROM lgs.run WHERE thread_id = %s", thread_id)
            thread = rows(settings, "SELECT status FROM lgs.thread WHERE thread_id = %s", thread_id)
            if answer.status_code == 200:
                assert [row["status"] for row in made] == ["pending"], f"{number} with seed {seed}"
            else:
                assert answer.status_code == 503, f"{answer.text}: {number} with seed {seed}"
                assert answer.headers["retry-after"]
            # a thread without its run, or a run that its thread does not know of, would be half done
            assert [row["status"] for row in thread] == (["busy"] if made else [])
    assert {200, 503} <= set(statuses), f"{statuses} with seed {seed}"
    with psycopg.connect(settings.database_uri, autocommit=True) as connection:
        connection.execute("DELETE FROM lgs.thread WHERE thread_id = ANY(%s::uuid[])", (threads,))


@sizes(timeout=600, writes=(50, 1000))
async def test_writes_with_keys_are_done_once_wherever_they_are_cut(
    databases: Any, worker_on: MakeContainer, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    """Threads, runs, assistants and crons, each sent until there is an answer; connections are cut at random bytes (R7)."""
    chance, uri = random.Random(seed), databases.create()
    target = conninfo_to_dict(uri)
    async with TcpProxy.to(str(target["host"]), int(target["port"])) as proxy:
        cut = await worker_on(PROJECT, **QUICK, database_uri=through(uri, proxy.port))
        left, tries, made = 0, 0, Counter[str]()

        def once(data: bytes, _from_client: bool, _connection: int) -> int | None:
            nonlocal left
            left -= len(data)
            if left > 0:
                return None
            proxy.rule = untouched
            return max(0, len(data) + left)

        later = {"assistant_id": "steps", "input": {}, "after_seconds": 3600, "if_not_exists": "create"}
        requests: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
            "thread": lambda: ("/threads", {}),
            "run": lambda: (f"/threads/{new_id()}/runs", later),
            "assistant": lambda: ("/assistants", {"graph_id": "steps"}),
            "cron": lambda: ("/runs/crons", {"assistant_id": "steps", "schedule": "0 0 1 1 *"}),
        }
        tables = [f"lgs.{kind}" for kind in requests]
        before = {table: rows_of(uri, table) for table in tables}
        answers = set[str]()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(cut)), base_url="http://test") as http:
            for number in range(size.writes):
                kind = chance.choice(sorted(requests))
                path, body = requests[kind]()
                answer = None
                while answer is None or answer.status_code == 503:
                    assert answer is None or answer.headers["retry-after"]
                    left, proxy.rule = chance.randrange(1, 12_000), once
                    answer = await http.post(path, json=body, headers={"Idempotency-Key": f"{seed}-{number}"})
                    tries += 1
                proxy.rule = untouched
                assert answer.status_code == 200, f"{path} with seed {seed}: {answer.text}"
                made[kind] += 1
                answers.add(answer.json()[f"{kind}_id"])
        rows = {table: rows_of(uri, table) - before[table] for table in tables}
        figures("R7", writes=size.writes, tries=tries, cuts=proxy.cuts, seed=seed, **made)
        assert proxy.cuts > size.writes / 10
        assert len(answers) == size.writes, "two writes had one answer"
        assert rows == {
            "lgs.thread": made["thread"] + made["run"],
            "lgs.run": made["run"],
            "lgs.assistant": made["assistant"],
            "lgs.cron": made["cron"],
        }
        await assert_invariants(uri)
        await cut.aclose()
    databases.drop(uri)


def rows_of(database_uri: str, table: str) -> int:
    with psycopg.connect(database_uri, autocommit=True) as connection:
        [count] = connection.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    return int(count)


#: A word of each message that a worker sends for a run.
STATEMENTS = {
    "claim": [b"WITH candidate AS"],
    "save": [b"lgs.save_v1("],
    "settle": [b"lgs.settle_v1("],
    "hand-off": [b"'{-1,end}', '\"handoff\"'"],
}


@pytest.mark.parametrize("answered", ["before", "after"])
@pytest.mark.parametrize("statement", STATEMENTS)
async def test_a_run_outlives_a_cut_at_each_statement(
    container: WorkerContainer, proxy: TcpProxy, settings: Settings, statement: str, answered: str
) -> None:
    """Before: the statement never arrives. After: it is carried out, and nobody hears of it."""
    words, deaf = STATEMENTS[statement], set[int]()
    seen: Counter[int] = Counter()

    def rule(data: bytes, from_client: bool, connection: int) -> int | None:
        while from_client and seen[connection] < len(words) and words[seen[connection]] in data:
            seen[connection] += 1
            if seen[connection] == len(words) and not deaf and not proxy.cuts:
                if answered == "before":
                    return 0
                deaf.add(connection)
        return 0 if not from_client and connection in deaf else None

    proxy.cuts, proxy.rule = 0, rule
    thread = await container.threads.create(ANONYMOUS)
    steps = 15 if statement == "hand-off" else 2  # so that it is not over before its worker leaves
    given = RunRequest(assistant_id="steps", input={"name": "c", "steps": steps, "seconds": 0.1})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    if statement == "hand-off":
        async with working(container) as worker, asyncio.timeout(10):
            while not worker.active:
                await asyncio.sleep(0.01)
    assert container.event_hub is not None
    async with working(container), asyncio.timeout(20):
        while not RunStatus((ended := the_run(settings, run.run_id))["status"]).is_final:
            await asyncio.sleep(0.02)
        # the end is in the stream as well, and not only found by those who look at the row
        async with asyncio.timeout(2), aclosing(container.event_hub.end(run.run_id)) as batches:
            async for batch in batches:
                if any(event.is_end for event in batch):
                    break
    assert proxy.cuts == 1, "nothing was broken"
    assert ended["status"] == "success"
    assert ended["output"]["log"] == [f"c{number}" for number in range(1, steps + 1)]


async def test_a_worker_that_stands_still_while_it_settles_keeps_no_locks(
    container: WorkerContainer, proxy: TcpProxy, settings: Settings
) -> None:
    """Nothing more than the message with the statement reaches the server, and it needs nothing more."""

    def rule(data: bytes, from_client: bool, connection: int) -> int | None:
        if from_client and b"lgs.settle_v1(" in data:
            proxy.flowing.clear()
        return None

    proxy.rule = rule
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id="steps", input={"name": "s", "steps": 1, "seconds": 0})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    async with working(container):
        try:
            async with asyncio.timeout(10):
                while not RunStatus(the_run(settings, run.run_id)["status"]).is_final:
                    await asyncio.sleep(0.02)
            rows(settings, "SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE NOWAIT", run.thread_id)
            assert not proxy.flowing.is_set()
        finally:
            proxy.rule = untouched
            proxy.flowing.set()


async def test_a_worker_that_stands_still_while_its_heart_beats_keeps_no_locks(
    container: WorkerContainer, proxy: TcpProxy, settings: Settings
) -> None:
    """Else nobody could take its runs: who takes runs back passes over those that are locked."""

    def rule(data: bytes, from_client: bool, connection: int) -> int | None:
        if from_client and b"WITH held AS" in data:
            proxy.flowing.clear()
        return None

    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id="steps", input={"name": "h", "steps": 1, "seconds": 2})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    async with working(container):
        await eventually(settings, run.run_id, lambda row: row["status"] == "running")
        before = the_run(settings, run.run_id)["lease_expires_at"]
        proxy.rule = rule
        try:
            await eventually(settings, run.run_id, lambda row: row["lease_expires_at"] > before)
            rows(settings, "SELECT 1 FROM lgs.run WHERE run_id = %s FOR UPDATE NOWAIT", run.run_id)
            assert not proxy.flowing.is_set()
        finally:
            proxy.rule = untouched
            proxy.flowing.set()
        await eventually(settings, run.run_id, lambda row: RunStatus(row["status"]).is_final)


async def eventually(settings: Settings, run_id: uuid.UUID, true_of: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true_of(the_run(settings, run_id)):
            await asyncio.sleep(0.02)


async def test_what_was_written_is_looked_for_until_the_database_is_back(
    worker_on: MakeContainer, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The answer to the end of a run is lost, and the look at what has become of it meets an outage too."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    # a heartbeat that comes later: with the row's lease gone, it would call the run lost
    container = await worker_on(PROJECT, **{**QUICK, "heartbeat_interval": 10.0, "lease_duration": 30.0})
    settle, look = QueueRepository.settle, QueueRepository.already_settled
    said: list[str] = []

    async def settle_unheard(self: QueueRepository, *args: Any, **options: Any) -> Any:
        said.append("settle")
        written = await settle(self, *args, **options)
        if said.count("settle") == 1:
            raise UnavailableError("the answer was lost")
        return written

    async def look_again(self: QueueRepository, *args: Any, **options: Any) -> Any:
        said.append("look")
        if said.count("look") == 1:
            raise UnavailableError("away")
        return await look(self, *args, **options)

    monkeypatch.setattr(QueueRepository, "settle", settle_unheard)
    monkeypatch.setattr(QueueRepository, "already_settled", look_again)
    thread = await container.threads.create(ANONYMOUS)
    given = RunRequest(assistant_id="steps", input={"name": "l", "steps": 1, "seconds": 0})
    run = await container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)
    assert container.event_hub is not None
    async with working(container), asyncio.timeout(20), aclosing(container.event_hub.end(run.run_id)) as batches:
        async for batch in batches:
            if any(event.is_end for event in batch):
                break
    assert said == ["settle", "settle", "look", "settle", "look"]
    assert the_run(settings, run.run_id)["status"] == "success"
