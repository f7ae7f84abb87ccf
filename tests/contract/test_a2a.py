"""The Agent-to-Agent protocol on the wire, in both dialects, against the real ``dev`` command. Shapes and texts are those that the official
server was seen to answer with; ``docs/adr/0033-a2a.md`` has what goes beyond it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from agents import PATIENCE, Receiver, ask, call, error, frames, message, path_of, receiver, result
from dev_server import DevServer
from workload import assert_invariants

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.timeout(180)

UNKNOWN = str(uuid.uuid4())
TASK_ONLY = {"LangGraph-A2A-History-Scope": "task"}


@pytest.fixture
async def http(agents_server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=agents_server.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def notified() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def new(text: str, **more: Any) -> dict[str, Any]:
    """A message as 1.0 has it."""
    return {"role": "ROLE_USER", "parts": [{"text": text}], "messageId": str(uuid.uuid4()), **more}


# -- cards ---------------------------------------------------------------------------------------------------------


async def test_a_card(http: httpx.AsyncClient, agents_server: DevServer) -> None:
    answer = await http.get(path_of("talks"))
    assert answer.status_code == 200
    card = answer.json()
    url = agents_server.url + path_of("talks")
    assert card["name"] == "talks"
    assert card["description"] == "talks assistant"
    assert card["url"] == url
    assert card["supportedInterfaces"][0] == {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    assert card["capabilities"]["streaming"] is True
    assert card["capabilities"]["stateTransitionHistory"] is False
    assert card["capabilities"]["extensions"][0]["params"]["header"] == "LangGraph-A2A-History-Scope"
    assert card["defaultInputModes"] == card["defaultOutputModes"] == ["application/json", "text/plain"]
    skill = card["skills"][0]
    assert skill["id"] == path_of("talks").removeprefix("/a2a/") + "-main"
    assert skill["name"] == "talks Capabilities"
    expected = {"required": ["messages"], "properties": ["messages"], "supportsA2A": True}
    assert skill["metadata"]["inputSchema"] == expected
    well_known = "/.well-known/agent-card.json"
    assert (await http.get(well_known, params={"assistant_id": path_of("talks")[5:]})).json() == card
    for method in ("GetExtendedAgentCard", "agent/getAuthenticatedExtendedCard"):
        assert await result(http, "talks", method, {}) == card
    behind = {"x-forwarded-proto": "https", "x-forwarded-host": "agents.example.com", "x-forwarded-prefix": "/api"}
    moved = (await http.get(path_of("talks"), headers=behind)).json()
    assert moved["url"] == "https://agents.example.com/api" + path_of("talks")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, "Missing required query parameter: assistant_id"),
        ({"assistant_id": "x"}, "Failed to get assistant 'x': Invalid assistant ID: must be a UUID"),
        ({"assistant_id": UNKNOWN}, f"Assistant '{UNKNOWN}' not found"),
    ],
)
async def test_no_card(http: httpx.AsyncClient, query: dict[str, str], text: str) -> None:
    answer = await http.get("/.well-known/agent-card.json", params=query)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": -32602, "message": text}}
    if query:
        assert (await http.get(f"/a2a/{query['assistant_id']}")).json() == answer.json()
    assert (await http.get("/.well-known/agent.json")).status_code == 404


# -- calls that cannot be carried out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "text", "call_id"),
    [
        ("{", -32700, "Invalid JSON payload", None),
        ("", -32700, "Invalid JSON payload", None),
        ("[]", -32600, "Invalid message format: expected object", None),
        ("[" * 5000, -32700, "Invalid JSON payload", None),
        ("[" * 500 + "]" * 500, -32600, "Invalid JSON in request body: nested deeper than 200 levels", None),
        ('{"id":7,"method":"tasks/get"}', -32600, "Invalid JSON-RPC message: missing or invalid jsonrpc version", 7),
        ('{"jsonrpc":"2.0","id":7}', -32600, "Invalid JSON-RPC request: missing 'method' field", 7),
        ('{"jsonrpc":"2.0","id":7,"method":3}', -32601, "Method not found: method must be a string", 7),
        ('{"jsonrpc":"2.0","id":7,"method":"zzz"}', -32601, "Method not found: zzz", 7),
        (
            '{"jsonrpc":"2.0","id":{},"method":"tasks/get"}',
            -32600,
            "Invalid JSON-RPC request: 'id' must be a string, number, or null",
            None,
        ),
        (
            '{"jsonrpc":"2.0","method":"tasks/get","params":{"id":"x"}}',
            -32600,
            "Invalid message format: must be a JSON-RPC request or notification",
            None,
        ),
        (
            '{"jsonrpc":"2.0","id":"7","method":"tasks/get","params":[1]}',
            -32602,
            "Invalid params: expected object",
            "7",
        ),
        (
            '{"jsonrpc":"2.0","id":7,"method":"tasks/get","params":{"id":"\\u0000"}}',
            -32602,
            "Invalid params: they hold a NUL character",
            7,
        ),
        ('{"jsonrpc":"2.0","id":7,"method":"message/send"}', -32602, "Missing or invalid 'message' in params", 7),
        ('{"jsonrpc":"2.0","id":7,"method":"message/stream"}', -32602, "Missing or invalid 'message' in params", 7),
    ],
)
async def test_what_is_no_call(http: httpx.AsyncClient, body: str, code: int, text: str, call_id: Any) -> None:
    answer = await http.post(path_of("talks"), content=body)
    assert answer.status_code == 200
    assert answer.json() == {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": text}}


@pytest.mark.parametrize(
    ("method", "params", "code", "text"),
    [
        ("message/send", {"message": {"parts": []}}, -32602, "Missing required 'messageId' in message"),
        ("message/send", {"message": message("x", parts=[])}, -32602, "Message must contain at least one part"),
        ("message/send", {"message": message("x", contextId=3)}, -32602, "contextId must be a string"),
        ("message/send", {"message": message("x", taskId=3)}, -32602, "taskId must be a string"),
        ("message/send", {"message": message("x", contextId="bad")}, -32602, "Failed to create run: Invalid thread ID"),
        (
            "message/stream",
            {"message": message("x", contextId="bad")},
            -32602,
            "Failed to create run: Invalid thread ID",
        ),
        ("message/send", {"message": message("x", taskId="nope")}, -32001, "Task not found: nope"),
        ("message/send", {"message": message("x"), "configuration": 3}, -32602, "configuration must be an object"),
        ("message/send", {"message": message("x"), "context": 3}, -32602, "context must be an object"),
        ("SendMessage", {"message": message("x"), "metadata": []}, -32602, "metadata must be an object"),
        ("tasks/get", {}, -32602, "Missing required parameter: id (task_id)"),
        ("tasks/get", {"id": 3}, -32602, "Missing required parameter: id (task_id)"),
        ("tasks/get", {"id": "zzz"}, -32001, "Task not found: zzz"),
        ("tasks/get", {"id": f"{UNKNOWN}:{UNKNOWN}"}, -32001, f"Task not found: {UNKNOWN}:{UNKNOWN}"),
        ("tasks/get", {"id": "x", "historyLength": -1}, -32602, "historyLength must be a non-negative integer"),
        ("tasks/cancel", {"id": "zzz"}, -32001, "Task not found: zzz"),
        ("SubscribeToTask", {"id": "zzz"}, -32001, "Task not found: zzz"),
        ("tasks/resubscribe", {"id": "zzz"}, -32001, "Task not found: zzz"),
        ("ListTasks", {"pageSize": 1000}, -32602, "pageSize must be an integer between 1 and 100."),
        ("ListTasks", {"pageToken": "x"}, -32602, "Invalid pageToken"),
        ("ListTasks", {"status": "x"}, -32602, "Invalid status: x"),
        ("ListTasks", {"statusTimestampAfter": "x"}, -32602, "statusTimestampAfter must be a time in ISO 8601"),
        ("tasks/pushNotificationConfig/get", {"id": "zzz"}, -32001, "Task not found: zzz"),
    ],
)
async def test_what_cannot_be_done(http: httpx.AsyncClient, method: str, params: Any, code: int, text: str) -> None:
    assert await error(http, "talks", method, params) == (code, text)


async def test_other_assistants(http: httpx.AsyncClient) -> None:
    body = call("message/send", {"message": message("x")})
    for assistant, text in (
        ("x", "Invalid assistant ID: must be a UUID"),
        (UNKNOWN, f"Assistant '{UNKNOWN}' not found"),
    ):
        for method in ("message/send", "message/stream"):
            found = (await http.post(f"/a2a/{assistant}", json=body | {"method": method})).json()["error"]
            assert found == {"code": -32602, "message": text}
    code, text = await error(http, "counts", "message/send", {"message": message("x")})
    assert code == -32602
    assert "(graph 'counts') does not support A2A conversational messages." in text
    assert text.endswith("Available input fields: ['count']")
    scope = {"LangGraph-A2A-History-Scope": "both"}
    refused = await error(http, "talks", "tasks/get", {"id": "x"}, **scope)
    assert refused == (-32602, "historyScope must be 'context' or 'task'")
    task = await result(http, "talks", "message/send", {"message": message("x")})
    assert await error(http, "asks", "tasks/get", {"id": task["id"]}) == (-32001, f"Task not found: {task['id']}")


@pytest.mark.parametrize(
    ("accept", "method", "status", "text"),
    [
        ("text/html", "message/send", 400, "Accept header must include application/json"),
        ("text/event-stream", "message/send", 400, "Accept header must include application/json"),
        ("application/json", "message/stream", 400, "Accept header must include text/event-stream for streaming"),
        ("*/*", "message/send", 200, ""),
        ("text/event-stream", "message/stream", 200, ""),
        ("*/*", "message/stream", 200, ""),
    ],
)
async def test_what_clients_accept(http: httpx.AsyncClient, accept: str, method: str, status: int, text: str) -> None:
    body = call(method, {"message": message("x")})
    answer = await http.post(path_of("talks"), json=body, headers={"accept": accept})
    assert answer.status_code == status
    if text:
        assert answer.json() == {"error": text}


# -- tasks ---------------------------------------------------------------------------------------------------------


async def test_a_message_and_its_answer(http: httpx.AsyncClient) -> None:
    first = message("hello")
    task = await result(http, "talks", "message/send", {"message": first})
    thread_id, run_id = task["id"].split(":")
    assert task["contextId"] == thread_id
    assert uuid.UUID(thread_id).version == 4
    assert (await http.get(f"/threads/{thread_id}/runs/{run_id}")).json()["status"] == "success"
    about = {"taskId": task["id"], "contextId": thread_id}
    one = {"kind": "message", **about}
    expected = {
        "kind": "task",
        "id": task["id"],
        "contextId": thread_id,
        "history": [
            {**one, "role": "user", "parts": [{"kind": "text", "text": "hello"}], "messageId": first["messageId"]},
            {**one, "role": "agent", "parts": [{"kind": "text", "text": "one two three"}], "messageId": "spoken-1"},
        ],
        "status": {"state": "completed", "timestamp": task["status"]["timestamp"]},
        "artifacts": [
            {
                "artifactId": task["artifacts"][0]["artifactId"],
                "name": "Assistant Response",
                "description": f"Response from assistant {path_of('talks')[5:]}",
                "parts": [{"kind": "text", "text": "one two three"}],
            }
        ],
    }
    assert task == expected

    wrapped = await result(http, "talks", "SendMessage", {"message": new("again", contextId=thread_id)})
    assert set(wrapped) == {"task"}
    again = wrapped["task"]
    assert again["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [each["role"] for each in again["history"]] == ["ROLE_USER", "ROLE_AGENT"] * 2
    # each message is the task's that it was said in
    assert [each["taskId"] for each in again["history"]] == [task["id"]] * 2 + [again["id"]] * 2
    alone = await result(http, "talks", "GetTask", {"id": again["id"]}, **TASK_ONLY)
    assert len(alone["history"]) == 2
    # what came later is not the first task's
    got = await result(http, "talks", "tasks/get", {"id": task["id"]})
    assert got["history"] == task["history"]
    assert got["status"]["message"]["parts"] == [{"kind": "text", "text": "Task completed successfully"}]
    assert got["artifacts"] == task["artifacts"]
    assert "history" not in await result(http, "talks", "tasks/get", {"id": task["id"], "historyLength": 0})
    last = await result(http, "talks", "tasks/get", {"id": task["id"], "historyLength": 1})
    assert last["history"] == task["history"][1:]

    listed = await result(http, "talks", "ListTasks", {"contextId": thread_id, "pageSize": 1})
    assert {key: listed[key] for key in ("totalSize", "pageSize", "nextPageToken")} == {
        "totalSize": 2,
        "pageSize": 1,
        "nextPageToken": "1",
    }
    assert [each["id"] for each in listed["tasks"]] == [again["id"]]
    assert listed["tasks"][0]["artifacts"] == []
    rest = {"contextId": thread_id, "pageToken": "1", "includeArtifacts": True}
    listed = await result(http, "talks", "tasks/list", rest)
    assert [each["id"] for each in listed["tasks"]] == [task["id"]]
    assert listed["tasks"][0]["artifacts"] == task["artifacts"]
    assert listed["nextPageToken"] == ""
    everywhere = await result(http, "talks", "ListTasks", {"status": "TASK_STATE_COMPLETED"})
    assert {task["id"], again["id"]} <= {each["id"] for each in everywhere["tasks"]}
    for nothing in ({"contextId": UNKNOWN}, {"contextId": "x"}, {"contextId": thread_id, "status": "working"}):
        assert (await result(http, "talks", "ListTasks", nothing))["tasks"] == []

    code, _ = await error(http, "talks", "message/send", {"message": message("x", taskId=task["id"])})
    assert code == -32004
    refused = await error(http, "talks", "tasks/cancel", {"id": task["id"]})
    assert refused == (-32002, "Task is not cancelable in its current state")
    await http.delete(f"/threads/{thread_id}")
    assert await error(http, "talks", "tasks/get", {"id": task["id"]}) == (-32001, f"Task not found: {task['id']}")


@pytest.mark.parametrize("method", ["message/stream", "SendStreamingMessage"])
async def test_a_stream(http: httpx.AsyncClient, method: str) -> None:
    is_new = method == "SendStreamingMessage"
    states = ("TASK_STATE_SUBMITTED", "TASK_STATE_COMPLETED") if is_new else ("submitted", "completed")
    sent = new("hello") if is_new else message("hello")
    first, *updates, artifact, end = await frames(http, "talks", method, {"message": sent})
    task = first["task"] if is_new else first
    about = {"taskId": task["id"], "contextId": task["contextId"]}
    assert task["status"]["state"] == states[0]
    assert task["history"] == [{**sent, "kind": "message", **about}]
    assert updates
    assert all(update.items() >= {**about, "kind": "status-update", "final": False}.items() for update in updates)
    texts = [update["status"]["message"]["parts"][0]["text"] for update in updates]
    assert texts == sorted(texts, key=len)
    assert texts[-1] == "one two three"
    assert artifact.items() >= {**about, "kind": "artifact-update", "append": False, "lastChunk": True}.items()
    assert artifact["artifact"]["parts"] == [{"kind": "text", "text": "one two three"}]
    assert end.items() >= {**about, "kind": "status-update", "final": True}.items()
    assert end["status"] == {"state": states[1], "timestamp": end["status"]["timestamp"]}


async def test_what_a_graph_gets(http: httpx.AsyncClient) -> None:
    parts = [{"kind": "text", "text": "look"}, {"kind": "data", "data": {"order": {"n": 1}}}]
    params = {"message": message("", parts=parts), "context": {"tone": "low"}, "metadata": {"by": "me"}}
    task = await result(http, "echoes", "message/send", params)
    said = task["artifacts"][0]["parts"][0]["text"]
    assert said == '{"content": "look", "context": {"tone": "low"}, "order": {"n": 1}, "turn": 1}'
    thread_id, run_id = task["id"].split(":")
    assert (await http.get(f"/threads/{thread_id}/runs/{run_id}")).json()["metadata"]["by"] == "me"
    data = [{"kind": "data", "data": {"count": 1}}]
    counted = await result(http, "counts", "message/send", {"message": message("", parts=data)})
    assert counted["artifacts"][0]["parts"] == [{"kind": "data", "data": {"count": 2}}]


async def test_a_failed_task(http: httpx.AsyncClient) -> None:
    task = await result(http, "fails", "message/send", {"message": message("x")})
    assert task["status"]["state"] == "failed"
    assert task["status"]["message"]["parts"][0]["text"].startswith("Error executing assistant: ValueError")
    *_, end = await frames(http, "fails", "message/stream", {"message": message("x")})
    assert (end["status"]["state"], end["final"]) == ("failed", True)


async def test_a_question_is_answered_once(http: httpx.AsyncClient) -> None:
    task = await result(http, "asks", "message/send", {"message": message("book")})
    assert task["status"]["state"] == "input-required"
    (question,) = task["artifacts"]
    assert (question["name"], question["description"]) == ("Interrupt", "Agent requires input to continue")
    assert question["parts"][0]["data"]["value"] == {"question": "Which city?"}
    assert (await result(http, "asks", "tasks/get", {"id": task["id"]}))["artifacts"] == [question]
    # whose task it is not
    elsewhere = message("Rome", taskId=task["id"], contextId=UNKNOWN)
    assert (await error(http, "asks", "message/send", {"message": elsewhere}))[0] == -32001
    answers = [
        ask(http, "asks", "message/send", {"message": message(city, taskId=task["id"])}) for city in ("Rome", "Oslo")
    ]
    first, second = await asyncio.gather(*answers)
    # one has answered; the other one came too late, or is a further message to a task that was working again
    done = [each["result"] for each in (first, second) if "result" in each]
    assert {each["id"] for each in done} == {task["id"]}
    texts = [
        part["text"] for each in done for artifact in each["artifacts"] for part in artifact["parts"] if "text" in part
    ]
    assert len([text for text in texts if text.startswith("Flying to")]) == 1
    runs = (await http.get(f"/threads/{task['contextId']}/runs")).json()
    assert sum((run["kwargs"]["command"] or {}).get("resume") is not None for run in runs) == 1


async def test_data_can_be_an_answer(http: httpx.AsyncClient) -> None:
    task = await result(http, "asks", "SendMessage", {"message": new("book")})
    answer = {**new(""), "parts": [{"data": {"city": "Rome"}}], "taskId": task["task"]["id"]}
    done = await result(http, "asks", "SendMessage", {"message": answer})
    assert done["task"]["id"] == task["task"]["id"]
    assert done["task"]["artifacts"][0]["parts"][0]["text"] == "Flying to {'city': 'Rome'}"


async def test_another_message_in_the_context_is_another_task(http: httpx.AsyncClient) -> None:
    task = await result(http, "asks", "message/send", {"message": message("book")})
    other = await result(http, "asks", "message/send", {"message": message("other", contextId=task["contextId"])})
    assert other["id"] != task["id"]
    listed = await result(http, "asks", "tasks/list", {"contextId": task["contextId"]})
    assert [each["status"]["state"] for each in listed["tasks"]] == ["input-required", "completed"]


async def test_a_task_that_waits_is_canceled(http: httpx.AsyncClient, notified: Receiver) -> None:
    config = {"pushNotificationConfig": {"url": notified.url}}
    task = await result(http, "asks", "message/send", {"message": message("book"), "configuration": config})
    canceled = await result(http, "asks", "tasks/cancel", {"id": task["id"]})
    assert canceled["status"]["state"] == "canceled"
    assert canceled["status"]["message"]["parts"][0]["text"] == "Task was canceled"
    assert (await result(http, "asks", "tasks/get", {"id": task["id"]}))["status"]["state"] == "canceled"
    assert (await error(http, "asks", "message/send", {"message": message("Rome", taskId=task["id"])}))[0] == -32004
    states = [body["status"]["state"] for _, body in await asyncio.to_thread(notified.at_least, 2)]
    assert states == ["input-required", "canceled"]


async def test_a_task_that_is_answered_while_it_is_canceled(
    http: httpx.AsyncClient, agents_server: DevServer, notified: Receiver
) -> None:
    """Both have seen it wait. Whoever comes second finds what the first has made of it."""
    config = {"pushNotificationConfig": {"url": notified.url}}
    task = await result(http, "asks", "message/send", {"message": message("book"), "configuration": config})
    async with await psycopg.AsyncConnection.connect(agents_server.database_uri) as holding:
        await holding.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (task["contextId"],))
        answer = {"message": message("Rome", taskId=task["id"])}
        answering = asyncio.create_task(ask(http, "asks", "message/send", answer))
        await _waiting_for_locks(agents_server, 1)
        canceling = asyncio.create_task(ask(http, "asks", "tasks/cancel", {"id": task["id"]}))
        await _waiting_for_locks(agents_server, 2)
    answered, canceled = await answering, await canceling
    told = canceled["result"]["status"]["state"] if "result" in canceled else canceled["error"]["code"]
    ended = answered["result"]["status"]["state"]
    assert (ended, told) in (("canceled", "canceled"), ("completed", -32002))
    states = [body["status"]["state"] for _, body in await asyncio.to_thread(notified.at_least, 2)]
    assert states == ["input-required", ended]


async def _waiting_for_locks(server: DevServer, least: int) -> None:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(server.database_uri, autocommit=True) as connection:
        async with asyncio.timeout(PATIENCE):
            while (await connection.execute(query)).rowcount < least:
                await asyncio.sleep(0.02)


async def test_work_in_progress(http: httpx.AsyncClient, tmp_path: Path) -> None:
    go = tmp_path / "go"
    at_once = {"configuration": {"blocking": False}}
    task = await result(http, "waits", "message/send", {"message": message(str(go)), **at_once})
    assert task["status"]["state"] in ("submitted", "working")
    assert "artifacts" not in task
    assert [each["role"] for each in task["history"]] == ["user"]
    # a further message to the task waits for its turn
    more = asyncio.create_task(ask(http, "waits", "message/send", {"message": message("more", taskId=task["id"])}))
    followers = [
        asyncio.create_task(frames(http, "waits", method, {"id": task["id"]}))
        for method in ("tasks/resubscribe", "SubscribeToTask")
    ]
    while len((await http.get(f"/threads/{task['contextId']}/runs")).json()) < 2:
        await asyncio.sleep(0.02)
    assert (await result(http, "waits", "tasks/get", {"id": task["id"]}))["status"]["state"] in ("submitted", "working")
    go.touch()
    done = (await more)["result"]
    assert done["id"] == task["id"]
    assert done["status"]["state"] == "completed"
    assert {each["taskId"] for each in done["history"]} == {task["id"]}
    for told in await asyncio.gather(*followers):
        first, *_, end = told
        assert (first.get("task") or first)["id"] == task["id"]
        assert end["final"] is True
        assert end["status"]["state"] in ("completed", "TASK_STATE_COMPLETED")
    assert (await error(http, "waits", "tasks/resubscribe", {"id": task["id"]}))[0] == -32004


async def test_a_running_task_is_canceled_for_everybody(http: httpx.AsyncClient, tmp_path: Path) -> None:
    params = {"message": message(str(tmp_path / "never"))}
    waiting = asyncio.create_task(ask(http, "waits", "message/send", params))
    found: list[Any] = []
    while not found:
        listed = await result(http, "waits", "ListTasks", {"status": "TASK_STATE_WORKING"})
        found = [each for each in listed["tasks"] if each["history"][0]["messageId"] == params["message"]["messageId"]]
    task_id = found[0]["id"]
    following = asyncio.create_task(frames(http, "waits", "tasks/resubscribe", {"id": task_id}))
    canceled = await result(http, "waits", "CancelTask", {"id": task_id})
    assert canceled["status"]["state"] == "TASK_STATE_CANCELED"
    assert (await result(http, "waits", "tasks/get", {"id": task_id}))["status"]["state"] == "canceled"
    # the official server says "completed" to those who wait
    assert (await waiting)["result"]["status"]["state"] == "canceled"
    # who came too late to follow was told so
    assert (await _end_of(following)) in ("canceled", "refused")


async def _end_of(following: asyncio.Task[list[dict[str, Any]]]) -> str:
    try:
        state: str = (await following)[-1]["status"]["state"]
    except AssertionError:  # no stream but the refusal
        return "refused"
    return state


async def test_runs_made_otherwise_are_tasks_too(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "talks", "input": {"messages": [{"role": "user", "content": "hello"}]}}
    await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    (run,) = (await http.get(f"/threads/{thread_id}/runs")).json()
    task = await result(http, "talks", "tasks/get", {"id": f"{thread_id}:{run['run_id']}"})
    assert task["status"]["state"] == "completed"
    assert [each["role"] for each in task["history"]] == ["user", "agent"]


# -- notifications -------------------------------------------------------------------------------------------------


async def test_notification_configs(http: httpx.AsyncClient, notified: Receiver) -> None:
    task = await result(http, "asks", "message/send", {"message": message("book")})
    config = {
        "url": notified.url,
        "id": "mine",
        "token": "t",
        "authentication": {"schemes": ["Bearer"], "credentials": "c"},
    }
    method = "tasks/pushNotificationConfig"
    made = await result(http, "asks", f"{method}/set", {"taskId": task["id"], "pushNotificationConfig": config})
    # the credentials are for the receiver
    shown = {"url": notified.url, "id": "mine", "token": "t", "authentication": {"schemes": ["Bearer"]}}
    assert made == {"taskId": task["id"], "pushNotificationConfig": shown}
    assert await result(http, "asks", f"{method}/get", {"id": task["id"]}) == made
    assert await result(http, "asks", f"{method}/list", {"id": task["id"]}) == [made]
    renewed = {"taskId": task["id"], "id": "mine", "url": notified.url}
    assert await result(http, "asks", "CreateTaskPushNotificationConfig", renewed) == renewed
    listed = await result(http, "asks", "ListTaskPushNotificationConfigs", {"taskId": task["id"]})
    assert listed == {"configs": [renewed], "nextPageToken": ""}
    named = {"id": task["id"], "pushNotificationConfigId": "mine"}
    for _ in range(2):
        assert await result(http, "asks", f"{method}/delete", named) is None
    assert (await error(http, "asks", f"{method}/get", named))[0] == -32001
    for number in range(10):
        await result(http, "asks", "CreateTaskPushNotificationConfig", {**renewed, "id": str(number)})
    assert (await error(http, "asks", "CreateTaskPushNotificationConfig", {**renewed, "id": "11"}))[0] == -32602


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": 3},
        {"url": "http://169.254.169.254/latest/meta-data"},
        {"url": "http://localhost/x"},
        {"url": "file:///etc/passwd"},
        {"url": "http://127.0.0.1/x", "token": "a\r\nx: y"},
        {"url": "http://127.0.0.1/x", "authentication": {"schemes": ["B"], "credentials": "a\nb"}},
        {"url": "http://127.0.0.1/x", "id": "x" * 500},
    ],
)
async def test_configs_that_are_refused(http: httpx.AsyncClient, config: dict[str, Any]) -> None:
    params = {"message": message("x"), "configuration": {"pushNotificationConfig": config}}
    before = (await http.post("/threads/count", json={})).json()
    assert (await error(http, "talks", "message/send", params))[0] == -32602
    assert (await http.post("/threads/count", json={})).json() == before


async def test_what_a_project_turns_off(settings: Settings) -> None:
    """Webhooks, and with them notifications; and all of this."""
    graph = GraphManifest(graph_id="chat", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
    whole = Manifest.of({"chat": graph})
    silent = replace(whole, webhooks=WebhookRules(disabled=True))
    closed = replace(whole, http=replace(whole.http, disabled=frozenset({"a2a"})))
    answers = []
    for manifest in (silent, closed):
        container = ApiContainer(settings, manifest=manifest)
        await container.assistants.ensure_defaults()
        transport = httpx.ASGITransport(create_app(container))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answers.append(await client.get(path_of("chat")))
            if manifest is closed:
                well_known = "/.well-known/agent-card.json"
                answers.append(await client.get(well_known, params={"assistant_id": path_of("chat")[5:]}))
                answers.append(await client.post(path_of("chat"), json=call("tasks/get", {"id": "x"})))
                continue
            config = {"pushNotificationConfig": {"url": "https://example.com"}}
            for method, params in (
                ("message/send", {"message": message("x"), "configuration": config}),
                ("tasks/pushNotificationConfig/set", {"taskId": "x", **config}),
                ("ListTaskPushNotificationConfigs", {"taskId": "x"}),
            ):
                refused = await error(client, "chat", method, params)
                assert refused == (-32003, "Push Notification is not supported")
        await container.aclose()
    assert answers[0].json()["capabilities"]["pushNotifications"] is False
    assert [answer.status_code for answer in answers[1:]] == [404, 404, 404]


async def test_nothing_is_left_behind(agents_server: DevServer) -> None:
    await assert_invariants(agents_server.database_uri, worker=True)
