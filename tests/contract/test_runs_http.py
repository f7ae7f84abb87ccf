"""Runs as ``contract/runs.md`` says: creating, listing, cancelling, deleting; what a run emits is in test_streaming.py."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from langgraph_serverless.domain.ids import default_assistant_id

pytestmark = pytest.mark.usefixtures("clean_database")

KEYS = {
    "run_id",
    "thread_id",
    "assistant_id",
    "metadata",
    "status",
    "kwargs",
    "multitask_strategy",
    "created_at",
    "updated_at",
    "langsmith_session_name",
}
KWARGS = {
    "input",
    "command",
    "config",
    "context",
    "stream_mode",
    "interrupt_before",
    "interrupt_after",
    "webhook",
    "feedback_keys",
    "temporary",
    "subgraphs",
    "resumable",
    "checkpoint_during",
    "durability",
}


async def new_thread(http: httpx.AsyncClient) -> str:
    answer = await http.post("/threads", json={})
    thread_id: str = answer.json()["thread_id"]
    return thread_id


async def test_create_answers_the_run_and_where_it_is(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    answer = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat", "input": {"x": 1}})
    run = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-location"] == f"/threads/{thread_id}/runs/{run['run_id']}"
    assert "location" not in answer.headers
    assert set(run) == KEYS
    assert set(run["kwargs"]) == KWARGS
    assert run["status"] == "pending"
    assert run["thread_id"] == thread_id
    assert run["assistant_id"] == str(default_assistant_id("chat"))
    assert uuid.UUID(run["run_id"]).version == 7
    assert run["kwargs"]["input"] == {"x": 1}
    assert run["kwargs"]["stream_mode"] == ["values"]
    assert run["kwargs"]["temporary"] is False


async def test_stateless_create_is_located_without_a_thread(http: httpx.AsyncClient) -> None:
    answer = await http.post("/runs", json={"assistant_id": "chat", "run_id": str(uuid.uuid4())})
    run = answer.json()
    assert answer.headers["content-location"] == f"/runs/{run['run_id']}"
    assert run["kwargs"]["temporary"] is True
    kept = await http.post("/runs", json={"assistant_id": "chat", "on_completion": "keep"})
    assert kept.json()["kwargs"]["temporary"] is False


async def test_every_field_reaches_the_run(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    checkpoint_id = "1ef6a5b8-4457-6db0-8b15-cffd3797fa04"
    body: dict[str, Any] = {
        "assistant_id": str(default_assistant_id("chat")),
        "input": None,
        "command": {"resume": 1},
        "metadata": {"mm": 1},
        "config": {"tags": ["tg"], "recursion_limit": 11, "max_concurrency": 2, "run_name": "n"},
        "context": {"foo": "bar"},
        "checkpoint": {"checkpoint_id": checkpoint_id, "checkpoint_ns": ""},
        "interrupt_before": "*",
        "interrupt_after": ["agent"],
        "stream_mode": ["values", "messages-tuple"],
        "stream_subgraphs": True,
        "stream_resumable": True,
        "durability": "sync",
        "feedback_keys": ["k"],
        "multitask_strategy": "interrupt",
        "langsmith_tracer": {"project_name": "p"},
        "unknown": 1,
    }
    run = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()
    kwargs = run["kwargs"]
    assert kwargs["command"] == {"resume": 1}
    assert run["metadata"]["mm"] == 1
    assert {key: kwargs["config"][key] for key in body["config"]} == body["config"]
    assert kwargs["config"]["configurable"]["foo"] == "bar"
    assert kwargs["config"]["configurable"]["checkpoint_id"] == checkpoint_id
    assert kwargs["interrupt_before"] == "*"
    assert kwargs["interrupt_after"] == ["agent"]
    assert kwargs["stream_mode"] == ["values", "messages-tuple"]
    assert kwargs["subgraphs"] is True
    assert kwargs["resumable"] is True
    assert kwargs["durability"] == "sync"
    assert kwargs["feedback_keys"] == ["k"]
    assert run["multitask_strategy"] == "interrupt"


@pytest.mark.parametrize(
    ("sent", "durability"),
    [
        ({}, "async"),
        ({"checkpoint_during": False}, "exit"),
        ({"checkpoint_during": True}, "async"),
        ({"checkpoint_during": False, "durability": "sync"}, "sync"),
    ],
)
async def test_durability(http: httpx.AsyncClient, sent: dict[str, Any], durability: str) -> None:
    run = (await http.post("/runs", json={"assistant_id": "chat", **sent})).json()
    assert run["kwargs"]["durability"] == durability


async def test_empty_stream_mode_means_values(http: httpx.AsyncClient) -> None:
    run = (await http.post("/runs", json={"assistant_id": "chat", "stream_mode": []})).json()
    assert run["kwargs"]["stream_mode"] == ["values"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, '"assistant_id" is a required property'),
        ({"assistant_id": 1}, '1 is not of type "string"'),
        ({"metadata": None}, 'null is not of type "object"'),
        ({"config": None}, 'null is not of type "object"'),
        ({"config": {"tags": "x"}}, '"x" is not of type "array"'),
        ({"context": None}, 'null is not of type "object"'),
        ({"webhook": None}, 'null is not of type "string"'),
        ({"webhook": ""}, "shorter than 1 character"),
        ({"stream_mode": None}, "anyOf"),
        ({"stream_mode": "tools"}, "anyOf"),
        ({"stream_mode": ["values", "lifecycle"]}, "anyOf"),
        ({"command": 1}, 'not of type "object"'),
        ({"interrupt_before": "agent"}, "anyOf"),
        ({"multitask_strategy": "bad"}, "is not one of"),
        ({"on_disconnect": "bad"}, "is not one of"),
        ({"if_not_exists": "bad"}, "is not one of"),
        ({"on_completion": "bad"}, "is not one of"),
        ({"durability": "bad"}, "is not one of"),
        ({"durability": None}, "null"),
        ({"stream_resumable": "yes"}, 'not of type "boolean"'),
        ({"after_seconds": "1"}, 'not of type "number"'),
        ({"checkpoint_id": "bad"}, "Invalid checkpoint ID"),
        ({"checkpoint": {"checkpoint_id": "bad"}}, "Invalid checkpoint ID"),
        ({"checkpoint": {"checkpoint_id": 1}}, '["checkpoint_id"]:'),
        ({"assistant_id": "nope"}, "Invalid assistant: 'nope'"),
    ],
)
async def test_wrong_fields_are_named(http: httpx.AsyncClient, body: dict[str, Any], says: str) -> None:
    sent = body if "assistant_id" in body or not body else {"assistant_id": "chat", **body}
    for path in ("/runs", "/runs/stream", "/runs/wait"):
        answer = await http.post(path, json=sent)
        assert answer.status_code == 422, answer.text
        assert says in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/json"


async def test_config_and_context_contradict_each_other(http: httpx.AsyncClient) -> None:
    body = {"assistant_id": "chat", "config": {"configurable": {"a": 1}}, "context": {"b": 2}}
    answer = await http.post("/runs", json=body)
    assert answer.status_code == 400


async def test_unknown_thread_or_assistant(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    for thread, assistant in ((uuid.uuid4(), "chat"), (thread_id, str(uuid.uuid4()))):
        for end in ("", "/stream", "/wait"):
            answer = await http.post(f"/threads/{thread}/runs{end}", json={"assistant_id": assistant})
            assert (answer.status_code, answer.json()["detail"]) == (404, "Thread or assistant not found.")


async def test_if_not_exists_makes_the_thread(http: httpx.AsyncClient) -> None:
    thread_id = str(uuid.uuid4())
    answer = await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat", "if_not_exists": "create"})
    assert answer.status_code == 200
    assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "busy"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/threads/bad/runs", "Invalid thread ID"),
        ("/threads/bad/runs/stream", "Invalid thread ID"),
        ("/threads/bad/runs/wait", "Invalid thread ID"),
    ],
)
async def test_malformed_thread_on_creation(http: httpx.AsyncClient, path: str, detail: str) -> None:
    answer = await http.post(path, json={"assistant_id": "chat"})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


async def test_malformed_ids_elsewhere(http: httpx.AsyncClient) -> None:
    good = uuid.uuid4()
    for path in ("/threads/bad/runs", f"/threads/bad/runs/{good}", f"/threads/bad/runs/{good}/join"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (422, "Invalid thread ID: must be a UUID")
    for path in (f"/threads/{good}/runs/bad", f"/threads/{good}/runs/bad/stream", "/runs/bad/stream"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (422, "Invalid run ID: must be a UUID")


async def test_batch(http: httpx.AsyncClient) -> None:
    answer = await http.post("/runs/batch", json=[{"assistant_id": "chat", "input": n} for n in range(3)])
    runs = answer.json()
    assert answer.status_code == 200
    assert [run["kwargs"]["input"] for run in runs] == [0, 1, 2]
    assert len({run["thread_id"] for run in runs}) == 3
    empty = await http.post("/runs/batch", json=[])
    assert (empty.status_code, "[] has less than 1 item" in empty.json()["detail"]) == (422, True)
    wrong = await http.post("/runs/batch", json=[{"assistant_id": "chat"}, {}])
    assert wrong.status_code == 422


async def test_list_get_and_select(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = await sdk.threads.create()
    runs = [await sdk.runs.create(thread["thread_id"], "chat", input={"n": n}) for n in range(3)]
    listed = await sdk.runs.list(thread["thread_id"])
    assert [run["run_id"] for run in listed] == [run["run_id"] for run in reversed(runs)]
    assert set(listed[0]) == KEYS
    page = await sdk.runs.list(thread["thread_id"], limit=1, offset=1)
    assert [run["run_id"] for run in page] == [runs[1]["run_id"]]
    assert len(await sdk.runs.list(thread["thread_id"], status="pending")) == 3
    assert await sdk.runs.list(thread["thread_id"], status="running") == []
    path = f"/threads/{thread['thread_id']}/runs"
    assert (await http.get(path, params={"limit": 0})).json() == []
    assert (await http.get(path, params={"status": "bad"})).json() == []
    cut = (await http.get(path, params={"select": ["run_id", "status"]})).json()
    assert cut[0] == {"run_id": runs[2]["run_id"], "status": "pending"}
    wrong = await http.get(path, params={"select": ["run_id", "bad"]})
    assert wrong.status_code == 422
    assert wrong.json()["detail"].startswith("Invalid select columns: ['bad']. Expected: {")
    assert (await sdk.runs.get(thread["thread_id"], runs[0]["run_id"]))["run_id"] == runs[0]["run_id"]


async def test_missing_runs(http: httpx.AsyncClient) -> None:
    thread_id, missing = await new_thread(http), uuid.uuid4()
    path = f"/threads/{thread_id}/runs/{missing}"
    assert (await http.get(path)).json() == {"detail": "Not Found"}
    assert (await http.delete(path)).json() == {"detail": "Run not found"}
    answer = await http.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["detail"]) == (404, "No runs found to cancel.")
    answer = await http.get(f"/threads/{uuid.uuid4()}/runs")
    assert answer.status_code == 404


async def test_delete(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create()
    run = await sdk.runs.create(thread["thread_id"], "chat")
    await sdk.runs.delete(thread["thread_id"], run["run_id"])
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread["thread_id"], run["run_id"])


async def test_reject_is_a_conflict(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create()
    await sdk.runs.create(thread["thread_id"], "chat")
    with pytest.raises(ConflictError, match="already running a task"):
        await sdk.runs.create(thread["thread_id"], "chat", multitask_strategy="reject")


async def test_a_webhook_is_stored_if_it_may_be_sent(sdk: LangGraphClient) -> None:
    run = await sdk.runs.create(None, "chat", webhook="https://93.184.216.34/hook")
    assert run["kwargs"]["webhook"] == "https://93.184.216.34/hook"
    with pytest.raises(UnprocessableEntityError, match="Webhook host blocked: loopback IP range"):
        await sdk.runs.create(None, "chat", webhook="http://127.0.0.1:3000/hook")
    with pytest.raises(UnprocessableEntityError, match="Webhook host blocked: blocked IP range"):
        await sdk.runs.create_batch([{"assistant_id": "chat"}, {"assistant_id": "chat", "webhook": "http://10.0.0.1/"}])


async def test_cancel_of_a_pending_run(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    run = (await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat"})).json()
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    answer = await http.post(f"{path}/cancel")
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await http.get(path)).json()["status"] == "interrupted"
    again = await http.post(f"{path}/cancel")
    assert again.status_code == 404
    assert again.json()["detail"].startswith("No matching runs to cancel.")


async def test_rollback_of_a_pending_run_deletes_it(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    run = (await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat"})).json()
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    assert (await http.post(f"{path}/cancel", params={"action": "rollback"})).status_code == 202
    assert (await http.get(path)).status_code == 404


async def test_cancel_with_wait_of_a_pending_run(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    run = (await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat"})).json()
    path = f"/threads/{thread_id}/runs/{run['run_id']}"
    answer = await http.post(f"{path}/cancel", params={"wait": "1"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["location"] == f"{path}/join"
    assert answer.headers["content-location"] == path


async def test_the_reason_of_a_cancel_is_checked(http: httpx.AsyncClient) -> None:
    thread_id = await new_thread(http)
    run = (await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat"})).json()
    path = f"/threads/{thread_id}/runs/{run['run_id']}/cancel"
    assert (await http.post(path, params={"reason": "bored"})).status_code == 422
    assert (await http.post(path, params={"reason": "taken", "action": "rollback"})).status_code == 422
    assert (await http.post(path, params={"reason": "taken"})).status_code == 202


async def test_cancel_in_bulk(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    thread = await sdk.threads.create()
    runs = [await sdk.runs.create(thread["thread_id"], "chat") for _ in range(3)]
    body = {"thread_id": thread["thread_id"], "run_ids": [runs[0]["run_id"]]}
    assert (await http.post("/runs/cancel", json=body)).status_code == 204
    assert (await http.post("/runs/cancel", json={"status": "pending"})).status_code == 204
    listed = await sdk.runs.list(thread["thread_id"])
    assert {run["status"] for run in listed} == {"interrupted"}
    answer = await http.post("/runs/cancel", json={"status": "all"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "No runs found to cancel.")
    await sdk.runs.create(thread["thread_id"], "chat")
    await sdk.runs.cancel_many(status="pending")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"run_ids": [str(uuid.uuid4())]},
        {"thread_id": str(uuid.uuid4())},
        {"status": "all", "thread_id": str(uuid.uuid4()), "run_ids": []},
        {"status": "bad"},
    ],
)
async def test_cancel_in_bulk_takes_one_form_or_the_other(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.post("/runs/cancel", json=body)).status_code == 422


async def test_unknown_action(http: httpx.AsyncClient) -> None:
    path = f"/threads/{uuid.uuid4()}/runs/{uuid.uuid4()}/cancel"
    assert (await http.post(path, params={"action": "bad"})).status_code == 422
