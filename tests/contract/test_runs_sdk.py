"""``client.runs`` of the Python SDK: every method with every argument, asynchronous and synchronous, against the dev command.

What the server makes of each field is compared in ``differential``; here it is that the SDK's calls arrive and that its
answers are what it promises.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from dev_server import PATIENCE, DevServer, until
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import BadRequestError, ConflictError, NotFoundError, UnprocessableEntityError
from sync_client import InThreads

pytestmark = pytest.mark.timeout(90)

CHECKPOINT = "1f1b0000-0000-6000-8000-000000000000"
#: Every argument of ``create``, and what is to be seen of it in the run's ``kwargs``.
ARGUMENTS: dict[str, Any] = {
    "input": {"log": ["in"]},
    "stream_mode": ["updates", "values"],
    "stream_subgraphs": True,
    "stream_resumable": True,
    "metadata": {"m": 1},
    "config": {"tags": ["t"], "recursion_limit": 9, "metadata": {"c": 1}},
    "context": {"tone": "kind"},
    "checkpoint": {"checkpoint_ns": "", "checkpoint_id": CHECKPOINT},
    "interrupt_before": ["b"],
    "interrupt_after": "*",
    "webhook": "https://93.184.216.34/hook",
    "multitask_strategy": "enqueue",
    "if_not_exists": "create",
    "on_completion": "keep",
    "after_seconds": 600,
    "langsmith_tracing": {"project_name": "p"},
    "durability": "exit",
}


@pytest.fixture(params=["async", "sync"])
async def client(request: pytest.FixtureRequest, sample_server: DevServer) -> AsyncIterator[Any]:
    if request.param == "async":
        async with sample_server.client() as client:
            yield client
    else:
        with get_sync_client(url=sample_server.url, api_key=None) as client:
            yield InThreads(client)


async def new_thread(client: Any) -> str:
    thread_id: str = (await client.threads.create())["thread_id"]
    return thread_id


async def waiting(client: Any, thread_id: str, **arguments: Any) -> Any:
    """A run that is in the middle of its long node."""
    run = await client.runs.create(thread_id, "pause", input={"log": ["in"], "seconds": 60}, **arguments)
    async with asyncio.timeout(PATIENCE):
        while (await client.threads.get_state(thread_id))["next"] != ["waiting"]:
            await asyncio.sleep(0.05)
    return run


async def test_create_with_every_argument(client: Any) -> None:
    made: list[Any] = []
    thread_id = str(uuid.uuid4())
    run = await client.runs.create(thread_id, "line", **ARGUMENTS, on_run_created=made.append)
    assert made == [{"run_id": run["run_id"], "thread_id": thread_id}]
    assert (run["status"], run["multitask_strategy"], run["metadata"]["m"]) == ("pending", "enqueue", 1)
    kwargs, config = run["kwargs"], run["kwargs"]["config"]
    assert {
        name: kwargs[name] for name in ("input", "interrupt_before", "interrupt_after", "webhook", "durability")
    } == {name: ARGUMENTS[name] for name in ("input", "interrupt_before", "interrupt_after", "webhook", "durability")}
    assert kwargs["stream_mode"] == ["updates", "values"]
    assert (kwargs["subgraphs"], kwargs["resumable"], kwargs["temporary"]) == (True, True, False)
    assert (config["tags"], config["recursion_limit"], config["metadata"]["c"]) == (["t"], 9, 1)
    configurable = config["configurable"]
    assert (configurable["checkpoint_id"], configurable["tone"]) == (CHECKPOINT, "kind")
    assert (configurable["__langsmith_project__"], configurable["__after_seconds__"]) == ("p", 600)
    again = await client.runs.get(thread_id, run["run_id"])
    assert again == run
    await client.runs.delete(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])


async def test_create_refuses_what_contradicts_itself(client: Any) -> None:
    thread_id = await new_thread(client)
    with pytest.raises(BadRequestError, match="both configurable and context"):
        await client.runs.create(thread_id, "line", context={"a": 1}, config={"configurable": {"b": 1}})
    with pytest.raises(UnprocessableEntityError, match="Invalid assistant"):
        await client.runs.create(thread_id, "nope")
    with pytest.raises(NotFoundError):
        await client.runs.create(str(uuid.uuid4()), "line", if_not_exists="reject")
    with pytest.raises(BadRequestError, match="thread_id when resuming"):
        await client.runs.create(None, "ask", command={"resume": "yes"})
    await client.runs.create(thread_id, "line", after_seconds=600)
    with pytest.raises(ConflictError, match="already running"):
        await client.runs.create(thread_id, "line", multitask_strategy="reject")


@pytest.mark.filterwarnings("ignore:`checkpoint_during`:DeprecationWarning")
async def test_wait_with_its_arguments(client: Any) -> None:
    made: list[Any] = []
    thread_id = await new_thread(client)
    arguments = {"on_disconnect": "cancel", "checkpoint_during": True, "on_run_created": made.append}
    assert await client.runs.wait(thread_id, "line", input={"log": ["in"]}, **arguments) == {"log": ["in", *"abc"]}
    assert made[0]["thread_id"] == thread_id
    failing = {"input": {"kind": "ValueError"}}
    with pytest.raises(Exception, match="wrong: ValueError"):
        await client.runs.wait(thread_id, "fail", **failing)
    left = await client.runs.wait(thread_id, "fail", **failing, raise_error=False)
    assert left["__error__"]["error"] == "ValueError"
    stopped = await client.runs.wait(None, "line", input={"log": []}, interrupt_before=["b"], on_completion="delete")
    assert stopped["log"] == ["a"]
    asked = await client.runs.wait(thread_id, "ask", input={"log": ["?"]})
    answers = {asked["__interrupt__"][0]["id"]: "yes"}
    answered = await client.runs.wait(thread_id, "ask", command={"resume": answers})
    assert answered["log"][-2:] == ["ask: yes", "after"]
    state = (await client.threads.get_history(thread_id, limit=3))[-1]
    forked = await client.runs.wait(
        thread_id, "ask", input=None, checkpoint_id=state["checkpoint"]["checkpoint_id"], multitask_strategy="interrupt"
    )
    assert forked["__interrupt__"]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_stream_in_both_versions(client: Any, version: str) -> None:
    made: list[Any] = []
    arguments = {"stream_mode": ["updates", "values"], "stream_subgraphs": True, "feedback_keys": ["good"]}
    parts = [
        part
        async for part in client.runs.stream(
            await new_thread(client),
            "nested",
            input={"log": []},
            version=version,
            on_run_created=made.append,
            on_disconnect="cancel",
            durability="sync",
            **arguments,
        )
    ]
    assert made[0]["run_id"]
    if version == "v1":
        assert parts[0].event == "metadata"
        assert {part.event.partition("|")[0] for part in parts[1:]} == {"updates", "values"}
        assert any("|" in part.event for part in parts)
    else:
        assert {part["type"] for part in parts} >= {"updates", "values"}
        assert any(part["ns"] for part in parts if "ns" in part)


async def test_create_batch(client: Any) -> None:
    payloads = [
        {"assistant_id": "line", "input": {"log": ["one"]}, "metadata": {"n": 1}, "on_completion": "keep"},
        {"assistant_id": "counting", "input": {"count": 1}, "metadata": {"n": 2}, "after_seconds": 600},
    ]
    runs = await client.runs.create_batch(payloads)
    assert [(run["metadata"]["n"], run["status"]) for run in runs] == [(1, "pending"), (2, "pending")]
    assert await client.runs.join(runs[0]["thread_id"], runs[0]["run_id"]) == {"log": ["one", *"abc"]}
    with pytest.raises(UnprocessableEntityError):
        await client.runs.create_batch([payloads[0], {"assistant_id": "nope"}])
    with pytest.raises(UnprocessableEntityError):
        await client.runs.create_batch([])


async def test_list_with_every_argument(client: Any) -> None:
    thread_id = await new_thread(client)
    for number in range(3):
        await client.runs.create(thread_id, "line", after_seconds=600, metadata={"n": number})
    listed = await client.runs.list(thread_id, limit=2, offset=1, status="pending", select=["metadata", "status"])
    assert [run["metadata"]["n"] for run in listed] == [1, 0]
    assert all(set(run) == {"metadata", "status"} for run in listed)
    assert await client.runs.list(thread_id, status="success") == []
    assert len(await client.runs.list(thread_id)) == 3


async def test_a_cancel_may_say_that_its_input_was_taken(client: Any) -> None:
    thread_id = await new_thread(client)
    run = await waiting(client, thread_id)
    await client.runs.cancel(thread_id, run["run_id"], wait=True, params={"reason": "taken"})
    error = (await client.threads.get(thread_id))["error"]
    assert error["error"] == "UserInterrupt"
    assert error["message"].startswith("taken: interrupt requested via POST")


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel_and_cancel_many(client: Any, action: str) -> None:
    thread_id = await new_thread(client)
    run = await waiting(client, thread_id)
    queued = [await client.runs.create(thread_id, "line", input={"log": []}) for _ in range(2)]
    await client.runs.cancel_many(thread_id=thread_id, run_ids=[each["run_id"] for each in queued], action=action)
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action=action)
    left = await client.runs.list(thread_id, select=["status"])
    assert left == ([{"status": "interrupted"}] * 3 if action == "interrupt" else [])
    with pytest.raises(NotFoundError):
        await client.runs.cancel(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.cancel_many(thread_id=thread_id, run_ids=[run["run_id"]])
    with pytest.raises(UnprocessableEntityError):
        await client.runs.cancel_many(thread_id=thread_id)


async def test_join_and_join_stream(client: Any) -> None:
    thread_id = await new_thread(client)
    run = await client.runs.create(
        thread_id,
        "pause",
        input={"log": ["in"], "seconds": 0.5},
        stream_mode=["updates", "values"],
        stream_resumable=True,
    )
    parts = [
        part
        async for part in client.runs.join_stream(thread_id, run["run_id"], stream_mode="updates", last_event_id="-1")
    ]
    assert [next(iter(part.data)) for part in parts] == ["before", "waiting"]
    assert all(part.event == "updates" and part.id for part in parts)
    later = [part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=parts[0].id)]
    assert later[-1].data["log"][-1] == "waited"
    assert [part async for part in client.runs.join_stream(thread_id, run["run_id"])] == []
    assert (await client.runs.join(thread_id, run["run_id"]))["log"][-1] == "waited"
    missing = await client.runs.join(thread_id, str(uuid.uuid4()))
    assert missing["__error__"]["message"] == "404: Run not found"


async def test_a_joined_run_is_cancelled_when_its_reader_leaves(sample_server: DevServer) -> None:
    async with sample_server.client() as client:
        thread_id = await new_thread(client)
        run = await waiting(client, thread_id, stream_resumable=True)
        parts = client.runs.join_stream(thread_id, run["run_id"], cancel_on_disconnect=True, last_event_id="-1")
        assert (await anext(parts)).event == "metadata"
        await parts.aclose()
        async with asyncio.timeout(PATIENCE):
            while (await client.runs.get(thread_id, run["run_id"]))["status"] != "interrupted":
                await asyncio.sleep(0.05)


async def test_delete_of_a_running_run(client: Any) -> None:
    thread_id = await new_thread(client)
    run = await waiting(client, thread_id)
    await client.runs.delete(thread_id, run["run_id"])
    assert await client.runs.wait(thread_id, "line", input={"log": ["next"]}) == {"log": ["next", *"abc"]}
    with pytest.raises(NotFoundError):
        await client.runs.delete(thread_id, run["run_id"])


async def test_a_webhook_arrives(client: Any) -> None:
    posts: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append((dict(self.headers), json.loads(self.rfile.read(int(self.headers["content-length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        thread_id = await new_thread(client)
        url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
        await client.runs.wait(thread_id, "line", input={"log": ["in"]}, webhook=url)
        await asyncio.to_thread(until, lambda: posts, "the webhook")
        receiver.shutdown()
    ((headers, body),) = posts
    assert headers["webhook-id"]
    assert (body["status"], body["thread_id"], body["values"]) == ("success", thread_id, {"log": ["in", *"abc"]})
