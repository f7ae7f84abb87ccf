"""SQL: every query is valid against the migrated schema and used, and no request asks the database too often."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from redis.asyncio import Redis

import langgraph_serverless
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.a2a_messages import Dialect, read_message
from langgraph_serverless.domain.a2a_push import PushConfig
from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.domain.threads import Thread, ThreadField
from langgraph_serverless.errors import RpcError
from langgraph_serverless.persistence.pool import BEGIN
from langgraph_serverless.persistence.queries import Queries
from langgraph_serverless.services.a2a import SendRequest
from langgraph_serverless.services.idempotency import AnsweredBeforeError, Once
from langgraph_serverless.settings import Settings

PERSISTENCE = Path(langgraph_serverless.__file__).parent / "persistence"
QUERIES = [(path, name) for path in sorted(PERSISTENCE.glob("*.sql")) for name in Queries(path)]
_PARAMETER = re.compile(r"%\((\w+)\)s")


@pytest.mark.parametrize(("path", "name"), QUERIES, ids=lambda value: getattr(value, "stem", value))
def test_a_query_is_valid(path: Path, name: str, database_uri: str) -> None:
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    statement = _PARAMETER.sub(number, Queries(path)[name]).replace("%%", "%").encode()
    with psycopg.connect(database_uri) as connection:
        result = connection.pgconn.prepare(b"checked", statement)
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.get_error_message()


def test_every_query_is_used() -> None:
    code = {path: path.read_text() for path in PERSISTENCE.glob("*.py")}
    unused = [f"{path.stem}#{name}" for path, name in QUERIES if f'["{name}"]' not in code[path.with_suffix(".py")]]
    assert unused == []


class Statements(list[str]):
    """The SQL that was sent, and the parameters of the last statement."""

    parameters: Any = None


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    sent = Statements()
    execute = psycopg.AsyncCursor.execute
    begin = psycopg.AsyncTransaction.__aenter__

    async def counted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if query == BEGIN:
            sent.extend(("BEGIN", "COMMIT"))
        else:
            sent.append(query.as_string(self) if isinstance(query, sql.Composable) else query)
            sent.parameters = args[0] if args else None
        return await execute(self, query, *args, **kwargs)

    async def counted_begin(self: Any) -> Any:
        sent.extend(("BEGIN", "COMMIT"))
        return await begin(self)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    monkeypatch.setattr(psycopg.AsyncTransaction, "__aenter__", counted_begin)
    return sent


@pytest.fixture
async def container(settings: Settings) -> AsyncIterator[ApiContainer]:
    chat = GraphManifest(
        graph_id="chat", description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
    )
    container = ApiContainer(settings, manifest=Manifest.of({"chat": chat}))
    yield container
    await container.aclose()


async def test_requests_ask_the_database_as_rarely_as_they_can(container: ApiContainer, statements: Statements) -> None:
    async def used(call: Any) -> int:
        statements.clear()
        await call
        return len(statements)

    threads, assistants = container.threads, container.assistants
    thread = await threads.create(ANONYMOUS)
    assistant = await assistants.create(ANONYMOUS, graph_id="chat")
    everything: dict[str, Any] = {"metadata": {}, "values": {}, "status": None}
    assert await used(threads.create(ANONYMOUS)) == 1
    # begin, claim, insert, keep, commit; a repeat claims and reads
    name = IdempotencyKey(route="POST /threads", key=str(uuid.uuid4()), fingerprint=b"\0" * 32)
    once: Once[Thread] = Once(key=name, retention=60, answer=lambda _: Answer(status=200, headers={}, body=b"{}"))
    assert await used(threads.create(ANONYMOUS, once=once)) == 5
    with pytest.raises(AnsweredBeforeError):
        await used(threads.create(ANONYMOUS, once=once))
    assert len(statements) == 4
    assert await used(threads.get(ANONYMOUS, thread.thread_id)) == 1
    assert await used(threads.update(ANONYMOUS, thread.thread_id, metadata={}, ttl=None)) == 1
    assert await used(threads.search(ANONYMOUS, ids=None, **everything)) == 1
    assert await used(threads.count(ANONYMOUS, **everything)) == 1
    assert await used(threads.copy(ANONYMOUS, thread.thread_id)) == 1
    assert await used(threads.storage(ANONYMOUS, thread.thread_id)) == 1
    # begin, lock, runs, the rest, commit
    assert await used(threads.delete(ANONYMOUS, thread.thread_id)) == 5
    assert await used(assistants.create(ANONYMOUS, graph_id="chat")) == 1
    assert await used(assistants.get(ANONYMOUS, assistant.assistant_id)) == 1
    assert await used(assistants.search(ANONYMOUS, metadata={}, graph_id=None, name=None)) == 1
    assert await used(assistants.update(ANONYMOUS, assistant.assistant_id, {})) == 4
    assert await used(assistants.set_latest(ANONYMOUS, assistant.assistant_id, 1)) == 1
    assert await used(assistants.ensure_defaults()) == 1
    # a graph's id means its default assistant, which may have been deleted or given another graph
    assert await used(assistants.graph(ANONYMOUS, "chat", xray=False)) == 1
    assert await used(container.system.numbers()) == 4


async def test_calls_of_other_agents_ask_as_rarely_as_they_can(container: ApiContainer, statements: Statements) -> None:
    async def used(call: Any) -> int:
        statements.clear()
        await call
        return len(statements)

    assistant_id = str((await container.assistants.create(ANONYMOUS, graph_id="chat")).assistant_id)
    sent = {"messageId": "m1", "parts": [{"text": "hello"}]}
    request = SendRequest(message=read_message({"message": sent}))
    # the assistant; begin, thread, lock, run, turn, commit
    assert await used(container.a2a.send(ANONYMOUS, assistant_id, request)) == 7
    (task,), _ = await container.a2a_tasks.list(
        ANONYMOUS, assistant_id, context_id=None, state=None, after=None, limit=1, offset=0
    )
    name = str(task.ref)
    # the assistant, whether it may be seen, the task, what there is of it, and what has been asked of a run that goes on
    assert await used(container.a2a_tasks.get(ANONYMOUS, assistant_id, name)) == 5
    config = PushConfig(config_id="c", url="https://192.0.2.1", dialect=Dialect.V1)
    monitored = container.a2a_push
    assert await used(monitored.list(ANONYMOUS, assistant_id, name)) == 4
    with pytest.raises(RpcError):  # documentation's address
        await used(monitored.set(ANONYMOUS, assistant_id, name, config))
    assert await used(monitored.delete(ANONYMOUS, assistant_id, name, "c")) == 7
    # the assistant, the task (2), its live runs; the cancel; the note; and all of it once more
    assert await used(container.a2a.cancel(ANONYMOUS, assistant_id, name)) <= 18


async def test_tools_ask_as_rarely_as_they_can(container: ApiContainer, statements: Statements) -> None:
    async def used(call: Any) -> int:
        statements.clear()
        await call
        return len(statements)

    name = f"tool-{uuid.uuid4()}"
    made = await container.assistants.create(ANONYMOUS, graph_id="chat", name=name)
    assert await used(container.mcp.list_tools(ANONYMOUS)) == 1
    run = RunRequest(assistant_id=str(made.assistant_id))
    # the first one learns what there is of the assistant
    assert await used(container.runs.create(ANONYMOUS, run, thread_id=None)) == 2
    assert await used(container.mcp.call(ANONYMOUS, name, {})) == 1 + 1


async def test_an_idle_tick_is_cheap(
    settings: Settings, clean_database: None, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle deployment makes 60 of them an hour: on two connections, and no word to Redis but for a nap."""
    commands: list[str] = []
    execute = Redis.execute_command

    async def counted(self: Redis, *args: Any, **options: Any) -> Any:
        commands.append(args[0])
        return await execute(self, *args, **options)

    monkeypatch.setattr(Redis, "execute_command", counted)
    for longest in (0.0, 900.0):
        own = settings.replace(redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}", scheduler_nap=longest)
        container = SchedulerContainer(own, manifest=Manifest.of({}))
        pool = await container.database.pool()
        for _ in range(2):
            statements.clear()
            commands.clear()
            report = await container.scheduler.tick()
            if not report.napped:
                await container.system.numbers()
                # leases and what they leave, crons and threads, histories, items, webhooks and keys that are over, runs and
                # webhooks that wait, four measurements, two begins and two ends; and when to wake up
                assert len(statements) <= (20 if longest else 19), statements
                assert len(commands) <= (4 if longest else 0), commands  # a script that is new to Redis is sent twice
        assert report.napped == bool(longest)
        if longest:
            assert (list(statements), commands) == ([], ["GET"])
        assert pool.get_stats()["pool_size"] <= 2
        await container.aclose()


async def test_a_search_does_not_read_what_was_not_selected(container: ApiContainer, statements: Statements) -> None:
    await container.threads.create(ANONYMOUS)
    statements.clear()
    await container.threads.search(
        ANONYMOUS, ids=None, metadata={}, values={}, status=None, select=[ThreadField.THREAD_ID, ThreadField.STATUS]
    )
    (statement,) = statements
    assert statement.startswith('SELECT "thread_id", "status" FROM (SELECT "thread_id", "updated_at" AS')


async def test_searches_use_indexes(container: ApiContainer, database_uri: str, statements: Statements) -> None:
    """The default search and a search by metadata must not sort or read the whole table once it is large."""
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO lgs.thread (thread_id, metadata, updated_at)"
            " SELECT gen_random_uuid(), jsonb_build_object('user', n), now() - make_interval(secs => n)"
            " FROM generate_series(1, 20000) n"
        )
        await connection.execute("ANALYZE lgs.thread")

        async def plan(**query: Any) -> str:
            given: dict[str, Any] = {"ids": None, "metadata": {}, "values": {}, "status": None} | query
            await container.threads.search(ANONYMOUS, **given)
            explain: Any = f"EXPLAIN {statements[-1]}"
            rows = await (await connection.execute(explain, statements.parameters)).fetchall()
            return "\n".join(row[0] for row in rows)

        first = await plan()
        last = await plan(descending=False)
        by_user = await plan(metadata={"user": 7})
        await connection.execute("TRUNCATE lgs.thread CASCADE")
    for page in (first, last):
        assert "thread_updated" in page
        assert "Sort" not in page
    assert "thread_metadata" in by_user
