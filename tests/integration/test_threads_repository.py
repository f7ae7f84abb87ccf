"""Threads in Postgres: what concurrent requests and workers may not break."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import ConflictError, NotFoundError
from langgraph_serverless.persistence.threads import ThreadRepository
from langgraph_serverless.settings import Settings


class RecordingBell:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.cancelled: list[uuid.UUID] = []

    async def ring(self, count: int = 1) -> None: ...

    async def cancel(self, run_ids: Sequence[uuid.UUID]) -> None:
        self.cancelled += run_ids


@pytest.fixture
async def container(settings: Settings, clean_database: None) -> AsyncIterator[ApiContainer]:
    container = ApiContainer(settings, manifest=Manifest.of({}))
    container.__dict__["bell"] = RecordingBell()
    yield container
    await container.aclose()


@pytest.fixture
async def database(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        yield connection


async def start_run(database: psycopg.AsyncConnection[Any], thread_id: uuid.UUID) -> Lease:
    """A run that a worker executes."""
    lease = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)
    await database.execute(
        "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, attempt, lease_token,"
        " lease_expires_at, started_at, lease_history) VALUES (%s, %s, gen_random_uuid(), 'chat', '{}', 'running', 1,"
        " %s, now() + interval '1 minute', now(), jsonb_build_array(jsonb_build_object('token', %s::text)))",
        (lease.run_id, thread_id, lease.token, str(lease.token)),
    )
    await database.execute("UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s", (thread_id,))
    return lease


async def test_a_repository_commits_nothing(container: ApiContainer) -> None:
    repository = ThreadRepository()
    thread_id = uuid.uuid4()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with container.database.transaction() as connection:
            made = await repository.insert(connection, thread_id, tenant="", metadata={"a": 1}, ttl=None)
            assert made == await repository.get(connection, thread_id)
            raise ZeroDivisionError
    async with container.database.connection() as connection:
        assert await repository.get(connection, thread_id) is None


async def test_concurrent_creations_make_one(container: ApiContainer) -> None:
    thread_id = uuid.uuid4()
    kept = await asyncio.gather(
        *(
            container.threads.create(ANONYMOUS, thread_id=thread_id, metadata={"n": n}, return_existing=True)
            for n in range(8)
        )
    )
    assert len({made.metadata["n"] for made in kept}) == 1
    tried = await asyncio.gather(
        *(container.threads.create(ANONYMOUS, thread_id=uuid.UUID(int=9)) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, ConflictError) for result in tried) == 7


async def test_deleting_a_busy_thread_tells_its_worker(
    container: ApiContainer, database: psycopg.AsyncConnection[Any]
) -> None:
    thread = await container.threads.create(ANONYMOUS)
    lease = await start_run(database, thread.thread_id)
    await container.threads.delete(ANONYMOUS, thread.thread_id)
    assert container.bell.cancelled == [lease.run_id]  # type: ignore[attr-defined]
    cursor = await database.execute("UPDATE lgs.run SET status = 'success' WHERE lease_token = %s", (lease.token,))
    assert cursor.rowcount == 0


async def test_a_checkpoint_that_is_being_saved_is_deleted_too(
    container: ApiContainer, database: psycopg.AsyncConnection[Any], database_uri: str
) -> None:
    """The worker's fence locks the run row; deleting must wait for it and then see its checkpoint."""
    thread = await container.threads.create(ANONYMOUS)
    lease = await start_run(database, thread.thread_id)
    name = str(thread.thread_id)
    async with await psycopg.AsyncConnection.connect(database_uri) as worker:
        await worker.execute("SELECT 1 FROM lgs.run WHERE run_id = %s FOR SHARE", (lease.run_id,))
        deletion = asyncio.create_task(container.threads.delete(ANONYMOUS, thread.thread_id))
        await _until_somebody_waits(database)
        await worker.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, lease_token) VALUES (%s, 'c', '{}', %s)",
            (name, lease.token),
        )
        await worker.commit()
    await deletion
    assert await (await database.execute("SELECT 1 FROM checkpoints WHERE thread_id = %s", (name,))).fetchall() == []


async def _until_somebody_waits(database: psycopg.AsyncConnection[Any]) -> None:
    async with asyncio.timeout(10):
        while True:
            query = "SELECT 1 FROM pg_locks WHERE NOT granted"
            if await (await database.execute(query)).fetchone():
                return


async def test_prunes_of_the_same_threads_do_not_deadlock(
    container: ApiContainer, database: psycopg.AsyncConnection[Any]
) -> None:
    cursor = await database.execute(
        "INSERT INTO lgs.thread (thread_id) SELECT gen_random_uuid() FROM generate_series(1, 2000) RETURNING thread_id"
    )
    made = [row[0] for row in await cursor.fetchall()]
    # all of them at the same moment, not one by one as the pool grows
    pool = await container.database.pool()
    await pool.resize(8, 10)
    await pool.wait()
    counts = await asyncio.gather(*(container.threads.prune(ANONYMOUS, made[:: (-1) ** n]) for n in range(8)))
    assert sum(counts) == 2000


async def test_a_copy_of_a_thread_that_disappears_is_whole_or_not_there(
    container: ApiContainer, database: psycopg.AsyncConnection[Any]
) -> None:
    for _ in range(5):
        thread = await container.threads.create(ANONYMOUS)
        await database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)"
            " SELECT %s, n::text, '{}' FROM generate_series(1, 50) n",
            (str(thread.thread_id),),
        )
        copied, deleted = await asyncio.gather(
            container.threads.copy(ANONYMOUS, thread.thread_id),
            container.threads.delete(ANONYMOUS, thread.thread_id),
            return_exceptions=True,
        )
        assert deleted is None
        if isinstance(copied, BaseException):
            assert isinstance(copied, ConflictError)
        else:
            storage = await container.threads.storage(ANONYMOUS, copied.thread_id)
            assert storage["checkpoints"]["count"] == 50
        with pytest.raises(NotFoundError):
            await container.threads.get(ANONYMOUS, thread.thread_id)
