"""What becomes of a run and of the subgraphs in it, as a tree; made of the lifecycle events of its thread.

A run is the root and begins a tree of its own. Events that have been seen before are passed over, so that a thread may be read
again from its beginning.
"""

from __future__ import annotations

from typing import Any

import orjson

from langgraph_serverless.domain.protocol_events import ProtocolEvent

Document = dict[str, Any]


class AgentTree:
    """The tree of the last run that has been seen."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, ...], Document] = {}
        self._seq = 0

    def see(self, event: ProtocolEvent) -> None:
        """Take note of an event, whatever it is."""
        if event.method != "lifecycle" or event.seq <= self._seq:
            return
        self._seq = event.seq
        data = orjson.loads(event.record)["params"]["data"]
        if not event.namespace and data["event"] == "running":
            self._nodes = {}
        known = self._nodes.get(event.namespace, {})
        self._nodes[event.namespace] = {
            "namespace": list(event.namespace),
            "status": data["event"],
            "graph_name": data.get("graph_name") or known.get("graph_name", ""),
        }

    def document(self) -> Document | None:
        """The root with its ``children``, as clients get it; None before the first run."""
        return self._node(()) if () in self._nodes else None

    def _node(self, namespace: tuple[str, ...]) -> Document:
        below = [known for known in self._nodes if known and known[:-1] == namespace]
        children = {"children": [self._node(child) for child in below]} if below else {}
        return {**self._nodes[namespace], **children}
