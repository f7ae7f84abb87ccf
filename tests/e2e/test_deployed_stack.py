"""The main job on the deployed stack, through API Gateway, with the official SDK."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis

from langgraph_serverless.queue.bell import SlotBoard

pytestmark = pytest.mark.e2e

Value = TypeVar("Value")
MINIMAL = {"text": "hello"}
REPLY = {"text": "hello", "reply": "You said: hello"}


async def until(look: Callable[[], Awaitable[Value]], holds: Callable[[Value], bool], *, seconds: float = 60) -> Value:
    """Looks again and again until what is seen holds."""
    deadline = time.monotonic() + seconds
    while not holds(seen := await look()):
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {seen}"
        await asyncio.sleep(0.2)
    return seen


async def no_worker_is_left(stack: Any) -> None:
    """Waits until every worker has left, so that the next run is not taken by one that still idles."""
    async with Redis.from_url(stack.redis_uri) as redis:
        await until(SlotBoard(redis, "lgs").free_workers, lambda workers: workers == 0)


async def finished(client: LangGraphClient, thread_id: str, run_id: str, *, seconds: float = 60) -> str:
    """The run's status once it is over."""
    run = await until(
        lambda: client.runs.get(thread_id, run_id),
        lambda run: run["status"] not in ("pending", "running"),
        seconds=seconds,
    )
    return str(run["status"])


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
    assert default == {"minimal", "chat_agent", "human_in_the_loop", "long_run"}
    minimal = next(row for row in assistants if row["graph_id"] == "minimal")
    schemas = await client.assistants.get_schemas(minimal["assistant_id"])
    assert set(schemas["input_schema"]["properties"]) == {"text", "reply"}
    drawing = await client.assistants.get_graph(minimal["assistant_id"])
    assert "answer" in {node["id"] for node in drawing["nodes"]}


async def test_wait_and_stream_answer_with_the_result(client: LangGraphClient) -> None:
    assert await client.runs.wait(None, "minimal", input=MINIMAL) == REPLY
    thread = await client.threads.create()
    events = [
        (part.event, part.data)
        async for part in client.runs.stream(thread["thread_id"], "minimal", input=MINIMAL, stream_mode="updates")
    ]
    assert events[0][0] == "metadata"
    assert ("updates", {"answer": {"reply": "You said: hello"}}) in events


@pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")
async def test_a_stream_arrives_while_its_run_goes_on_and_outlasts_its_invocation(
    client: LangGraphClient, stack: Any
) -> None:
    steps = 8
    thread = await client.threads.create()
    run: dict[str, Any] = {}
    reports: list[int] = []
    with stack.configured("stream", timeout=5):  # it breaks off after half of that
        async for part in client.runs.stream(
            thread["thread_id"],
            "long_run",
            input={"steps": steps, "seconds": 0.5},
            stream_mode="custom",
            on_run_created=run.update,
        ):
            if part.event == "custom":
                if not reports:
                    assert (await client.runs.get(thread["thread_id"], run["run_id"]))["status"] == "running"
                reports.append(part.data["step"])
    assert reports == list(range(1, steps + 1))

    async def carried_over() -> int:
        return len(await asyncio.to_thread(stack.log_lines, "stream", '"action":"carried_over"'))

    assert await until(carried_over, lambda times: times >= 1) < steps


async def test_a_session_of_the_thread_protocol(client: LangGraphClient) -> None:
    async with client.threads.stream(assistant_id="minimal") as thread:
        await thread.run.start(input=MINIMAL)
        assert await thread.output == REPLY


async def test_an_interrupted_thread_is_resumed_by_another_invocation(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "human_in_the_loop", input={"topic": "functions"})
    waiting = await client.threads.get(thread["thread_id"])
    assert waiting["status"] == "interrupted"
    assert waiting["interrupts"]
    values = await client.runs.wait(thread["thread_id"], "human_in_the_loop", command={"resume": "approve"})
    assert values["status"] == "sent"
    assert (await client.threads.get(thread["thread_id"]))["status"] == "idle"


async def test_the_state_can_be_changed(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "minimal", input=MINIMAL)
    await client.threads.update_state(thread["thread_id"], {"reply": "changed"})
    assert (await client.threads.get_state(thread["thread_id"]))["values"] == {"text": "hello", "reply": "changed"}


async def test_supersteps_reach_the_function_that_has_the_graphs(client: LangGraphClient) -> None:
    updates = [{"values": REPLY, "as_node": "answer"}]
    thread = await client.threads.create(graph_id="minimal", supersteps=[{"updates": updates}])
    assert (await client.threads.get_state(thread["thread_id"]))["values"] == REPLY


async def test_the_state_function_answers_questions_of_others(stack: Any) -> None:
    """This project has no priority handler, so it has nothing to say of any run."""
    answer = await asyncio.to_thread(stack.invoke, "state", {"ask_priority_handler": [{}, {}]})
    assert answer == {"priorities": [None, None]}


async def test_store_items(client: LangGraphClient) -> None:
    await client.store.put_item(["e2e", "notes"], key="one", value={"text": "kept"})
    assert (await client.store.get_item(["e2e", "notes"], key="one"))["value"] == {"text": "kept"}
    assert [item["key"] for item in (await client.store.search_items(["e2e"]))["items"]] == ["one"]
    await client.store.delete_item(["e2e", "notes"], key="one")


async def test_cron_rows(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    cron = await client.crons.create_for_thread(thread["thread_id"], "minimal", schedule="0 0 1 1 *", input=MINIMAL)
    found = await client.crons.search(thread_id=thread["thread_id"])
    assert [row["cron_id"] for row in found] == [cron["cron_id"]]
    await client.crons.delete(cron["cron_id"])


async def test_the_api_answers_like_the_application_everywhere(stack: Any) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        assert (await http.get("/ok")).json()["ok"] is True
        assert (await http.get("/info")).status_code == 200
        unknown = await http.get("/threads/no/such/path")
        assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
        wrong_method = await http.get("/runs/crons")
        assert wrong_method.status_code == 405
        wrong_body = await http.post("/threads/search", content=b"{")
        assert 400 <= wrong_body.status_code < 500


async def test_a_tick_of_the_scheduler_finds_the_run_whose_bell_was_lost(client: LangGraphClient, stack: Any) -> None:
    await no_worker_is_left(stack)
    thread = await client.threads.create()
    with stack.configured("runs", WORKER_FUNCTION_NAME=""):  # nobody is invoked for this run ...
        run = await client.runs.create(thread["thread_id"], "minimal", input=MINIMAL)
        async with Redis.from_url(stack.redis_uri) as redis:
            await redis.flushall()  # ... and the bell that it rang is gone
    assert (await client.runs.get(thread["thread_id"], run["run_id"]))["status"] == "pending"
    await asyncio.to_thread(stack.invoke, "scheduler")
    assert await finished(client, thread["thread_id"], run["run_id"]) == "success"


async def test_an_idle_worker_leaves(stack: Any) -> None:
    report = await asyncio.to_thread(stack.invoke, "worker")
    assert report["reason"] == "idle"
    assert not report["work_left"]


async def test_nothing_failed_behind_the_scenes(stack: Any) -> None:
    """No asynchronous invocation has ended in the failure queue.

    Runs before the test that changes the worker's configuration: LocalStack ends what is running then, and says so there.
    """
    url = stack.aws.client("sqs").list_queues(QueueNamePrefix="ci-FailedInvocations")["QueueUrls"][0]
    messages = stack.aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    failures = [json.loads(message["Body"]) for message in messages]
    assert not failures, json.dumps(failures, indent=1)


async def test_a_run_outlives_the_worker_that_began_it(client: LangGraphClient, stack: Any) -> None:
    steps = 16
    thread = await client.threads.create()
    await no_worker_is_left(stack)
    with stack.configured("worker", timeout=12, WORKER_DEADLINE_MARGIN_SECS="5"):
        # LocalStack may lose an asynchronous event just after such a change; a synchronous one shows that it is over
        await asyncio.to_thread(stack.invoke, "worker")
        await no_worker_is_left(stack)
        run = await client.runs.create(
            thread["thread_id"], "long_run", input={"steps": steps, "seconds": 1.0}, durability="sync"
        )
        assert await finished(client, thread["thread_id"], run["run_id"], seconds=120) == "success"
    state = await client.threads.get_state(thread["thread_id"])
    assert state["values"]["log"] == [f"step {number} of {steps}" for number in range(1, steps + 1)]

    async def handed_off() -> int:
        lines = await asyncio.to_thread(stack.log_lines, "worker", "The worker leaves")
        return sum(line["handed_off"] for line in lines)

    assert await until(handed_off, lambda times: times >= 2) < steps
