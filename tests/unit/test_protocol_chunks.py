"""What graphs stream, as records of the thread protocol: real graphs, in memory, one for each kind of thing that happens."""

from __future__ import annotations

import json
import operator
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.stream import StreamChannel, StreamTransformer
from langgraph.types import Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.progress import Progress
from langgraph_serverless.domain.run_errors import MASK
from langgraph_serverless.domain.run_kwargs import PROTOCOL_KEY
from langgraph_serverless.domain.runs import ClaimedRun, Lease, MultitaskStrategy, Run, RunStatus
from langgraph_serverless.domain.serialization import to_json
from langgraph_serverless.execution.control import Control
from langgraph_serverless.execution.graph_output import GraphOutput
from langgraph_serverless.execution.graph_stream import GraphStream

USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
STOP = {"finish_reason": "stop", "model_name": "fake-1"}
LAST = AIMessageChunk(content="", usage_metadata=USAGE, response_metadata=STOP)


class Scripted(BaseChatModel):
    """Streams what it is given, and fails at its end if it is told to."""

    script: Sequence[Any] = ()
    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self.script:
            yield ChatGenerationChunk(message=chunk)
        if self.fails:
            raise ConnectionError("10.0.0.1 is gone")


class Whole(Scripted):
    """Does not stream."""

    _astream = BaseChatModel._astream

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.script[0])])


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def emit(self, event: Event) -> None:
        self.events.append(event)


class Told:
    """What one run has told, and what it came to."""

    def __init__(self, events: Sequence[Event], output: Any, error: BaseException | None) -> None:
        self.events = events
        self.output = output
        self.error = error

    def of(self, method: str) -> list[tuple[str, Any]]:
        """Namespace, without ids, and data of the records of a method."""
        found = []
        for event in self.events:
            name, *namespace = event.name.split("|")
            params = json.loads(event.data)["params"]
            assert params["namespace"] == namespace
            if name == method:
                where = "|".join(part.partition(":")[0] for part in namespace)
                found.append((where, params["data"]))
        return found

    @property
    def names(self) -> list[str]:
        return [event.name.partition("|")[0] for event in self.events]


async def told_by(
    graph: Any, value: Any = None, *, protocol: bool = True, temporary: bool = False, mask: bool = True
) -> Told:
    run_id, thread_id, now = uuid.uuid4(), uuid.uuid4(), datetime.now(UTC)
    configurable: dict[str, Any] = {PROTOCOL_KEY: True} if protocol else {}
    kwargs = {
        "config": {"configurable": configurable},
        "stream_mode": ["values"],
        "subgraphs": True,
        "durability": "sync",
    }
    run = Run(
        run_id=run_id,
        thread_id=thread_id,
        assistant_id=uuid.uuid4(),
        status=RunStatus.RUNNING,
        resuming=False,
        metadata={},
        kwargs=kwargs,
        multitask_strategy=MultitaskStrategy.ENQUEUE,
        created_at=now,
        updated_at=now,
    )
    claimed = ClaimedRun(
        run=run,
        lease=Lease(run_id=run_id, token=uuid.uuid4(), epoch=1),
        graph_id="graph",
        attempt=1,
        handoffs=0,
        continued=False,
        age=0.0,
        temporary=temporary,
        cancel=None,
        thread_metadata={},
    )
    sink, output, error = Sink(), GraphOutput(), None
    stream = GraphStream(claimed, Progress(), control=Control(), sink=sink, output=output, mask=mask)  # type: ignore[arg-type]
    config = {"configurable": {**configurable, "thread_id": str(thread_id)}}
    try:
        await stream.follow(graph.copy({"checkpointer": InMemorySaver()}), value or {"messages": []}, config)  # type: ignore[arg-type]
    except Exception as raised:
        error = raised
        sink.events += stream.closing("failed", "the run's error")
    return Told(sink.events, to_json(output.values), error)


def graph_of(*nodes: Any, state: Any = MessagesState, **options: Any) -> Any:
    """A chain."""
    builder = StateGraph(state)
    builder.add_sequence(nodes)
    builder.add_edge(START, nodes[0][0] if isinstance(nodes[0], tuple) else nodes[0].__name__)
    return builder.compile(**options)


def asking(model: BaseChatModel) -> Callable[[MessagesState], Any]:
    async def ask(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return ask


class Log(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


# ------------------------------------------------------------------------------------------------------------- messages


async def test_a_model_streams_content_blocks_of_every_kind() -> None:
    chunks = [
        AIMessageChunk(content=[{"type": "reasoning", "reasoning": "hm", "index": 0}]),
        AIMessageChunk(content=[{"type": "reasoning", "reasoning": "m", "index": 0}]),
        AIMessageChunk(content=[{"type": "text", "text": "hello ", "index": 1}]),
        AIMessageChunk(content=[{"type": "text", "text": "world", "index": 1}]),
        AIMessageChunk(content="", tool_call_chunks=[{"name": "add", "args": '{"a": ', "id": "c1", "index": 2}]),
        AIMessageChunk(content="", tool_call_chunks=[{"name": None, "args": "1}", "id": None, "index": 2}]),
        AIMessageChunk(content="", tool_call_chunks=[{"name": "add", "args": '{"a": ', "id": "c2", "index": 3}]),
        AIMessageChunk(content=[{"type": "image", "base64": "aGk=", "mime_type": "image/png", "index": 4}]),
        LAST,
    ]
    told = await told_by(graph_of(asking(Scripted(script=chunks))))
    said = [data for _, data in told.of("messages")]
    [start, *blocks, finish] = said
    assert (start["event"], start["role"]) == ("message-start", "ai")
    assert finish == {"event": "message-finish", "usage": USAGE, "metadata": STOP}
    begun = {block["index"]: block["content"] for block in blocks if block["event"] == "content-block-start"}
    done = {block["index"]: block["content"] for block in blocks if block["event"] == "content-block-finish"}
    deltas: dict[int, list[Any]] = {}
    for block in blocks:
        if block["event"] == "content-block-delta":
            deltas.setdefault(block["index"], []).append(block["delta"])
    assert [begun[index]["type"] for index in sorted(begun)] == [
        "reasoning",
        "text",
        "tool_call_chunk",
        "tool_call_chunk",
        "image",
    ]
    assert [delta["reasoning"] for delta in deltas[0]] == ["hm", "m"]
    assert deltas[1] == [{"type": "text-delta", "text": text} for text in ("hello ", "world")]
    assert "".join(delta["args"] for delta in deltas[2]) == '{"a": 1}'
    assert done[1]["text"] == "hello world"
    assert done[2] == {"type": "tool_call", "id": "c1", "name": "add", "args": {"a": 1}}
    assert done[3]["type"] == "invalid_tool_call"
    assert done[4]["base64"] == "aGk="
    [_, (_, last)] = told.of("values")
    assert last["messages"][0]["id"] == start["id"]
    assert last["messages"][0]["response_metadata"] == {**STOP, "output_version": "v1"}
    assert "usage_metadata" not in last["messages"][0]


async def test_a_model_that_does_not_stream_says_its_message_at_once() -> None:
    told = await told_by(graph_of(asking(Whole(script=[AIMessage("all of it", usage_metadata=USAGE)]))))
    said = [data for _, data in told.of("messages")]
    assert [event["event"] for event in said] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "content-block-finish",
        "message-finish",
    ]
    assert said[3]["content"]["text"] == "all of it"
    assert said[0]["id"] == told.output["messages"][0]["id"]


async def test_what_a_node_streams_of_a_model_by_itself_is_said_when_it_is_whole() -> None:
    async def node(state: MessagesState) -> Any:
        parts = [part async for part in Scripted(script=[AIMessageChunk(content="a"), LAST]).astream("?")]
        return {"messages": [parts[0] + parts[1]]}

    told = await told_by(graph_of(node))
    [finish] = [data for _, data in told.of("messages") if data["event"] == "content-block-finish"]
    assert finish["content"] == {"type": "text", "text": "a"}


async def test_messages_that_no_model_made_are_told_by_the_state_alone() -> None:
    def node(state: MessagesState) -> Any:
        return {"messages": [AIMessage("static", id="s"), HumanMessage("human"), SystemMessage("system")]}

    told = await told_by(graph_of(node))
    assert told.of("messages") == []
    [(_, update)] = told.of("updates")
    assert update["messages"][0] == {"type": "ai", "content": "static", "id": "s"}


@pytest.mark.parametrize(("mask", "text"), [(True, MASK), (False, "10.0.0.1 is gone")])
async def test_a_model_that_fails_midway_ends_its_message_with_an_error(mask: bool, text: str) -> None:
    failing = Scripted(script=[AIMessageChunk(content="it ")], fails=True)
    told = await told_by(graph_of(asking(failing)), mask=mask)
    assert isinstance(told.error, ConnectionError)
    assert [data["event"] for _, data in told.of("messages")] == [
        "message-start",
        "content-block-start",
        "content-block-delta",
        "error",
    ]
    assert told.of("messages")[-1] == ("", {"event": "error", "message": text})


async def test_and_so_does_one_whose_node_goes_on_without_it() -> None:
    async def node(state: MessagesState) -> Any:
        failing = Scripted(script=[AIMessageChunk(content="it ")], fails=True)
        return {
            "messages": [
                await failing.with_fallbacks([Scripted(script=[AIMessageChunk(content="else"), LAST])]).ainvoke("?")
            ]
        }

    told = await told_by(graph_of(node))
    said = [data["event"] for _, data in told.of("messages")]
    assert (said.count("message-start"), said.count("message-finish"), said.count("error")) == (2, 1, 1)
    assert told.error is None


# ---------------------------------------------------------------------------------------------------------------- tools


@tool
def add(a: int, runtime: ToolRuntime) -> int:
    """Add one."""
    runtime.emit_output_delta("half")
    return a + 1


@tool
def deny(why: str) -> str:
    """Fail."""
    if why == "masked":
        raise ConnectionError("10.0.0.1")
    raise ValueError("no such thing")


def calls(name: str, **args: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("", tool_calls=[{"name": name, "args": args, "id": "c1"}])]}


async def test_a_tool_tells_of_its_start_its_output_and_its_end() -> None:
    told = await told_by(graph_of(("tools", ToolNode([add]))), calls("add", a=1))
    assert [data for _, data in told.of("tools")] == [
        {"event": "tool-started", "tool_call_id": "c1", "tool_name": "add", "input": {"a": 1}},
        {"event": "tool-output-delta", "tool_call_id": "c1", "delta": "half"},
        {
            "event": "tool-finished",
            "tool_call_id": "c1",
            "output": {
                "type": "tool",
                "content": "2",
                "name": "add",
                "tool_call_id": "c1",
                "status": "success",
                "artifact": None,
            },
        },
    ]


async def test_a_tool_called_by_a_node_tells_too() -> None:
    async def node(state: MessagesState) -> Any:
        with pytest.raises(ValueError, match="no such thing"):
            await deny.ainvoke({"why": "shown"})
        return {}

    told = await told_by(graph_of(node))
    [(_, started), (_, failed)] = told.of("tools")
    assert (started["tool_name"], started["input"]) == ("deny", {"why": "shown"})
    assert failed == {"event": "tool-error", "tool_call_id": started["tool_call_id"], "message": "no such thing"}


@pytest.mark.parametrize(
    ("why", "mask", "text"), [("shown", True, "no such thing"), ("masked", True, MASK), ("masked", False, "10.0.0.1")]
)
async def test_what_a_tool_raises_is_masked_like_every_error(why: str, mask: bool, text: str) -> None:
    told = await told_by(
        graph_of(("tools", ToolNode([deny], handle_tool_errors=False))), calls("deny", why=why), mask=mask
    )
    assert told.of("tools")[-1][1] == {"event": "tool-error", "tool_call_id": "c1", "message": text}
    [(_, started), (_, failed)] = told.of("tasks")
    assert "result" not in started
    assert failed["error"]["message"] == text


# -------------------------------------------------------------------------------------- updates, custom data, checkpoints


async def test_updates_name_their_node_and_come_one_by_one() -> None:
    builder = StateGraph(Log)
    builder.add_node("worker", lambda state: {"log": state["log"]})
    builder.add_conditional_edges(START, lambda _: [Send("worker", {"log": [n]}) for n in range(3)], ["worker"])
    told = await told_by(builder.compile(), {"log": []})
    params = [json.loads(event.data)["params"] for event in told.events if event.name == "updates"]
    assert [(said["node"], said["data"]) for said in params] == [("worker", {"log": [n]}) for n in range(3)]


async def test_custom_data_is_a_payload() -> None:
    def inner(state: Log) -> Log:
        get_stream_writer()({"at": "inner"})
        return {}

    def outer(state: Log) -> Log:
        get_stream_writer()("outer")
        return {}

    told = await told_by(graph_of(outer, ("sub", graph_of(inner, state=Log)), state=Log), {"log": []})
    assert told.of("custom") == [("", {"payload": "outer"}), ("sub", {"payload": {"at": "inner"}})]


async def test_checkpoints_are_told_in_short_and_not_of_temporary_runs() -> None:
    graph = graph_of(("node", lambda state: {}), state=Log)
    said = [data for _, data in (await told_by(graph, {"log": []})).of("checkpoints")]
    assert [(entry["step"], entry["source"]) for entry in said] == [(-1, "input"), (0, "loop"), (1, "loop")]
    assert [entry.get("parent_id") for entry in said] == [None, said[0]["id"], said[1]["id"]]
    assert set(said[0]) == {"id", "step", "source"}
    assert (await told_by(graph, {"log": []}, temporary=True)).of("checkpoints") == []


# -------------------------------------------------------------------------------------------- subgraphs, what people are asked


async def test_subgraphs_start_and_end_at_every_level() -> None:
    leaf = graph_of(("leaf", lambda state: {"log": ["leaf"]}), state=Log)
    mid = graph_of(("deep", leaf), ("after", lambda state: {"log": ["after"]}), state=Log)
    told = await told_by(graph_of(("mid", mid), state=Log), {"log": []})
    said = [(where, data["event"], data["graph_name"]) for where, data in told.of("lifecycle")]
    assert said == [
        ("mid", "started", "mid"),
        ("mid|deep", "started", "deep"),
        ("mid|deep", "completed", "deep"),
        ("mid", "completed", "mid"),
    ]
    [(_, started), *_] = told.of("lifecycle")
    assert started["namespace"] == [f"mid:{started['trigger_call_id']}"]
    assert [where for where, _ in told.of("values")] == ["", "mid", "mid|deep", "mid|deep", "mid", "mid", ""]


@pytest.mark.parametrize(("error", "text"), [(ZeroDivisionError("secret"), MASK), (ValueError("shown"), "shown")])
async def test_a_subgraph_that_fails_says_so_in_masked_words(error: Exception, text: str) -> None:
    def fail(state: Log) -> Log:
        raise error

    told = await told_by(graph_of(("sub", graph_of(fail, state=Log)), state=Log), {"log": []})
    assert told.error is error
    assert told.of("lifecycle")[-1] == ("sub", {"event": "failed", "graph_name": "sub", "error": text})
    assert "secret" not in "".join(event.data.decode() for event in told.events)


async def test_each_question_is_asked_once_by_the_graph_that_asks() -> None:
    def ask(state: Log) -> Log:
        return {"log": [interrupt("sure?")]}

    builder = StateGraph(Log)
    builder.add_node("one", ask)
    builder.add_node("sub", graph_of(("inner", graph_of(ask, state=Log)), state=Log))
    builder.add_edge(START, "one")
    builder.add_edge(START, "sub")
    told = await told_by(builder.compile(), {"log": ["x"]})
    asked = told.of("input.requested")
    assert sorted(where for where, _ in asked) == ["", "sub|inner"]
    assert {data["payload"] for _, data in asked} == {"sure?"}
    assert len({data["interrupt_id"] for _, data in asked}) == 2
    for position, name in enumerate(told.names):
        if name == "input.requested":
            assert told.names[position + 1] == "values"
    assert all(data == {"log": ["x"]} for _, data in told.of("values")), "no __interrupt__"
    assert [data["event"] for _, data in told.of("lifecycle")] == ["started", "started", "interrupted", "interrupted"]
    assert told.of("updates") == []


async def test_a_subgraph_that_stands_at_a_breakpoint_is_interrupted() -> None:
    sub = graph_of(("a", lambda state: {}), ("b", lambda state: {}), state=Log, interrupt_before=["b"])
    told = await told_by(graph_of(("sub", sub), state=Log), {"log": []})
    assert [data["event"] for _, data in told.of("lifecycle")] == ["started", "interrupted"]
    assert told.of("input.requested") == []


async def test_an_agent_called_by_a_tool_has_its_name_and_its_cause() -> None:
    agent = graph_of(("work", lambda state: {}), state=Log).with_config(metadata={"lc_agent_name": "researcher"})

    async def call(state: Any) -> Any:
        await agent.ainvoke({"log": []})
        return {}

    builder = StateGraph(Log)
    builder.add_node("tools", call)
    task_input = {"__type": "tool_call_with_context", "tool_call": {"id": "call_7", "name": "ask", "args": {}}}
    builder.add_conditional_edges(START, lambda _: [Send("tools", task_input)], ["tools"])
    told = await told_by(builder.compile(), {"log": []})
    [(where, started), (_, ended)] = told.of("lifecycle")
    assert (where, started["graph_name"]) == ("tools", "researcher")
    assert started["cause"] == {"type": "toolCall", "tool_call_id": "call_7"}
    assert (ended["event"], ended["graph_name"]) == ("completed", "researcher")


# --------------------------------------------------------------------------------------------- what it leaves, transformers


class Model(BaseModel):
    x: int = 1
    log: Annotated[list[Any], operator.add] = []


@task
async def square(number: int) -> int:
    return number * number


@entrypoint()
async def function(value: dict[str, Any]) -> list[int]:
    return [await square(3)]


@entrypoint()
def asks(value: dict[str, Any]) -> Any:
    return interrupt("sure?")


KINDS = {
    "pydantic": graph_of(
        ("node", lambda state: {"log": ["n"]}),
        ("sub", graph_of(("s", lambda state: {"log": [1]}), state=Log)),
        state=Model,
    ),
    "function": function,
    "asking function": asks,
    "dict": graph_of(("node", lambda state: {"log": ["n"]}), state=Log),
    "output": graph_of(("node", lambda state: {"log": ["n"]}), state=Log, interrupt_after=["node"]),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_leaves_what_it_leaves_otherwise(kind: str) -> None:
    plain = await told_by(KINDS[kind], {"log": ["in"]}, protocol=False)
    told = await told_by(KINDS[kind], {"log": ["in"]})
    expected = plain.output if kind != "asking function" else {}  # the question, which the runner adds to it
    assert told.output == expected
    values = [
        json.loads(event.data)
        for event in plain.events
        if event.name == "values" and b"__interrupt__" not in event.data
    ]
    assert [data for where, data in told.of("values") if not where] == values


class Answer(TypedDict):
    answer: str


class Question(Log, Answer, total=False):
    question: str


async def test_states_are_told_whole_and_the_output_is_what_was_declared() -> None:
    builder = StateGraph(Question, output_schema=Answer)
    builder.add_node("think", lambda state: {"log": ["hm"]})
    builder.add_node("say", lambda state: {"answer": state["question"].upper()})
    builder.add_edge(START, "think")
    builder.add_edge("think", "say")
    graph = builder.compile()
    told = await told_by(graph, {"question": "q"})
    assert told.of("values")[-1] == ("", {"question": "q", "log": ["hm"], "answer": "Q"})
    assert [data for _, data in told.of("updates")] == [{"log": ["hm"]}, {"answer": "Q"}]
    assert told.output == (await told_by(graph, {"question": "q"}, protocol=False)).output == {"answer": "Q"}


class Redacting(StreamTransformer):
    """Changes what models say, withholds custom data, counts, and has a last word."""

    before_builtins = True
    required_stream_modes = ("messages", "custom", "debug")

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.words: StreamChannel[str] = StreamChannel("words")

    def init(self) -> dict[str, Any]:
        return {"words": self.words}

    def process(self, event: Any) -> bool:
        if event["method"] == "custom":
            return False
        if event["method"] == "messages" and tuple(event["params"]["namespace"]) == self.scope:
            said = event["params"]["data"][0]
            if said["event"] == "content-block-delta":
                self.words.push(said["delta"]["text"])
                said["delta"]["text"] = "***"
        return True

    def finalize(self) -> None:
        if not self.scope:
            self.words.push("the end")


class Reading(StreamTransformer):
    """Reads a projection while the graph runs."""

    requires_async = True

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.states: StreamChannel[int] = StreamChannel("states")
        self.mux: Any = None

    def init(self) -> dict[str, Any]:
        return {"states": self.states}

    def _on_register(self, mux: Any) -> None:
        self.mux = mux

    def process(self, event: Any) -> bool:
        if self.mux is not None and not self.scope:
            self.schedule(self.read(self.mux.extensions["values"]))
            self.mux = None
        return True

    async def read(self, values: Any) -> None:
        async for state in values:
            self.states.push(len(state.get("messages", ())))


async def test_transformers_of_the_graph_change_withhold_and_add() -> None:
    async def say(state: MessagesState) -> Any:
        get_stream_writer()("secret")
        return {"messages": [await Scripted(script=[AIMessageChunk(content="secret"), LAST]).ainvoke("?")]}

    sub = graph_of(say)
    told = await told_by(graph_of(say, ("sub", sub), transformers=[Redacting, Reading]))
    deltas = [
        (where, data["delta"]["text"]) for where, data in told.of("messages") if data["event"] == "content-block-delta"
    ]
    assert deltas == [("", "***"), ("sub", "***")]
    custom = [data for _, data in told.of("custom")]
    assert {data.get("name") for data in custom} == {"words", "states"}
    assert {"name": "words", "payload": "secret"} in custom
    assert custom[-1] == {"name": "words", "payload": "the end"}
    assert {data["payload"] for data in custom if data["name"] == "states"} >= {0, 1}
    assert {"payload": "secret"} not in custom
    # all else is as it is without them
    assert [data["event"] for _, data in told.of("lifecycle")] == ["started", "completed"]
    assert len(told.of("tasks")) == 6
    assert told.of("values")[-1][1]["messages"][-1]["content"][0]["text"] == "secret"


async def test_a_transformer_that_fails_fails_the_run() -> None:
    class Broken(Redacting):
        def process(self, event: Any) -> bool:
            raise ArithmeticError("no")

    told = await told_by(graph_of(("node", lambda state: {}), transformers=[Broken]))
    assert isinstance(told.error, ArithmeticError)


async def test_of_subgraphs_that_are_over_nothing_is_kept() -> None:
    from langgraph_serverless.execution import transformers

    kept: list[transformers.Transformers] = []
    leaf = graph_of(("leaf", lambda state: {"log": [1]}), state=Log)
    builder = StateGraph(Log)
    builder.add_node("sub", leaf)
    builder.add_edge(START, "sub")
    builder.add_conditional_edges("sub", lambda state: END if len(state["log"]) > 1000 else "sub", ["sub", END])
    graph = builder.compile(transformers=[Reading])
    with pytest.MonkeyPatch.context() as patch:
        made = transformers.Transformers.__init__

        def remember(self: transformers.Transformers, factories: Any) -> None:
            made(self, factories)
            kept.append(self)

        patch.setattr(transformers.Transformers, "__init__", remember)
        told = await told_by(graph, {"log": []})
    assert len(told.of("lifecycle")) >= 10
    [one] = kept
    assert one._mux is not None
    [handles] = [found._handles for found in one._mux._transformers if isinstance(found, transformers._Subgraphs)]
    assert not handles
