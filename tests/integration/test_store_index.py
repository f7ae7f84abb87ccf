"""Vectors beside items: written with them or not at all, gone with them, the same for graphs and clients."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph.store.base import EmbeddingsFunc, GetOp, PutOp, SearchOp, ensure_embeddings
from langgraph.store.postgres.aio import AsyncPostgresStore

from langgraph_serverless.cli.migrate import migrate as migrate_command
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.migrate import migrate_and_seed
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.store import StoreIndex, StoreSettings, StoreTtl
from langgraph_serverless.errors import EmbeddingError, StartupError, UnavailableError
from langgraph_serverless.execution.embeddings import ProjectEmbedder
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence.graph_store import GraphStore
from langgraph_serverless.persistence.migrate import migrate
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.store import StoreRepository
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "memory" / "langgraph.json"
INDEX = StoreIndex(dims=8, embed="./toy.py:embed", fields=("text",))
SETTINGS = StoreSettings(index=INDEX)
AT: dict[str, Any] = {"namespace": ["a"], "key": "k"}


def toy(texts: Sequence[str]) -> list[list[float]]:
    if any("fails" in text for text in texts):
        raise RuntimeError("the provider is down")
    return [[float(sum(ord(letter) % 8 == kind for letter in text)) for kind in range(8)] for text in texts]


def embedder(function: EmbeddingsFunc = toy) -> ProjectEmbedder:
    return ProjectEmbedder(INDEX, ensure_embeddings(function))


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    yield database
    await database.aclose()


@pytest.fixture
def clients(database: Database) -> StoreService:
    return StoreService(database, SETTINGS, embedder())


@pytest.fixture
async def graphs(database: Database) -> AsyncIterator[GraphStore]:
    store = GraphStore(database, await database.pool(), StoreTtl(), embedder())
    yield store
    assert store._task is not None
    store._task.cancel()
    await asyncio.wait([store._task])


async def rows(database: Database, statement: Any) -> list[Any]:
    async with database.connection() as connection:
        return [tuple(row.values()) for row in await (await connection.execute(statement)).fetchall()]


async def vectors(database: Database) -> list[Any]:
    return await rows(database, "SELECT prefix, key, field_name FROM store_vectors ORDER BY 1, 2, 3")


async def scores(clients: StoreService, query: str, **more: Any) -> list[tuple[str, float | None]]:
    found = await clients.search(ANONYMOUS, namespace=["a"], query=query, **more)
    return [(item.key, item.score and round(item.score, 5)) for item in found]


@pytest.mark.parametrize("way", ["client", "graph", "langgraph"])
async def test_vectors_go_with_what_they_were_made_of(
    clients: StoreService, graphs: GraphStore, database: Database, database_uri: str, way: str
) -> None:
    stock = AsyncPostgresStore.from_conn_string(
        database_uri, index={"dims": 8, "embed": toy, "fields": list(INDEX.fields)}
    )
    async with stock as langgraph:

        async def put(value: dict[str, Any], index: Any = None) -> None:
            if way == "client":
                await clients.put(ANONYMOUS, **AT, value=value, index=index)
            else:
                await (graphs if way == "graph" else langgraph).aput(("a",), "k", value, index=index)

        await put({"text": ["x", "y"], "note": "z"}, ["text[*]", "note"])
        assert await vectors(database) == [("a", "k", "note"), ("a", "k", "text[*].0"), ("a", "k", "text[*].1")]
        await put({"text": "x", "note": "z"}, ["text"])
        assert await vectors(database) == [("a", "k", "text")]
        await clients.get(ANONYMOUS, **AT)
        assert await vectors(database) == [("a", "k", "text")]
        await put({"text": "x"}, False)
        assert await vectors(database) == []
        await put({"text": "x"})
        assert await vectors(database) == [("a", "k", "text")]
        await langgraph.adelete(("a",), "k")
        assert await vectors(database) == []


async def test_langgraphs_own_store_reads_our_vectors(clients: StoreService, database_uri: str) -> None:
    for key in ("red apple", "green apple", "a dog"):
        await clients.put(ANONYMOUS, namespace=["a"], key=key, value={"text": key})
    async with AsyncPostgresStore.from_conn_string(database_uri, index={"dims": 8, "embed": toy}) as langgraph:
        theirs = await langgraph.asearch(("a",), query="green apple")
    assert [(item.key, item.score and round(item.score, 5)) for item in theirs] == await scores(clients, "green apple")


async def test_graphs_and_clients_get_the_same_pages(clients: StoreService, graphs: GraphStore) -> None:
    for number in range(12):
        index = False if number % 4 == 3 else None
        await graphs.aput(("a", f"b{number % 2}"), f"k{number}", {"text": "a" * number + "b", "n": number}, index=index)
    for more in (
        {"query": "aab"},
        {"query": "aab", "limit": 3, "offset": 2},
        {"query": "aab", "limit": 5, "offset": 8},
        {"query": "aab", "filter": {"n": {"$gte": 9}}},
        {"query": "", "limit": 4},
        {"limit": 100},
    ):
        mine = await graphs.asearch(("a",), **more)  # type: ignore[arg-type]
        theirs = await clients.search(ANONYMOUS, namespace=["a"], **more)  # type: ignore[arg-type]
        assert [(item.namespace, item.key, item.score) for item in mine] == [
            (tuple(item.namespace), item.key, item.score) for item in theirs
        ]
    assert [key for key, _ in await scores(clients, "aab", limit=100)][-3:] == ["k11", "k7", "k3"]
    assert None not in dict(await scores(clients, "aab", limit=9)).values()
    assert await scores(clients, "aab", limit=2, offset=9) == [("k11", None), ("k7", None)]


async def test_a_batch_is_done_as_a_whole_or_not_at_all(graphs: GraphStore, database: Database) -> None:
    await graphs.aput(("a",), "old", {"text": "old"})
    get, search = GetOp(("a",), "old"), SearchOp(("a",), query="old")
    puts = [PutOp(("a",), "new", {"text": "1"}), PutOp(("a",), "new", {"text": "new"}), PutOp(("a",), "old", None)]
    item, *written, found = await graphs.abatch([get, *puts, search])
    assert (item.key, [hit.key for hit in found], written) == ("old", ["old"], [None, None, None])  # type: ignore[union-attr]
    assert await rows(database, "SELECT key, value ->> 'text' FROM store") == [("new", "new")]
    with pytest.raises(EmbeddingError):
        await graphs.abatch([PutOp(("a",), "new", None), PutOp(("a",), "other", {"text": "this fails"})])
    assert await rows(database, "SELECT key FROM store") == [("new",)]
    assert await graphs.abatch([]) == []


async def test_what_one_run_gets_wrong_is_no_matter_of_another(graphs: GraphStore) -> None:
    wrong, put, right = await asyncio.gather(
        graphs.asearch(("a",), filter={"n": {"$bad": 1}}),
        graphs.aput(("a",), "k", {"text": "fails"}),
        graphs.aget(("a",), "k"),
        return_exceptions=True,
    )
    assert (type(wrong), str(wrong)) == (ValueError, "Unsupported operator: $bad")
    assert (type(put), right) == (EmbeddingError, None)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda texts: [[1.0] * 7 for _ in texts], "gave a vector of 7 numbers, and store.index.dims is 8"),
        (lambda _: [[1.0] * 8] * 2, "gave 2 vectors for 1 texts"),
        (lambda texts: [[1.0] * 7 + [float("nan")] for _ in texts], "gave a vector with numbers that are not finite"),
        (lambda texts: [[1e300] * 8 for _ in texts], "gave a vector with numbers that are not finite"),
        (lambda _: None, "gave something else than lists of numbers"),
        (lambda _: [["a"] * 8], "gave something else than lists of numbers"),
        (lambda _: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
async def test_an_embedding_that_goes_wrong_leaves_everything_as_it_was(
    clients: StoreService, database: Database, function: EmbeddingsFunc, what: str
) -> None:
    await clients.put(ANONYMOUS, **AT, value={"text": "before"})
    wrong = StoreService(database, SETTINGS, embedder(function))
    with pytest.raises(EmbeddingError) as refused:
        await wrong.put(ANONYMOUS, **AT, value={"text": "after"})
    assert str(refused.value) == f"The embedding './toy.py:embed' of the store's index {what}"
    assert await scores(clients, "before") == [("k", 1.0)]
    await wrong.put(ANONYMOUS, **AT, value={"text": "after"}, index=False)
    await wrong.put(ANONYMOUS, **AT, value={"no": "text"})
    assert await scores(clients, "before") == [("k", None)]


async def test_a_failure_between_item_and_vectors_undoes_the_item(clients: StoreService, database: Database) -> None:
    await clients.put(ANONYMOUS, **AT, value={"text": "before"})
    async with database.connection() as connection:
        await connection.execute(
            "ALTER TABLE store_vectors ADD CONSTRAINT no_more CHECK (field_name <> 'text') NOT VALID"
        )
    try:
        with pytest.raises(psycopg.errors.CheckViolation):
            await clients.put(ANONYMOUS, **AT, value={"text": "after"})
    finally:
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE store_vectors DROP CONSTRAINT no_more")
    assert await scores(clients, "before") == [("k", 1.0)]
    item = await clients.get(ANONYMOUS, **AT)
    assert item is not None
    assert item.value == {"text": "before"}


async def test_no_connection_is_held_while_something_is_embedded(settings: Settings) -> None:
    waits, go = asyncio.Event(), asyncio.Event()

    async def slow(texts: Sequence[str]) -> list[list[float]]:
        waits.set()
        await go.wait()
        return toy(texts)

    database = Database(settings.replace(pool_max_size=1, pool_timeout=5))
    clients = StoreService(database, SETTINGS, embedder(slow))  # type: ignore[arg-type]
    try:
        putting = asyncio.create_task(clients.put(ANONYMOUS, **AT, value={"text": "x"}))
        await waits.wait()
        assert await clients.get(ANONYMOUS, **AT) is None
        go.set()
        await putting
        assert await clients.get(ANONYMOUS, **AT) is not None
    finally:
        await database.aclose()


async def test_puts_of_one_item_at_once_leave_the_vectors_of_one(clients: StoreService, database: Database) -> None:
    values = [{"text": "x" * number, "n": number} for number in range(1, 9)]
    await asyncio.gather(
        *(
            clients.put(ANONYMOUS, **AT, value=value, index=[f"text{'' if value['n'] % 2 else '[*]'}", "n"])
            for value in values
        )
    )
    [(kept,)] = await rows(database, "SELECT value ->> 'n' FROM store")
    fields = [field for _, _, field in await vectors(database)]
    assert fields == (["n", "text"] if int(kept) % 2 else ["n"])


async def test_a_text_without_a_direction_is_like_nothing(clients: StoreService) -> None:
    await clients.put(ANONYMOUS, namespace=["a"], key="empty", value={"text": ""})
    await clients.put(ANONYMOUS, namespace=["a"], key="k", value={"text": "abc"})
    assert await scores(clients, "abc") == [("k", 1.0), ("empty", 0.0)]


async def test_sweeps_take_the_vectors_along_once_per_interval(clients: StoreService, database: Database) -> None:
    for key in ("gone", "just now", "later"):
        await clients.put(ANONYMOUS, namespace=["a"], key=key, value={"text": key}, ttl=60)
    items = StoreRepository()
    async with database.connection() as connection:
        interval = 60 * 24 * 365.0
        begun = "date_bin(make_interval(mins => 525600), now(), 'epoch')"
        await connection.execute(f"UPDATE store SET expires_at = {begun} - interval '1 s' WHERE key = 'gone'")  # type: ignore[arg-type]
        await connection.execute(f"UPDATE store SET expires_at = {begun} + interval '1 s' WHERE key = 'just now'")  # type: ignore[arg-type]
        assert [key for key, _ in await scores(clients, "later")] == ["later"]
        assert await items.sweep(connection, 100, interval=interval) == 1
        assert await items.sweep(connection, 100, interval=interval) == 0
        assert [key for _, key, _ in await vectors(database)] == ["just now", "later"]
        assert await items.sweep(connection, 100) == 1
        assert [key for _, key, _ in await vectors(database)] == ["later"]


@pytest.fixture
def other_database(databases: Any) -> Iterator[str]:
    uri = databases.create(migrated=False)
    yield uri
    databases.drop(uri)


async def test_the_length_of_vectors_is_fixed_by_the_first_start(other_database: str) -> None:
    await migrate(other_database)  # a project that gets an index later
    await migrate(other_database, dims=3072)
    await migrate(other_database, dims=3072)
    await migrate(other_database)
    with pytest.raises(StartupError) as refused:
        await migrate(other_database, dims=8)
    told = str(refused.value)
    assert "have 3072 dimensions, and store.index.dims of langgraph.json is 8" in told
    statement = told.partition("run '")[2].partition("'")[0]
    with psycopg.connect(other_database, autocommit=True) as connection:
        connection.execute("INSERT INTO store (prefix, key, value) VALUES ('a', 'k', '{}')")
        connection.execute(statement.encode())
        connection.execute("UPDATE store SET value = '{}'")
    await migrate(other_database, dims=8)


# -- a function without the project ----------------------------------------------------------------------------------


class StateFunction:
    """Stands in for the other function: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def call(self, event: Any) -> dict[str, Any]:
        self.asked.append(event)
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": '{"from": "state"}'}


@pytest.fixture
async def function(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, StateFunction]]:
    container = ApiContainer(settings, manifest=Manifest.of({}, store=SETTINGS))
    state = StateFunction()
    container.__dict__["state_function"] = state
    app = create_app(container, ["store"])

    async def behind_a_gateway(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"aws.event": {"path": scope["path"]}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(behind_a_gateway), base_url="http://function") as http:
        yield http, state
    container.__dict__.pop("state_function")
    await container.aclose()


async def test_a_function_without_the_project_hands_on_what_is_to_be_embedded(
    function: tuple[httpx.AsyncClient, StateFunction], database: Database
) -> None:
    http, state = function
    body = {"namespace": ["a"], "key": "k", "value": {"text": "x"}}
    assert (await http.put("/store/items", json=body)).json() == {"from": "state"}
    assert (await http.put("/store/items", json=body | {"index": ["text"]})).json() == {"from": "state"}
    assert (await http.post("/store/items/search", json={"query": "x"})).json() == {"from": "state"}
    assert [event["path"] for event in state.asked] == ["/store/items", "/store/items", "/store/items/search"]
    assert await rows(database, "SELECT * FROM store") == []
    assert (await http.put("/store/items", json=body | {"index": False})).status_code == 204
    assert (await http.post("/store/items/search", json={"query": ""})).json()["items"][0]["key"] == "k"
    assert (await http.get("/store/items", params={"namespace": "a", "key": "k"})).json()["value"] == {"text": "x"}
    assert len(state.asked) == 3


async def test_where_nobody_can_embed_the_field_is_refused(settings: Settings, database: Database) -> None:
    container = ApiContainer(settings, manifest=Manifest.of({}, store=SETTINGS))
    transport = httpx.ASGITransport(create_app(container, ["store"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://function") as http:
        refused = await http.put("/store/items", json={"namespace": ["a"], "key": "k", "value": {}})
        assert (refused.status_code, refused.json()["detail"][:7]) == (422, "'index'")
        refused = await http.post("/store/items/search", json={"query": "x"})
        assert (refused.status_code, refused.json()["detail"][:7]) == (422, "'query'")
    await container.aclose()
    with pytest.raises(UnavailableError):
        await StoreService(database, SETTINGS).put(ANONYMOUS, **AT, value={})


# -- who makes the table, and who sweeps -----------------------------------------------------------------------------


def has_vectors(uri: str) -> bool:
    with psycopg.connect(uri) as connection:
        row = connection.execute("SELECT to_regclass('store_vectors') IS NOT NULL").fetchone()
    assert row is not None
    found: bool = row[0]
    return found


def test_the_command_makes_the_table_of_the_project_it_is_told(
    other_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URI", other_database)
    monkeypatch.delenv("LANGGRAPH_CONFIG", raising=False)
    migrate_command()
    assert not has_vectors(other_database)
    monkeypatch.setenv("LANGGRAPH_CONFIG", str(PROJECT))
    migrate_command()
    assert has_vectors(other_database)


async def test_the_migration_function_makes_the_table_of_the_manifest(other_database: str, settings: Settings) -> None:
    of_project = settings.replace(database_uri=other_database)
    await migrate_and_seed(of_project, manifest=Manifest.of({}))
    assert not has_vectors(other_database)
    await migrate_and_seed(of_project, manifest=Manifest.of({}, store=SETTINGS))
    assert has_vectors(other_database)


async def test_the_scheduler_sweeps_as_often_as_the_project_says(
    clients: StoreService, database: Database, settings: Settings
) -> None:
    await clients.put(ANONYMOUS, **AT, value={"text": "x"}, ttl=0)
    for minutes, swept in ((60 * 24 * 365, 0), (None, 1)):
        ttl = StoreTtl(sweep_interval_minutes=minutes)
        scheduler = SchedulerContainer(settings, manifest=Manifest.of({}, store=StoreSettings(ttl=ttl)))
        assert (await scheduler.scheduler.tick()).items_swept == swept
        await scheduler.aclose()
    assert await vectors(database) == []


async def test_concurrent_batches_do_not_wait_for_each_other_in_a_circle(settings: Settings) -> None:
    database = Database(settings.replace(pool_max_size=8))
    store = GraphStore(database, await database.pool(), StoreTtl(default_ttl=60.0))
    chance = random.Random(3)

    async def batches(kind: str) -> None:
        for number in range(30):
            keys = chance.sample([f"k{n}" for n in range(30)], 15)
            if kind == "search":  # which starts their time anew, as the gets do
                await store.abatch([SearchOp(("a",), limit=40)])
            elif kind == "get":
                await store.abatch([GetOp(("a",), key) for key in keys])
            else:
                values: list[dict[str, int] | None] = [{"n": number}, None]
                await store.abatch([PutOp(("a",), key, values[place % 2]) for place, key in enumerate(keys)])

    await asyncio.gather(*map(batches, ["put", "put", "put", "search", "search", "get", "get"]))
    await database.aclose()
