"""What a newcomer does with the examples: the real ``dev`` command, real HTTP, the official SDK, every example.

Nothing here looks behind the API but the last test, which asks the database whether anything is left inconsistent.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from dev_server import PATIENCE, DevServer
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

pytestmark = pytest.mark.timeout(90)

#: A run that is still going on when the test looks at it.
LONG = {"steps": 600, "seconds": 0.1}


@pytest.fixture
async def client(examples_server: DevServer) -> AsyncIterator[LangGraphClient]:
    client = examples_server.client()
    yield client
    await client.aclose()


@pytest.fixture
async def thread_id(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def eventually(look: Callable[[], Awaitable[Any]], good: Callable[[Any], Any] = bool) -> Any:
    """What ``look`` finds once it is good."""
    async with asyncio.timeout(PATIENCE):
        while not good(found := await look()):
            await asyncio.sleep(0.02)
    return found


async def started(client: LangGraphClient, thread_id: str, **values: Any) -> None:
    """Once the run under way on this thread has finished a step."""
    await eventually(lambda: client.threads.get_state(thread_id), lambda state: (state["values"] or {}).get("done"))


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [part async for part in stream]


def data_of(parts: Sequence[Any], event: str) -> list[Any]:
    return [part.data for part in parts if part.event == event]


# -- minimal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_thread", [True, False], ids=["thread", "stateless"])
@pytest.mark.parametrize("by", ["graph id", "assistant id"])
async def test_minimal_answers(client: LangGraphClient, thread_id: str, on_thread: bool, by: str) -> None:
    assistant = (await client.assistants.search(graph_id="minimal"))[0]
    answer = await client.runs.wait(
        thread_id if on_thread else None,
        "minimal" if by == "graph id" else assistant["assistant_id"],
        input={"text": "hello"},
    )
    assert answer == {"text": "hello", "reply": "You said: hello"}
    if on_thread:
        thread = await client.threads.get(thread_id)
        assert (thread["status"], thread["values"]) == ("idle", answer)
        assert thread["metadata"]["graph_id"] == "minimal"


async def test_the_sync_client(examples_server: DevServer) -> None:
    with get_sync_client(url=examples_server.url, api_key=None) as client:
        assert {each["graph_id"] for each in client.assistants.search()} == {
            "minimal",
            "chat_agent",
            "human_in_the_loop",
            "long_run",
        }
        thread_id = client.threads.create()["thread_id"]
        assert client.runs.wait(thread_id, "minimal", input={"text": "a"})["reply"] == "You said: a"
        parts = list(client.runs.stream(thread_id, "minimal", input={"text": "b"}, stream_mode="updates"))
        assert [part.event for part in parts] == ["metadata", "updates"]
        assert parts[1].data == {"answer": {"reply": "You said: b"}}
        assert [state["values"]["text"] for state in client.threads.get_history(thread_id, limit=1)] == ["b"]


async def test_a_batch_of_stateless_runs(client: LangGraphClient) -> None:
    runs = await client.runs.create_batch(
        [{"assistant_id": "minimal", "input": {"text": str(number)}, "on_completion": "keep"} for number in range(5)]
    )
    answers = [await client.runs.join(run["thread_id"], run["run_id"]) for run in runs]
    assert [answer["reply"] for answer in answers] == [f"You said: {number}" for number in range(5)]


async def test_a_run_may_start_later(client: LangGraphClient, thread_id: str) -> None:
    began = time.monotonic()
    run = await client.runs.create(thread_id, "minimal", input={"text": "late"}, after_seconds=1)
    assert (await client.threads.get(thread_id))["status"] == "busy"
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "pending"
    assert (await client.runs.join(thread_id, run["run_id"]))["reply"] == "You said: late"
    assert 0.9 < time.monotonic() - began < 10


# -- chat_agent --------------------------------------------------------------------------------------------------


async def test_tokens_come_word_by_word(client: LangGraphClient, thread_id: str) -> None:
    parts = await collected(
        client.runs.stream(thread_id, "chat_agent", input=said("Good morning."), stream_mode="messages-tuple")
    )
    assert {part.event for part in parts} == {"metadata", "messages"}
    chunks = data_of(parts, "messages")
    assert [chunk["content"] for chunk, _ in chunks if chunk["content"]][:4] == ["You ", "said: ", "Good ", "morning. "]
    assert {chunk["type"] for chunk, _ in chunks} == {"AIMessageChunk"}
    assert len({chunk["id"] for chunk, _ in chunks}) == 1
    assert {metadata["langgraph_node"] for _, metadata in chunks} == {"agent"}
    assert {metadata["thread_id"] for _, metadata in chunks} == {thread_id}
    state = await client.threads.get_state(thread_id)
    assert "".join(chunk["content"] for chunk, _ in chunks) == state["values"]["messages"][-1]["content"]


async def test_tokens_add_up_in_the_older_mode(client: LangGraphClient, thread_id: str) -> None:
    parts = await collected(
        client.runs.stream(thread_id, "chat_agent", input=said("What is the weather in Oslo?"), stream_mode="messages")
    )
    partial = [message for (message,) in data_of(parts, "messages/partial")]
    complete = [message for (message,) in data_of(parts, "messages/complete")]
    assert [message["type"] for message in complete] == ["tool"]
    asked, *_ = partial
    assert asked["type"] == "ai"
    assert asked["tool_calls"][0]["name"] == "get_weather"
    texts = [message["content"] for message in partial if message["id"] != asked["id"]]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert texts[-1].startswith("It is ")
    assert texts[-1].endswith("Anything else?")
    described = {key for entry in data_of(parts, "messages/metadata") for key in entry}
    assert described == {message["id"] for message in [*partial, *complete]}


async def test_values_and_updates_together(client: LangGraphClient, thread_id: str) -> None:
    parts = await collected(
        client.runs.stream(
            thread_id, "chat_agent", input=said("12 + 30"), stream_mode=["values", "updates", "messages-tuple"]
        )
    )
    assert [part.event for part in parts if part.event != "messages"] == [
        "metadata",
        "values",
        *["updates", "values"] * 3,
    ]
    assert [next(iter(update)) for update in data_of(parts, "updates")] == ["agent", "tools", "agent"]
    kinds = [[message["type"] for message in values["messages"]] for values in data_of(parts, "values")]
    assert kinds == [["human", "ai", "tool", "ai"][:count] for count in (1, 2, 3, 4)]
    last = data_of(parts, "values")[-1]["messages"]
    assert last[1]["tool_calls"][0]["args"] == {"a": 12, "b": 30}
    assert last[3]["content"] == "12 + 30 = 42. Anything else?"
    words = [chunk["content"] for chunk, about in data_of(parts, "messages") if about["langgraph_step"] == 3]
    assert "".join(words) == last[3]["content"]


async def test_memory_outlives_the_thread(client: LangGraphClient, thread_id: str) -> None:
    user = f"user-{thread_id}"
    for text in ("Hello, my name is Ada!", "What is the weather in Rome?"):
        await client.runs.wait(thread_id, "chat_agent", input=said(text), context={"user_id": user})
    kinds = [message["type"] for message in (await client.threads.get_state(thread_id))["values"]["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"] * 2
    answers = [
        (await client.runs.wait(None, "chat_agent", input=said("What is my name?"), context={"user_id": who}))[
            "messages"
        ][-1]["content"]
        for who in (user, f"{user}-other")
    ]
    assert answers[0] == "Your name is Ada."
    assert "do not know" in answers[1]
    item = await client.store.get_item(["memories", user], "name")
    assert item["value"] == {"value": "Ada"}
    found = await client.store.search_items(["memories", user])
    assert [each["key"] for each in found["items"]] == ["name"]


# -- human_in_the_loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "sent"),
    [
        ("approve", "sent", "Dear team, a few words about tea. Yours, the agent"),
        ({"action": "edit", "draft": "Tea is at four."}, "sent", "Tea is at four."),
        ({"action": "reject", "reason": "no tea"}, "rejected", None),
    ],
)
async def test_a_person_decides(
    client: LangGraphClient, thread_id: str, answer: Any, status: str, sent: str | None
) -> None:
    waiting = await client.runs.wait(thread_id, "human_in_the_loop", input={"topic": "tea"})
    (interrupt,) = waiting["__interrupt__"]
    assert interrupt["value"]["question"] == "May this be sent?"
    run = (await client.runs.list(thread_id))[0]
    assert run["status"] == "success"

    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    ((asked,),) = thread["interrupts"].values()
    assert (asked["id"], asked["value"]) == (interrupt["id"], interrupt["value"])
    state = await client.threads.get_state(thread_id)
    assert state["next"] == ["review"]
    assert state["tasks"][0]["interrupts"][0]["id"] == interrupt["id"]
    assert thread_id in {each["thread_id"] for each in await client.threads.search(status="interrupted", limit=100)}

    done = await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": answer})
    assert (done["status"], done.get("sent")) == (status, sent)
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})
    history = await client.threads.get_history(thread_id, limit=50)
    assert [state["metadata"]["step"] for state in history] == [3, 2, 1, 0, -1]
    assert history[0]["next"] == []
    assert history[2]["tasks"][0]["interrupts"], "the history keeps what was asked"


async def test_an_interrupt_is_streamed_and_resumed_by_a_stream(client: LangGraphClient, thread_id: str) -> None:
    parts = await collected(
        client.runs.stream(thread_id, "human_in_the_loop", input={"topic": "tea"}, stream_mode=["updates", "values"])
    )
    (asked,) = data_of(parts, "updates")[-1]["__interrupt__"]
    assert data_of(parts, "values")[-1]["__interrupt__"][0]["id"] == asked["id"]
    parts = await collected(
        client.runs.stream(
            thread_id, "human_in_the_loop", command={"resume": {asked["id"]: "approve"}}, stream_mode="updates"
        )
    )
    assert [next(iter(update)) for update in data_of(parts, "updates")] == ["review", "send"]


async def test_the_state_is_edited_and_the_run_resumed(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "human_in_the_loop", input={"topic": "tea"})
    before = await client.threads.get_state(thread_id)
    await client.threads.update_state(thread_id, {"draft": "Better."}, as_node="write_draft")
    state = await client.threads.get_state(thread_id)
    assert (state["values"]["draft"], state["next"]) == ("Better.", ["review"])
    assert state["parent_checkpoint"]["checkpoint_id"] == before["checkpoint"]["checkpoint_id"]
    waiting = await client.runs.wait(thread_id, "human_in_the_loop", input=None)
    assert waiting["__interrupt__"][0]["value"]["draft"] == "Better."
    done = await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": "approve"})
    assert done["sent"] == "Better."


async def test_a_run_forks_from_an_older_checkpoint(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "human_in_the_loop", input={"topic": "tea"})
    await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": "approve"})
    asked = next(state for state in await client.threads.get_history(thread_id) if state["next"] == ["review"])
    again = await client.runs.wait(
        thread_id, "human_in_the_loop", checkpoint_id=asked["checkpoint"]["checkpoint_id"], input=None
    )
    assert again["__interrupt__"], "asked once more"
    done = await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": {"action": "reject"}})
    assert done["status"] == "rejected"
    assert "sent" not in done, "what came after the checkpoint is another branch"
    assert len(await client.threads.get_history(thread_id, limit=50)) > 5


async def test_stops_before_and_after_nodes(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "human_in_the_loop", input={"topic": "tea"}, interrupt_before=["review"])
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    await client.runs.wait(thread_id, "human_in_the_loop", input=None)
    done = await client.runs.wait(
        thread_id, "human_in_the_loop", command={"resume": "approve"}, interrupt_after=["send"]
    )
    assert done["status"] == "sent"
    assert (await client.threads.get(thread_id))["status"] == "idle"


# -- long_run ----------------------------------------------------------------------------------------------------


async def test_a_background_run_is_joined(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "long_run", input={"steps": 5, "seconds": 0.1})
    assert run["status"] == "pending"
    assert (await client.threads.get(thread_id))["status"] == "busy"
    values = await client.runs.join(thread_id, run["run_id"])
    assert values["log"] == [f"step {number} of 5" for number in range(1, 6)]
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"


async def test_progress_is_streamed(client: LangGraphClient, thread_id: str) -> None:
    parts = await collected(
        client.runs.stream(thread_id, "long_run", input={"steps": 3, "seconds": 0.01}, stream_mode="custom")
    )
    assert [data["step"] for data in data_of(parts, "custom")] == [1, 2, 3]


async def test_a_stream_goes_on_where_it_was_left(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(
        thread_id, "long_run", input={"steps": 20, "seconds": 0.05}, stream_mode="custom", stream_resumable=True
    )
    last, steps = "-1", []
    for pause_at in (5, 11, 999):  # leave twice in the middle
        async with asyncio.timeout(PATIENCE):
            async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=last):
                last = part.id or last
                if part.event == "custom":
                    steps.append(part.data["step"])
                    if part.data["step"] == pause_at:
                        break
    assert steps == list(range(1, 21))
    whole = await collected(client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1"))
    assert [data["step"] for data in data_of(whole, "custom")] == steps, "it can be read again afterwards"


async def test_a_running_run_is_interrupted_and_continued(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "long_run", input=LONG)
    await started(client, thread_id)
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["error"]["error"] == "UserInterrupt"
    done = thread["values"]["done"]
    assert 0 < done < LONG["steps"]
    assert thread["values"]["log"] == [f"step {number} of {LONG['steps']}" for number in range(1, done + 1)]
    # what was cancelled can go on
    await client.threads.update_state(thread_id, {"steps": done + 1}, as_node="step")
    values = await client.runs.wait(thread_id, "long_run", input=None)
    assert values["done"] == done + 1
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["error"]) == ("idle", None)


async def test_a_running_run_is_rolled_back(client: LangGraphClient, thread_id: str) -> None:
    before = await client.runs.wait(thread_id, "long_run", input={"steps": 1, "seconds": 0})
    history = await client.threads.get_history(thread_id, limit=100)
    run = await client.runs.create(thread_id, "long_run", input=LONG)
    await eventually(
        lambda: client.threads.get_state(thread_id),
        lambda state: len(state["values"].get("log", ())) > len(before["log"]),
    )
    await client.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, run["run_id"])
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", before)
    assert thread["error"]["error"] == "UserRollback"
    assert await client.threads.get_history(thread_id, limit=100) == history


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_waiting_run_is_cancelled(client: LangGraphClient, thread_id: str, action: Any) -> None:
    first = await client.runs.create(thread_id, "long_run", input=LONG)
    second = await client.runs.create(thread_id, "long_run", input={"steps": 1, "seconds": 0})
    await client.runs.cancel(thread_id, second["run_id"], wait=True, action=action)
    if action == "interrupt":
        assert (await client.runs.get(thread_id, second["run_id"]))["status"] == "interrupted"
    else:
        with pytest.raises(NotFoundError):
            await client.runs.get(thread_id, second["run_id"])
    assert (await client.threads.get(thread_id))["status"] == "busy", "the first goes on"
    await client.runs.cancel(thread_id, first["run_id"], wait=True, action="rollback")
    thread = await client.threads.get(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", None)


async def test_a_stream_of_a_cancelled_run_just_ends(client: LangGraphClient, thread_id: str) -> None:
    parts = []
    async with asyncio.timeout(PATIENCE):
        async for part in client.runs.stream(thread_id, "long_run", input=LONG, stream_mode="custom"):
            parts.append(part)
            if part.event == "custom" and part.data["step"] == 2:
                run_id = next(part.data["run_id"] for part in parts if part.event == "metadata")
                await client.runs.cancel(thread_id, run_id, wait=True)
    assert {part.event for part in parts} == {"metadata", "custom"}


async def test_who_leaves_may_cancel(client: LangGraphClient, thread_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        async for part in client.runs.stream(
            thread_id, "long_run", input=LONG, stream_mode="custom", on_disconnect="cancel"
        ):
            if part.event == "custom":
                break
    runs = await eventually(
        lambda: client.runs.list(thread_id), lambda runs: [run["status"] for run in runs] == ["interrupted"]
    )
    assert len(runs) == 1


# -- several runs on one thread ----------------------------------------------------------------------------------


async def test_reject(client: LangGraphClient, thread_id: str) -> None:
    run = await client.runs.create(thread_id, "long_run", input=LONG)
    with pytest.raises(ConflictError):
        await client.runs.create(thread_id, "long_run", input=LONG, multitask_strategy="reject")
    await client.runs.cancel(thread_id, run["run_id"], wait=True)


async def test_enqueue(client: LangGraphClient, thread_id: str) -> None:
    runs = [
        await client.runs.create(
            thread_id, "long_run", input={"steps": count, "seconds": 0.05}, multitask_strategy="enqueue"
        )
        for count in (3, 1, 2)
    ]
    values = await client.runs.join(thread_id, runs[-1]["run_id"])
    expected = [f"step {number} of {count}" for count in (3, 1, 2) for number in range(1, count + 1)]
    assert values["log"] == expected
    assert {run["status"] for run in await client.runs.list(thread_id)} == {"success"}


async def test_interrupt(client: LangGraphClient, thread_id: str) -> None:
    first = await client.runs.create(thread_id, "long_run", input=LONG)
    waiting = await client.runs.create(thread_id, "long_run", input=LONG)
    await started(client, thread_id)
    values = await client.runs.wait(
        thread_id, "long_run", input={"steps": 2, "seconds": 0}, multitask_strategy="interrupt"
    )
    assert values["log"][0] == f"step 1 of {LONG['steps']}", "what the first has done stays"
    assert values["log"][-2:] == ["step 1 of 2", "step 2 of 2"]
    for run in (first, waiting):
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_rollback(client: LangGraphClient, thread_id: str) -> None:
    first = await client.runs.create(thread_id, "long_run", input=LONG)
    await started(client, thread_id)
    values = await client.runs.wait(
        thread_id, "long_run", input={"steps": 2, "seconds": 0}, multitask_strategy="rollback"
    )
    assert values["log"] == ["step 1 of 2", "step 2 of 2"], "as if the first had never been"
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, first["run_id"])


# -- errors ------------------------------------------------------------------------------------------------------


async def test_a_graph_that_raises(client: LangGraphClient, thread_id: str) -> None:
    await client.runs.wait(thread_id, "human_in_the_loop", input={"topic": "tea"})
    answer = await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": "perhaps"}, raise_error=False)
    assert answer["__error__"]["error"] == "ValueError"
    assert "perhaps" in answer["__error__"]["message"]
    with pytest.raises(Exception, match="ValueError"):
        await client.runs.wait(thread_id, "human_in_the_loop", command={"resume": "perhaps"})
    thread = await client.threads.get(thread_id)
    assert thread["status"] == "error"
    assert {run["status"] for run in await client.runs.list(thread_id)} == {"success", "error"}
    parts = await collected(client.runs.stream(None, "minimal", input={"text": None, "reply": 1, "unknown": 2}))
    assert parts[-1].event == "values", "None is a text, too"
    parts = await collected(client.runs.stream(None, "minimal", input={"reply": "no text"}))
    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "KeyError", "message": "'text'"}


@pytest.mark.parametrize("command", [{"goto": "\\"}, {"update": {"a\\b": 1, "\\101": 2}}], ids=["goto", "update"])
async def test_backslashes_do_not_spoil_the_thread(client: LangGraphClient, thread_id: str, command: Any) -> None:
    await client.runs.wait(thread_id, "minimal", input={"text": "before"})
    await client.runs.wait(thread_id, "minimal", command=command, raise_error=False)
    assert (await client.threads.get_state(thread_id))["values"]["text"] == "before"
    assert await client.threads.get_history(thread_id)
    assert (await client.runs.wait(thread_id, "minimal", input={"text": "after"}))["reply"] == "You said: after"


async def test_an_empty_checkpoint_is_none(client: LangGraphClient, thread_id: str) -> None:
    nothing: Any = {"checkpoint_id": None, "checkpoint_ns": None, "checkpoint_map": None}
    answer = await client.runs.wait(thread_id, "minimal", input={"text": "x"}, config={"configurable": nothing})
    assert answer["reply"] == "You said: x"


async def test_requests_that_make_no_sense(client: LangGraphClient, thread_id: str) -> None:
    with pytest.raises(UnprocessableEntityError, match="Invalid assistant"):
        await client.runs.create(thread_id, "no such graph", input={})
    with pytest.raises(NotFoundError):
        await client.runs.create("7b3d7c5e-1111-4222-8333-444444444444", "minimal", input={})
    with pytest.raises(NotFoundError):
        await client.threads.get("7b3d7c5e-1111-4222-8333-444444444444")
    values = await client.runs.wait(
        "7b3d7c5e-1111-4222-8333-555555555555", "minimal", input={"text": "x"}, if_not_exists="create"
    )
    assert values["reply"] == "You said: x"


# -- crons -------------------------------------------------------------------------------------------------------


async def test_a_cron_fires(client: LangGraphClient, thread_id: str) -> None:
    cron = await client.crons.create_for_thread(
        thread_id, "minimal", schedule="* * * * * *", input={"text": "tick"}, metadata={"made_by": "a cron"}
    )
    runs = await eventually(lambda: client.runs.list(thread_id, status="success"), lambda runs: len(runs) >= 2)
    await client.crons.delete(cron["cron_id"])
    assert runs[0]["metadata"]["made_by"] == "a cron"
    assert (await client.threads.get_state(thread_id))["values"]["reply"] == "You said: tick"
    stateless = await client.crons.create(
        "minimal",
        schedule="* * * * * *",
        input={"text": "tock"},
        metadata={"cron_of": thread_id},
        on_run_completed="keep",
    )
    threads = await eventually(lambda: client.threads.search(metadata={"cron_of": thread_id}))
    await client.crons.delete(stateless["cron_id"])
    assert not await client.crons.search(thread_id=thread_id)
    await eventually(lambda: client.threads.get(threads[0]["thread_id"]), lambda thread: thread["status"] == "idle")


# -- and afterwards ----------------------------------------------------------------------------------------------


async def test_nothing_is_left_inconsistent(client: LangGraphClient, examples_server: DevServer) -> None:
    """Must stay the last one of this file."""
    spec = importlib.util.spec_from_file_location("scenario_invariants", Path(__file__).parent.parent / "invariants.py")
    assert spec is not None
    assert spec.loader is not None
    invariants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(invariants)
    await eventually(lambda: client.threads.count(status="busy"), lambda busy: busy == 0)
    await invariants.assert_invariants(examples_server.database_uri, worker=True)
    for trouble in ("could not be executed", "A stream failed", "A wait failed", "never retrieved", "request failed"):
        assert trouble not in examples_server.output
    async with httpx.AsyncClient(base_url=examples_server.url) as http:
        assert (await http.get("/ok")).json()["ok"] is True
