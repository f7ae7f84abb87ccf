"""The store of a project with an index and times to live: the dev command, the official SDK, and graphs beside it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from dev_server import ROOT, DevServer
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import InternalServerError

pytestmark = pytest.mark.timeout(120)

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "memory" / "langgraph.json"


@pytest.fixture(scope="module")
def server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    uri = databases.create(migrated=False)
    environ = {"DATABASE_URI": uri, "REDIS_URI": redis_uri, "REDIS_KEY_PREFIX": f"memory-{uuid.uuid4().hex[:8]}"}
    server = DevServer(PROJECT, tmp_path_factory.mktemp("memory") / "data", environ)
    try:
        yield server.start()
    finally:
        server.close()
        databases.drop(uri)


@pytest.fixture
async def client(server: DevServer) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


@pytest.fixture
def namespace() -> list[str]:
    return [f"u{uuid.uuid4().hex[:12]}"]


def scores(found: Any) -> list[tuple[str, float | None]]:
    return [(item["key"], item["score"] and round(item["score"], 5)) for item in found["items"]]


async def test_the_sdk_finds_what_is_nearest(client: LangGraphClient, namespace: list[str]) -> None:
    store = client.store
    await store.put_item(namespace, "red", {"text": "red apple", "n": 1})
    await store.put_item(namespace, "green", {"text": "green apple", "n": 2})
    await store.put_item([*namespace, "deep"], "notes", {"notes": ["a dog", "blue sky"], "n": 3})
    await store.put_item(namespace, "hidden", {"text": "red apple", "n": 4}, index=False)
    await store.put_item(namespace, "other", {"text": "red apple", "title": "blue car"}, index=["title"])
    found = scores(await store.search_items(namespace, query="red apple"))
    assert found[0] == ("red", 1.0)
    assert found[-1] == ("hidden", None)
    assert [score for _, score in found[:-1]] == sorted((score for _, score in found[:-1] if score), reverse=True)
    assert scores(await store.search_items(namespace, query="blue sky", limit=1)) == [("notes", 1.0)]
    assert scores(await store.search_items(namespace, query="blue car", limit=1)) == [("other", 1.0)]
    assert [key for key, _ in found[1:3]] == [
        key for key, _ in scores(await store.search_items(namespace, query="red apple", limit=2, offset=1))
    ]
    assert scores(await store.search_items(namespace, query="red apple", filter={"n": {"$gt": 3}})) == [
        ("hidden", None)
    ]
    assert scores(await store.search_items([*namespace, "deep"], query="a dog")) == [("notes", 1.0)]
    await store.delete_item(namespace, "red")
    assert "red" not in dict(scores(await store.search_items(namespace, query="red apple")))
    listed = await store.list_namespaces(prefix=namespace, suffix=["deep"], max_depth=5, limit=10, offset=0)
    assert listed == {"namespaces": [[*namespace, "deep"]]}


@pytest.mark.parametrize("graph", ["remember", "remember_sync"])
async def test_graphs_and_clients_see_the_same_items_and_scores(
    client: LangGraphClient, namespace: list[str], graph: str
) -> None:
    await client.store.put_item(namespace, "client", {"text": "a letter from a client", "n": 9})
    await client.store.put_item(namespace, "hidden", {"text": "a letter", "n": 10}, index=False)
    words = {"graph": {"text": "a letter from a graph", "n": 11}}
    output: Any = await client.runs.wait(
        None, graph, input={"namespace": namespace, "put": words, "query": "a letter from a graph"}
    )
    items = (await client.store.search_items(namespace, query="a letter from a graph"))["items"]
    assert output["found"] == [[item["key"], item["value"], item["score"]] for item in items]
    assert output["found"][0][0::2] == ["graph", pytest.approx(1.0)]
    assert output["found"][-1][0::2] == ["hidden", None]
    asked = {"n": {"$gte": 10}}  # as text, "9" would be more
    output = await client.runs.wait(None, graph, input={"namespace": namespace, "filter": asked})
    items = (await client.store.search_items(namespace, filter=asked))["items"]
    assert output["found"] == [[item["key"], item["value"], None] for item in items]
    assert {key for key, _, _ in output["found"]} == {"graph", "hidden"}


async def test_an_embedding_that_fails_writes_nothing(client: LangGraphClient, namespace: list[str]) -> None:
    await client.store.put_item(namespace, "k", {"text": "before"})
    with pytest.raises(InternalServerError) as refused:
        await client.store.put_item(namespace, "k", {"text": "now the embedding fails"})
    assert refused.value.response.status_code == 502
    assert refused.value.response.json() == {
        "detail": "The embedding 'words.embedding:embed' of the store's index failed: RuntimeError"
    }
    with pytest.raises(InternalServerError):
        await client.store.search_items(namespace, query="the embedding fails")
    output: Any = await client.runs.wait(
        None, "remember", input={"namespace": namespace, "put": {"k": {"text": "embedding fails"}}}, raise_error=False
    )
    assert output["__error__"]["error"] == "EmbeddingError"
    assert (await client.store.get_item(namespace, "k"))["value"] == {"text": "before"}
    assert scores(await client.store.search_items(namespace, query="before")) == [("k", 1.0)]


async def test_times_to_live_are_those_of_the_project(
    client: LangGraphClient, namespace: list[str], server: DevServer
) -> None:
    words = {"namespace": namespace, "put": {"graph": {"text": "by a graph"}}}
    await client.runs.wait(None, "remember", input=words)
    await client.store.put_item(namespace, "client", {"text": "by a client"})
    await client.store.put_item(namespace, "own", {"text": "for long"}, ttl=600)
    async with await psycopg.AsyncConnection.connect(server.environ["DATABASE_URI"], autocommit=True) as connection:

        async def left() -> dict[str, int]:
            cursor = await connection.execute(
                "SELECT key, round(EXTRACT(EPOCH FROM expires_at - now()) / 60) FROM store WHERE prefix = %s", namespace
            )
            return {key: int(minutes) for key, minutes in await cursor.fetchall()}

        assert await left() == {"graph": 60, "client": 60, "own": 600}
        soon = "UPDATE store SET expires_at = now() + interval '5 min' WHERE prefix = %s"
        await connection.execute(soon, namespace)
        await client.store.get_item(namespace, "own")
        await client.store.search_items(namespace, query="by a client")
        await client.runs.wait(None, "remember", input={"namespace": namespace, "query": "by a graph"})
        assert await left() == dict.fromkeys(("graph", "client", "own"), 5)
        await client.store.get_item(namespace, "own", refresh_ttl=True)
        assert await left() == {"graph": 5, "client": 5, "own": 600}
        await client.store.search_items(namespace, query="by a client", limit=1, refresh_ttl=True)
        assert await left() == {"graph": 5, "client": 60, "own": 600}
        await connection.execute("UPDATE store SET expires_at = now() WHERE prefix = %s AND key = 'client'", namespace)
    assert await client.store.get_item(namespace, "client") is None
    assert "client" not in dict(scores(await client.store.search_items(namespace, query="by a client")))
    output: Any = await client.runs.wait(None, "remember", input={"namespace": namespace, "query": "by a client"})
    assert {key for key, _, _ in output["found"]} == {"graph", "own"}
