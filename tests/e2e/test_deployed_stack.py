"""The main job on the deployed stack, through API Gateway, with the official SDK."""

import asyncio
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("due_cron")]

MINIMAL = {"text": "hello"}
REPLY = {"text": "hello", "reply": "You said: hello"}


async def test_a_background_run_is_executed_by_the_worker_function(client: LangGraphClient) -> None:
    assistant = await client.assistants.create("minimal", name="greeter", metadata={"test": "e2e"})
    thread = await client.threads.create(metadata={"test": "background"})
    run = await client.runs.create(thread["thread_id"], assistant["assistant_id"], input=MINIMAL)
    assert run["status"] == "pending"
    assert await client.runs.join(thread["thread_id"], run["run_id"]) == REPLY
    assert (await client.runs.get(thread["thread_id"], run["run_id"]))["status"] == "success"

    state = await client.threads.get_state(thread["thread_id"])
    assert state["values"] == REPLY
    assert state["next"] == []
    history = await client.threads.get_history(thread["thread_id"], limit=10)
    assert [snapshot["values"] for snapshot in history] == [REPLY, MINIMAL, {}]
    assert history[0]["checkpoint"] == state["checkpoint"]

    found = await client.threads.search(metadata={"test": "background"})
    assert [(row["thread_id"], row["status"], row["values"]) for row in found] == [(thread["thread_id"], "idle", REPLY)]


async def test_every_graph_has_its_default_assistant_and_its_schemas(client: LangGraphClient) -> None:
    assistants = await client.assistants.search(limit=100)
    default = {row["graph_id"] for row in assistants if row["metadata"].get("created_by") == "system"}
    assert default >= {"minimal", "chat_agent", "human_in_the_loop", "long_run"}
    minimal = next(row for row in assistants if row["graph_id"] == "minimal")
    schemas = await client.assistants.get_schemas(minimal["assistant_id"])
    assert set(schemas["input_schema"]["properties"]) == {"text", "reply"}
    drawing = await client.assistants.get_graph(minimal["assistant_id"])
    assert "answer" in {node["id"] for node in drawing["nodes"]}


async def test_an_interrupted_thread_is_resumed_by_another_invocation(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "human_in_the_loop", input={"topic": "functions"})
    waiting = await client.threads.get(thread["thread_id"])
    assert waiting["status"] == "interrupted"
    assert waiting["interrupts"]
    values = await client.runs.wait(thread["thread_id"], "human_in_the_loop", command={"resume": "approve"})
    assert values["status"] == "sent"
    assert (await client.threads.get(thread["thread_id"]))["status"] == "idle"


async def test_the_state_function_answers_questions_of_others(stack: Any) -> None:
    """This project has no priority handler, so it has nothing to say of any run."""
    answer = await asyncio.to_thread(stack.invoke, "state", {"ask_priority_handler": [{}, {}]})
    assert answer == {"priorities": [None, None]}
