"""The stream transformers that a graph's author has compiled into it (``compile(transformers=[...])``), at work.

They get the events of a run through LangGraph's own multiplexer, among LangGraph's own transformers, and with copies of
themselves for each subgraph, as ``astream_events(version="v3")`` would have it: so they may change events in place, withhold
them, stream of their own on channels with a name, and read the projections of others. Driven from outside, one event at a time:
its own pump would leave the graph running when the run is cancelled. A graph without any costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

from langgraph.pregel import Pregel
from langgraph.pregel.main import _collect_stream_modes, _normalize_stream_transformer_factories
from langgraph.stream._mux import StreamMux
from langgraph.stream._types import ProtocolEvent, StreamTransformer
from langgraph.stream.transformers import (
    LifecycleTransformer,
    MessagesTransformer,
    SubgraphTransformer,
    ValuesTransformer,
)

from langgraph_serverless.execution.protocol_chunks import Params

Passed = list[tuple[str, Params]]


class Transformers:
    """Those of one execution."""

    def __init__(self, factories: Sequence[Callable[[tuple[str, ...]], StreamTransformer]]) -> None:
        self._mux: StreamMux | None = None
        self._over = False
        self._moved = asyncio.Event()
        if not factories:
            return
        own = [ValuesTransformer, MessagesTransformer, LifecycleTransformer, _Subgraphs]
        self._mux = StreamMux(factories=[*own, *factories], is_async=True)
        self._mux.bind_apump(self._wait)
        # its log keeps only what has a reader
        aiter(self._mux._events)

    @classmethod
    def of(cls, graph: Pregel[Any, Any, Any, Any]) -> Transformers:
        return cls(_normalize_stream_transformer_factories(graph.stream_transformers))

    def __bool__(self) -> bool:
        return self._mux is not None

    @property
    def modes(self) -> Sequence[str]:
        """What they want streamed."""
        return _collect_stream_modes(self._mux) if self._mux is not None else ()

    async def passed(self, method: str, params: Params) -> Passed:
        """An event after it has passed them all, if it has, and what they have streamed by themselves meanwhile."""
        assert self._mux is not None
        event = cast("ProtocolEvent", {"type": "event", "method": method, "params": params})
        params["namespace"] = list(params["namespace"])
        await self._mux.apush(event)
        self._move()
        found = self._taken()
        # LangGraph's own withhold these, as they know them by other names
        return [(method, params), *found] if method == "tasks" else found

    async def ended(self) -> Passed:
        """What they have to say when the graph has come to its end."""
        if self._mux is None:
            return []
        self._over = True
        self._move()
        await self._mux.aclose()
        return self._taken()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mux is not None and error is not None:
            self._over = True
            self._move()
            await self._mux.afail(error)

    def _taken(self) -> Passed:
        assert self._mux is not None
        taken: Passed = []
        items = self._mux._events._items
        while items:
            event = items.popleft()[1]
            if event["method"] != "lifecycle":  # is told by the tasks
                taken.append((event["method"], cast("Params", event["params"])))
        return taken

    async def _wait(self) -> bool:
        """For those that read a projection: until the next event has come, if there is one."""
        if not self._over:
            await self._moved.wait()
        return not self._over

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class _Subgraphs(SubgraphTransformer):
    """Lets go of subgraphs that are over, as a run may enter any number of them."""

    async def _aon_terminal(self, ns: tuple[str, ...], status: Any, error: str | None) -> None:
        await super()._aon_terminal(ns, status, error)
        self._handles.pop(ns, None)
