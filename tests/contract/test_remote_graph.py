"""LangGraph's own client of a served graph, ``RemoteGraph``, against the real ``dev`` command, sync and async.

``remote`` gives each test both: ``await graph.ainvoke(...)``, and ``await sync(graph.invoke, ...)`` on a thread of its own.
"""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from dev_server import PATIENCE, DevServer
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient, SyncLangGraphClient
from typing_extensions import TypedDict

pytestmark = pytest.mark.timeout(90)

Remote = Callable[..., RemoteGraph]
sync = asyncio.to_thread

#: Every mode that RemoteGraph passes on; it leaves out ``events``.
MODES = ["values", "updates", "custom", "messages", "tasks", "checkpoints", "debug"]


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


@pytest.fixture
async def client(sample_server: DevServer) -> AsyncIterator[LangGraphClient]:
    client = sample_server.client()
    yield client
    await client.aclose()


@pytest.fixture
def sync_client(sample_server: DevServer) -> Iterator[SyncLangGraphClient]:
    with get_sync_client(url=sample_server.url, api_key=None) as client:
        yield client


@pytest.fixture
def remote(client: LangGraphClient, sync_client: SyncLangGraphClient) -> Remote:
    return lambda graph_id, **options: RemoteGraph(graph_id, client=client, sync_client=sync_client, **options)


@pytest.fixture
async def thread(client: LangGraphClient) -> Any:
    return {"configurable": {"thread_id": (await client.threads.create())["thread_id"]}}


async def everything(stream: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [part async for part in stream]


# -- invoke and stream -------------------------------------------------------------------------------------------


async def test_invoke(remote: Remote, thread: Any) -> None:
    graph = remote("line")
    assert await graph.ainvoke({}) == {"log": ["a", "b", "c"]}
    assert await graph.ainvoke({"kind": "x"}, thread) == {"kind": "x", "log": ["a", "b", "c"]}
    assert (await graph.aget_state(thread)).values["kind"] == "x"
    made: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    assert (await sync(graph.invoke, {}, made))["log"] == ["a", "b", "c"], "a thread that is not there is made"
    assert (await sync(graph.get_state, made)).values["log"] == ["a", "b", "c"]


async def test_clients_of_its_own(sample_server: DevServer) -> None:
    graph = RemoteGraph("line", url=sample_server.url, api_key="none")
    assert (await sync(graph.invoke, {})) == (await graph.ainvoke({})) == {"log": ["a", "b", "c"]}
    assert graph.sync_client is not None
    assert graph.client is not None
    graph.sync_client.close()
    await graph.client.aclose()


async def test_by_the_assistant(remote: Remote, client: LangGraphClient) -> None:
    assistant = await client.assistants.create("dump_context", context={"tone": "dry"})
    values = await remote(assistant["assistant_id"]).ainvoke({})
    assert values["saw"]["context"]["tone"] == "dry"


async def test_stream_in_each_mode(remote: Remote, thread: Any) -> None:
    """Of runs without a thread, checkpoints are not streamed: there are none."""
    graph = remote("counting")
    expected = {
        "values": [{"log": [], "count": 1}, {"log": ["step"], "count": 0}],
        "updates": [{"step": {"log": ["step"], "count": 0}}],
        "custom": [{"left": 1}],
        "messages": [],
    }
    for mode in MODES:
        chunks = await everything(graph.astream({"count": 1}, stream_mode=mode))
        again = await sync(lambda mode=mode: list(graph.stream({"count": 1}, stream_mode=mode)))
        assert len(chunks) == len(again), mode
        if mode in expected:
            assert chunks == again == expected[mode]
        else:
            assert bool(chunks) == (mode != "checkpoints"), mode
    assert await everything(graph.astream({"count": 1}, thread, stream_mode="checkpoints"))
    assert await everything(graph.astream({"count": 1})) == expected["updates"], "the default"


async def test_stream_in_all_modes(remote: Remote, thread: Any) -> None:
    question = {"messages": [{"role": "user", "content": "1 + 2?"}]}
    chunks = await everything(remote("chat").astream(question, thread, stream_mode=MODES))
    assert {event for event, *_ in chunks} == {*MODES} - {"custom"}
    nodes = [next(iter(data)) for event, data, *_ in chunks if event == "updates"]
    assert nodes == ["greet", "agent", "tools", "agent"]
    words = [data[0]["content"] for event, data, *_ in chunks if event == "messages"]
    assert [word for word in words if word in ("The ", "sum is ", "3")][-3:] == ["The ", "sum is ", "3"]
    assert next(data["type"] for event, data, *_ in chunks if event == "debug") == "checkpoint"


async def test_stream_of_subgraphs(remote: Remote) -> None:
    graph = remote("nested")
    assert len(await everything(graph.astream({}))) == 2, "without being asked, only the graph itself"
    chunks = await everything(graph.astream({}, subgraphs=True))
    again = await sync(lambda: list(graph.stream({}, subgraphs=True)))
    paths = [tuple(part.partition(":")[0] for part in namespace) for namespace, _ in chunks]
    assert paths == [(), ("child",), ("child", "grandchild"), ("child",), ()]
    assert [data for _, data in chunks] == [data for _, data in again]
    three = await everything(graph.astream({}, stream_mode=["custom"], subgraphs=True))
    (((_, _), mode, data),) = three
    assert (mode, data) == ("custom", "deep down")


async def test_the_second_version_of_the_stream(remote: Remote, thread: Any) -> None:
    graph = remote("ask")
    parts = await everything(graph.astream({}, thread, stream_mode="values", version="v2"))
    assert [(part["type"], part["ns"]) for part in parts] == [("values", ())] * len(parts)
    assert parts[-1]["interrupts"][0].value == {"question": "ask"}
    output = await graph.ainvoke(Command(resume="yes"), thread, version="v2")
    assert output.value["log"] == ["before", "ask: yes", "after"]


# -- states ------------------------------------------------------------------------------------------------------


async def test_state_history_and_fork(remote: Remote, thread: Any) -> None:
    graph = remote("line")
    await graph.ainvoke({}, thread)
    history = await everything(graph.aget_state_history(thread, limit=100))
    assert [state.next for state in history] == [(), ("c",), ("b",), ("a",), ("__start__",)]
    assert history[0].metadata["source"] == "loop"
    assert history[1].config == history[0].parent_config
    assert [state.next for state in await sync(lambda: list(graph.get_state_history(thread, limit=2)))] == [(), ("c",)]
    before = await everything(graph.aget_state_history(thread, before=history[2].config))
    assert [state.config for state in before] == [state.config for state in history[3:]]
    inputs = await everything(graph.aget_state_history(thread, filter={"source": "input"}))
    assert [state.next for state in inputs] == [("__start__",)]

    then = await graph.aget_state(history[2].config)
    assert (then.values, then.next) == (history[2].values, ("b",))
    fork = await graph.aupdate_state(history[2].config, {"log": ["other"]})
    assert fork["configurable"]["thread_id"] == thread["configurable"]["thread_id"]
    now = await graph.aget_state(thread)
    assert (now.values["log"], now.next) == (["a", "other"], ("b",))
    assert now.parent_config == history[2].config
    assert await graph.ainvoke(None, thread) == {"log": ["a", "other", "b", "c"]}
    assert (await graph.aget_state(history[0].config)).values == {"log": ["a", "b", "c"]}, "the first branch stays"


async def test_state_written_for_a_node(remote: Remote, client: LangGraphClient) -> None:
    graph = remote("line")
    thread: Any = {"configurable": {"thread_id": (await client.threads.create(graph_id="line"))["thread_id"]}}
    await sync(graph.update_state, thread, {"log": ["by hand"]}, "b")
    assert (await sync(graph.get_state, thread)).next == ("c",)
    assert await sync(graph.invoke, None, thread) == {"log": ["by hand", "c"]}


async def test_state_of_subgraphs(remote: Remote, thread: Any) -> None:
    graph = remote("ask_below")
    await graph.ainvoke({}, thread)
    (task,) = (await graph.aget_state(thread)).tasks
    assert task.state["configurable"]["checkpoint_ns"].startswith("child:")
    (deep,) = (await graph.aget_state(thread, subgraphs=True)).tasks
    assert deep.state.next == ("ask",)
    assert deep.state.interrupts[0].value == {"question": "below"}
    below = await graph.aget_state({"configurable": {**thread["configurable"], **task.state["configurable"]}})
    assert below.next == ("ask",)


# -- interrupts --------------------------------------------------------------------------------------------------


async def test_interrupt_and_resume(remote: Remote, thread: Any) -> None:
    graph = remote("ask")
    asked = await graph.ainvoke({}, thread)
    assert asked["__interrupt__"][0]["value"] == {"question": "ask"}
    state = await graph.aget_state(thread)
    assert state.next == ("ask",)
    assert state.interrupts[0].value == {"question": "ask"}
    assert state.interrupts[0].id == asked["__interrupt__"][0]["id"]
    assert (await graph.ainvoke(Command(resume="yes"), thread))["log"] == ["before", "ask: yes", "after"]
    # RemoteGraph takes checkpoints out of configs, and hands everything else on to the client
    again = await graph.ainvoke(None, thread, checkpoint_id=state.config["configurable"]["checkpoint_id"])
    assert again["__interrupt__"], "from the checkpoint before, it asks once more"


async def test_two_interrupts_answered_by_id_and_sync(remote: Remote, thread: Any) -> None:
    graph = remote("ask_two")
    await sync(graph.invoke, {}, thread)
    questions = (await sync(graph.get_state, thread)).interrupts
    answers = {question.id: f"{question.value['question']}!" for question in questions}
    done = await sync(graph.invoke, Command(resume=answers), thread)
    assert done["log"] == ["left: left!", "right: right!", "after"]


async def test_breakpoints(remote: Remote, thread: Any) -> None:
    graph = remote("line")
    assert (await graph.ainvoke({}, thread, interrupt_before=["b"]))["log"] == ["a"]
    assert (await graph.aget_state(thread)).next == ("b",)
    assert (await graph.ainvoke(None, thread, interrupt_after=["b"]))["log"] == ["a", "b"]
    assert (await graph.ainvoke(None, thread))["log"] == ["a", "b", "c"]


async def test_a_command_that_updates_and_goes(remote: Remote, thread: Any) -> None:
    graph = remote("line")
    await graph.ainvoke({}, thread)
    done = await graph.ainvoke(Command(update={"log": ["jump"]}, goto="c"), thread)
    assert done["log"] == ["a", "b", "c", "jump", "c"]


# -- configs, errors, drawings -----------------------------------------------------------------------------------


async def test_config_and_context(remote: Remote) -> None:
    config: Any = {"tags": ["t"], "metadata": {"by": "me"}, "configurable": {"color": "red"}, "recursion_limit": 7}
    bound = remote("dump").with_config(config)
    for saw in ((await bound.ainvoke({}))["saw"], (await sync(bound.invoke, {}))["saw"]):
        assert saw["settings"]["tags"] == ["t"]
        assert saw["settings"]["recursion_limit"] == 7
        assert saw["metadata"]["by"] == "me"
        assert saw["configurable"]["color"] == "red"
    also = await bound.ainvoke({}, {"configurable": {"size": 3}})
    assert {"color": "red", "size": 3}.items() <= also["saw"]["configurable"].items()
    typed = await remote("dump_context").ainvoke({}, context={"tone": "dry"})
    assert typed["saw"]["context"]["tone"] == "dry"


async def test_a_failure_is_an_exception(remote: Remote, thread: Any) -> None:
    graph = remote("fail")
    with pytest.raises(RemoteException, match="wrong: ValueError"):
        await graph.ainvoke({"kind": "ValueError"}, thread)
    with pytest.raises(RemoteException, match="An internal error occurred"):
        await sync(graph.invoke, {"kind": "CustomError"})
    state = await graph.aget_state(thread)
    assert state.next == ("raising",)
    assert "wrong: ValueError" in str(state.tasks[0].error)


async def test_drawings(remote: Remote) -> None:
    graph = remote("nested")
    assert set((await graph.aget_graph()).nodes) == {"__start__", "first", "child", "__end__"}
    deep = await graph.aget_graph(xray=True)
    assert "child:grandchild:deep" in deep.nodes
    assert "child:grandchild" in (await sync(graph.get_graph, xray=1)).nodes
    assert "child" in deep.draw_mermaid()


# -- as a node of a local graph ----------------------------------------------------------------------------------


@pytest.mark.parametrize("distributed_tracing", [False, True])
async def test_a_node(remote: Remote, distributed_tracing: bool) -> None:
    async def local(state: Log) -> Log:
        return {"log": ["local"]}

    builder = StateGraph(Log).add_node("local", local)
    builder.add_node("remote", remote("line", distributed_tracing=distributed_tracing))
    graph = builder.add_edge(START, "local").add_edge("local", "remote").add_edge("remote", END).compile()
    expected = ["local", "local", "a", "b", "c"]  # the node's output is the remote graph's whole state
    assert (await graph.ainvoke({"log": []}))["log"] == expected
    chunks = await everything(graph.astream({"log": []}, stream_mode="updates", subgraphs=True))
    inside = [data for namespace, data in chunks if namespace]
    assert inside == [{name: {"log": [name]}} for name in "abc"], "what happens there is seen here"
    assert {namespace[0].partition(":")[0] for namespace, _ in chunks if namespace} == {"remote"}


async def test_a_node_from_synchronous_code(remote: Remote) -> None:
    graph = StateGraph(Log).add_node("remote", remote("line")).add_edge(START, "remote").compile()
    assert (await sync(graph.invoke, {"log": ["x"]}))["log"] == ["x", "x", "a", "b", "c"]


async def test_a_node_with_messages_and_a_checkpointer(remote: Remote) -> None:
    builder = StateGraph(MessagesState).add_node("agent", remote("chat")).add_edge(START, "agent")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    values = await graph.ainvoke({"messages": [HumanMessage("1 + 2?")]}, config)
    last = values["messages"][-1]
    assert isinstance(last, AIMessage)
    assert last.text == "The sum is 3"
    assert (await remote("chat").aget_state(config)).values["messages"], "both have a thread of that id"


async def test_an_interrupt_inside_a_node(remote: Remote) -> None:
    """It stops the local graph; the remote thread, which has the local one's id, is answered where it is."""
    node = remote("ask")
    graph = StateGraph(Log).add_node("remote", node).add_edge(START, "remote").compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    asked = await graph.ainvoke({"log": []}, config)
    assert asked["__interrupt__"][0].value == {"question": "ask"}
    assert (await graph.aget_state(config)).next == ("remote",)
    assert (await node.ainvoke(Command(resume="yes"), config))["log"] == ["before", "ask: yes", "after"]


async def test_a_failure_inside_a_node(remote: Remote) -> None:
    graph = (
        StateGraph(Log).add_node("remote", remote("fail", config={"metadata": {}})).add_edge(START, "remote").compile()
    )
    with pytest.raises(RemoteException, match="KeyError"):
        await graph.ainvoke({"log": []})
