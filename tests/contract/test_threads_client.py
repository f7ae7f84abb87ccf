"""Every method of the Python SDK's threads client, with every argument that it has.

The last test reads this file, and fails when the SDK has learned something that nothing here sends. ``join_stream`` and
``stream`` belong to the streams' tests.
"""

from __future__ import annotations

import ast
import inspect
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph_sdk.client import LangGraphClient, ThreadsClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "states" / "langgraph.json"
ELSEWHERE = {"join_stream", "stream"}
#: What every method takes for the transport.
TRANSPORT = {"self", "headers", "params"}


@pytest.fixture(scope="module")
async def container(settings: Settings) -> AsyncIterator[StateContainer]:
    container = StateContainer(settings, registry=GraphRegistry.load(read_project(PROJECT)))
    yield container
    await container.aclose()


@pytest.fixture
async def threads(container: StateContainer) -> AsyncIterator[Any]:
    transport = httpx.ASGITransport(create_app(container, ["threads", "state"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield LangGraphClient(client).threads


async def run(container: StateContainer, thread_id: str, graph_id: str, value: Any) -> None:
    """What a worker would do."""
    saver = AsyncPostgresSaver(await container.database.pool())
    async with container.registry.graph(graph_id, access_context="threads.create_run", checkpointer=saver) as graph:
        await graph.ainvoke(value, {"configurable": {"thread_id": thread_id}})


async def test_the_life_of_a_thread(threads: Any) -> None:
    thread_id, word = str(uuid.uuid4()), uuid.uuid4().hex
    made = await threads.create(metadata={"word": word}, thread_id=thread_id, graph_id="log", ttl=90)
    assert (made["thread_id"], made["metadata"]) == (thread_id, {"word": word, "graph_id": "log"})
    with pytest.raises(ConflictError):
        await threads.create(thread_id=thread_id, if_exists="raise")
    assert (await threads.create(thread_id=thread_id, if_exists="do_nothing"))["metadata"]["word"] == word
    found = await threads.get(thread_id, include=["ttl"])
    assert (found["ttl"]["strategy"], found["ttl"]["ttl_minutes"]) == ("delete", 90)

    changed = await threads.update(thread_id, metadata={"n": 1}, ttl={"ttl": 5, "strategy": "keep_latest"})
    assert changed["metadata"] == {"word": word, "graph_id": "log", "n": 1}
    assert (await threads.get(thread_id, include=["ttl"]))["ttl"]["strategy"] == "keep_latest"
    assert await threads.update(thread_id, metadata={"n": 2}, return_minimal=True) is None

    copied = await threads.copy(thread_id)
    assert copied["metadata"] == {"word": word, "graph_id": "log", "n": 2}
    assert await threads.count(metadata={"word": word}, status="idle") == 2
    await threads.delete(copied["thread_id"])
    with pytest.raises(NotFoundError):
        await threads.get(copied["thread_id"])
    assert await threads.prune([thread_id], strategy="keep_latest") == {"pruned_count": 1}
    assert await threads.prune([thread_id, copied["thread_id"]]) == {"pruned_count": 1}
    assert await threads.search(metadata={"word": word}) == []


async def test_searching(threads: Any) -> None:
    word = uuid.uuid4().hex
    seeds = [[{"updates": [{"values": {"log": [word, str(number)]}, "as_node": "b"}]}] for number in range(3)]
    made = [
        await threads.create(graph_id="log", metadata={"word": word, "n": number}, supersteps=steps)
        for number, steps in enumerate(seeds)
    ]
    ids = [thread["thread_id"] for thread in made]
    found = await threads.search(
        metadata={"word": word},
        values={"log": [word]},
        ids=ids[:2],
        status="idle",
        limit=1,
        offset=1,
        sort_by="created_at",
        sort_order="asc",
        select=["thread_id", "values"],
        extract={"last": "values.log[-1]"},
    )
    assert found == [{"thread_id": ids[1], "values": {"log": [word, "1"]}, "extracted": {"last": "1"}}]
    assert await threads.count(values={"log": [word]}) == 3
    assert await threads.count(metadata={"word": word}, values={"log": ["2"]}, status="idle") == 1


async def test_states_and_histories(threads: Any, container: StateContainer) -> None:
    thread_id = (await threads.create(graph_id="log"))["thread_id"]
    await run(container, thread_id, "log", {"log": ["x"]})
    history = await threads.get_history(thread_id)
    assert [state["values"]["log"] for state in history[:-1]] == [["x", "a", "b"], ["x", "a"], ["x"]]
    earlier = history[1]["checkpoint"]
    earlier_id = earlier["checkpoint_id"]
    assert (await threads.get_state(thread_id, checkpoint=earlier, subgraphs=True))["values"] == {"log": ["x", "a"]}
    assert (await threads.get_state(thread_id, checkpoint_id=earlier_id))["values"] == {"log": ["x", "a"]}
    assert set(await threads.get_state(thread_id, select=["values", "next"])) == {"values", "next"}

    assert len(await threads.get_history(thread_id, limit=2)) == 2
    before = {"configurable": {"checkpoint_id": earlier_id}}
    assert await threads.get_history(thread_id, before=before) == history[2:]
    assert await threads.get_history(thread_id, before=earlier) == history[2:]
    assert await threads.get_history(thread_id, metadata={"step": 1}, checkpoint={"checkpoint_ns": ""}) == [history[1]]
    assert [set(state) for state in await threads.get_history(thread_id, limit=1, select=["next"])] == [{"next"}]

    for written in (
        await threads.update_state(thread_id, {"log": ["forked"]}, as_node="a", checkpoint=earlier),
        await threads.update_state(thread_id, {"log": ["forked"]}, as_node="a", checkpoint_id=earlier_id),
    ):
        state = await threads.get_state(thread_id, checkpoint=written["checkpoint"])
        assert (state["values"], state["next"]) == ({"log": ["x", "a", "forked"]}, ["b"])
        assert state["parent_checkpoint"]["checkpoint_id"] == earlier_id
    assert (await threads.get_state(thread_id))["checkpoint"] == written["checkpoint"]
    await threads.update_state(thread_id, None, as_node="__end__")
    assert (await threads.get_state(thread_id))["next"] == []


async def test_a_subgraph(threads: Any, container: StateContainer) -> None:
    thread_id = (await threads.create(graph_id="nested"))["thread_id"]
    await run(container, thread_id, "nested", {"log": []})
    (task,) = (await threads.get_state(thread_id, subgraphs=True))["tasks"]
    below = task["state"]["checkpoint"]
    assert (await threads.get_state(thread_id, checkpoint=below))["values"] == task["state"]["values"]
    found = await threads.get_history(thread_id, checkpoint={"checkpoint_ns": below["checkpoint_ns"]})
    assert found[0]["checkpoint"]["checkpoint_id"] == below["checkpoint_id"]
    await threads.update_state(thread_id, {"log": ["below"]}, checkpoint=below)
    (task,) = (await threads.get_state(thread_id, subgraphs=True))["tasks"]
    assert "below" in task["state"]["values"]["log"]


def test_nothing_of_the_client_is_left_out() -> None:
    sent: dict[str, set[str]] = {}
    for call in ast.walk(ast.parse(Path(__file__).read_text())):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="threads"), attr=name)):
                names = list(inspect.signature(getattr(ThreadsClient, name)).parameters)[1:]
                sent.setdefault(name, set()).update(names[: len(call.args)], (word.arg for word in call.keywords))
    for name, method in inspect.getmembers(ThreadsClient, inspect.isfunction):
        if not name.startswith("_") and name not in ELSEWHERE:
            assert set(inspect.signature(method).parameters) - TRANSPORT - sent[name] == set(), name
