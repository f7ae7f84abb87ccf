"""Graphs for tests that kill whoever executes them. Each superstep that begins leaves a line in the file ``JOURNAL``."""

from __future__ import annotations

import asyncio
import operator
import os
import time
from typing import Annotated

from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


def note(*words: object) -> None:
    # one write in append mode: whole lines, whoever else writes, and there even if we are killed right after
    line = " ".join(map(str, (*words, os.getpid(), time.time()))) + "\n"
    file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


class State(TypedDict, total=False):
    name: str
    steps: int
    seconds: float
    done: int
    log: Annotated[list[str], operator.add]


async def begin(state: State) -> State:
    return {"done": 0}


async def step(state: State) -> State:
    number = state["done"] + 1
    note(get_config()["configurable"]["run_id"], number)
    await asyncio.sleep(state["seconds"])
    get_stream_writer()({"step": number})
    return {"done": number, "log": [f"{state['name']}{number}"]}


def more(state: State) -> str:
    return "step" if state["done"] < state["steps"] else END


builder = StateGraph(State)
builder.add_node(begin)
builder.add_node(step)
builder.add_edge(START, "begin")
builder.add_conditional_edges("begin", more, ["step", END])
builder.add_conditional_edges("step", more, ["step", END])
steps = builder.compile()


def die(state: State) -> State:
    note(get_config()["configurable"]["run_id"], "poison")
    os._exit(1)


builder = StateGraph(State)
builder.add_node(die)
builder.add_edge(START, "die")
poison = builder.compile()


def sleep(state: State) -> State:
    note(get_config()["configurable"]["run_id"], "blocking")
    time.sleep(state["seconds"])
    return {"log": ["slept"]}


builder = StateGraph(State)
builder.add_node(sleep)
builder.add_edge(START, "sleep")
blocking = builder.compile()


async def speak(state: State) -> State:
    for number in range(state["steps"]):
        get_stream_writer()({"token": number})
        await asyncio.sleep(state["seconds"])
    return {"log": ["spoken"]}


builder = StateGraph(State)
builder.add_node(speak)
builder.add_edge(START, "speak")
tokens = builder.compile()


async def gush_out(state: State) -> State:
    for number in range(state["steps"]):
        get_stream_writer()({"number": number, "text": state["name"]})
        await asyncio.sleep(state["seconds"])
    return {"log": ["said"]}


builder = StateGraph(State)
builder.add_node(gush_out)
builder.add_edge(START, "gush_out")
gush = builder.compile()


async def mark(state: State) -> State:
    number = state["done"] + 1
    configurable = get_config()["configurable"]
    await asyncio.sleep(state["seconds"])
    get_stream_writer()({"step": number, "pid": os.getpid()})
    await get_store().aput(("marks",), configurable["thread_id"], {"step": number})
    return {"done": number, "log": [f"{state['name']}{number}"]}


def more_marks(state: State) -> str:
    return "mark" if state["done"] < state["steps"] else END


builder = StateGraph(State)
builder.add_node(begin)
builder.add_node(mark)
builder.add_edge(START, "begin")
builder.add_conditional_edges("begin", more_marks, ["mark", END])
builder.add_conditional_edges("mark", more_marks, ["mark", END])
marks = builder.compile()
