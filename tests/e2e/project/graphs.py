"""Graphs for the deployed stack, beside those of the examples (``conftest.py`` makes one project of both)."""

import asyncio
import operator
import os
from typing import Annotated, NotRequired

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

#: A test deploys the stack again with another.
RELEASE = "first"


class Input(TypedDict):
    """How many steps, and how many seconds each of them takes."""

    steps: NotRequired[int]
    seconds: NotRequired[float]


class State(TypedDict):
    """``log`` has a line for each step, with the release that has taken it."""

    steps: int
    seconds: float
    done: int
    log: Annotated[list[str], operator.add]


async def begin(state: Input) -> dict[str, object]:
    return {"steps": state.get("steps", 1), "seconds": state.get("seconds", 0.0), "done": 0}


async def step(state: State) -> dict[str, object]:
    await asyncio.sleep(state["seconds"])
    done = state["done"] + 1
    get_stream_writer()({"step": done})
    return {"done": done, "log": [f"{RELEASE} {done}"]}


def more(state: State) -> str:
    return "step" if state["done"] < state["steps"] else END


_steps = StateGraph(State, input_schema=Input)
_steps.add_node(begin)
_steps.add_node(step)
_steps.add_edge(START, "begin")
_steps.add_conditional_edges("begin", more, ["step", END])
_steps.add_conditional_edges("step", more, ["step", END])
releases = _steps.compile()


class Team(TypedDict):
    """A run that calls a graph, and then tells what has become of it."""

    steps: NotRequired[int]
    seconds: NotRequired[float]
    log: NotRequired[list[str]]
    told: NotRequired[int]


async def tell(state: Team) -> dict[str, object]:
    return {"told": len(state.get("log", []))}


_team = StateGraph(Team)
_team.add_node("walk", releases)
_team.add_node(tell)
_team.add_edge(START, "walk")
_team.add_edge("walk", "tell")
_team.add_edge("tell", END)
team = _team.compile().with_config(recursion_limit=10_000)


async def die(state: Team) -> dict[str, object]:
    os._exit(17)


_fatal = StateGraph(Team)
_fatal.add_node(die)
_fatal.add_edge(START, "die")
fatal = _fatal.compile()
