"""Assistants, as ``contract/assistants.md`` says."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.services.assistants import AssistantService
from langgraph_serverless.services.catalog import GraphCatalog

if TYPE_CHECKING:
    from conftest import StandInWorker

pytestmark = pytest.mark.usefixtures("clean_database")

KEYS = {
    "assistant_id",
    "graph_id",
    "config",
    "context",
    "metadata",
    "name",
    "created_at",
    "updated_at",
    "version",
    "description",
}
CHAT = "eb6db400-e3c8-5d06-a834-015cb89efe69"


async def test_default_assistants_exist_under_the_known_ids(sdk: LangGraphClient) -> None:
    chat = await sdk.assistants.get(CHAT)
    assert set(chat) == KEYS
    assert (chat["graph_id"], chat["name"], chat["version"]) == ("chat", "chat", 1)
    assert chat["metadata"] == {"created_by": "system"}
    assert chat["config"] == chat["context"] == {}
    assert chat["description"] == "Talks"
    assert await sdk.assistants.count() == 3
    assert (await sdk.assistants.get_versions(CHAT))[0]["version"] == 1


async def test_defaults_are_made_once_and_come_back_only_at_the_next_start(
    sdk: LangGraphClient, container: Any
) -> None:
    before = await sdk.assistants.get(CHAT)
    await container.assistants.ensure_defaults()
    assert await sdk.assistants.get(CHAT) == before
    await sdk.assistants.delete(CHAT)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get(CHAT)
    with pytest.raises(NotFoundError, match="Thread or assistant not found"):
        await sdk.runs.create(None, "chat")
    with pytest.raises(NotFoundError, match="Assistant 'chat' not found"):
        await sdk.crons.create("chat", schedule="@daily")
    await container.assistants.ensure_defaults()
    assert (await sdk.assistants.get(CHAT))["version"] == 1


async def test_a_description_follows_langgraph_json_unless_somebody_has_changed_the_assistant(
    sdk: LangGraphClient, container: ApiContainer
) -> None:
    async def start(described: str | None) -> None:
        known = container.catalog.graphs["chat"]
        graphs = {**container.catalog.graphs, "chat": replace(known, description=described)}
        catalog = GraphCatalog(Manifest.of(graphs))
        await AssistantService(container.database, catalog, container.bell).ensure_defaults()

    await start("Talks more")
    assert (await sdk.assistants.get(CHAT))["description"] == "Talks more"
    versions = await sdk.assistants.get_versions(CHAT)
    assert [(item["version"], item["description"]) for item in versions] == [(1, "Talks more")]
    await start(None)
    assert (await sdk.assistants.get(CHAT))["description"] is None
    mine = await sdk.assistants.update(CHAT, description="Mine")
    await start("Talks least")
    assert await sdk.assistants.get(CHAT) == mine


async def test_an_assistant_whose_graph_has_gone_stays_and_says_so(
    sdk: LangGraphClient, http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any]
) -> None:
    """As after a graph was renamed in langgraph.json."""
    made = await sdk.assistants.create("chat", name="left")
    assistant_id = made["assistant_id"]
    await database.execute("UPDATE lgs.assistant SET graph_id = 'gone' WHERE assistant_id = %s", (assistant_id,))
    assert (await sdk.assistants.get(assistant_id))["graph_id"] == "gone"
    assert [item["graph_id"] for item in await sdk.assistants.search(name="left")] == ["gone"]
    for method, path, body in (
        ("GET", f"/assistants/{assistant_id}/graph", None),
        ("GET", f"/assistants/{assistant_id}/schemas", None),
        ("GET", f"/assistants/{assistant_id}/subgraphs", None),
        ("POST", "/runs", {"assistant_id": assistant_id}),
    ):
        response = await http.request(method, path, json=body)
        assert response.status_code == 404
        assert response.json()["detail"].startswith("Graph 'gone' not found. Expected one of: ['chat', ")
    assert (await sdk.assistants.update(assistant_id, graph_id="nested"))["graph_id"] == "nested"
    await sdk.assistants.get_graph(assistant_id)


async def test_create_fills_in_the_defaults(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat")
    assert set(made) == KEYS
    assert uuid.UUID(made["assistant_id"]).version == 4
    assert (made["name"], made["description"], made["version"]) == ("Untitled", None, 1)
    assert made["config"] == made["context"] == made["metadata"] == {}
    assert made["created_at"] == made["updated_at"]
    assert made["created_at"].endswith("+00:00")
    assert len(made["created_at"]) == len("2026-11-22T06:08:18.031850+00:00")
    assert await sdk.assistants.get(made["assistant_id"]) == made


async def test_create_mirrors_configurable_into_context(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create(
        "chat",
        config={"configurable": {"k": 1}, "tags": ["t"], "recursion_limit": 7},
        metadata={"m": 1},
        name="Bee",
        description="buzz",
    )
    assert made["config"] == {"configurable": {"k": 1}, "tags": ["t"], "recursion_limit": 7}
    assert made["context"] == {"k": 1}
    assert (made["metadata"], made["name"], made["description"]) == ({"m": 1}, "Bee", "buzz")


async def test_create_mirrors_context_into_configurable(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat", context={"k": 2})
    assert made["config"] == {"configurable": {"k": 2}}
    assert made["context"] == {"k": 2}


async def test_configurable_and_context_together_are_refused(http: httpx.AsyncClient) -> None:
    body = {"graph_id": "chat", "config": {"configurable": {"a": 1}}, "context": {"b": 1}}
    response = await http.post("/assistants", json=body)
    assert response.status_code == 400
    assert response.json()["detail"].startswith(
        "Cannot specify both configurable and context. Prefer setting context alone."
    )


async def test_an_existing_id_is_a_conflict_or_the_stored_assistant(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat", assistant_id=str(uuid.uuid4()), name="first")
    with pytest.raises(ConflictError) as raised:
        await sdk.assistants.create("chat", assistant_id=made["assistant_id"])
    assert raised.value.response.json() == {"detail": f"Assistant {made['assistant_id']} already exists"}
    again = await sdk.assistants.create(
        "nested", assistant_id=made["assistant_id"], name="second", if_exists="do_nothing"
    )
    assert again == made


async def test_an_unknown_graph_is_not_found(sdk: LangGraphClient) -> None:
    text = "Graph 'nope' not found. Expected one of: ['chat', 'nested', 'undrawable']"
    made = await sdk.assistants.create("chat")
    for call in (
        sdk.assistants.create("nope"),
        sdk.assistants.update(made["assistant_id"], graph_id="nope"),
        sdk.assistants.search(graph_id="nope"),
        sdk.assistants.count(graph_id="nope"),
    ):
        with pytest.raises(NotFoundError) as raised:
            await call
        assert raised.value.response.json() == {"detail": text}


async def test_every_patch_makes_a_version(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create(
        "chat", config={"configurable": {"k": 1}, "tags": ["t"]}, metadata={"a": {"x": 1}, "b": 1}, description="d"
    )
    patched = await sdk.assistants.update(made["assistant_id"], metadata={"a": {"y": 2}, "c": 3}, name="new")
    assert patched["version"] == 2
    assert patched["metadata"] == {"a": {"y": 2}, "b": 1, "c": 3}
    assert (patched["name"], patched["description"]) == ("new", "d")
    assert patched["config"] == made["config"]
    assert patched["updated_at"] > made["updated_at"]
    assert patched["created_at"] == made["created_at"]
    third = await sdk.assistants.update(made["assistant_id"])
    assert {**third, "updated_at": 0} == {**patched, "updated_at": 0, "version": 3}


async def test_patching_config_or_context_derives_the_other(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat", config={"configurable": {"k": 1}, "tags": ["t"], "recursion_limit": 9})
    patched = await sdk.assistants.update(made["assistant_id"], context={"q": 1})
    assert (patched["config"], patched["context"]) == ({"configurable": {"q": 1}}, {"q": 1})
    patched = await sdk.assistants.update(made["assistant_id"], config={"configurable": {"r": 2}})
    assert (patched["config"], patched["context"]) == ({"configurable": {"r": 2}}, {"r": 2})
    # without a configurable there is nothing to copy
    patched = await sdk.assistants.update(made["assistant_id"], config={"tags": ["u"]})
    assert (patched["config"], patched["context"]) == ({"tags": ["u"]}, {"r": 2})
    patched = await sdk.assistants.update(made["assistant_id"], config={})
    assert (patched["config"], patched["context"]) == ({"tags": ["u"]}, {"r": 2})
    patched = await sdk.assistants.update(made["assistant_id"], context={})
    assert (patched["config"], patched["context"]) == ({"tags": ["u"]}, {})
    patched = await sdk.assistants.update(made["assistant_id"], graph_id="nested")
    assert patched["graph_id"] == "nested"


@pytest.mark.parametrize("field", ["graph_id", "config", "context", "metadata", "name", "description"])
async def test_patch_takes_no_null(http: httpx.AsyncClient, field: str) -> None:
    response = await http.patch(f"/assistants/{CHAT}", json={field: None})
    assert response.status_code == 422
    assert f'On instance["{field}"]:\n    null' in response.json()["detail"]


async def test_versions_are_listed_newest_first(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    made = await sdk.assistants.create("chat", metadata={"n": 1}, name="one")
    await sdk.assistants.update(made["assistant_id"], metadata={"n": 2}, name="two")
    await sdk.assistants.update(made["assistant_id"], metadata={"n": 3}, name="three")
    versions = await sdk.assistants.get_versions(made["assistant_id"])
    assert [(item["version"], item["name"]) for item in versions] == [(3, "three"), (2, "two"), (1, "one")]
    assert set(versions[0]) == KEYS - {"updated_at"}
    page = await sdk.assistants.get_versions(made["assistant_id"], limit=1, offset=1)
    assert [item["version"] for item in page] == [2]
    found = await sdk.assistants.get_versions(made["assistant_id"], metadata={"n": 1})
    assert [item["version"] for item in found] == [1]
    assert await sdk.assistants.get_versions(made["assistant_id"], offset=10) == []
    missing = uuid.uuid4()
    response = await http.post(f"/assistants/{missing}/versions", json={})
    assert (response.status_code, response.json()) == (404, {"detail": f"Assistant {missing} not found"})


async def test_an_earlier_version_can_be_made_current(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat", context={"a": 1}, metadata={"m": 1}, name="one", description="first")
    assistant_id = made["assistant_id"]
    for number in range(2, 7):
        await sdk.assistants.update(assistant_id, graph_id="nested", context={"a": number}, name=str(number))
    back = await sdk.assistants.set_latest(assistant_id, 1)
    assert {**back, "updated_at": 0} == {**made, "updated_at": 0}
    assert await sdk.assistants.get(assistant_id) == back
    assert len(await sdk.assistants.get_versions(assistant_id)) == 6
    patched = await sdk.assistants.update(assistant_id, name="seven")
    assert (patched["version"], patched["context"], patched["graph_id"]) == (7, {"a": 1}, "chat")


async def test_latest_names_what_is_missing(http: httpx.AsyncClient) -> None:
    missing = uuid.uuid4()
    for path, body, text in (
        (CHAT, {"version": 99}, f"Version 99 not found for assistant {CHAT}"),
        (CHAT, {}, f"Version None not found for assistant {CHAT}"),
        (missing, {"version": 1}, f"Assistant {missing} not found"),
    ):
        response = await http.post(f"/assistants/{path}/latest", json=body)
        assert (response.status_code, response.json()) == (404, {"detail": text})
    response = await http.post(f"/assistants/{CHAT}/latest", json={"version": "1"})
    assert response.status_code == 422


async def test_delete_removes_the_assistant_with_its_versions(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    made = await sdk.assistants.create("chat")
    response = await http.delete(f"/assistants/{made['assistant_id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method, path, text in (
        ("GET", "", "Not Found"),
        ("PATCH", "", f"Assistant {made['assistant_id']} not found"),
        ("POST", "/versions", f"Assistant {made['assistant_id']} not found"),
        ("DELETE", "", f"Assistant with ID {made['assistant_id']} not found"),
        ("GET", "/graph", "Not Found"),
        ("GET", "/schemas", "Not Found"),
        ("GET", "/subgraphs", "Not Found"),
    ):
        body = {} if method in ("PATCH", "POST") else None
        response = await http.request(method, f"/assistants/{made['assistant_id']}{path}", json=body)
        assert (response.status_code, response.json()) == (404, {"detail": text})


@pytest.mark.parametrize("value", [None, "false", "nonsense", "1", "true", "True"])
async def test_delete_takes_threads_along_on_demand(
    sdk: LangGraphClient, http: httpx.AsyncClient, value: str | None
) -> None:
    made = await sdk.assistants.create("chat")
    thread, other = await sdk.threads.create(), await sdk.threads.create()
    for made_by, owner in ((thread, made["assistant_id"]), (other, CHAT)):
        await sdk.runs.create(made_by["thread_id"], owner, after_seconds=3600)
    params = {"delete_threads": value} if value else None
    await http.delete(f"/assistants/{made['assistant_id']}", params=params)
    left = {item["thread_id"] for item in await sdk.threads.search()}
    assert left == ({other["thread_id"]} if value in ("true", "True") else {other["thread_id"], thread["thread_id"]})


async def test_search_filters(sdk: LangGraphClient) -> None:
    a = await sdk.assistants.create("chat", name="Alpha_1", metadata={"team": {"id": 1, "x": 2}})
    b = await sdk.assistants.create("nested", name="beta%", metadata={"team": {"id": 2}})

    async def names(**query: Any) -> list[str]:
        return [item["name"] for item in await sdk.assistants.search(**query)]

    assert await names(metadata={"team": {"id": 1}}) == ["Alpha_1"]
    assert await names(metadata={"team": {}}) == ["beta%", "Alpha_1"]
    assert await names(graph_id="nested", metadata={"team": {}}) == ["beta%"]
    assert await names(name="ALPHA") == ["Alpha_1"]
    # wildcards stand for themselves
    assert await names(name="_") == ["Alpha_1"]
    assert await names(name="%") == ["beta%"]
    assert await names(name="\\") == []
    assert await sdk.assistants.count(metadata={"team": {"id": 2}}) == 1
    assert await sdk.assistants.count(name="a_1") == 1
    assert await sdk.assistants.count(graph_id="chat") == 2
    assert (a["version"], b["version"]) == (1, 1)


async def test_search_sorts_and_selects(sdk: LangGraphClient) -> None:
    for name in ("b", "A", "c"):
        await sdk.assistants.create("chat", name=name, metadata={"sorted": True})

    async def names(**query: Any) -> str:
        found = await sdk.assistants.search(metadata={"sorted": True}, **query)
        return "".join(item["name"] for item in found)

    assert await names() == "cAb"
    assert await names(sort_order="asc") == "bAc"
    assert await names(sort_by="name", sort_order="asc") == "Abc"
    assert await names(sort_by="name") == "cbA"
    assert sorted(await names(sort_by="assistant_id")) == ["A", "b", "c"]
    found = await sdk.assistants.search(metadata={"sorted": True}, select=["name", "version"], limit=1)
    assert found == [{"name": "c", "version": 1}]


async def test_search_pages(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    for _ in range(11):
        await sdk.assistants.create("chat")

    async def page(**body: Any) -> tuple[int, str, str | None]:
        response = await http.post("/assistants/search", json=body)
        headers = response.headers
        return len(response.json()), headers["x-pagination-total"], headers.get("x-pagination-next")

    assert await page() == (10, "11", "10")
    assert await page(offset=10) == (4, "14", None)
    assert await page(limit=14) == (14, "14", None)
    assert await page(offset=50) == (0, "50", None)
    response = await sdk.assistants.search(response_format="object")
    assert response["next"] == "10"
    assert await sdk.assistants.count() == 14


@pytest.mark.parametrize(
    ("body", "first_line"),
    [
        ({"limit": 0}, "0 is less than the minimum of 1"),
        ({"limit": 1001}, "1001 is greater than the maximum of 1000"),
        ({"limit": "1"}, '"1" is not of type "integer"'),
        ({"limit": True}, 'true is not of type "integer"'),
        ({"offset": -1}, "-1 is less than the minimum of 0"),
        ({"offset": 1e300}, "1e+300 is greater than the maximum of"),
        ({"metadata": None}, 'null is not of type "object"'),
        ({"metadata": []}, '[] is not of type "object"'),
        ({"sort_order": "DESC"}, '"DESC" is not one of "asc" or "desc"'),
        ({"select": ["nope"]}, '"nope" is not one of'),
        ({"select": "name"}, '"name" is not of type "array"'),
        ({"name": None}, 'null is not of type "string"'),
        ({"graph_id": 1}, '1 is not of type "string"'),
    ],
)
async def test_search_names_the_wrong_field(http: httpx.AsyncClient, body: dict[str, Any], first_line: str) -> None:
    response = await http.post("/assistants/search", json=body)
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert detail.startswith(first_line)
    assert f'On instance["{next(iter(body))}"]' in detail


async def test_ids_must_be_uuids(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/versions"), ("GET", "/schemas")):
        body = {} if method in ("PATCH", "POST") else None
        response = await http.request(method, f"/assistants/chat{path}", json=body)
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid assistant ID: must be a UUID"})
    response = await http.post("/assistants", json={"graph_id": "chat", "assistant_id": "bad"})
    assert response.status_code == 422
    assert response.json()["detail"] == "Invalid assistant ID: must be a UUID"


async def test_graph_comes_from_the_manifest(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    made = await sdk.assistants.create("nested")

    async def nodes(assistant: str, xray: Any = False) -> list[str]:
        found = await sdk.assistants.get_graph(assistant, xray=xray)
        return [node["id"] for node in found["nodes"]][1:-1]

    assert await nodes(made["assistant_id"]) == ["child"]
    assert await nodes("nested") == ["child"]
    assert await nodes("nested", xray=True) == ["child:inner", "child:grandchild:deep"]
    assert await nodes("nested", xray=1) == ["child:inner", "child:grandchild"]
    assert await nodes("nested", xray=9) == ["child:inner", "child:grandchild:deep"]
    assert await nodes("nested", xray="") == ["child"]
    assert await nodes("nested", xray="+1") == ["child:inner", "child:grandchild"]
    for bad in ("zz", "-1", "0", "1.5", "TRUE", "9" * 5000):
        response = await http.get("/assistants/nested/graph", params={"xray": bad})
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid xray value"})
    assert (await http.get("/assistants/nope/graph")).json() == {"detail": "Invalid assistant ID: must be a UUID"}
    with pytest.raises(UnprocessableEntityError):
        await sdk.assistants.get_graph("undrawable")


async def test_schemas_and_subgraphs_come_from_the_manifest(sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("nested")
    assistant_id = made["assistant_id"]
    schemas = await sdk.assistants.get_schemas(assistant_id)
    assert set(schemas) == {
        "graph_id",
        "input_schema",
        "output_schema",
        "state_schema",
        "config_schema",
        "context_schema",
    }
    assert (schemas["graph_id"], schemas["config_schema"], schemas["context_schema"]) == ("nested", {}, None)
    assert list(await sdk.assistants.get_subgraphs(assistant_id)) == ["child"]
    assert list(await sdk.assistants.get_subgraphs(assistant_id, recurse=True)) == ["child", "child|grandchild"]
    assert list(await sdk.assistants.get_subgraphs(assistant_id, namespace="child")) == ["child"]
    assert await sdk.assistants.get_subgraphs(assistant_id, namespace="child|grandchild") == {}
    below = await sdk.assistants.get_subgraphs(assistant_id, namespace="child|grandchild", recurse=True)
    assert list(below) == ["child|grandchild"]
    assert await sdk.assistants.get_subgraphs(assistant_id, namespace="nope") == {}
    assert await sdk.assistants.get_subgraphs(CHAT) == {}


async def test_every_argument_of_the_sdk(sdk: LangGraphClient) -> None:
    assistant_id = str(uuid.uuid4())
    made = await sdk.assistants.create(
        "chat",
        {"tags": ["t"], "recursion_limit": 7},
        context={"k": 1},
        metadata={"m": 1},
        assistant_id=assistant_id,
        if_exists="do_nothing",
        name="Bee",
        description="buzz",
        headers={"x-mine": "1"},
        params={"any": "thing"},
    )
    stamps = {"created_at": made["created_at"], "updated_at": made["updated_at"]}
    assert made == {
        "assistant_id": assistant_id,
        "graph_id": "chat",
        "config": {"tags": ["t"], "recursion_limit": 7, "configurable": {"k": 1}},
        "context": {"k": 1},
        "metadata": {"m": 1},
        "name": "Bee",
        "description": "buzz",
        "version": 1,
        **stamps,
    }
    changed = await sdk.assistants.update(
        assistant_id,
        graph_id="nested",
        config={"configurable": {"k": 2}, "tags": ["u"]},
        metadata={"n": 2},
        name="Cee",
        description="hum",
        headers={"x-mine": "1"},
        params={"any": "thing"},
    )
    assert changed == {
        **made,
        "graph_id": "nested",
        "config": {"configurable": {"k": 2}, "tags": ["u"]},
        "context": {"k": 2},
        "metadata": {"m": 1, "n": 2},
        "name": "Cee",
        "description": "hum",
        "version": 2,
        "updated_at": changed["updated_at"],
    }
    query: dict[str, Any] = {"metadata": {"n": 2}, "graph_id": "nested", "name": "cE"}
    found = await sdk.assistants.search(
        **query, limit=5, offset=0, sort_by="updated_at", sort_order="asc", select=["assistant_id", "context"]
    )
    assert found == [{"assistant_id": assistant_id, "context": {"k": 2}}]
    assert await sdk.assistants.count(**query) == 1
    assert await sdk.assistants.count(**{**query, "name": "bee"}) == 0
    versions = await sdk.assistants.get_versions(assistant_id, metadata={"m": 1}, limit=1, offset=1)
    assert [(item["version"], item["name"]) for item in versions] == [(1, "Bee")]
    assert (await sdk.assistants.set_latest(assistant_id, 1))["context"] == {"k": 1}
    await sdk.assistants.delete(assistant_id, delete_threads=True)
    assert await sdk.assistants.count(metadata={"m": 1}) == 0


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_a_hundred_creates_with_one_id_make_one(
    http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any], if_exists: str
) -> None:
    assistant_id = str(uuid.uuid4())
    bodies = [
        {"graph_id": "chat", "assistant_id": assistant_id, "name": f"n{number}", "if_exists": if_exists}
        for number in range(100)
    ]
    responses = await asyncio.gather(*(http.post("/assistants", json=body) for body in bodies))
    statuses = Counter(response.status_code for response in responses)
    stored = (await http.get(f"/assistants/{assistant_id}")).json()
    if if_exists == "raise":
        assert statuses == {200: 1, 409: 99}
        assert [response.json() for response in responses if response.status_code == 200] == [stored]
    else:
        assert statuses == {200: 100}
        assert all(response.json() == stored for response in responses)
    assert await _versions(database, assistant_id) == [1]


async def test_changes_at_once_number_their_versions_densely(
    http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any]
) -> None:
    assistant_id = (await http.post("/assistants", json={"graph_id": "chat"})).json()["assistant_id"]
    changes = [
        http.patch(f"/assistants/{assistant_id}", json={"metadata": {f"k{number}": number}}) for number in range(40)
    ]
    responses = await asyncio.gather(*changes)
    assert sorted(response.json()["version"] for response in responses) == list(range(2, 42))
    assert await _versions(database, assistant_id) == list(range(1, 42))
    # none was lost: each change was merged into what the one before had left
    stored = (await http.get(f"/assistants/{assistant_id}")).json()
    assert (stored["version"], len(stored["metadata"])) == (41, 40)


async def test_a_delete_among_changes_leaves_nothing_behind(
    http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any]
) -> None:
    """Versions and crons that are being made while their assistant is deleted are deleted with it, or refused."""
    for _ in range(5):
        assistant_id = (await http.post("/assistants", json={"graph_id": "chat"})).json()["assistant_id"]
        cron = {"assistant_id": assistant_id, "schedule": "0 0 29 2 *"}
        responses = await asyncio.gather(
            *(http.patch(f"/assistants/{assistant_id}", json={}) for _ in range(5)),
            *(http.post("/runs/crons", json=cron) for _ in range(5)),
            http.delete(f"/assistants/{assistant_id}"),
            http.post(f"/assistants/{assistant_id}/latest", json={"version": 1}),
            *(http.post("/runs/crons", json=cron) for _ in range(5)),
        )
        assert {response.status_code for response in responses} <= {200, 204, 404}
        assert (await http.get(f"/assistants/{assistant_id}")).status_code == 404
        assert await _versions(database, assistant_id) == []
        assert (await http.post("/runs/crons/count", json={"assistant_id": assistant_id})).json() == 0


async def _versions(database: psycopg.AsyncConnection[Any], assistant_id: str) -> list[int]:
    cursor = await database.execute(
        "SELECT version FROM lgs.assistant_version WHERE assistant_id = %s ORDER BY version", (assistant_id,)
    )
    return [row["version"] for row in await cursor.fetchall()]


async def test_a_live_run_outlives_its_assistant_unless_its_thread_goes_along(
    http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any], worker: StandInWorker
) -> None:
    async def running() -> tuple[str, str, Any]:
        assistant_id = (await http.post("/assistants", json={"graph_id": "chat"})).json()["assistant_id"]
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": assistant_id, "input": {}})
        return assistant_id, thread_id, await worker.claim()

    assistant_id, thread_id, run = await running()
    assert (await http.delete(f"/assistants/{assistant_id}")).status_code == 204
    await worker.finish(run)
    (kept,) = (await http.get(f"/threads/{thread_id}/runs")).json()
    assert (kept["status"], kept["assistant_id"]) == ("success", assistant_id)

    assistant_id, thread_id, run = await running()
    assert (await http.delete(f"/assistants/{assistant_id}", params={"delete_threads": "true"})).status_code == 204
    with pytest.raises(LeaseLostError):
        await worker.settle(run)
    cursor = await database.execute("SELECT 1 FROM lgs.run WHERE run_id = %s", (run.lease.run_id,))
    assert await cursor.fetchone() is None
