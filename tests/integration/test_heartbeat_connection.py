"""The heartbeat's connection does not wait for ever: a lease that cannot be extended must be known to be lost in time."""

from __future__ import annotations

import asyncio
import time
import uuid

import psycopg
import pytest

from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queue import HeartbeatConnection
from langgraph_serverless.settings import Settings


async def test_a_lock_on_a_run_does_not_hold_up_the_heartbeat(settings: Settings) -> None:
    database = Database(settings)
    thread_id, lease = new_id(), Lease(run_id=new_id(), token=uuid.uuid4(), epoch=1)
    beats = HeartbeatConnection(settings.database_uri, timeout=0.5)
    try:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO lgs.thread (thread_id, status) VALUES (%s, 'busy')", (thread_id,))
            await connection.execute(
                "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, lease_token,"
                " lease_expires_at, attempt) VALUES (%s, %s, %s, 'g', '{}', 'running', %s, now() + interval '1 h', 1)",
                (lease.run_id, thread_id, new_id(), lease.token),
            )
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {lease.run_id: None}
        async with database.transaction() as connection:
            # as a function that was killed in the middle of a cancel, and whose connection nobody has closed
            await connection.execute("SELECT 1 FROM lgs.run WHERE run_id = %s FOR UPDATE", (lease.run_id,))
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                async with asyncio.timeout(10):
                    await asyncio.to_thread(beats.beat, [lease], 30)
            assert time.monotonic() - began < 5
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {lease.run_id: None}
    finally:
        beats.close()
        async with database.connection() as connection:
            await connection.execute("DELETE FROM lgs.thread WHERE thread_id = %s", (thread_id,))
        await database.aclose()
