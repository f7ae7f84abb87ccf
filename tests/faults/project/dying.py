"""Graphs whose node takes its worker with it, in the ways in which processes die, below each kind of superstep.

``kind`` says how the node dies, ``shape`` where it is: a plain node, one that ``Send`` goes to, one of a subgraph, one below a
synchronous node that calls a graph itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import Any, NoReturn

from graphs import State, note
from langgraph.config import get_config
from langgraph.graph import START, StateGraph
from langgraph.types import Send


class Callable:
    """Its call calls itself, without a frame of Python in between."""


def _recurse() -> NoReturn:
    Callable.__call__ = Callable()  # type: ignore[attr-defined]
    sys.setrecursionlimit(10**9)
    with contextlib.suppress(RecursionError):  # Python 3.12 counts the calls of C as well
        Callable()()
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _allocate() -> NoReturn:
    import resource  # not on every system

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, limits[1]))
    try:
        raise SystemError(len(bytearray(2**40)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _exit_of_the_program() -> NoReturn:
    sys.exit(3)


def _wait() -> None:
    time.sleep(600)


DEATHS: dict[str, Any] = {
    "exit": lambda: os._exit(1),
    # what the kernel does to whoever takes too much memory
    "out_of_memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "recursion": _recurse,
    "memory_error": _allocate,
    "sys_exit": _exit_of_the_program,
    # nothing dies: for tests that look meanwhile, or that wait for the time of the run
    "wait": _wait,
}


def _die(state: State) -> State:
    note(get_config()["configurable"]["run_id"], "poison")
    DEATHS[state["name"]]()
    return {"log": ["survived"]}


async def die(state: State) -> State:
    return _die(state)


def wedge(state: State) -> State:
    return _die(state)


def _single(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node(node.__name__, node)
    builder.add_edge(START, node.__name__)
    return builder.compile()


async def hold(state: State) -> State:
    time.sleep(state["seconds"])
    return {"log": ["held"]}


holding = _single(hold)
# the node holds the event loop
dying = _single(die)
# the node has a thread
dying_in_a_thread = _single(wedge)


async def wait(state: State) -> State:
    note(get_config()["configurable"]["run_id"], "waits")
    await asyncio.sleep(state["seconds"])
    return {"log": ["waited"]}


def wait_in_a_thread(state: State) -> State:
    note(get_config()["configurable"]["run_id"], "waits")
    time.sleep(min(2.0, state["seconds"]))  # nobody can end it
    return {"log": ["waited"]}


def to_many(node: str) -> Any:
    def spread(state: State) -> list[Send]:
        return [Send(node, {**state, "steps": number}) for number in range(20)]

    return spread


def _sent(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node(node.__name__, node)
    builder.add_conditional_edges(START, to_many(node.__name__), [node.__name__])
    return builder.compile()


def _nested(graph: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("team", graph)
    builder.add_edge(START, "team")
    return builder.compile()


sent, sent_and_waiting = _sent(die), _sent(wait)
nested, nested_and_waiting = _nested(dying_in_a_thread), _nested(_single(wait))
waiting_in_a_thread = _single(wait_in_a_thread)


def call(state: State) -> State:
    return waiting_in_a_thread.invoke(state)


called_and_waiting = _single(call)

builder = StateGraph(State)
builder.add_node("left", wait)
builder.add_node("right", wait)
builder.add_edge(START, "left")
builder.add_edge(START, "right")
parallel = builder.compile()


async def dying_factory(config: dict[str, Any]) -> Any:
    """A graph whose factory dies, before it has any node."""
    if os.environ.get("FACTORIES") == "die" and config["configurable"].get("run_id"):
        os._exit(1)
    return dying


if os.environ.get("IMPORT") == "fails":
    raise ImportError("this project cannot be imported by workers")
