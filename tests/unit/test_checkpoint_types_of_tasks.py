"""Which classes the manifest allows because ``@task`` functions say that they give them: a resumed graph gets results from its checkpoint.

A module of its own, as all tasks in the module of a node are within its reach.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from langgraph_serverless.execution.checkpoint_types import CheckpointTypes


class Colour(enum.Enum):
    RED = 1


class Leaf(BaseModel):
    colour: Colour


@dataclasses.dataclass
class Point:
    x: int


@dataclasses.dataclass
class Given:
    """To a task: what it is given is not kept for it."""


@task
def make_leaf(given: Given) -> dict[str, Leaf]:
    return {}


@task
async def says_nothing():  # type: ignore[no-untyped-def]
    return Colour.RED


async def found(graph: Any) -> tuple[set[str], set[str]]:
    types = CheckpointTypes()
    await types.add(graph, "graph")
    return {each.name for each in types.types if each.module == __name__}, set(types.untyped)


async def test_of_an_entrypoint() -> None:
    @task
    def close_by() -> list[Point | None]:
        return []

    @entrypoint()
    async def flow(value: str) -> str:
        return str(await close_by())

    types, untyped = await found(flow)
    assert types == {"Leaf", "Colour", "Point"}
    assert "graph:says_nothing" in untyped


async def test_of_nodes() -> None:
    def node(state: dict[str, Any]) -> dict[str, Any]:
        return {"leaf": make_leaf(Given()).result()}

    graph = StateGraph(dict).add_node("node", node).add_edge(START, "node").compile()
    assert (await found(graph))[0] == {"Leaf", "Colour"}
