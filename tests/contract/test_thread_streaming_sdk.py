"""The Python SDK's thread streaming, unmodified, against the real ``dev`` command: both transports, async and sync.

``client.threads.stream(...)`` speaks the thread protocol: commands over HTTP, events by SSE or through a WebSocket. What is held
here is what a user of it sees: projections, interrupts and answers, a thread that is opened again, a connection that is cut.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest
from dev_server import DevServer
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient
from tcp_proxy import TcpProxy
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

PATIENCE = 60.0
ASKED = {"messages": [{"role": "user", "content": "1 + 2?"}]}
Transport = Literal["sse", "websocket"]
Open = Callable[..., Any]


@pytest.fixture(params=["sse", "websocket"])
def transport(request: pytest.FixtureRequest) -> Transport:
    found: Transport = request.param
    return found


@pytest.fixture
async def client(sample_server: DevServer) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=sample_server.url, api_key=None) as made:
        yield made


@pytest.fixture
def opened(client: LangGraphClient, transport: Transport) -> Open:
    return lambda graph, thread_id=None: client.threads.stream(thread_id, assistant_id=graph, transport=transport)


async def within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)


async def listed(projection: AsyncIterator[Any]) -> list[Any]:
    return await within(_listed(projection))


async def _listed(projection: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in projection]


async def test_a_run_its_states_and_its_output(opened: Open) -> None:
    async with opened("line") as thread:
        values = asyncio.create_task(_listed(thread.values))
        started = await thread.run.start(input={"kind": "x"}, metadata={"by": "me"}, config={"tags": ["t"]})
        assert uuid.UUID(started["run_id"])
        assert await within(thread.output) == {"log": ["a", "b", "c"], "kind": "x"}
        logs = [state.get("log") for state in await within(values)]
        assert logs[-1] == ["a", "b", "c"]
        assert ["a"] in logs
        assert thread.interrupted is False


async def test_messages_grow_word_by_word(opened: Open) -> None:
    async with opened("chat") as thread:
        await thread.run.start(input=ASKED)
        spoken = [asyncio.create_task(_spoken(message)) async for message in thread.messages]
        plan, answer = [await within(task) for task in spoken]
        assert plan[0] == ["Let me see."]
        assert [call["args"] for call in plan[1].tool_calls] == [{"a": 1, "b": 2}]
        assert answer[0] == ["The ", "sum is ", "3"]
        assert answer[1].usage_metadata["total_tokens"] == 8
        stored = (await within(thread.output))["messages"]
        assert [message["type"] for message in stored] == ["human", "ai", "ai", "tool", "ai"]
        assert answer[1].id == stored[-1]["id"]


async def _spoken(message: Any) -> tuple[list[str], Any]:
    return [word async for word in message.text], await message.output


async def test_tool_calls(opened: Open) -> None:
    async with opened("chat") as thread:
        await thread.run.start(input=ASKED)
        (call,) = await listed(thread.tool_calls)
        assert (call.name, call.input, call.tool_call_id) == ("add", {"a": 1, "b": 2}, "call-1")
        assert (await within(call.output))["content"] == "3"


async def test_subgraphs_and_what_they_say(opened: Open) -> None:
    async with opened("chat_below") as thread:
        await thread.run.start(input=ASKED)
        said: list[asyncio.Task[Any]] = []
        async for child in thread.subgraphs:
            assert child.graph_name == "child"
            said.append(asyncio.create_task(_said_below(child)))
        (words,) = [await within(task) for task in said]
        assert words == [["Let me see."], ["The ", "sum is ", "3"]]


async def _said_below(child: Any) -> list[list[str]]:
    spoken = [asyncio.create_task(_spoken(message)) async for message in child.messages]
    return [(await task)[0] for task in spoken]


async def test_several_projections_at_once(opened: Open) -> None:
    async with opened("chat") as thread:
        await thread.run.start(input=ASKED)
        wanted = ["values", "messages", "tool_calls", "updates", "tasks", "checkpoints"]
        assert {name for name, _ in await listed(thread.interleave_projections(wanted))} == set(wanted)


async def test_every_channel(opened: Open) -> None:
    async with opened("counting") as thread:
        await thread.run.start(input={"count": 2})
        events = []
        async for event in thread.events:
            if "method" not in event:
                continue  # the WebSocket's answer to the subscription
            events.append(event)
            if event["method"] == "lifecycle" and event["params"]["data"]["event"] == "completed":
                break
        methods = [event["method"] for event in events]
        assert methods[0] == methods[-1] == "lifecycle"
        assert {"values", "updates", "custom", "tasks", "checkpoints"} <= set(methods)
        said = [event["params"]["data"]["payload"] for event in events if event["method"] == "custom"]
        assert said == [{"left": 2}, {"left": 1}]
        numbers = [event["seq"] for event in events]
        assert numbers == sorted(set(numbers))
        assert len({event["event_id"] for event in events}) == len(events)


async def test_a_question_and_its_answer(opened: Open) -> None:
    async with opened("ask") as thread:
        await thread.run.start(input={})
        # the SDK ends its projections when it hears the question, on another connection
        assert all(state.get("log") in (None, [], ["before"]) for state in await listed(thread.values))
        assert thread.interrupted
        (asked,) = thread.interrupts
        assert asked["namespace"] == []
        assert await thread.run.respond("yes") == {}
        assert (await within(thread.output))["log"] == ["before", "ask: yes", "after"]
        assert not thread.interrupted


async def test_two_questions_are_answered_one_by_one(opened: Open, client: LangGraphClient) -> None:
    async with opened("ask_two") as thread:
        await thread.run.start(input={})
        await listed(thread.values)
        async with asyncio.timeout(PATIENCE):
            while len(thread.interrupts) < 2:
                await asyncio.sleep(0.01)
        by_question = await _questions(client, thread.thread_id)
        await thread.run.respond("r", interrupt_id=by_question["right"])
        await thread.run.respond("l", interrupt_id=by_question["left"])
        assert (await within(thread.output))["log"] == ["left: l", "right: r", "after"]


async def _questions(client: LangGraphClient, thread_id: str) -> dict[str, str]:
    asked = (await client.threads.get_state(thread_id))["interrupts"]
    return {interrupt["value"]["question"]: interrupt["id"] for interrupt in asked}


async def test_a_question_from_below(opened: Open) -> None:
    async with opened("ask_below") as thread:
        await thread.run.start(input={})
        await listed(thread.values)
        (asked,) = thread.interrupts
        assert [segment.partition(":")[0] for segment in asked["namespace"]] == ["child"]
        await thread.run.respond(7)
        assert (await within(thread.output))["log"] == ["before", "before", "below: 7"]


async def test_a_failure(opened: Open) -> None:
    async with opened("fail") as thread:
        await thread.run.start(input={"kind": "CustomError"})
        with pytest.raises(RuntimeError, match="Run errored: An internal error occurred"):
            await within(thread.output)


async def test_refusals(opened: Open, client: LangGraphClient) -> None:
    async with opened("nobody") as thread:
        with pytest.raises(RuntimeError, match=r"unknown_error.*422: Invalid assistant: 'nobody'"):
            await thread.run.start(input={})
    async with opened("line") as thread:
        with pytest.raises(RuntimeError, match="invalid_argument"):
            await thread.run.start(input={}, config={"recursion_limit": "many"})


async def test_a_thread_is_opened_again_and_used_again(opened: Open, client: LangGraphClient) -> None:
    thread_id = str(uuid.uuid4())
    async with opened("chat", thread_id) as thread:
        await thread.run.start(input=ASKED)
        first = await within(thread.output)
    async with opened("chat", thread_id) as thread:
        assert await within(thread.output) == first
    async with opened("chat", thread_id) as thread:
        assert [node["id"] for node in (await thread.agent.get_tree())["nodes"]]
        # a client that opens a thread anew is told of its earlier runs first, so the SDK's output is that of the first run
        started = await thread.run.start(input=ASKED)
        joined = await within(client.runs.join(thread_id, started["run_id"]))
        assert len(joined["messages"]) > len(first["messages"])


async def test_a_cut_connection_loses_and_repeats_nothing(sample_server: DevServer, transport: Transport) -> None:
    """Connections for events are cut in the midst of events; the SDK comes back with the number of the last one that it has."""
    async with TcpProxy.to("127.0.0.1", sample_server.port) as proxy:
        cut_at: list[int] = []

        def rule(data: bytes, from_client: bool, connection: int) -> int | None:
            if from_client or len(cut_at) == 4 or b'"method":"custom"' not in data:
                return None
            cut_at.append(connection)
            return data.index(b'"method":"custom"') + 30

        proxy.rule = rule
        url = f"http://127.0.0.1:{proxy.port}"
        async with (
            get_client(url=url, api_key=None) as client,
            client.threads.stream(assistant_id="counting", transport=transport) as thread,
        ):
            custom = asyncio.create_task(_listed(thread.subscribe(["custom", "lifecycle"])))
            await thread.run.start(input={"count": 20}, config={"recursion_limit": 100})
            events = [event for event in await within(custom) if event["method"] == "custom"]
        assert len(set(cut_at)) == 4
        assert [event["params"]["data"]["payload"]["left"] for event in events] == list(range(20, 0, -1))


def test_the_sync_client(sample_server: DevServer, transport: Transport) -> None:
    with get_sync_client(url=sample_server.url, api_key=None) as client:
        with client.threads.stream(assistant_id="ask", transport=transport) as thread:
            thread.run.start(input={})
            assert all(state.get("log") in (None, ["before"], []) for state in thread.values)
            assert thread.interrupted
            thread.run.respond("sync")
            assert thread.output["log"] == ["before", "ask: sync", "after"]
        with client.threads.stream(assistant_id="chat", transport=transport) as thread:
            thread.run.start(input=ASKED)
            assert [message.output.text for message in thread.messages][-1] == "The sum is 3"


async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    for trouble in (
        "could not be executed",
        "A stream failed",
        "A socket failed",
        "never retrieved",
        "Unexpected error",
    ):
        assert trouble not in sample_server.output
