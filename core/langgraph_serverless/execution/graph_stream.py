"""Streams the graph of one execution: into the sink go the events that the run is to emit, and its output is kept.

A run is streamed in the modes that its client asked for, or, if it is a protocol run, as LangGraph's own event stream
(``astream_events(version="v3")``) does it: with everything, subgraphs included, and models that write content blocks. What this
adds to ``astream`` are the transformers that the graph's author has compiled into it; they see every event, may change or
withhold it, and may stream of their own. The rest of it are projections for consumers in the same process, one object per
message and subgraph, which nobody would look at here.

Pulls: while the sink has no room, the graph waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._config import patch_configurable
from langgraph._internal._constants import CONFIG_KEY_STREAM_MESSAGES_V2
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.progress import Progress
from langgraph_serverless.domain.run_kwargs import is_protocol_run
from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.execution.chunks import ChunkTranslator
from langgraph_serverless.execution.continuing import Repeats, going_on
from langgraph_serverless.execution.control import Control
from langgraph_serverless.execution.giving_way import GivingWay
from langgraph_serverless.execution.graph_output import GraphOutput, declared
from langgraph_serverless.execution.protocol_chunks import MODES, Params, RecordTranslator
from langgraph_serverless.execution.protocol_lifecycle import Status
from langgraph_serverless.execution.sink import EventSink
from langgraph_serverless.execution.transformers import Transformers


class GraphStream:
    """The stream of one execution."""

    def __init__(
        self,
        claimed: ClaimedRun,
        progress: Progress,
        *,
        control: Control,
        sink: EventSink,
        output: GraphOutput,
        mask: bool,
    ) -> None:
        self._claimed = claimed
        self._progress = progress
        self._control = control
        self._sink = sink
        self._output = output
        self._mask = mask
        self._repeats = Repeats(progress, handed_on=claimed.continued)
        self._records: RecordTranslator | None = None
        #: When the graph has said something for the first time, by the monotonic clock.
        self.first_event: float | None = None

    async def follow(self, graph: Pregel[Any, Any, Any, Any], value: Any, config: RunnableConfig) -> None:
        """Run the graph to its end, or to where it stops.

        Raises:
            GraphDrained: it was asked to stop at the next boundary.
            Exception: whatever the graph raises.
        """
        announced: set[str] = set()
        lost: StateSnapshot | None = None
        if self._progress.own:
            config = going_on(config, self._progress, graph)
            # it tells its state by itself only if subgraphs are resumed, and a crash may have kept this from being sent
            state = await graph.aget_state(config)
            self._output.take(declared(graph, state.values))
            if self._claimed.continued:
                announced = {interrupt.id for interrupt in state.interrupts}
            elif not self._progress.spaces:
                lost = state
        kwargs = self._claimed.run.kwargs
        arguments: dict[str, Any] = {
            "context": kwargs.get("context") or None,
            "interrupt_before": kwargs.get("interrupt_before"),
            "interrupt_after": kwargs.get("interrupt_after"),
            "durability": kwargs["durability"],
            "control": self._control,
        }
        if not is_protocol_run(kwargs):
            await self._in_modes(graph, value, config, arguments, lost=lost)
            return
        resumed = self._progress.spaces if self._claimed.continued else ()
        self._records = RecordTranslator(
            temporary=self._claimed.temporary, mask=self._mask, resumed=resumed, announced=announced
        )
        await self._as_records(self._records, graph, value, config, arguments, lost=lost)

    def closing(self, status: Status, error: str | None = None) -> tuple[Event, ...]:
        """What is left to be said of a run that has not come to its end by itself."""
        return tuple(self._records.closing(_now(), status, error)) if self._records is not None else ()

    async def broken_off(self) -> None:
        """Say what is to be said of a run that was stopped within a superstep and goes on elsewhere."""
        if self._records is not None:
            await self._emit(self._records.broken_off(_now()))

    async def _in_modes(
        self,
        graph: Pregel[Any, Any, Any, Any],
        value: Any,
        config: RunnableConfig,
        arguments: dict[str, Any],
        *,
        lost: StateSnapshot | None,
    ) -> None:
        """The modes that the client asked for."""
        kwargs = self._claimed.run.kwargs
        modes, subgraphs = kwargs["stream_mode"], kwargs["subgraphs"]
        translator = ChunkTranslator(modes, subgraphs=subgraphs, temporary=self._claimed.temporary, mask=self._mask)
        if lost is not None:
            await self._emit(translator.events("values", (), self._output.values))
        arguments |= {
            # what the graph's author declared as its output, and not its whole state
            "output_keys": graph.output_channels,
            "stream_mode": translator.graph_modes,
            "subgraphs": subgraphs,
        }
        if "events" in modes or "messages" in translator.graph_modes:
            config = GivingWay(self._sink).in_config(config)
        if "events" in modes:
            async for event in graph.astream_events(value, config, version="v2", **arguments):
                await self._emit(translator.graph_event(event, self._output.take, self._repeats))
            return
        async with aclosing(graph.astream(value, config, **arguments)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                namespace, mode, data = chunk if subgraphs else ((), *chunk)
                if mode == "values" and not namespace:
                    self._output.take(data)
                if not self._repeats(mode, namespace, data):
                    await self._emit(translator.events(mode, namespace, data))

    async def _as_records(
        self,
        translator: RecordTranslator,
        graph: Pregel[Any, Any, Any, Any],
        value: Any,
        config: RunnableConfig,
        arguments: dict[str, Any],
        *,
        lost: StateSnapshot | None,
    ) -> None:
        """Everything, as records of the thread protocol."""
        if lost is not None:
            first: Params = {"namespace": (), "timestamp": _now(), "data": lost.values}
            await self._emit(translator.records("values", first))
        # values as the state holds them: LangGraph would turn those of subgraphs, too, into the root's own class
        graph._output_mapper = graph._state_mapper = None
        config = GivingWay(self._sink).in_config(config)
        config = translator.tool_errors.in_config(patch_configurable(config, {CONFIG_KEY_STREAM_MESSAGES_V2: True}))
        transformers = Transformers.of(graph)
        arguments |= {"stream_mode": sorted({*MODES, *transformers.modes}), "subgraphs": True, "version": "v2"}
        async with transformers, aclosing(graph.astream(value, config, **arguments)) as parts:  # type: ignore[type-var]
            async for part in parts:
                method, namespace = part["type"], part["ns"]
                if method == "values" and not namespace:
                    # the records tell the whole state, of which the output is what the graph's author declared as such
                    self._output.take(declared(graph, part["data"]))
                again = self._repeats(method, namespace, part["data"])
                params: Params = {"namespace": namespace, "timestamp": _now(), "data": part["data"]}
                if method == "values":
                    params["interrupts"] = part["interrupts"]
                if not transformers:
                    await self._emit(translator.records(method, params, again=again))
                    continue
                for seen, changed in await transformers.passed(method, params):
                    await self._emit(translator.records(seen, changed, again=again))
            for seen, changed in await transformers.ended():
                await self._emit(translator.records(seen, changed))
        await self._emit(translator.closing(_now(), "completed"))

    async def _emit(self, events: Iterator[Event]) -> None:
        for event in events:
            if self.first_event is None:
                self.first_event = time.monotonic()
            await self._sink.emit(event)


def _now() -> int:
    return int(time.time() * 1000)
