"""Graphs (through `AsyncPostgresStore`) and clients (through our service) see the same items, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from langgraph.store.postgres.aio import AsyncPostgresStore

from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.store import StoreSettings, StoreTtl
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

VALUE = {"text": "red apple", "n": 1.5, "deep": {"a": [None, True, "✓"]}}


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    yield database
    await database.aclose()


@pytest.fixture
def clients(database: Database) -> StoreService:
    return StoreService(database)


@pytest.fixture
async def graphs(database_uri: str) -> AsyncIterator[AsyncPostgresStore]:
    async with AsyncPostgresStore.from_conn_string(database_uri) as store:
        yield store


async def test_what_a_client_put_a_graph_finds(clients: StoreService, graphs: AsyncPostgresStore) -> None:
    await clients.put(ANONYMOUS, namespace=["users", "u_1"], key="k", value=VALUE)
    item = await graphs.aget(("users", "u_1"), "k")
    assert item is not None
    assert (item.namespace, item.key, item.value) == (("users", "u_1"), "k", VALUE)
    assert [found.key for found in await graphs.asearch(("users",), filter={"n": 1.5})] == ["k"]
    assert await graphs.alist_namespaces() == [("users", "u_1")]
    await graphs.adelete(("users", "u_1"), "k")
    assert await clients.get(ANONYMOUS, namespace=["users", "u_1"], key="k") is None


async def test_what_a_graph_put_a_client_finds(clients: StoreService, graphs: AsyncPostgresStore) -> None:
    await graphs.aput(("users", "u%1"), "k", VALUE)
    item = await clients.get(ANONYMOUS, namespace=["users", "u%1"], key="k")
    theirs = await graphs.aget(("users", "u%1"), "k")
    assert item is not None
    assert theirs is not None
    assert (item.namespace, item.key, item.value) == (["users", "u%1"], "k", VALUE)
    assert (item.created_at, item.updated_at) == (theirs.created_at, theirs.updated_at)
    assert [found.key for found in await clients.search(ANONYMOUS, namespace=["users"])] == ["k"]
    assert await clients.list_namespaces(ANONYMOUS) == [["users", "u%1"]]
    await clients.delete(ANONYMOUS, namespace=["users", "u%1"], key="k")
    assert await graphs.aget(("users", "u%1"), "k") is None


async def test_both_mean_the_same_by_a_time_to_live(
    clients: StoreService, graphs: AsyncPostgresStore, database: Database
) -> None:
    await graphs.aput(("t",), "graph", {}, ttl=5)
    await clients.put(ANONYMOUS, namespace=["t"], key="client", value={}, ttl=5)
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT count(*) AS count, max(expires_at) - min(expires_at) < interval '10 s' AS close FROM store"
            " WHERE ttl_minutes = 5 AND expires_at > now() + interval '4 min'"
        )
        assert await cursor.fetchone() == {"count": 2, "close": True}


async def _expiry(database: Database, minutes: float) -> float:
    """Set the only item to expire in this many minutes; or (0) say when it does."""
    async with database.connection() as connection:
        if minutes:
            await connection.execute("UPDATE store SET expires_at = now() + %s * interval '1 min'", (minutes,))
        cursor = await connection.execute(
            "SELECT EXTRACT(EPOCH FROM expires_at - now())::float8 / 60 AS left FROM store"
        )
        row = await cursor.fetchone()
        assert row is not None
        left: float = row["left"]
        return left


async def test_reading_starts_the_time_anew_unless_told_not_to(clients: StoreService, database: Database) -> None:
    at = {"namespace": ["t"], "key": "k"}
    await clients.put(ANONYMOUS, **at, value={}, ttl=60)  # type: ignore[arg-type]
    await _expiry(database, 10)
    await clients.get(ANONYMOUS, **at, refresh_ttl=False)  # type: ignore[arg-type]
    await clients.search(ANONYMOUS, namespace=["t"], refresh_ttl=False)
    assert await _expiry(database, 0) == pytest.approx(10, abs=0.5)
    await clients.get(ANONYMOUS, **at)  # type: ignore[arg-type]
    assert await _expiry(database, 0) == pytest.approx(60, abs=0.5)
    await _expiry(database, 10)
    await clients.search(ANONYMOUS, namespace=["t"])
    assert await _expiry(database, 0) == pytest.approx(60, abs=0.5)


async def test_reading_never_shortens_a_time(clients: StoreService, database: Database) -> None:
    """Also one of less than half a minute, which a column of whole minutes would store as none."""
    await clients.put(ANONYMOUS, namespace=["t"], key="k", value={}, ttl=1 / 3)
    assert await clients.get(ANONYMOUS, namespace=["t"], key="k") is not None
    assert await clients.get(ANONYMOUS, namespace=["t"], key="k") is not None
    assert await _expiry(database, 0) == pytest.approx(1 / 3, abs=0.1)


async def test_a_default_time_to_live_is_for_items_without_one(database: Database) -> None:
    clients = StoreService(database, StoreSettings(ttl=StoreTtl(default_ttl=7, refresh_on_read=False)))
    await clients.put(ANONYMOUS, namespace=["t"], key="k", value={})
    assert await _expiry(database, 0) == pytest.approx(7, abs=0.5)
    await clients.put(ANONYMOUS, namespace=["t"], key="k", value={}, ttl=3)
    await clients.get(ANONYMOUS, namespace=["t"], key="k")
    assert await _expiry(database, 0) == pytest.approx(3, abs=0.5)
