"""The time that nodes take, as a worker with a deadline sees it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from langgraph_serverless.execution.node_clock import NodeClock


class State(TypedDict, total=False):
    done: int


async def slow(state: State) -> State:
    await asyncio.sleep(0.2)
    return {}


def fails(state: State) -> State:
    time.sleep(0.1)
    raise ValueError


def chain(**nodes: Any) -> Any:
    builder = StateGraph(State)
    for before, name in zip((START, *nodes), nodes, strict=False):
        builder.add_node(name, nodes[name])
        builder.add_edge(before, name)
    return builder.compile()


@pytest.fixture
def clock() -> NodeClock:
    return NodeClock()


@pytest.fixture
def config(clock: NodeClock) -> RunnableConfig:
    return clock.in_config({"configurable": {}})


@pytest.mark.parametrize("own", [None, True])
async def test_a_subgraph_counts_by_its_nodes(clock: NodeClock, config: RunnableConfig, own: bool | None) -> None:
    """Also one with a checkpointer of its own, which has a namespace that names no task."""
    inner = chain(one=slow, two=slow, three=slow, four=slow)
    inner.checkpointer = own
    outer = chain(sub=inner)
    outer.checkpointer = InMemorySaver()
    config["configurable"]["thread_id"] = "1"
    began = time.monotonic()
    await outer.ainvoke({"done": 0}, config)
    assert 0.2 <= clock.slowest < (time.monotonic() - began) / 2


async def test_a_node_that_has_not_ended_counts_so_far(clock: NodeClock, config: RunnableConfig) -> None:
    running = asyncio.create_task(chain(sub=chain(one=slow)).ainvoke({"done": 0}, config))
    seen = {0.0}
    while not running.done():
        seen.add(clock.slowest)
        await asyncio.sleep(0.02)
    assert len(seen) > 3
    assert clock.slowest >= max(seen)


async def test_a_node_that_fails_counts(clock: NodeClock, config: RunnableConfig) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it is
        await chain(one=fails).ainvoke({"done": 0}, config)
    assert clock.slowest >= 0.1
