"""A graph that takes many workers: laps through a fan-out, nested subgraphs and, in one of them, a question.

Each task that begins leaves a line in the journal and an event in the stream, by the runner's name and its place in the race.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from graphs import note
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

#: Tasks of one lap, and supersteps one after the other.
PLACES = ("start", "side", "walk0", "walk1", "walk2", "first", "deep0", "deep1", "second", "gather")
SUPERSTEPS = 6


def newest(_: Any, value: Any) -> Any:
    return value


class Race(TypedDict, total=False):
    name: Annotated[str, newest]
    seconds: Annotated[float, newest]
    laps: Annotated[int, newest]
    #: In this lap somebody is asked.
    ask_in: Annotated[int, newest]
    lap: Annotated[int, newest]
    walker: int
    log: Annotated[list[str], operator.add]


class Passed(TypedDict):
    log: Annotated[list[str], operator.add]


def at(place: str, **more: Any) -> Callable[[Race], Awaitable[Any]]:
    async def run(state: Race) -> Any:
        where = f"{state['lap']}:{place}{state.get('walker', '') if place == 'walk' else ''}"
        note(state["name"], where)
        get_stream_writer()({"at": where})
        await asyncio.sleep(state["seconds"])
        return {"log": [where]}

    run.__name__ = place
    return run


async def start(state: Race) -> Race:
    following: Race = {**state, "lap": state.get("lap", 0) + 1}
    await at("start")(following)
    return {"lap": following["lap"], "log": [f"{following['lap']}:start"]}


async def ask(state: Race) -> Race:
    answer = interrupt("go on?")
    return {"log": [f"answer={answer}"]}


def on(state: Race) -> str:
    if state["lap"] == state.get("ask_in"):
        return "ask"
    return "start" if state["lap"] < state["laps"] else END


def line(*nodes: tuple[str, Any]) -> Any:
    builder = StateGraph(Race, output_schema=Passed)
    for (before, _), (name, node) in zip(((START, None), *nodes), nodes, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    builder.add_edge(nodes[-1][0], END)
    return builder.compile()


def alone(graph: Any) -> Callable[[Race], Awaitable[Any]]:
    """As a node that calls a graph, which begins with an empty log."""

    async def call(state: Race) -> Any:
        return await graph.ainvoke({**state, "log": []})

    return call


deep = line(("deep0", at("deep0")), ("deep1", at("deep1")))
relay = line(("first", at("first")), ("deep", alone(deep)), ("second", at("second")))
builder = StateGraph(Race)
builder.add_node(start)
builder.add_node("side", at("side"))
builder.add_node("walk", at("walk"))
builder.add_node("relay", alone(relay))
builder.add_node("gather", at("gather"))
builder.add_node(ask)
builder.add_edge(START, "start")
builder.add_edge("start", "side")
builder.add_edge("start", "relay")
builder.add_conditional_edges(
    "start", lambda state: [Send("walk", {**state, "walker": number}) for number in range(3)], ["walk"]
)
builder.add_edge(["side", "relay"], "gather")
builder.add_conditional_edges("gather", on, ["ask", "start", END])
builder.add_conditional_edges("ask", lambda state: "start" if state["lap"] < state["laps"] else END, ["start", END])
marathon = builder.compile()


async def linger(state: Race) -> Passed:
    await asyncio.sleep(3600)
    return {"log": ["at last"]}


async def quick(state: Race) -> Passed:
    return {"log": ["quick"]}


def lingering() -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(Race)
    builder.add_node(linger)
    builder.add_node(quick)
    builder.add_edge(START, "quick")
    return builder


builder = lingering()
builder.add_edge("quick", "linger")
endless = builder.compile()
builder = lingering()
builder.add_conditional_edges("quick", lambda state: [Send("linger", state)], ["linger"])
endless_sent = builder.compile()
builder = lingering()
builder.add_edge(START, "linger")
endless_beside = builder.compile()
builder = StateGraph(Race)
builder.add_node("inside", endless)
builder.add_edge(START, "inside")
endless_inside = builder.compile()
