"""What may happen to one connection to Postgres: closed while nobody used it, held by a process that stands still, read-only
after a failover. Requests succeed or are refused with 503; nobody waits for the lost one's locks (R28, R11)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence import pool as pool_module
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.settings import Settings

LOCK = "SELECT thread_id FROM lgs.thread WHERE thread_id = %s FOR UPDATE"


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to an application with a pool of its own."""
    graph = GraphManifest(
        graph_id="chat", description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
    )
    container = ApiContainer(settings.replace(pool_max_size=1), manifest=Manifest.of({"chat": graph}))
    transport = httpx.ASGITransport(create_app(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        client.container = container  # type: ignore[attr-defined]
        yield client
    await container.aclose()


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.replace(pool_max_size=1, pool_timeout=5))
    yield database
    await database.aclose()


async def ended_by_server(settings: Settings, database: Database) -> None:
    """As a server that restarts, or tidies up, while the sandbox is frozen: nobody is there to notice."""
    pool = await database.pool()
    pids = [connection.info.backend_pid for connection in pool._pool]
    assert pids
    # not on this event loop, on which the pool would look after its connections
    with psycopg.connect(settings.database_uri, autocommit=True) as admin:
        for pid in pids:
            assert admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,)).fetchone() == (True,)


@pytest.mark.parametrize("path", ["/threads", "/threads/search"])
async def test_the_first_request_after_the_server_closed_the_connection_succeeds(
    api: httpx.AsyncClient, settings: Settings, path: str
) -> None:
    assert (await api.post(path, json={})).status_code == 200
    await ended_by_server(settings, api.container.database)  # type: ignore[attr-defined]
    answer = await api.post(path, json={})
    assert answer.status_code == 200, answer.text


async def test_a_pool_full_of_dead_connections_costs_no_time(settings: Settings) -> None:
    """psycopg's own pool pauses for 1, 2, 4... seconds after each dead one, and the timeout was reached with the fourth."""
    database = Database(settings.replace(pool_max_size=6, pool_min_size=6, pool_timeout=5))
    try:
        await (await database.pool()).wait()
        await ended_by_server(settings, database)
        await database.ping()
    finally:
        await database.aclose()


async def test_a_pause_is_seen_by_either_clock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = 0
    check = pool_module.AsyncConnectionPool.check_connection

    async def counted(connection: pool_module.Connection) -> None:
        nonlocal checked
        checked += 1
        await check(connection)

    monkeypatch.setattr(pool_module.AsyncConnectionPool, "check_connection", counted)
    await database.ping()
    await database.ping()
    assert checked == 0
    monotonic, wall = time.monotonic(), time.time()
    monkeypatch.setattr(pool_module, "_now", lambda: (monotonic, wall + 60))
    await database.ping()
    monkeypatch.setattr(pool_module, "_now", lambda: (monotonic + 60, wall + 60))
    await database.ping()
    assert checked == 2


async def test_a_process_that_stands_still_keeps_no_lock(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'15s'" in pool_module.BEGIN
    monkeypatch.setattr(pool_module, "BEGIN", pool_module.BEGIN.replace("15s", "300ms"))
    thread_id = new_id()
    async with database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    async with await psycopg.AsyncConnection.connect(settings.database_uri) as other:

        async def stands_still() -> None:
            async with database.transaction() as connection:
                await connection.execute(LOCK, (thread_id,))
                async with asyncio.timeout(10):
                    await other.execute(LOCK, (thread_id,))
                await connection.execute("SELECT 1")

        with pytest.raises(UnavailableError):
            await stands_still()
    # for this transaction only
    async with database.connection() as connection:
        row = await (await connection.execute("SHOW idle_in_transaction_session_timeout")).fetchone()
    assert row == {"idle_in_transaction_session_timeout": "0"}


@pytest.mark.parametrize(
    "state",
    [
        "25006",
        "25P03",
        "57P01",
        "57P02",
        "57P03",
        "57P05",
        "08000",
        "08006",
        "53100",
        "53300",
        "40001",
        "40P01",
        "57014",
    ],
)
async def test_what_the_server_says_when_it_is_not_there_is_503(database: Database, state: str) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'as it says' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(UnavailableError):
        async with database.transaction() as connection:
            await connection.execute(raising)


@pytest.mark.parametrize("state", ["23505", "22P02", "42P01", "P0001"])
async def test_what_a_statement_does_wrong_is_not(database: Database, state: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        async with database.transaction() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'wrong' USING ERRCODE = '{state}'; END $$")
    assert raised.value.sqlstate == state


async def test_a_server_that_has_become_read_only_is_left(api: httpx.AsyncClient) -> None:
    database = api.container.database  # type: ignore[attr-defined]
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    answer = await api.post("/threads", json={})
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "1"
    assert (await api.post("/threads", json={})).status_code == 200, "over a new connection"


async def test_a_checkpoint_on_a_read_only_server_is_no_fault_of_the_graph(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")
    lease = Lease(run_id=new_id(), token=new_id(), epoch=1)
    saver = FencedSaver(await database.pool(), lease)
    configurable = {"thread_id": str(new_id()), "checkpoint_ns": "", "checkpoint_id": str(new_id())}
    await saver.aput_writes({"configurable": configurable}, [("a", 1)], "task")
    with pytest.raises(UnavailableError):
        await saver.unsaved.flush()
    saver.unsaved.close()


async def test_what_is_written_after_cancelled_transactions_is_committed(settings: Settings) -> None:
    """Runs whose leases are lost are cancelled by the dozen, wherever they are; others get their connections."""
    database, chance, thread_ids = Database(settings.replace(pool_max_size=4)), random.Random(7), []

    async def transact() -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")
            await asyncio.sleep(chance.random() * 0.002)
            await connection.execute("SELECT 1")

    async def write() -> None:
        async with database.connection() as connection:
            thread_ids.append(new_id())
            await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_ids[-1],))

    try:
        for _ in range(60):
            cancelled = [asyncio.create_task(transact()) for _ in range(12)]
            await asyncio.sleep(chance.random() * 0.006)
            for _ in range(2):  # the second one while it is rolled back
                for task in cancelled:
                    task.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(*cancelled, return_exceptions=True)
            async with asyncio.timeout(20):
                await asyncio.gather(*(write() for _ in range(4)))
        with psycopg.connect(settings.database_uri) as other:
            found = other.execute("SELECT count(*) FROM lgs.thread WHERE thread_id = ANY(%s)", (thread_ids,)).fetchone()
            assert found == (len(thread_ids),)
            other.execute("DELETE FROM lgs.thread WHERE thread_id = ANY(%s)", (thread_ids,))
    finally:
        await database.aclose()


async def test_a_connection_in_pipeline_mode_is_given_to_nobody(database: Database, settings: Settings) -> None:
    """What it writes is committed when somebody synchronizes the pipeline, and nobody will."""
    async with database.connection() as connection:
        await connection.pipeline().__aenter__()
    thread_id = new_id()
    async with database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
        with psycopg.connect(settings.database_uri) as other:
            gone = other.execute("DELETE FROM lgs.thread WHERE thread_id = %s RETURNING 1", (thread_id,)).fetchone()
    assert gone == (1,)
