"""LangGraph's own client of a served graph, ``RemoteGraph``, against the real ``dev`` command."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dev_server import DevServer
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def client(examples_server: DevServer) -> AsyncIterator[LangGraphClient]:
    client = examples_server.client()
    yield client
    await client.aclose()


@pytest.fixture
async def thread(client: LangGraphClient) -> Any:
    return {"configurable": {"thread_id": (await client.threads.create())["thread_id"]}}


async def test_invoke(client: LangGraphClient, thread: Any) -> None:
    graph = RemoteGraph("minimal", client=client)
    assert await graph.ainvoke({"text": "hello"}) == {"text": "hello", "reply": "You said: hello"}
    assert (await graph.ainvoke({"text": "hello"}, thread))["reply"] == "You said: hello"
    assert (await graph.aget_state(thread)).values["text"] == "hello"


async def test_invoke_from_synchronous_code(examples_server: DevServer) -> None:
    graph = RemoteGraph("minimal", url=examples_server.url, api_key="none")
    assert (await asyncio.to_thread(graph.invoke, {"text": "hello"}))["reply"] == "You said: hello"
    chunks = await asyncio.to_thread(lambda: list(graph.stream({"text": "hello"}, stream_mode="updates")))
    assert chunks == [{"answer": {"reply": "You said: hello"}}]
    for client in (graph.sync_client, graph.client):
        assert client is not None
    graph.sync_client.close()
    await graph.client.aclose()


async def test_stream_of_tokens_and_updates(client: LangGraphClient, thread: Any) -> None:
    graph = RemoteGraph("chat_agent", client=client)
    question = {"messages": [{"role": "user", "content": "12 + 30"}]}
    chunks = [chunk async for chunk in graph.astream(question, thread, stream_mode=["messages", "updates"])]
    nodes = [next(iter(data)) for mode, data, *_ in chunks if mode == "updates"]
    assert nodes == ["agent", "tools", "agent"]
    words = [data[0]["content"] for mode, data, *_ in chunks if mode == "messages"]
    assert "42. " in words


async def test_interrupt_state_and_resume(client: LangGraphClient, thread: Any) -> None:
    graph = RemoteGraph("human_in_the_loop", client=client)
    await graph.ainvoke({"topic": "tea"}, thread)
    state = await graph.aget_state(thread)
    assert state.next == ("review",)
    assert state.tasks[0].interrupts[0].value["question"] == "May this be sent?"
    await graph.aupdate_state(thread, {"draft": "Better."}, as_node="write_draft")
    await graph.ainvoke(None, thread)
    done = await graph.ainvoke(Command(resume="approve"), thread)
    assert done["sent"] == "Better."
    history = [state async for state in graph.aget_state_history(thread, limit=20)]
    assert history[0].values["status"] == "sent"
    assert history[-1].metadata is not None
    assert history[-1].metadata["source"] == "input"


async def test_a_failure_is_an_exception(client: LangGraphClient) -> None:
    with pytest.raises(RemoteException, match="KeyError"):
        await RemoteGraph("minimal", client=client).ainvoke({"reply": "no text"})


async def test_drawing(client: LangGraphClient) -> None:
    drawing = await RemoteGraph("human_in_the_loop", client=client).aget_graph()
    assert {"write_draft", "review", "send", "reject"} <= set(drawing.nodes)


async def test_a_served_graph_as_a_node(client: LangGraphClient) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", RemoteGraph("chat_agent", client=client))
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    values = await graph.ainvoke({"messages": [HumanMessage("12 + 30")]}, config)
    last = values["messages"][-1]
    assert isinstance(last, AIMessage)
    assert last.text == "12 + 30 = 42. Anything else?"
