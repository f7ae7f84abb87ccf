"""Every operation of the OpenAPI document, with the official SDK, through API Gateway, in the function that has it.

``TOURS`` is what is called. A response hook of the SDK's HTTP client writes down which operation has answered, and the test
compares that with the document: a route that is added needs a call here. What the SDK has no method for goes through its own
client (``client.http``).
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from figures import Figures
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings
from mcp import Client as MCPClient

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("due_cron")]

MINIMAL = {"text": "hello"}
REPLY = {"text": "hello", "reply": "You said: hello"}
LONG = {"steps": 600, "seconds": 1.0}
#: Not in the document; people look at them with a browser.
FOR_PEOPLE = {"GET /", "GET /docs", "GET /openapi.json"}
#: In the document as the protocol wants them to be answered, with 405 and 404.
REFUSED = {"GET /mcp/", "DELETE /mcp/"}


class Reached:
    """Which operations have answered, how often, with what status."""

    def __init__(self, url: str, operations: set[str]) -> None:
        self._prefix = httpx.URL(url).path
        self.answers: Counter[tuple[str, int]] = Counter()
        self.not_through_the_gateway: list[str] = []
        # literal paths first: /threads/search is not /threads/{thread_id}
        self._shapes = [
            (operation, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(operation))))
            for operation in sorted(operations, key=lambda operation: operation.count("{"))
        ]

    async def note(self, response: httpx.Response) -> None:
        request = f"{response.request.method} {response.request.url.path.removeprefix(self._prefix)}"
        if "x-amz-apigw-id" not in response.headers:
            self.not_through_the_gateway.append(request)
        operation = next((name for name, shape in self._shapes if shape.fullmatch(request)), request)
        self.answers[operation, response.status_code] += 1

    @property
    def successes(self) -> set[str]:
        return {operation for operation, status in self.answers if status < 300}


def operations() -> set[str]:
    """``GET /threads/{thread_id}`` and so on: all that the application has, whichever function serves it."""
    app = create_app(StateContainer(Settings(database_uri="postgresql://nowhere"), manifest=Manifest.of({})))
    return {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}


async def assistants(client: LangGraphClient) -> None:
    name = f"tour-{uuid.uuid4()}"
    made = await client.assistants.create("minimal", name=name, metadata={"tour": name})
    assistant_id = made["assistant_id"]
    assert (await client.assistants.get(assistant_id))["version"] == 1
    assert (await client.assistants.update(assistant_id, name=f"{name} 2", metadata={"more": 1}))["version"] == 2
    assert [row["version"] for row in await client.assistants.get_versions(assistant_id)] == [2, 1]
    assert (await client.assistants.set_latest(assistant_id, 1))["name"] == name
    found = await client.assistants.search(metadata={"tour": name}, response_format="object")
    assert [row["assistant_id"] for row in found["assistants"]] == [assistant_id]
    assert await client.assistants.count(metadata={"tour": name}) == 1
    assert "answer" in {node["id"] for node in (await client.assistants.get_graph(assistant_id))["nodes"]}
    schemas = await client.assistants.get_schemas(assistant_id)
    assert set(schemas["input_schema"]["properties"]) == {"text", "reply"}
    (team,) = await client.assistants.search(graph_id="team", metadata={"created_by": "system"})
    assert set(await client.assistants.get_subgraphs(team["assistant_id"])) == {"walk"}
    assert set(await client.assistants.get_subgraphs(team["assistant_id"], namespace="walk")) == {"walk"}
    await client.assistants.delete(assistant_id)
    assert await client.assistants.search(metadata={"tour": name}) == []


async def threads(client: LangGraphClient) -> None:
    tour = {"tour": str(uuid.uuid4())}
    thread_id = (await client.threads.create(metadata=tour, ttl=60))["thread_id"]
    assert (await client.threads.get(thread_id))["status"] == "idle"
    assert (await client.threads.update(thread_id, metadata={"more": 1}))["metadata"] == {**tour, "more": 1}
    copy = await client.threads.copy(thread_id)
    assert {row["thread_id"] for row in await client.threads.search(metadata=tour)} >= {thread_id}
    assert await client.threads.count(metadata=tour) >= 1
    assert (await client.http.get(f"/threads/{thread_id}/storage"))["checkpoints"]["count"] == 0
    assert (await client.threads.prune([copy["thread_id"]]))["pruned_count"] == 1
    await client.threads.delete(thread_id)
    assert await client.threads.count(metadata=tour) == 0


async def state(client: LangGraphClient) -> None:
    written = [{"updates": [{"values": {"text": text}, "as_node": "answer"}]} for text in ("one", "two")]
    thread_id = (await client.threads.create(graph_id="minimal", supersteps=written))["thread_id"]
    now = await client.threads.get_state(thread_id)
    assert now["values"]["text"] == "two"
    await client.threads.update_state(thread_id, {"reply": "changed"})
    history = await client.threads.get_history(thread_id)
    assert [snapshot["values"].get("reply") for snapshot in history] == ["changed", None, None]
    assert await client.http.get(f"/threads/{thread_id}/history", params={"limit": 1}) == history[:1]
    before = history[1]["checkpoint"]
    assert (await client.threads.get_state(thread_id, checkpoint=before))["values"] == {"text": "two"}
    by_id = await client.http.get(f"/threads/{thread_id}/state/{before['checkpoint_id']}")
    assert by_id["values"] == {"text": "two"}


async def runs(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "minimal", input=MINIMAL, metadata={"n": 1})
    run_id = run["run_id"]
    assert await client.runs.join(thread_id, run_id) == REPLY
    assert (await client.runs.get(thread_id, run_id))["status"] == "success"
    assert [row["run_id"] for row in await client.runs.list(thread_id)] == [run_id]
    await client.runs.delete(thread_id, run_id)
    assert await client.runs.list(thread_id) == []

    endless = await client.runs.create(thread_id, "long_run", input=LONG)
    await client.runs.cancel(thread_id, endless["run_id"], wait=True)
    assert (await client.runs.get(thread_id, endless["run_id"]))["status"] == "interrupted"
    many = [await client.runs.create(thread_id, "long_run", input=LONG) for _ in range(2)]
    await client.runs.cancel_many(thread_id=thread_id, run_ids=[each["run_id"] for each in many])
    for each in many:
        await client.runs.join(thread_id, each["run_id"])
        assert (await client.runs.get(thread_id, each["run_id"]))["status"] == "interrupted"


async def stateless_runs(client: LangGraphClient) -> None:
    run = await client.runs.create(None, "minimal", input=MINIMAL, on_completion="keep")
    assert await client.http.get(f"/runs/{run['run_id']}/join") == REPLY
    joined = [part async for part in client.http.stream(f"/runs/{run['run_id']}/stream", "GET")]
    assert [part.event for part in joined if part.event == "error"] == []
    batch = await client.runs.create_batch([{"assistant_id": "minimal", "input": {"text": str(n)}} for n in range(3)])
    assert len({row["run_id"] for row in batch}) == 3
    for each, row in enumerate(batch):
        values = await client.http.get(f"/runs/{row['run_id']}/join")
        assert values == {"text": str(each), "reply": f"You said: {each}"}
    assert await client.runs.wait(None, "minimal", input=MINIMAL) == REPLY
    parts = [part async for part in client.runs.stream(None, "minimal", input=MINIMAL, stream_mode="values")]
    assert parts[-1].data == REPLY


async def streams(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    assert await client.runs.wait(thread_id, "minimal", input=MINIMAL) == REPLY
    made: dict[str, Any] = {}
    parts = [
        part
        async for part in client.runs.stream(
            thread_id,
            "minimal",
            input=MINIMAL,
            stream_mode=["updates", "values"],
            stream_resumable=True,
            on_run_created=made.update,
        )
    ]
    assert parts[0].event == "metadata"
    assert ("updates", {"answer": {"reply": REPLY["reply"]}}) in [(part.event, part.data) for part in parts]
    again = [
        part
        async for part in client.runs.join_stream(
            thread_id, made["run_id"], stream_mode=["updates", "values"], last_event_id="0-0"
        )
    ]
    assert [part for part in again if part.event != "metadata"] == [part for part in parts if part.event != "metadata"]
    # the stream of a thread never ends by itself
    async for part in await client.threads.join_stream(thread_id, last_event_id="0-0", stream_mode=["run_modes"]):
        if part.event == "values" and part.data == REPLY:
            break


async def protocol(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="team") as thread:
        await thread.run.start(input={"steps": 2, "seconds": 0.0})
        assert (await thread.output)["told"] == 2


async def crons(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    ours = {"tour": str(uuid.uuid4())}
    of_thread = await client.crons.create_for_thread(thread_id, "minimal", schedule="0 0 1 1 *", metadata=ours)
    cron = await client.crons.create("minimal", schedule="0 0 1 1 *", input=MINIMAL, metadata=ours)
    assert (await client.http.get(f"/runs/crons/{cron['cron_id']}"))["schedule"] == "0 0 1 1 *"
    assert (await client.crons.update(cron["cron_id"], schedule="5 0 1 1 *"))["schedule"] == "5 0 1 1 *"
    assert [row["cron_id"] for row in await client.crons.search(thread_id=thread_id)] == [of_thread["cron_id"]]
    assert await client.crons.count(thread_id=thread_id) == 1
    for each in (of_thread, cron):
        await client.crons.delete(each["cron_id"])
    assert await client.crons.count(thread_id=thread_id) == 0


async def store(client: LangGraphClient) -> None:
    place = [f"tour-{uuid.uuid4()}", "notes"]
    await client.store.put_item(place, key="one", value={"text": "kept"})
    assert (await client.store.get_item(place, key="one"))["value"] == {"text": "kept"}
    assert [item["key"] for item in (await client.store.search_items(place[:1]))["items"]] == ["one"]
    assert (await client.store.list_namespaces(prefix=place[:1]))["namespaces"] == [place]
    await client.store.delete_item(place, key="one")
    assert await client.store.get_item(place, key="one") is None


async def agents(client: LangGraphClient) -> None:
    (minimal,) = await client.assistants.search(graph_id="minimal", metadata={"created_by": "system"})
    path = f"/a2a/{minimal['assistant_id']}"
    card = await client.http.get(path)
    gateway = client.http.client.base_url
    # as API Gateway says it: LocalStack's own path in front of the stage is not part of it
    assert card["url"] == f"{gateway.scheme}://{gateway.host}:{gateway.port}/v1{path}"
    assert await client.http.get("/.well-known/agent-card.json", params={"assistant_id": path[5:]}) == card
    message = {"role": "user", "messageId": "m1", "parts": [{"kind": "data", "data": MINIMAL}]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    task = (await client.http.post(path, json=call))["result"]
    assert task["status"]["state"] == "completed"
    assert task["artifacts"][0]["parts"] == [{"kind": "data", "data": REPLY}]
    streamed = [part.data async for part in client.http.stream(path, "POST", json=call | {"method": "message/stream"})]
    assert streamed[-1]["result"]["final"] is True


async def tools(client: LangGraphClient) -> None:
    async with MCPClient(f"{client.http.client.base_url}mcp", read_timeout_seconds=60) as official:
        assert "minimal" in {tool.name for tool in (await official.list_tools()).tools}
        seen: list[str | None] = []

        async def progress(_done: float, _total: float | None, message: str | None) -> None:
            seen.append(message)

        result = await official.call_tool("minimal", MINIMAL, progress_callback=progress)
        assert result.structured_content == REPLY
        assert seen == ["answer"]
    # as the document has it; API Gateway knows no slash at the end
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "minimal", "arguments": MINIMAL}}
    answer = await client.http.client.post("/mcp/", json=call, headers={"accept": "application/json"})
    assert json.loads(answer.json()["result"]["content"][0]["text"]) == REPLY


async def system(client: LangGraphClient) -> None:
    assert (await client.http.get("/ok"))["ok"] is True
    assert await client.http.get("/ok", params={"check_db": "true"}) == {"ok": True, "services": {}}
    assert (await client.http.get("/info"))["version"]
    assert (await client.http.get("/metrics", params={"format": "json"}))["queue"]
    assert (await client.http.get("/"))["ok"] is True
    assert (await client.http.client.get("/docs")).status_code == 200
    assert (await client.http.get("/openapi.json"))["openapi"].startswith("3.")


Tour = Callable[[LangGraphClient], Coroutine[Any, Any, None]]
#: Two at a time, as there are two processors. What takes a worker and what does not beside each other.
TOURS: tuple[tuple[Tour, ...], tuple[Tour, ...]] = (
    (system, runs, stateless_runs, store),
    (assistants, streams, protocol, agents, tools, threads, state, crons),
)


@pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")
async def test_every_operation_answers_through_the_gateway(stack: Any, figures: Figures) -> None:
    expected = operations() - REFUSED
    reached = Reached(stack.url, expected | FOR_PEOPLE)

    async def take(tours: tuple[Tour, ...]) -> None:
        async with get_client(url=stack.url, api_key=None) as client:
            client.http.client.event_hooks["response"].append(reached.note)
            for tour in tours:
                await tour(client)

    async with asyncio.TaskGroup() as both:
        for tours in TOURS:
            both.create_task(take(tours))
    assert reached.successes == expected | FOR_PEOPLE
    assert not reached.not_through_the_gateway
    assert all(status < 300 for _, status in reached.answers), reached.answers
    figures(
        "E2E operations",
        operations=len(expected),
        reached=len(reached.successes & expected),
        requests=sum(reached.answers.values()),
    )
