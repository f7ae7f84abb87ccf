"""What clients get of a graph's end: its declared output, out of what it streams and of its state, and what it asks."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel

from langgraph_serverless.domain.serialization import to_json


class GraphOutput:
    """The last values that the root graph has streamed."""

    def __init__(self) -> None:
        self.seen = False
        self.values: Any = None

    def take(self, values: Any) -> None:
        self.seen = True
        self.values = values


def declared(graph: Pregel[Any, Any, Any, Any], values: Any) -> Any:
    """The part of a state that is the graph's output."""
    channels = graph.output_channels
    if not isinstance(values, dict) or isinstance(channels, str):
        return values
    return {channel: values[channel] for channel in channels if channel in values}


def thread_interrupts(state: Any) -> dict[str, Any]:
    """A thread's ``interrupts``: task id to what its interrupts ask."""
    return {
        task.id: [{"id": interrupt.id, "value": to_json(interrupt.value)} for interrupt in task.interrupts]
        for task in state.tasks
        if task.interrupts
    }
