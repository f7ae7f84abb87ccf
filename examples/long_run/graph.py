"""A run of many slow supersteps, to watch progress, cancel, and kill workers while it runs.

Each step is one superstep with its own checkpoint. A run whose worker dies goes on at the step that was under way.
"""

import asyncio
import operator
from typing import Annotated, NotRequired

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class Input(TypedDict):
    """How many steps, and how many seconds each of them takes."""

    steps: NotRequired[int]
    seconds: NotRequired[float]


class State(TypedDict):
    """What the checkpoints keep."""

    steps: int
    seconds: float
    #: number of the last finished step
    done: int
    # The reducer appends: each step returns its own lines only.
    log: Annotated[list[str], operator.add]


async def begin(state: Input) -> dict[str, object]:
    # `done` starts again at 0 with every run; `log` keeps growing on the same thread.
    return {"steps": state.get("steps", 30), "seconds": state.get("seconds", 1.0), "done": 0}


async def step(state: State) -> dict[str, object]:
    await asyncio.sleep(state["seconds"])
    done = state["done"] + 1
    # Readers who stream with stream_mode="custom" see this at once.
    get_stream_writer()({"step": done, "of": state["steps"], "progress": done / state["steps"]})
    return {"done": done, "log": [f"step {done} of {state['steps']}"]}


def more(state: State) -> str:
    return "step" if state["done"] < state["steps"] else END


builder = StateGraph(State, input_schema=Input)
builder.add_node(begin)
builder.add_node(step)
builder.add_edge(START, "begin")
builder.add_conditional_edges("begin", more, ["step", END])
builder.add_conditional_edges("step", more, ["step", END])

# A run may take this many supersteps, whatever the default is; this graph is meant to be long.
graph = builder.compile().with_config(recursion_limit=10_000)
