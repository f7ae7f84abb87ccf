"""Which classes a graph's checkpoints may hold, as far as its schemas tell: the allow-list for reading them strictly.

Promises every pydantic model, dataclass, enum and other class that the schemas of a graph, of its nodes and subgraphs name, at any
depth, and what ``@task`` functions say that they give; and the names of the places where nothing is said. What cannot be found like this: what is put where the schema says
``Any``, ``object``, a protocol or a bare ``dict`` or ``list``; subclasses of what is named; what a node returns under a key that no
schema has; the arguments of ``Send``; graphs that a factory builds only with a config, and those that a node calls itself.
LangGraph's own types and LangChain's messages are in LangGraph's list of safe types and come along where a schema names them.

Relies on: type hints that can be resolved; one that cannot is named as such a place. Never instantiates anything.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

import typing_extensions
from langgraph.channels.base import BaseChannel
from langgraph.func import _TaskFunction
from langgraph.pregel import Pregel
from pydantic import BaseModel

from langgraph_serverless.domain.manifest import CheckpointType

#: Written by msgpack as they are, or by langgraph without a name that would have to be allowed.
_PLAIN = frozenset({str, bytes, bytearray, int, float, complex, bool, type(None), slice, range})
_CONTAINERS = frozenset(
    {list, tuple, dict, set, frozenset, collections.deque, collections.defaultdict, collections.OrderedDict}
)
_ANYTHING = frozenset({Any, object, typing_extensions.Any})
_WRAPPERS = frozenset(
    {
        typing.Annotated,
        typing.Required,
        typing.NotRequired,
        typing.Final,
        typing.ClassVar,
        typing_extensions.ReadOnly,
    }
)
#: By these langgraph recognises what it can write: models of other kinds, secrets.
_WRITES_ITSELF = ("model_dump", "get_secret_value", "dict", "_asdict")
#: Libraries whose classes langgraph itself knows how to write and to allow.
_KNOWN_MODULES = frozenset(
    {"datetime", "uuid", "decimal", "ipaddress", "pathlib", "pathlib._local", "zoneinfo", "re", "langgraph.types"}
)
#: What is in fields of their own models (a message's arguments of tools) is nothing that a user could name.
_LIBRARIES = ("langchain_core.", "langgraph.")


class CheckpointTypes:
    """Collects over as many graphs as it is shown."""

    def __init__(self) -> None:
        self._found: set[CheckpointType] = set()
        self._untyped: set[str] = set()
        self._seen: list[Any] = []
        self._seen_ids: set[int] = set()

    @property
    def types(self) -> tuple[CheckpointType, ...]:
        return tuple(sorted(self._found))

    @property
    def untyped(self) -> tuple[str, ...]:
        return tuple(sorted(self._untyped))

    async def add(self, graph: Any, graph_id: str) -> None:
        """What one graph and its subgraphs name."""
        self._graph(graph, graph_id)
        async for name, subgraph in graph.aget_subgraphs(recurse=True):
            # a graph called over HTTP keeps its checkpoints elsewhere
            if isinstance(subgraph, Pregel):
                self._graph(subgraph, f"{graph_id}|{name}")

    def cannot_tell(self, place: str) -> None:
        """Nothing is known of what is stored at this place."""
        self._untyped.add(place)

    def _graph(self, graph: Pregel[Any, Any, Any, Any], place: str) -> None:
        for name, channel in graph.channels.items():
            # a branch's and a task's channels hold names and langgraph's own packets
            if isinstance(channel, BaseChannel) and not name.startswith(("branch:", "__pregel_")):
                self._walk(_or_any(channel, "ValueType"), f"{place}.{name}")
                self._walk(_or_any(channel, "UpdateType"), f"{place}.{name}")
        for schema in _schemas(graph):
            self._walk(schema, f"{place}:{getattr(schema, '__name__', schema)}")
        for function in task_functions(graph):
            # what a task gives is kept, so that it need not run again
            hints, name = _hints(function) or {}, f"{place}:{getattr(function, '__name__', function)}"
            self._walk(hints.get("return", Any), name)

    def _walk(self, annotation: Any, place: str) -> None:
        if annotation in (None, ...) or isinstance(annotation, typing.TypeVar | typing.ParamSpec):
            return
        if _hashably_in(annotation, _ANYTHING) or isinstance(annotation, str | typing.ForwardRef):
            self._untyped.add(place)
            return
        if id(annotation) in self._seen_ids:
            return
        self._seen_ids.add(id(annotation))
        self._seen.append(annotation)  # kept alive, or another one may get its id
        origin = typing.get_origin(annotation)
        if origin is not None:
            self._generic(origin, typing.get_args(annotation), place)
        elif (meant := getattr(annotation, "__supertype__", getattr(annotation, "__value__", None))) is not None:
            self._walk(meant, place)  # NewType, and aliases
        elif isinstance(annotation, type):
            self._class(annotation, place)
        else:
            self._untyped.add(place)

    def _generic(self, origin: Any, args: tuple[Any, ...], place: str) -> None:
        if origin is typing.Literal:
            for value in args:
                if isinstance(value, Enum):
                    self._walk(type(value), place)
            return
        if origin in _WRAPPERS:
            args = args[:1]
        elif isinstance(origin, type) and origin not in _CONTAINERS and origin is not types.UnionType:
            if origin is collections.abc.Callable or origin is type:
                self._untyped.add(place)
                return
            if not inspect.isabstract(origin):
                self._walk(origin, place)
        for arg in args:
            self._walk(arg, place)

    def _class(self, cls: type, place: str) -> None:
        if cls in _PLAIN or cls.__module__ in _KNOWN_MODULES:
            return
        if typing_extensions.is_typeddict(cls):
            self._fields(cls, _hints(cls), place)
        elif cls in _CONTAINERS or typing_extensions.is_protocol(cls) or cls.__module__ in ("collections.abc", "abc"):
            self._untyped.add(place)
        elif issubclass(cls, Enum):
            self._add(cls, "enum")
        elif issubclass(cls, BaseModel):
            self._add(cls, "pydantic")
            if cls.__module__.startswith(_LIBRARIES):
                return
            complete = {name: known.annotation for name, known in cls.model_fields.items()}
            self._fields(cls, complete if cls.__pydantic_complete__ else _hints(cls), place)
        elif dataclasses.is_dataclass(cls):
            self._add(cls, "dataclass")
            hints = _hints(cls)
            names = [known.name for known in dataclasses.fields(cls)]
            self._fields(cls, None if hints is None else {name: hints[name] for name in names}, place)
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            self._add(cls, "namedtuple")
            self._fields(cls, _hints(cls), place)
        elif issubclass(cls, tuple(_CONTAINERS)) or any(callable(getattr(cls, name, None)) for name in _WRITES_ITSELF):
            self._add(cls, "value")
        else:
            self._add(cls, "class")

    def _fields(self, cls: type, hints: Mapping[str, Any] | None, place: str) -> None:
        if hints is None:
            self._untyped.add(f"{place}.{cls.__qualname__}")
            return
        for name, annotation in hints.items():
            self._walk(annotation, f"{place}.{name}")

    def _add(self, cls: type, kind: str) -> None:
        self._found.add(CheckpointType(cls.__module__, cls.__qualname__, kind))


def _schemas(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Any]:
    """What a ``StateGraph`` was built with; a graph of the functional API has nothing but its channels."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        return
    known: Iterable[Any] = getattr(builder, "schemas", {})
    yield from known
    for node in getattr(builder, "nodes", {}).values():
        if (schema := getattr(node, "input_schema", None)) is not None:
            yield schema


def task_functions(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Callable[..., Any]]:
    """What is decorated with ``@task`` and within reach of the graph's nodes: in their modules, in modules that those name, in closures."""
    begin = [getattr(node.bound, name, None) for node in graph.nodes.values() for name in ("func", "afunc")]
    around: list[Any] = [function for function in begin if function is not None]
    seen: set[int] = set()
    while around:
        function = inspect.unwrap(around.pop())
        code = getattr(function, "__func__", getattr(function, "func", function))
        if id(code) in seen:
            continue
        seen.add(id(code))
        named: list[Any] = [*getattr(code, "__globals__", {}).values()]
        modules = [module for module in named if isinstance(module, types.ModuleType)]
        cells = (cell.cell_contents for cell in getattr(code, "__closure__", None) or () if _is_filled(cell))
        for value in (*named, *cells, *(value for module in modules for value in list(vars(module).values()))):
            if isinstance(value, _TaskFunction) and id(value) not in seen:
                seen.add(id(value))
                yield value.func
                around.append(value.func)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _or_any(channel: BaseChannel[Any, Any, Any], name: str) -> Any:
    try:
        return getattr(channel, name)
    # a channel of the user's may not know its types
    except (AttributeError, NotImplementedError):
        return Any


def _hints(cls: type | Callable[..., Any]) -> dict[str, Any] | None:
    """The types of a class's attributes, or of a function's parameters and what it gives; None if they cannot be resolved."""
    module = sys.modules.get(cls.__module__)
    try:
        return typing_extensions.get_type_hints(
            cls, globalns=vars(module) if module else None, localns=dict(vars(cls)), include_extras=True
        )
    # a name that exists for type checkers only, or whatever an expression of the user's raises
    except Exception:
        return None


def _hashably_in(value: Any, known: frozenset[Any]) -> bool:
    try:
        return value in known
    except TypeError:
        return False
