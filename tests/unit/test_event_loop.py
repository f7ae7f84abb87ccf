"""A loop that runs the code of users survives what that code exits with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest
import uvloop
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from langgraph_serverless.event_loop import run_to_end


class State(TypedDict, total=False):
    done: bool


async def leaving(state: State) -> State:
    sys.exit(3)


def leaving_from_a_thread(state: State) -> State:
    sys.exit(3)


async def staying(state: State) -> State:
    await asyncio.sleep(0.05)
    return {"done": True}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("nodes", [(leaving,), (leaving_from_a_thread,), (leaving, staying)])
def test_a_node_that_exits_ends_its_graph_and_no_other(
    new_loop: Callable[[], asyncio.AbstractEventLoop], nodes: tuple[Callable[..., object], ...]
) -> None:
    bad = StateGraph(State)
    for node in nodes:
        bad.add_node(node.__name__, node)  # type: ignore[call-overload]
        bad.add_edge(START, node.__name__)
    good = StateGraph(State).add_node("staying", staying).add_edge(START, "staying").compile()

    async def both() -> tuple[BaseException | None, object]:
        exits = asyncio.create_task(bad.compile().ainvoke({}))
        stays = asyncio.create_task(good.ainvoke({}))
        await asyncio.wait([exits, stays])
        return exits.exception(), stays.result()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        left, kept = run_to_end(runner.get_loop(), both())
    assert isinstance(left, SystemExit)
    assert kept == {"done": True}


def test_the_exit_of_the_main_coroutine_counts() -> None:
    async def leave() -> None:
        sys.exit(4)

    with asyncio.Runner() as runner, pytest.raises(SystemExit, match="4"):
        run_to_end(runner.get_loop(), leave())
