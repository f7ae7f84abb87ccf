"""Graphs that do next to nothing, so that what is measured is the server. They need no model, no key and no network."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict


class EchoState(TypedDict, total=False):
    """What goes in comes out."""

    text: str
    reply: str
    #: When the node began, by the clock of the machine.
    node_ts: float


async def _echo(state: EchoState) -> EchoState:
    return {"node_ts": time.time(), "reply": state.get("text", "")}


echo = StateGraph(EchoState).add_node("echo", _echo).add_edge(START, "echo").add_edge("echo", END).compile()


class StepsState(TypedDict, total=False):
    """How many supersteps there are to be, and which one this is."""

    steps: int
    step: int


async def _first(state: StepsState) -> StepsState:
    return {"step": 1}  # another run on the same thread counts from 1 again


async def _next(state: StepsState) -> StepsState:
    return {"step": state["step"] + 1}


def _more(state: StepsState) -> str:
    return "next" if state["step"] < state["steps"] else END


steps = (
    StateGraph(StepsState)
    .add_node("first", _first)
    .add_node("next", _next)
    .add_edge(START, "first")
    .add_conditional_edges("first", _more, ["next", END])
    .add_conditional_edges("next", _more, ["next", END])
    .compile()
)


class Tireless(BaseChatModel):
    """Says as many tokens as it is asked for, as fast as they are taken."""

    @property
    def _llm_type(self) -> str:
        return "tireless"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        text = "".join(f"t{number} " for number in range(kwargs["tokens"]))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for number in range(kwargs["tokens"]):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"t{number} "))

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(kwargs["tokens"]):
            if not kwargs.get("breathless"):
                await asyncio.sleep(0)  # as one that comes from a network lets others have a turn
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"t{number} "))


class TokensState(TypedDict, total=False):
    """How many tokens to say, whether without giving others a turn, and what was said."""

    tokens: int
    breathless: bool
    messages: Annotated[list[AnyMessage], add_messages]


async def _say(state: TokensState) -> TokensState:
    model = Tireless().bind(tokens=state["tokens"], breathless=state.get("breathless", False))
    answer = await model.ainvoke("go")
    return {"messages": [answer]}


tokens = StateGraph(TokensState).add_node("say", _say).add_edge(START, "say").add_edge("say", END).compile()


class SleepyState(TypedDict, total=False):
    """For how long to do nothing."""

    seconds: float


async def _sleep(state: SleepyState) -> SleepyState:
    await asyncio.sleep(state["seconds"])
    return {"seconds": 0.0}


sleepy = StateGraph(SleepyState).add_node("sleep", _sleep).add_edge(START, "sleep").add_edge("sleep", END).compile()


class BigState(TypedDict, total=False):
    """How many bytes to carry through three supersteps, and which one this is."""

    size: int
    blob: str
    touched: int


async def _fill(state: BigState) -> BigState:
    return {"blob": _BLOB[: state["size"]], "touched": 0}


async def _touch(state: BigState) -> BigState:
    return {"touched": state["touched"] + 1}


#: Not to be compressed, and the same each time.
_BLOB = base64.b85encode(random.Random(7).randbytes(800_000)).decode()

bigstate = (
    StateGraph(BigState)
    .add_node("fill", _fill)
    .add_node("touch", _touch)
    .add_node("again", _touch)
    .add_edge(START, "fill")
    .add_edge("fill", "touch")
    .add_edge("touch", "again")
    .add_edge("again", END)
    .compile()
)


class FootprintState(TypedDict, total=False):
    """How many supersteps, what each of them writes, and how many events it sends."""

    steps: int
    step: int
    bytes: int
    events: int
    written: str


async def _write(state: FootprintState) -> FootprintState:
    writer = get_stream_writer()
    for number in range(state.get("events", 0)):
        writer({"token": f"t{number:06}"})
    # not to be compressed, so that what is stored is what was written
    noise = base64.b85encode(os.urandom(state.get("bytes", 0) * 4 // 5)).decode()
    return {"step": state.get("step", 0) + 1, "written": noise}


footprint = (
    StateGraph(FootprintState)
    .add_node("write", _write)
    .add_edge(START, "write")
    .add_conditional_edges("write", lambda state: "write" if state["step"] < state["steps"] else END, ["write", END])
    .compile()
)
