"""Graphs that a factory builds: described as each assistant has them, by whoever has the project.

A process without it (the assistants function) answers what the build has described only where that is the answer; the rest
goes to the state function, or is refused.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.ids import default_assistant_id
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

GRAPHS = """
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict

class State(TypedDict):
    log: list[str]

def build(config: RunnableConfig, runtime: ServerRuntime):
    given = config["configurable"]
    assert runtime.access_context == "assistants.read"
    assert runtime.store is not None
    if given.get("name") == "broken":
        raise LookupError("no such name")
    if given.get("name") == "nothing":
        return 5
    inner = StateGraph(State).add_node("deep", lambda state: state).add_edge(START, "deep").compile()
    name = given.get("name", "plain")
    return StateGraph(State).add_node(name, inner).add_edge(START, name).compile()

def picky(config: RunnableConfig):
    return StateGraph(State).add_node(config["configurable"]["name"], lambda s: s).set_entry_point(
        config["configurable"]["name"]).compile()

fixed = StateGraph(State).add_node("fixed", lambda state: state).add_edge(START, "fixed").compile()
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> GraphRegistry:
    folder = tmp_path_factory.mktemp("factories")
    (folder / "made.py").write_text(GRAPHS)
    graphs = {"made": "./made.py:build", "picky": "./made.py:picky", "fixed": "./made.py:fixed"}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return GraphRegistry.load(read_project(folder / "langgraph.json"))


@pytest.fixture(scope="module")
async def manifest(registry: GraphRegistry) -> Manifest:
    return await build_manifest(registry)


@pytest.fixture
async def with_project(
    clean_database: None, settings: Settings, registry: GraphRegistry, manifest: Manifest
) -> AsyncIterator[httpx.AsyncClient]:
    async for client in _serve(StateContainer(settings, registry=registry, manifest=manifest)):
        yield client


@pytest.fixture
async def without_project(
    clean_database: None, settings: Settings, manifest: Manifest
) -> AsyncIterator[httpx.AsyncClient]:
    async for client in _serve(ApiContainer(settings, manifest=manifest)):
        yield client


async def _serve(container: ApiContainer) -> AsyncIterator[httpx.AsyncClient]:
    await container.assistants.ensure_defaults()
    app = create_app(container, ["assistants"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        yield client
    await container.aclose()


async def assistant(client: httpx.AsyncClient, **body: Any) -> str:
    response = await client.post("/assistants", json=body)
    assert response.status_code == 200, response.text
    found: str = response.json()["assistant_id"]
    return found


async def nodes(client: httpx.AsyncClient, name: str, **query: Any) -> list[str]:
    response = await client.get(f"/assistants/{name}/graph", params=query)
    assert response.status_code == 200, response.text
    return [node["id"] for node in response.json()["nodes"] if not node["id"].startswith("__")]


async def test_each_assistant_has_the_graph_of_its_config(with_project: httpx.AsyncClient) -> None:
    named = await assistant(with_project, graph_id="made", config={"configurable": {"name": "one"}})
    contextual = await assistant(with_project, graph_id="made", context={"name": "two"})
    assert await nodes(with_project, named) == ["one"]
    assert await nodes(with_project, named, xray="true") == ["one:deep"]
    assert await nodes(with_project, contextual) == ["two"]
    assert list((await with_project.get(f"/assistants/{named}/subgraphs")).json()) == ["one"]
    assert list((await with_project.get(f"/assistants/{contextual}/subgraphs/two")).json()) == ["two"]
    schemas = (await with_project.get(f"/assistants/{named}/schemas")).json()
    assert (schemas["graph_id"], schemas["state_schema"]["title"]) == ("made", "made_state")
    # a graph's id is its default assistant, with what has been made of that
    assert await nodes(with_project, "made") == ["plain"]
    default = default_assistant_id("made")
    await with_project.patch(f"/assistants/{default}", json={"context": {"name": "patched"}})
    assert await nodes(with_project, "made") == ["patched"]
    await with_project.delete(f"/assistants/{default}")
    assert (await with_project.get("/assistants/made/graph")).status_code == 404


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "no such name"), ("nothing", "not a graph"), ("__end__", "reserved")]
)
async def test_a_factory_that_refuses_the_config_says_why(
    with_project: httpx.AsyncClient, name: str, reason: str
) -> None:
    refused = await assistant(with_project, graph_id="made", context={"name": name})
    for what in ("graph", "schemas", "subgraphs", "subgraphs/x"):
        response = await with_project.get(f"/assistants/{refused}/{what}")
        assert response.status_code == 400
        assert reason in response.json()["detail"]


async def test_without_the_project_only_what_is_certain_is_answered(without_project: httpx.AsyncClient) -> None:
    plain = await assistant(without_project, graph_id="made")
    named = await assistant(without_project, graph_id="made", context={"name": "one"})
    fixed = await assistant(without_project, graph_id="fixed", context={"name": "one"})
    assert await nodes(without_project, plain) == ["plain"]
    assert await nodes(without_project, fixed) == ["fixed"]
    # built without a config it does not exist at all, so nothing was described
    for unknown in (named, str(default_assistant_id("picky"))):
        for what in ("graph", "schemas", "subgraphs", "subgraphs/x"):
            response = await without_project.get(f"/assistants/{unknown}/{what}")
            assert response.status_code == 422
            assert "is built anew for each config" in response.json()["detail"]


class StateFunction:
    """Stands for the state function, which serves the same routes with the project."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def call(self, event: Any) -> dict[str, Any]:
        self.asked.append(event["path"])
        return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": '"theirs"'}


async def test_the_assistants_function_hands_on_what_it_cannot_answer(
    clean_database: None, settings: Settings, manifest: Manifest
) -> None:
    container = ApiContainer(settings, manifest=manifest)
    vars(container)["state_function"] = state_function = StateFunction()
    app = create_app(container, ["assistants"])

    async def behind_a_gateway(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "aws.event": {"path": scope["path"]}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(behind_a_gateway), base_url="http://server") as client:
        named = await assistant(client, graph_id="made", context={"name": "one"})
        plain = await assistant(client, graph_id="made")
        paths = [f"/assistants/{named}/{what}" for what in ("graph", "schemas", "subgraphs", "subgraphs/one")]
        for path in paths:
            assert (await client.get(path)).json() == "theirs"
        assert state_function.asked == paths
        assert await nodes(client, plain) == ["plain"]
        assert (await client.get(f"/assistants/{named}/graph", params={"xray": "zz"})).status_code == 422
        assert (await client.get(f"/assistants/{uuid.uuid4()}/graph")).status_code == 404
    assert state_function.asked == paths
    await container.aclose()
