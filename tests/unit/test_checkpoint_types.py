"""Which classes the manifest allows in checkpoints: those that schemas name, at any depth; and where schemas say nothing."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Protocol, TypeVar

from langchain_core.messages import AnyMessage
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, SecretStr
from typing_extensions import TypedDict

from langgraph_serverless.execution.checkpoint_types import CheckpointTypes

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Mood(enum.StrEnum):
    GLAD = "glad"


class Leaf(BaseModel):
    colour: Colour
    again: Leaf | None = None


class Boxed(BaseModel, Generic[T]):
    inside: T


@dataclasses.dataclass
class Point:
    leaf: list[Leaf]

    @dataclasses.dataclass
    class Mark:
        at: int


class Handle:
    """No schema at all: only pickle could write it."""


class Speaks(Protocol):
    def speak(self) -> str: ...


class Pair(NamedTuple):
    left: Colour


class Names(set[str]):
    pass


UserId = NewType("UserId", str)
Route = NewType("Route", Point.Mark)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    points: dict[str, Sequence[Point] | None]
    route: NotRequired[Route]
    user: UserId
    mood: Literal[Mood.GLAD]
    handle: Handle
    anything: Any
    bare: dict
    speaker: Speaks
    plain: tuple[int, ...]
    pair: Pair
    names: Names
    secret: SecretStr


class Private(TypedDict):
    secret: Annotated[frozenset[Colour], "of one node"]


class Given(BaseModel):
    leaf: Leaf


async def found(graph: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Names to kinds, of this module only; and the places that say nothing."""
    types = CheckpointTypes()
    await types.add(graph, "graph")
    assert list(types.types) == sorted(set(types.types))
    return {each.name: each.kind for each in types.types if each.module == __name__}, types.untyped


def graph_of(state: Any, node: Any = lambda _state: {}, **options: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    return StateGraph(state, **options).add_node("node", node).add_edge(START, "node").compile()


async def test_everything_that_a_state_names() -> None:
    types, untyped = await found(graph_of(State))
    assert types == {
        "Point": "dataclass",
        "Leaf": "pydantic",
        "Colour": "enum",
        "Point.Mark": "dataclass",
        "Mood": "enum",
        "Handle": "class",
        "Pair": "namedtuple",
        "Names": "value",
    }
    assert [place for place in untyped if not place.startswith(("graph.__start__", "graph:"))] == [
        "graph.anything",
        "graph.bare",
        "graph.speaker",
    ]


async def test_messages_come_along_and_what_is_in_them_is_theirs() -> None:
    class Chat(TypedDict):
        messages: Annotated[list[AnyMessage], add_messages]

    types = CheckpointTypes()
    await types.add(graph_of(Chat), "chat")
    assert ("langchain_core.messages.human", "HumanMessage") in {(each.module, each.name) for each in types.types}
    assert types.untyped == ()


async def test_inputs_outputs_and_states_of_single_nodes_count_too() -> None:
    def node(_state: Private) -> dict[str, Any]:
        return {}

    class Out(TypedDict):
        box: Boxed[Point]

    class All(TypedDict):
        plain: str
        box: Boxed[Point]

    types, _ = await found(graph_of(All, node, input_schema=Given, output_schema=Out))
    assert {"Given", "Leaf", "Colour", "Boxed[Point]", "Point"} <= set(types)


async def test_subgraphs_count_too() -> None:
    class Outer(TypedDict):
        text: str

    types, _ = await found(graph_of(Outer, graph_of(Given)))
    assert {"Given", "Leaf"} <= set(types)


async def test_functional_graphs_have_what_their_functions_say() -> None:
    async def task(given: Any) -> Any:
        return given

    # as in a module whose annotations are no strings; langgraph does not resolve those
    task.__annotations__ = {"given": Given, "return": Point}
    types, untyped = await found(entrypoint()(task))
    assert {"Given", "Point"} <= set(types)
    task.__annotations__ = {"given": "Given"}
    types, untyped = await found(entrypoint()(task))
    assert types == {}
    assert {"graph.__start__", "graph.__end__"} <= set(untyped)


async def test_hints_that_cannot_be_resolved_are_named() -> None:
    @dataclasses.dataclass
    class Odd:
        missing: NotThere  # type: ignore[name-defined]  # noqa: F821 - what a type checker alone can see

    class Holder(TypedDict):
        odd: Any

    Holder.__annotations__["odd"] = Odd
    types, untyped = await found(graph_of(Holder))
    assert types == {Odd.__qualname__: "dataclass"}
    assert any(place.endswith(Odd.__qualname__) for place in untyped)
