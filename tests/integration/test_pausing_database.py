"""A database that pauses when nobody is connected (Aurora at 0 ACU) may do so although functions stand still with a connection.

infra/data.yaml has such a database close sessions that are idle (``idle_session_timeout``); nobody's request fails for that.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queue import HeartbeatConnection
from langgraph_serverless.settings import Settings

PATIENCE = 30.0


@pytest.fixture
def impatient(databases: Any) -> Iterator[str]:
    """A database that closes idle sessions soon."""
    uri = databases.create()
    name = conninfo_to_dict(uri)["dbname"]
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET idle_session_timeout = '300ms'").format(sql.Identifier(str(name)))
        )
    yield uri
    databases.drop(uri)


async def until_nobody_is_connected(server: str, uri: str) -> None:
    deadline = time.monotonic() + PATIENCE
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        while (await (await connection.execute(query, (conninfo_to_dict(uri)["dbname"],))).fetchone()) != (0,):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_function_that_stands_still_keeps_no_database_awake_and_no_request_fails(
    impatient: str, postgres_uri: str
) -> None:
    database = Database(Settings(database_uri=impatient, pool_min_size=0, pool_max_size=2))
    beats = HeartbeatConnection(impatient, timeout=5)
    lease = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)
    try:
        for _ in range(2):
            async with database.connection(), database.connection():
                pass
            await until_nobody_is_connected(postgres_uri, impatient)
            await database.ping()
            async with database.transaction() as connection:
                await connection.execute("SELECT 1")
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {}
        await until_nobody_is_connected(postgres_uri, impatient)
        # one beat fails, which is asked again a second later; a worker that beats every ten seconds does not get there
        with pytest.raises(psycopg.OperationalError):
            await asyncio.to_thread(beats.beat, [lease], 30)
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {}
    finally:
        beats.close()
        await database.aclose()
