"""Graphs for curves: one that counts, one that waits, one that talks, and three whose state grows in one way each."""

from __future__ import annotations

import asyncio
import base64
import operator
import random
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict


class CounterState(TypedDict, total=False):
    """How many supersteps there are to be, and which one this is."""

    steps: int
    step: int


class SleepyState(TypedDict, total=False):
    """For how long to do nothing."""

    seconds: float


class TalkState(TypedDict, total=False):
    """How many events to send."""

    events: int


class DocumentState(CounterState):
    """A large value that is written once, beside one that changes."""

    size: int
    document: str


class ChatState(CounterState):
    """Messages, all of which are one value."""

    messages: Annotated[list[AnyMessage], add_messages]


def _joined(old: list[str], added: Sequence[list[str]]) -> list[str]:
    return [*old, *(text for texts in added for text in texts)]


class DeltaState(CounterState):
    """The same, where a checkpoint has what was added and every twentieth has all of it."""

    log: Annotated[list[str], DeltaChannel(_joined, snapshot_frequency=20)]
    seen: Annotated[int, operator.add]


def _text(seed: int, size: int) -> str:
    """Not to be compressed, so that what is stored is what was written."""
    return base64.b85encode(random.Random(seed).randbytes(size * 4 // 5)).decode()


def _repeated(state: type[Any], step: Callable[[Any], dict[str, Any]]) -> Any:
    """A graph that takes a step as often as its state says."""

    async def node(values: Any) -> Any:
        number = values.get("step", 0) + 1
        return {"step": number, **step({**values, "step": number})}

    graph = StateGraph(state).add_node("step", cast(Any, node)).add_edge(START, "step")
    return graph.add_conditional_edges(
        "step", lambda values: "step" if values["step"] % values["steps"] else END, ["step", END]
    ).compile()


async def _sleep(state: SleepyState) -> SleepyState:
    await asyncio.sleep(state["seconds"])
    return {}


async def _talk(state: TalkState) -> TalkState:
    writer = get_stream_writer()
    for number in range(state["events"]):
        writer({"token": f"t{number:06}"})
    return {}


counter = _repeated(CounterState, lambda _: {})
sleepy = StateGraph(SleepyState).add_node("sleep", _sleep).add_edge(START, "sleep").compile()
talk = StateGraph(TalkState).add_node("talk", _talk).add_edge(START, "talk").compile()
document = _repeated(DocumentState, lambda state: {} if "document" in state else {"document": _text(1, state["size"])})
chat = _repeated(ChatState, lambda state: {"messages": [AIMessage(_text(state["step"], 500))]})
delta = _repeated(DeltaState, lambda state: {"log": [_text(state["step"], 500)], "seen": 1})
