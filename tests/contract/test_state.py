"""States and histories over HTTP: `../contract/threads.md`. Graphs run here directly, where a worker would run them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.errors import InvalidUpdateError
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "states" / "langgraph.json"


@pytest.fixture(scope="module")
async def container(settings: Settings) -> AsyncIterator[StateContainer]:
    # one connection: a state write must not need a second one
    container = StateContainer(
        settings.replace(pool_max_size=1, pool_timeout=5.0), registry=GraphRegistry.load(read_project(PROJECT))
    )
    yield container
    await container.aclose()


@pytest.fixture
async def http(container: StateContainer) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(container, ["threads", "state"])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


@pytest.fixture
def sdk(http: httpx.AsyncClient) -> LangGraphClient:
    return LangGraphClient(http)


class Threads:
    """Makes threads and runs graphs on them."""

    def __init__(self, sdk: LangGraphClient, container: StateContainer) -> None:
        self._sdk = sdk
        self._container = container

    async def make(self, graph_id: str | None) -> str:
        thread = await self._sdk.threads.create(metadata={"graph_id": graph_id} if graph_id else {})
        return thread["thread_id"]

    async def run(self, graph_id: str, value: Any) -> str:
        """A thread on which the graph has run as far as it goes."""
        thread_id = await self.make(graph_id)
        saver = AsyncPostgresSaver(await self._container.database.pool())
        config = {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": "r"}}
        async with self._container.registry.graph(
            graph_id, access_context="threads.create_run", checkpointer=saver
        ) as graph:
            await graph.ainvoke(value, config)
        return thread_id


@pytest.fixture
def threads(sdk: LangGraphClient, container: StateContainer) -> Threads:
    return Threads(sdk, container)


EMPTY = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}


@pytest.mark.parametrize("graph_id", [None, "log"])
async def test_an_empty_thread_has_an_empty_state(sdk: LangGraphClient, threads: Threads, graph_id: str | None) -> None:
    thread_id = await threads.make(graph_id)
    assert await sdk.threads.get_state(thread_id) == EMPTY
    assert await sdk.threads.get_history(thread_id) == []


async def test_without_the_thread(http: httpx.AsyncClient) -> None:
    missing = uuid.uuid4()
    for method, path, body in [
        ("GET", "state", None),
        ("GET", "state/1f1e", None),
        ("POST", "state", {}),
        ("POST", "state/checkpoint", {"checkpoint": {}}),
        ("GET", "history", None),
        ("POST", "history", {}),
    ]:
        response = await http.request(method, f"/threads/{missing}/{path}", json=body)
        assert (response.status_code, response.json()) == (404, {"detail": f"Thread with ID {missing} not found"})
        response = await http.request(method, f"/threads/nope/{path}", json=body)
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})
    assert (await http.patch(f"/threads/{missing}/state", json={})).status_code == 405


async def test_a_finished_run(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("log", {"log": ["x"], "topic": "t"})
    state = await sdk.threads.get_state(thread_id)
    assert state["values"] == {"log": ["x", "a", "b"], "topic": "t"}
    assert (state["next"], state["tasks"], state["interrupts"]) == ([], [], [])
    assert state["checkpoint"] == {
        "thread_id": thread_id,
        "checkpoint_ns": "",
        "checkpoint_id": state["checkpoint"]["checkpoint_id"],
    }
    assert state["checkpoint_id"] == state["checkpoint"]["checkpoint_id"]  # type: ignore[typeddict-item]
    assert state["parent_checkpoint_id"] == state["parent_checkpoint"]["checkpoint_id"]  # type: ignore[typeddict-item, index]
    assert (state["metadata"]["source"], state["metadata"]["step"]) == ("loop", 2)  # type: ignore[index]
    assert state["created_at"].endswith("+00:00")  # type: ignore[union-attr]


async def test_an_interrupted_run(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("ask", {"log": []})
    state = await sdk.threads.get_state(thread_id)
    assert (state["values"], state["next"]) == ({"log": ["before"]}, ["ask"])
    (task,) = state["tasks"]
    (asked,) = state["interrupts"]
    assert asked == {"id": asked["id"], "value": {"q": "ok?"}}
    assert task == {
        "id": task["id"],
        "name": "ask",
        "path": ["__pregel_pull", "ask"],
        "error": None,
        "interrupts": [asked],
        "checkpoint": None,
        "state": None,
        "result": None,
    }


async def test_a_failed_run_shows_the_error(sdk: LangGraphClient, threads: Threads) -> None:
    with pytest.raises(Exception, match="kaboom"):
        await threads.run("fails", {"log": []})
    found = await sdk.threads.search(metadata={"graph_id": "fails"}, sort_by="created_at", limit=1)
    state = await sdk.threads.get_state(found[0]["thread_id"])
    assert state["next"] == ["broken"]
    assert state["tasks"][0]["error"] == "MyError('kaboom')"


async def test_writes_that_do_not_go_together_are_told(
    http: httpx.AsyncClient, sdk: LangGraphClient, threads: Threads
) -> None:
    with pytest.raises(InvalidUpdateError):
        await threads.run("clash", {"topic": "before"})
    (thread,) = await sdk.threads.search(metadata={"graph_id": "clash"}, sort_by="created_at", limit=1)
    thread_id = thread["thread_id"]
    answer = await http.get(f"/threads/{thread_id}/state")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("At key 'topic': Can receive only one value per step.")
    history = await sdk.threads.get_history(thread_id)
    assert history[0]["values"]["topic"] == "before"


async def test_history_is_newest_first_and_one_by_default(
    sdk: LangGraphClient, http: httpx.AsyncClient, threads: Threads
) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    history = await sdk.threads.get_history(thread_id, limit=10)
    assert [(state["metadata"]["step"], state["metadata"]["source"]) for state in history] == [  # type: ignore[index]
        (2, "loop"), (1, "loop"), (0, "loop"), (-1, "input"),
    ]  # fmt: skip
    assert history[0] == await sdk.threads.get_state(thread_id)
    assert [state["next"] for state in history] == [[], ["b"], ["a"], ["__start__"]]
    assert history[2]["tasks"][0]["result"] == {"log": ["a"]}
    path = f"/threads/{thread_id}/history"
    for response in (await http.get(path), await http.post(path, json={})):
        assert response.json() == history[:1]
    assert (await http.get(path, params={"limit": 0})).json() == []
    assert (await http.get(path, params={"limit": 2**70})).json() == history
    assert (await http.get(path, params={"limit": 2, "before": history[1]["checkpoint_id"]})).json() == history[2:]  # type: ignore[typeddict-item]
    for before in (history[1]["checkpoint"], {"configurable": history[1]["checkpoint"]}):
        response = await http.post(path, json={"limit": 10, "before": before})
        assert response.json() == history[2:]
    response = await http.post(path, json={"limit": 10, "metadata": {"step": 0}})
    assert response.json() == history[2:3]


@pytest.mark.parametrize(
    "body", [{"limit": 0}, {"limit": 1001}, {"before": "1f"}, {"before": {}}, {"metadata": 1}, {"checkpoint": 1}]
)
async def test_histories_that_are_refused(http: httpx.AsyncClient, threads: Threads, body: dict[str, Any]) -> None:
    thread_id = await threads.make("log")
    assert (await http.post(f"/threads/{thread_id}/history", json=body)).status_code == 422


async def test_the_state_at_a_checkpoint(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    past = (await sdk.threads.get_history(thread_id, limit=3))[2]
    by_id = await sdk.threads.get_state(thread_id, checkpoint_id=past["checkpoint"]["checkpoint_id"])
    by_checkpoint = await sdk.threads.get_state(thread_id, checkpoint=past["checkpoint"])
    assert by_id == by_checkpoint == past
    assert past["values"] == {"log": ["x"]}


@pytest.mark.parametrize("checkpoint_id", ["nope", str(uuid.UUID(int=1))])
async def test_an_unknown_checkpoint_is_an_empty_state(
    sdk: LangGraphClient, threads: Threads, checkpoint_id: str
) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    state = await sdk.threads.get_state(thread_id, checkpoint_id=checkpoint_id)
    checkpoint = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
    assert state == EMPTY | {"checkpoint": checkpoint, "checkpoint_id": checkpoint_id}


async def test_subgraphs(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("nested", {"log": []})
    outer = await sdk.threads.get_state(thread_id)
    (task,) = outer["tasks"]
    namespace = f"child:{task['id']}"
    assert task["state"] is None
    assert task["checkpoint"] == {"thread_id": thread_id, "checkpoint_ns": namespace}
    assert task["interrupts"] == outer["interrupts"] != []
    full = await sdk.threads.get_state(thread_id, subgraphs=True)
    inner = full["tasks"][0]["state"]
    assert full["tasks"][0]["checkpoint"] is None
    assert inner is not None
    assert (inner["values"], inner["next"]) == ({"log": ["first", "inner"]}, ["ask"])
    assert inner["checkpoint"]["checkpoint_ns"] == namespace
    assert inner["checkpoint"]["checkpoint_map"][""] == outer["checkpoint"]["checkpoint_id"]  # type: ignore[index]
    assert (await sdk.threads.get_state(thread_id, checkpoint=inner["checkpoint"]))["values"] == inner["values"]
    history = await sdk.threads.get_history(thread_id, limit=10, checkpoint={"checkpoint_ns": namespace})
    assert [state["values"] for state in history][:2] == [{"log": ["first", "inner"]}, {"log": ["first"]}]


async def test_a_state_write_applies_reducers_and_marks_the_thread(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.make("log")
    before = await sdk.threads.get(thread_id)
    written = await sdk.threads.update_state(thread_id, {"log": ["x"], "topic": "t", "unknown": 1}, as_node="a")
    assert written["checkpoint"] == written["configurable"]  # type: ignore[typeddict-item]
    assert written["checkpoint"] == {
        "thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": written["checkpoint_id"],  # type: ignore[typeddict-item]
    }  # fmt: skip
    state = await sdk.threads.get_state(thread_id)
    assert state["checkpoint_id"] == written["checkpoint_id"]  # type: ignore[typeddict-item]
    assert (state["values"], state["next"]) == ({"log": ["x"], "topic": "t"}, ["b"])
    metadata = dict(state["metadata"])  # type: ignore[arg-type]
    assert (metadata["source"], metadata["step"], metadata["graph_id"]) == ("update", 0, "log")
    assert not any(key.startswith(("__", "checkpoint")) or key == "run_id" for key in metadata)
    thread = await sdk.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["x"], "topic": "t"})
    assert thread["interrupts"] == {}
    assert thread["state_updated_at"] > before["state_updated_at"]
    assert thread["updated_at"] > before["updated_at"]
    await sdk.threads.update_state(thread_id, {"log": ["y"]}, as_node="b")
    thread = await sdk.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", {"log": ["x", "y"], "topic": "t"})


async def test_a_state_write_clears_the_error_and_shows_the_interrupts(
    sdk: LangGraphClient, threads: Threads, database: psycopg.AsyncConnection[Any]
) -> None:
    thread_id = await threads.run("ask", {"log": []})
    await database.execute(
        "UPDATE lgs.thread SET error = '{}', status = 'error', settled_status = 'error' WHERE thread_id = %s",
        (thread_id,),
    )
    await sdk.threads.update_state(thread_id, {"topic": "new"}, as_node="before")
    thread: dict[str, Any] = dict(await sdk.threads.get(thread_id))
    assert (thread["error"], thread["status"], thread["interrupts"]) == (None, "interrupted", {})
    assert thread["values"] == {"log": ["before"], "topic": "new"}


async def test_a_write_to_a_subgraph_keeps_the_question_of_the_root(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("nested", {"log": []})
    state = await sdk.threads.get_state(thread_id, subgraphs=True)
    inner = state["tasks"][0]["state"]
    assert inner is not None
    written = await sdk.threads.update_state(thread_id, {"topic": "deep"}, checkpoint=inner["checkpoint"])
    assert written["checkpoint"]["checkpoint_ns"] == inner["checkpoint"]["checkpoint_ns"]
    after = await sdk.threads.get_state(thread_id, subgraphs=True)
    changed = after["tasks"][0]["state"]
    assert changed is not None
    assert changed["values"]["topic"] == "deep"  # type: ignore[call-overload]
    thread = await sdk.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("interrupted", {"log": ["first"]})


async def test_writing_to_a_past_checkpoint_forks(
    sdk: LangGraphClient, http: httpx.AsyncClient, threads: Threads
) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    past = (await sdk.threads.get_history(thread_id, limit=3))[2]
    assert past["values"] == {"log": ["x"]}
    await sdk.threads.update_state(thread_id, {"log": ["other"]}, as_node="a", checkpoint=past["checkpoint"])
    state = await sdk.threads.get_state(thread_id)
    assert (state["values"], state["next"]) == ({"log": ["x", "other"]}, ["b"])
    assert state["metadata"]["step"] == 1  # type: ignore[index]
    assert state["parent_checkpoint"]["checkpoint_id"] == past["checkpoint"]["checkpoint_id"]  # type: ignore[index]
    response = await http.post(
        f"/threads/{thread_id}/state",
        json={"values": {"log": ["old"]}, "as_node": "a", "checkpoint_id": past["checkpoint"]["checkpoint_id"]},
    )
    assert response.status_code == 200
    assert (await sdk.threads.get_state(thread_id))["values"] == {"log": ["x", "old"]}


async def test_null_at_the_end_clears_what_is_next(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("ask", {"log": []})
    await sdk.threads.update_state(thread_id, None, as_node="__end__")
    state = await sdk.threads.get_state(thread_id)
    assert (state["values"], state["next"]) == ({"log": ["before"]}, [])
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_an_empty_write_copies_the_state(http: httpx.AsyncClient, sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    before = await sdk.threads.get_state(thread_id)
    assert (await http.post(f"/threads/{thread_id}/state", json={})).status_code == 200
    after = await sdk.threads.get_state(thread_id)
    assert (after["values"], after["next"]) == (before["values"], [])
    assert after["checkpoint"] != before["checkpoint"]


async def test_what_the_graph_refuses(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    before = await sdk.threads.get_state(thread_id)
    with pytest.raises(BadRequestError, match="Node nonode does not exist"):
        await sdk.threads.update_state(thread_id, {"log": []}, as_node="nonode")
    with pytest.raises(BadRequestError, match="Expected dict, got"):
        await sdk.threads.update_state(thread_id, [{"log": []}], as_node="a")
    with pytest.raises(BadRequestError, match="can only concatenate list"):
        await sdk.threads.update_state(thread_id, {"log": 1}, as_node="a")
    assert await sdk.threads.get_state(thread_id) == before
    bare = await threads.make(None)
    with pytest.raises(BadRequestError, match=rf"Thread '{bare}' has no assigned graph ID\. "):
        await sdk.threads.update_state(bare, {"log": []})
    unknown = await threads.make("nograph")
    with pytest.raises(NotFoundError, match="Graph 'nograph' not found"):
        await sdk.threads.update_state(unknown, {"log": []})


@pytest.mark.parametrize(
    "body", [{"values": 1}, {"values": "x"}, {"as_node": 1}, {"checkpoint": "x"}, {"checkpoint_id": 1}]
)
async def test_what_is_malformed(http: httpx.AsyncClient, threads: Threads, body: dict[str, Any]) -> None:
    thread_id = await threads.make("log")
    assert (await http.post(f"/threads/{thread_id}/state", json=body)).status_code == 422
    assert (await http.post(f"/threads/{thread_id}/state/checkpoint", json={})).status_code == 422


@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_busy_thread_is_not_written(
    sdk: LangGraphClient, threads: Threads, database: psycopg.AsyncConnection[Any], status: str
) -> None:
    thread_id = await threads.run("log", {"log": ["x"]})
    run_id = uuid.uuid4()
    lease = "'00000000-0000-0000-0000-000000000001', now() + interval '1 hour'" if status == "running" else "null, null"
    async with database.transaction():
        await database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, lease_token, lease_expires_at,"
            f" attempt, lease_history) VALUES (%s, %s, %s, 'log', '{{}}', %s, {lease}, %s, %s)",  # type: ignore[arg-type]
            (
                run_id,
                thread_id,
                run_id,
                status,
                (status == "running" and 1) or 0,
                "[{}]" if status == "running" else "[]",
            ),
        )
        await database.execute("UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s", (thread_id,))
    before = await sdk.threads.get_state(thread_id)
    with pytest.raises(ConflictError, match=f"Thread {thread_id} has in-flight runs"):
        await sdk.threads.update_state(thread_id, {"log": ["y"]}, as_node="a")
    assert await sdk.threads.get_state(thread_id) == before
    await sdk.threads.delete(thread_id)


async def test_a_write_waits_for_whoever_holds_the_thread(
    sdk: LangGraphClient, threads: Threads, database: psycopg.AsyncConnection[Any]
) -> None:
    """A run that is being created when the write comes is seen by it, although it commits later."""
    thread_id = await threads.run("log", {"log": ["x"]})
    run_id = uuid.uuid4()
    async with database.transaction():
        await database.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (thread_id,))
        write = asyncio.create_task(sdk.threads.update_state(thread_id, {"log": ["y"]}, as_node="a"))
        await _until_somebody_waits(database)
        await database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs) VALUES (%s, %s, %s, 'log', '{}')",
            (run_id, thread_id, run_id),
        )
        await database.execute("UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s", (thread_id,))
    with pytest.raises(ConflictError):
        await write
    await sdk.threads.delete(thread_id)


async def _until_somebody_waits(database: psycopg.AsyncConnection[Any]) -> None:
    async with asyncio.timeout(10):
        while True:
            cursor = await database.execute(
                "SELECT count(*) AS waiting FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE NOT l.granted AND a.datname = current_database()"
            )
            if (await cursor.fetchone())["waiting"]:  # type: ignore[index]
                return
            await asyncio.sleep(0.01)


async def test_parallel_writes_take_turns(sdk: LangGraphClient, threads: Threads) -> None:
    thread_id = await threads.make("log")
    await sdk.threads.update_state(thread_id, {"log": []}, as_node="a")
    words = [f"w{number}" for number in range(8)]
    await asyncio.gather(*(sdk.threads.update_state(thread_id, {"log": [word]}, as_node="a") for word in words))
    state = await sdk.threads.get_state(thread_id)
    assert sorted(state["values"]["log"]) == words  # type: ignore[call-overload]
    assert (await sdk.threads.get(thread_id))["values"] == state["values"]


async def test_supersteps_seed_a_thread(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create(
        metadata={"graph_id": "log"},
        supersteps=[
            {"updates": [{"values": {"log": ["x"]}, "as_node": "__input__"}]},
            {"updates": [{"values": {"log": ["x"]}, "as_node": "__start__"}]},
            {"updates": [{"values": {"log": ["seeded"]}, "as_node": "a"}]},
            {"updates": [{"values": None, "command": {"update": {"topic": "t"}}, "as_node": "b"}]},
        ],
    )
    assert (thread["status"], thread["values"]) == ("idle", {"log": ["x", "seeded"], "topic": "t"})
    history = await sdk.threads.get_history(thread["thread_id"], limit=10)
    assert [state["metadata"]["source"] for state in history] == ["update", "update", "update", "input"]  # type: ignore[index]
    assert [state["values"] for state in history[1:]] == [{"log": ["x", "seeded"]}, {"log": ["x"]}, {"log": []}]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "has no assigned graph ID"),
        ({"graph_id": "nope"}, "Graph 'nope' not found"),
        ({"graph_id": "log"}, "Node nonode does not exist"),
    ],
)
async def test_supersteps_that_fail_leave_an_empty_thread(
    http: httpx.AsyncClient, sdk: LangGraphClient, metadata: dict[str, Any], reason: str
) -> None:
    thread_id = str(uuid.uuid4())
    steps = [
        {"updates": [{"values": {"log": ["x"]}, "as_node": "__input__"}]},
        {"updates": [{"values": {"log": ["y"]}, "as_node": "nonode"}]},
    ]
    response = await http.post("/threads", json={"thread_id": thread_id, "metadata": metadata, "supersteps": steps})
    start = f"Thread {thread_id} was created, but there were problems updating the state: "
    # what the graph objects to is answered as it is
    refused = metadata.get("graph_id") == "log"
    assert response.status_code == (400 if refused else 201)
    assert response.json()["detail"].startswith(reason if refused else start)
    assert reason in response.json()["detail"]
    assert (await sdk.threads.get(thread_id))["values"] is None
    if refused:
        assert await sdk.threads.get_state(thread_id) == EMPTY
