"""Whole uses of a server, each told twice: with the asynchronous and with the synchronous client of the Python SDK.

The synchronous client's calls go to threads, so that one story serves both. Served are the examples, by the real ``dev``
command; ``test_scenarios.py`` has the single scenes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from dev_server import PATIENCE, DevServer
from langgraph_sdk import get_sync_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError
from sync_client import InThreads

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(params=["async", "sync"])
async def client(request: pytest.FixtureRequest, examples_server: DevServer) -> AsyncIterator[Any]:
    if request.param == "async":
        async with examples_server.client() as client:
            yield client
    else:
        with get_sync_client(url=examples_server.url, api_key=None) as client:
            yield InThreads(client)


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def texts(state: Any) -> list[str]:
    return [message["content"] for message in state["values"]["messages"]]


async def everything(stream: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [part async for part in stream]


async def eventually(look: Callable[[], Awaitable[Any]], good: Callable[[Any], Any] = bool) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not good(found := await look()):
            await asyncio.sleep(0.02)
    return found


async def test_a_chat(client: Any) -> None:
    """Choose an assistant, talk, look back, ask otherwise, ask again, clean up."""
    user = f"user-{uuid.uuid4()}"
    (assistant,) = await client.assistants.search(graph_id="chat_agent", metadata={"created_by": "system"})
    polite = await client.assistants.create(
        "chat_agent", name="Polite", context={"user_id": user}, metadata={"owner": user}
    )
    assert {each["assistant_id"] for each in await client.assistants.search(graph_id="chat_agent", limit=100)} >= {
        assistant["assistant_id"],
        polite["assistant_id"],
    }

    thread_id = (await client.threads.create(metadata={"owner": user}))["thread_id"]
    created: list[Any] = []
    parts = await everything(
        client.runs.stream(
            thread_id,
            polite["assistant_id"],
            input=said("Hello, my name is Ada!"),
            stream_mode=["messages-tuple", "values"],
            metadata={"turn": 1},
            on_run_created=created.append,
        )
    )
    assert parts[0].event == "metadata"
    assert parts[0].data["run_id"] == created[0]["run_id"]
    words = [part.data[0]["content"] for part in parts if part.event == "messages" and part.data[0]["content"]]
    assert len(words) > 3, "it came in pieces"
    await client.runs.wait(thread_id, polite["assistant_id"], input=said("1 + 2"), metadata={"turn": 2})
    assert texts(await client.threads.get_state(thread_id))[-1].startswith("1 + 2 = 3")
    await client.threads.update(thread_id, metadata={"title": "Sums"})
    (listed,) = await client.threads.search(metadata={"owner": user}, select=["thread_id", "metadata", "status"])
    assert (listed["status"], listed["metadata"]["title"]) == ("idle", "Sums")

    # the second question is asked otherwise: from the checkpoint before it
    history = await client.threads.get_history(thread_id, limit=50)
    second = next(state for state in history if state["metadata"]["source"] == "input")
    first_answer = second["parent_checkpoint"]
    await client.runs.wait(thread_id, polite["assistant_id"], input=said("5 + 5"), checkpoint=first_answer)
    now = texts(await client.threads.get_state(thread_id))
    assert now[-1].startswith("5 + 5 = 10")
    assert "1 + 2" not in now
    # and the answer to it is tried again: from the checkpoint at which the agent was asked
    history = await client.threads.get_history(thread_id, limit=50)
    asked = next(state for state in history if state["next"] == ["agent"] and texts(state)[-1] == "5 + 5")
    await client.runs.wait(thread_id, polite["assistant_id"], input=None, checkpoint=asked["checkpoint"])
    assert texts(await client.threads.get_state(thread_id)) == now
    leaves = {state["checkpoint_id"] for state in await client.threads.get_history(thread_id, limit=50)}
    parents = {state["parent_checkpoint_id"] for state in await client.threads.get_history(thread_id, limit=50)}
    assert len(leaves - parents) == 3, "every branch is kept"

    copy = await client.threads.copy(thread_id)
    assert texts(await client.threads.get_state(copy["thread_id"] if copy else thread_id)) == now
    assert [run["metadata"].get("turn") for run in await client.runs.list(thread_id)] == [None, None, 2, 1]
    await client.threads.delete(thread_id)
    with pytest.raises(NotFoundError):
        await client.threads.get(thread_id)
    await client.assistants.delete(polite["assistant_id"])


async def test_an_inbox(client: Any) -> None:
    """Several threads wait for people; they are found, answered, edited, and leave the inbox."""
    desk = f"desk-{uuid.uuid4()}"
    for topic in ("tea", "coffee", "milk"):
        await client.runs.wait(
            str(uuid.uuid4()),
            "human_in_the_loop",
            input={"topic": topic},
            metadata={"desk": desk},
            if_not_exists="create",
        )

    async def inbox() -> dict[str, Any]:
        found = await client.threads.search(metadata={"desk": desk}, status="interrupted", limit=10)
        return {thread["values"]["topic"]: thread for thread in found}

    waiting = await inbox()
    assert set(waiting) == {"tea", "coffee", "milk"}
    ((question,),) = waiting["tea"]["interrupts"].values()
    assert "few words about tea" in question["value"]["draft"]

    tea, coffee, milk = (waiting[topic]["thread_id"] for topic in ("tea", "coffee", "milk"))
    done = await client.runs.wait(tea, "human_in_the_loop", command={"resume": "approve"})
    assert done["status"] == "sent"
    answer = {"action": "edit", "draft": "Coffee at ten."}
    parts = await everything(
        client.runs.stream(coffee, "human_in_the_loop", command={"resume": answer}, stream_mode="updates")
    )
    assert parts[-1].data["send"]["sent"] == "Coffee at ten."
    # the draft is written anew by hand, and the question comes with it
    await client.threads.update_state(milk, {"draft": "Milk!"}, as_node="write_draft")
    asked = await client.runs.wait(milk, "human_in_the_loop", input=None)
    assert asked["__interrupt__"][0]["value"]["draft"] == "Milk!"
    assert set(await inbox()) == {"milk"}
    await client.runs.wait(milk, "human_in_the_loop", command={"resume": {"action": "reject"}})
    assert await inbox() == {}
    state = await client.threads.get_state(milk, select=["values.status", "next"])
    assert state == {"values": {"status": "rejected"}, "next": []}
    assert await client.threads.count(metadata={"desk": desk}, status="idle") == 3


async def test_a_job_in_the_background(client: Any) -> None:
    """Started, polled, followed from the middle, joined; another one called off; a third one refused."""
    thread_id = (await client.threads.create())["thread_id"]
    job = await client.runs.create(
        thread_id,
        "long_run",
        input={"steps": 8, "seconds": 0.05},
        stream_mode=["custom", "values"],
        metadata={"job": "nightly"},
        stream_resumable=True,
    )
    with pytest.raises(ConflictError):
        await client.runs.create(thread_id, "long_run", input={}, multitask_strategy="reject")
    await eventually(
        lambda: client.threads.get_state(thread_id), lambda state: (state["values"] or {}).get("done", 0) > 1
    )
    seen = await everything(client.runs.join_stream(thread_id, job["run_id"], last_event_id="0"))
    steps = [part.data["step"] for part in seen if part.event == "custom"]
    assert steps == list(range(1, 9))
    assert (await client.runs.join(thread_id, job["run_id"]))["done"] == 8
    found = await client.runs.get(thread_id, job["run_id"])
    assert (found["status"], found["metadata"]["job"]) == ("success", "nightly")

    other = await client.runs.create(thread_id, "long_run", input={"steps": 600, "seconds": 0.1})
    await eventually(lambda: client.runs.get(thread_id, other["run_id"]), lambda run: run["status"] == "running")
    await client.runs.cancel_many(thread_id=thread_id, run_ids=[other["run_id"]])
    await eventually(lambda: client.runs.get(thread_id, other["run_id"]), lambda run: run["status"] == "interrupted")
    assert [run["run_id"] for run in await client.runs.list(thread_id, status="success")] == [job["run_id"]]
    assert await client.runs.list(thread_id, select=["run_id"], limit=1) == [{"run_id": other["run_id"]}]
    await client.runs.delete(thread_id, job["run_id"])
    with pytest.raises(NotFoundError):
        await client.runs.get(thread_id, job["run_id"])


async def test_memories(client: Any) -> None:
    """What an agent learned on one thread is known on the next, seen and corrected from outside, and forgotten."""
    user = f"user-{uuid.uuid4()}"
    ask = {"input": said("What is my name?"), "context": {"user_id": user}}
    await client.runs.wait(None, "chat_agent", input=said("Hello, my name is Ada!"), context={"user_id": user})
    assert (await client.runs.wait(None, "chat_agent", **ask))["messages"][-1]["content"] == "Your name is Ada."
    found = await client.store.search_items(["memories", user], filter={"value": {"$ne": "Bob"}})
    assert [(item["key"], item["value"]) for item in found["items"]] == [("name", {"value": "Ada"})]
    await client.store.put_item(["memories", user], "name", {"value": "Grace"}, ttl=60)
    assert (await client.runs.wait(None, "chat_agent", **ask))["messages"][-1]["content"] == "Your name is Grace."
    spaces = await client.store.list_namespaces(prefix=["memories", user], max_depth=2)
    assert spaces["namespaces"] == [["memories", user]]
    await client.store.delete_item(["memories", user], "name")
    assert "do not know" in (await client.runs.wait(None, "chat_agent", **ask))["messages"][-1]["content"]


async def test_a_cron(client: Any) -> None:
    """Made, seen, run, changed, paused, deleted."""
    thread_id = (await client.threads.create())["thread_id"]
    cron = await client.crons.create_for_thread(
        thread_id, "minimal", schedule="* * * * * *", input={"text": "tick"}, metadata={"by": "cron"}
    )
    cron_id = cron["cron_id"]
    assert (await client.crons.count(thread_id=thread_id)) == 1
    runs = await eventually(lambda: client.runs.list(thread_id, status="success"))
    assert runs[-1]["metadata"]["by"] == "cron"

    changed = await client.crons.update(cron_id, schedule="0 12 * * *", timezone="Asia/Kathmandu", enabled=False)
    assert changed["next_run_date"][11:16] == "06:15"
    (found,) = await client.crons.search(thread_id=thread_id, enabled=False, select=["cron_id", "schedule"])
    assert found == {"cron_id": cron_id, "schedule": "0 12 * * *"}
    assert await client.crons.search(thread_id=thread_id, enabled=True) == []
    with pytest.raises(UnprocessableEntityError):
        await client.crons.update(cron_id, schedule="now and then")
    later = datetime(2090, 1, 1, tzinfo=UTC)
    assert (await client.crons.update(cron_id, enabled=True, end_time=later))["end_time"].startswith("2090-01-01T00:00")
    await client.crons.delete(cron_id)
    assert await client.crons.count(thread_id=thread_id) == 0


async def test_many_users(client: Any, examples_server: DevServer) -> None:
    """Each finds what is theirs, in pages and in order, and no more."""
    team = f"team-{uuid.uuid4()}"
    made: dict[str, list[str]] = {"ada": [], "bob": [], "eve": []}
    for number in range(9):
        user = ("ada", "bob", "eve")[number % 3]
        thread = await client.threads.create(metadata={"team": team, "user": user, "number": number})
        made[user].append(thread["thread_id"])
    order = {"sort_by": "created_at", "sort_order": "asc"}

    async def pages(limit: int, **query: Any) -> list[list[str]]:
        found, offset = [], 0
        while page := await client.threads.search(limit=limit, offset=offset, **query):
            found.append([thread["thread_id"] for thread in page])
            offset += limit
        return found

    for user, threads in made.items():
        mine = {"metadata": {"team": team, "user": user}}
        assert await pages(2, **mine, **order) == [threads[:2], threads[2:]]
        assert await client.threads.count(**mine) == 3
    both = made["ada"][:1] + made["bob"][:1]
    assert [sorted(page) for page in await pages(10, ids=both)] == [sorted(both)]
    await client.runs.wait(made["eve"][0], "minimal", input={"text": team})
    (found,) = await client.threads.search(
        values={"text": team}, extract={"reply": "values.reply"}, select=["thread_id"]
    )
    assert found == {"thread_id": made["eve"][0], "extracted": {"reply": f"You said: {team}"}}
    assert await client.threads.count(metadata={"team": team}, status="idle") == 9

    async with httpx.AsyncClient(base_url=examples_server.url) as http:
        query = {"metadata": {"team": team}, "limit": 4, "select": ["thread_id"]}
        heads = [(await http.post("/threads/search", json={**query, "offset": offset})).headers for offset in (0, 4, 8)]
    assert [head["x-pagination-total"] for head in heads] == ["5", "9", "9"], "what is known without counting"
    assert [head.get("x-pagination-next") for head in heads] == ["4", "8", None]

    for number in range(3):
        await client.assistants.create("minimal", name=f"{number}", metadata={"team": team})
    page = {"metadata": {"team": team}, "sort_by": "name", "sort_order": "asc", "limit": 2, "response_format": "object"}
    first = await client.assistants.search(**page)
    assert ([each["name"] for each in first["assistants"]], first["next"]) == (["0", "1"], "2")
    rest = await client.assistants.search(**page, offset=int(first["next"]))
    assert ([each["name"] for each in rest["assistants"]], rest["next"]) == (["2"], None)
    assert await client.assistants.count(metadata={"team": team}) == 3
    pruned = await client.threads.prune(made["bob"])
    assert pruned["pruned_count"] == 3
    assert await client.threads.count(metadata={"team": team}) == 6
