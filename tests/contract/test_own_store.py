"""A store of the project's own (``store.path``): graphs and clients share it, and the built-in one stays empty."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from worker_container import working

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.own_store import OwnStore
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "own_store"


@pytest.fixture(scope="module")
async def site(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, StateContainer, WorkerContainer]]:
    registry = GraphRegistry.load(read_project(PROJECT / "langgraph.json"))
    manifest = await build_manifest(registry)
    own = settings.replace(redis_key_prefix="test-own-store", poll_interval=0.3)
    state = StateContainer(own, registry=registry, manifest=manifest)
    worker = WorkerContainer(own, registry=registry, manifest=manifest)
    await worker.assistants.ensure_defaults()
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60) as http:
        yield http, state, worker
    await worker.aclose()
    await state.aclose()


async def test_graphs_and_clients_share_it(site: Any) -> None:
    http, state, worker = site
    sdk = LangGraphClient(http)
    await sdk.store.put_item(["words"], "hello", {"said": "hello"})
    run = await sdk.runs.create(None, "remember", input={"word": "world"})
    async with working(worker), asyncio.timeout(60):
        await sdk.runs.join(run["thread_id"], run["run_id"])
    found = await sdk.store.search_items(["words"], filter={"said": "world"})
    assert [(item["key"], item["value"]) for item in found["items"]] == [("world", {"said": "world"})]
    item = await sdk.store.get_item(["words"], "hello")
    assert (item["value"], item["namespace"]) == ({"said": "hello"}, ["words"])
    assert (await sdk.store.list_namespaces(prefix=["words"]))["namespaces"] == [["words"]]
    await sdk.store.delete_item(["words"], "hello")
    assert (await http.get("/store/items", params={"namespace": "words", "key": "hello"})).json() is None
    async with state.database.connection() as connection:
        row = await (await connection.execute("SELECT count(*) AS n FROM store WHERE prefix = 'words'")).fetchone()
    assert row["n"] == 0


@pytest.mark.parametrize(
    ("item", "status", "detail"),
    [
        ({"key": "explode"}, 502, "The project's store failed: RuntimeError"),
        ({"key": "refuse"}, 400, "not that key"),
        ({"key": "a", "ttl": 5}, 422, "'ttl': the project's store has no times to live"),
        ({"key": "a", "namespace": []}, 400, "Namespace cannot be empty."),
    ],
)
async def test_what_it_cannot_do(site: Any, item: dict[str, Any], status: int, detail: str) -> None:
    http, _, _ = site
    answer = await http.put("/store/items", json={"namespace": ["a"], "value": {}, **item})
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


async def test_a_process_without_the_project_asks_one_that_has_it(site: Any, settings: Settings) -> None:
    _, state, _ = site
    container = ApiContainer(settings, manifest=state.catalog.manifest)
    transport = httpx.ASGITransport(create_app(container, ["store"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        for method, path, body in [
            ("PUT", "/store/items", {"namespace": ["a"], "key": "b", "value": {}}),
            ("GET", "/store/items?namespace=a&key=b", None),
            ("DELETE", "/store/items", {"namespace": ["a"], "key": "b"}),
            ("POST", "/store/items/search", {}),
            ("POST", "/store/namespaces", {}),
        ]:
            answer = await http.request(method, path, json=body)
            # there is no state function here
            assert (answer.status_code, answer.json()) == (
                422,
                {"detail": "This server cannot open the project's own store"},
            ), path
    await container.aclose()


def project(folder: Path, name: str, **more: Any) -> Path:
    for file in ("graphs.py", "store.py"):
        shutil.copy(PROJECT / file, folder)
    config = folder / "langgraph.json"
    store = {"path": f"./store.py:{name}", **more}
    config.write_text(json.dumps({"graphs": {"remember": "./graphs.py:remember"}, "store": store}))
    return config


@pytest.mark.parametrize("name", ["make_store", "in_a_block", "awaited", "at_once", "SHARED"])
async def test_every_form_of_it(tmp_path: Path, name: str) -> None:
    registry = GraphRegistry.load(read_project(project(tmp_path, name)))
    own = OwnStore.of(registry.project)
    assert own is not None
    store, again = await asyncio.gather(own.get(), own.get())
    assert store is again
    module = importlib.import_module(type(store).__module__)
    assert store is module.SHARED
    await own.aclose()
    assert (["opened", "left"] if name == "make_store" else []) == module.EVENTS
    del sys.modules[module.__name__]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "has no 'missing'"),
        ("NUMBER", "is of type int, and neither a store nor makes one"),
        ("wants", "the factory's parameter 'what' cannot be filled"),
        ("something_else", "what was made is of type str, not a BaseStore"),
        ("fails", "the store cannot be opened: RuntimeError: nobody is there"),
    ],
)
async def test_what_is_none_is_a_sentence(tmp_path: Path, name: str, says: str) -> None:
    async def open_it() -> None:
        registry = GraphRegistry.load(read_project(project(tmp_path, name)))
        own = OwnStore.of(registry.project)
        assert own is not None
        await own.get()

    with pytest.raises(ProjectError, match=says) as refused:
        await open_it()
    assert "store.path" in str(refused.value)


@pytest.mark.parametrize("section", [{"index": {"dims": 2, "embed": "./store.py:at_once"}}, {"ttl": {}}])
def test_it_needs_nothing_else_of_the_section(tmp_path: Path, section: dict[str, Any]) -> None:
    with pytest.raises(ProjectError, match="a store of your own has its own; remove one"):
        read_project(project(tmp_path, "make_store", **section))


@pytest.mark.parametrize(
    ("changed", "lacks"),
    [({"tenant_from": "org"}, "keeps no tenants apart"), ({"aes_key": b"k" * 32}, "is not encrypted")],
)
async def test_what_is_protected_elsewhere_is_not_kept_in_it(
    tmp_path: Path, settings: Settings, changed: dict[str, Any], lacks: str
) -> None:
    registry = GraphRegistry.load(read_project(project(tmp_path, "at_once")))
    container = StateContainer(settings.replace(**changed), registry=registry)
    with pytest.raises(ProjectError, match=lacks):
        _ = container.own_store
    await container.aclose()
