"""What a graph's author declared as its output, out of what it streams and of the state that it leaves."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel


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
