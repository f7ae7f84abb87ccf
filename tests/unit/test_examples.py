"""The examples do what their READMEs say, on langgraph alone."""

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NAMES = ("minimal", "chat_agent", "human_in_the_loop", "long_run")

Graph = Pregel[Any, Any, Any, Any]


@pytest.fixture(scope="module", autouse=True)
def _imports_left_as_found() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(EXAMPLES / "langgraph.json"))


@pytest.fixture
def thread() -> Any:
    return {"configurable": {"thread_id": str(uuid.uuid4())}}


def opened(registry: GraphRegistry, graph_id: str, store: InMemoryStore | None = None) -> Any:
    return registry.graph(
        graph_id, access_context="threads.create_run", checkpointer=InMemorySaver(), store=store or InMemoryStore()
    )


async def ask(graph: Graph, text: str, user: str = "ada") -> str:
    config: Any = {"configurable": {"thread_id": str(uuid.uuid4())}}
    messages = {"messages": [{"role": "user", "content": text}]}
    return (await graph.ainvoke(messages, config, context={"user_id": user}))["messages"][-1].text


@pytest.mark.parametrize("name", NAMES)
def test_each_example_is_a_project_of_its_own(name: str) -> None:
    registry = GraphRegistry.load(read_project(EXAMPLES / name / "langgraph.json"))
    assert registry.graph_ids == (name,)
    assert (EXAMPLES / name / "README.md").read_text().startswith(f"# {name}\n")


def test_all_examples_are_served_together(registry: GraphRegistry) -> None:
    assert registry.graph_ids == NAMES


async def test_minimal(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "minimal") as graph:
        assert await graph.ainvoke({"text": "hello"}, thread) == {"text": "hello", "reply": "You said: hello"}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the weather in Oslo?", "in Oslo. Anything else?"),
        ("What is 12 + 30?", "12 + 30 = 42. Anything else?"),
        ("Add 1.5 and -2 please", "1.5 + -2 = -0.5. Anything else?"),
        ("What is my name?", "I do not know your name yet."),
        ("Good morning.", "You said: Good morning."),
    ],
)
async def test_chat_agent_answers(registry: GraphRegistry, question: str, answer: str) -> None:
    async with opened(registry, "chat_agent") as graph:
        assert answer in await ask(graph, question)


async def test_chat_agent_remembers_each_user_across_threads(registry: GraphRegistry) -> None:
    async with opened(registry, "chat_agent") as graph:
        await ask(graph, "Hello, my name is Ada!", user="ada")
        assert await ask(graph, "What is my name?", user="ada") == "Your name is Ada."
        assert "do not know" in await ask(graph, "What is my name?", user="bob")


async def test_chat_agent_streams_word_by_word(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "chat_agent") as graph:
        messages = {"messages": [{"role": "user", "content": "Good morning."}]}
        words = [chunk.text async for chunk, _ in graph.astream(messages, thread, stream_mode="messages")]
        said = (await graph.aget_state(thread)).values["messages"][-1].text
    assert [word for word in words if word][:4] == ["You ", "said: ", "Good ", "morning. "]
    assert "".join(words) == said


async def test_chat_agent_in_one_thread_calls_several_tools(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "chat_agent") as graph:
        for text in ("1 + 1", "2 + 2"):
            state = await graph.ainvoke({"messages": [{"role": "user", "content": text}]}, thread)
    kinds = [message.type for message in state["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"] * 2
    calls = [call["id"] for message in state["messages"] for call in getattr(message, "tool_calls", [])]
    assert len(set(calls)) == 2


def test_chat_model_without_langchain_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_MODEL", "openai:gpt-5")
    monkeypatch.setitem(sys.modules, "langchain", None)
    # loaded a moment ago with the scripted model; a start-up with the variable imports it afresh
    for name in [name for name in sys.modules if name.endswith("graph") and name.startswith("langgraph_project_")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ProjectError, match=r"CHAT_MODEL=openai:gpt-5 needs 'pip install langchain'"):
        GraphRegistry.load(read_project(EXAMPLES / "chat_agent" / "langgraph.json"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("approve", {"status": "sent", "sent": "Dear team, a few words about tea. Yours, the agent"}),
        ({"action": "approve"}, {"status": "sent"}),
        ({"action": "edit", "draft": "Tea at four."}, {"status": "sent", "sent": "Tea at four."}),
        ({"action": "reject", "reason": "too short"}, {"status": "rejected", "reason": "too short"}),
    ],
)
async def test_human_in_the_loop(registry: GraphRegistry, thread: Any, answer: Any, expected: dict[str, str]) -> None:
    async with opened(registry, "human_in_the_loop") as graph:
        waiting = await graph.ainvoke({"topic": "tea"}, thread)
        (interrupt,) = waiting["__interrupt__"]
        assert interrupt.value["draft"] == waiting["draft"]
        done = await graph.ainvoke(Command(resume=answer), thread)
    assert expected.items() <= done.items()
    assert ("sent" in done) == (done["status"] == "sent")


async def test_human_in_the_loop_refuses_what_it_does_not_know(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "human_in_the_loop") as graph:
        await graph.ainvoke({"topic": "tea"}, thread)
        with pytest.raises(ValueError, match="Expected the action approve, edit"):
            await graph.ainvoke(Command(resume={"action": "edit"}), thread)


async def test_long_run(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "long_run") as graph:
        request = {"steps": 40, "seconds": 0}
        progress = [event async for event in graph.astream(request, thread, stream_mode="custom")]
        state = (await graph.aget_state(thread)).values
    assert [event["step"] for event in progress] == list(range(1, 41))
    assert progress[-1] == {"step": 40, "of": 40, "progress": 1.0}
    assert state["log"] == [f"step {number} of 40" for number in range(1, 41)]
    assert state["done"] == 40


async def test_long_run_of_no_steps(registry: GraphRegistry, thread: Any) -> None:
    async with opened(registry, "long_run") as graph:
        assert (await graph.ainvoke({"steps": 0}, thread))["done"] == 0
