"""How long the nodes of a run take: what a function with a deadline has to leave them, in order to hand the run on.

A callback of LangGraph's, called in place at the start and the end of each node. A node that executes a subgraph counts by the
nodes in it, as it can stop between them. Costs a few microseconds per node; where nothing has a deadline there is none.
"""

from __future__ import annotations

import time
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig


class NodeClock(BaseCallbackHandler):
    """The clock of one execution."""

    run_inline = True
    # of all that is called back, only the starts and ends of nodes
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self) -> None:
        self._slowest = 0.0
        #: By the callback's own id: when a node has begun, and where.
        self._begun: dict[Any, tuple[float, str]] = {}
        #: Nodes that have begun nodes.
        self._outer: set[str] = set()

    @property
    def slowest(self) -> float:
        """Seconds of the slowest node so far, with those that have not ended."""
        now = time.monotonic()
        running = [now - began for began, space in list(self._begun.values()) if space not in self._outer]
        return max(running, default=0.0) if running and max(running) > self._slowest else self._slowest

    def in_config(self, config: RunnableConfig) -> RunnableConfig:
        """The config with this callback."""
        callbacks = config.get("callbacks")
        return {**config, "callbacks": [*(callbacks if isinstance(callbacks, list) else ()), self]}

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: Any,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metadata = metadata or {}
        # what a node calls inherits its metadata; only the node itself has its name as well
        if kwargs.get("name") != metadata.get("langgraph_node"):
            return
        space = str(metadata.get("langgraph_checkpoint_ns", ""))
        self._outer.add(space.rpartition("|")[0])
        self._begun[run_id] = time.monotonic(), space

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self._end(run_id)

    def _end(self, run_id: Any) -> None:
        began, space = self._begun.pop(run_id, (None, ""))
        if began is None:
            return
        if space not in self._outer:
            self._slowest = max(self._slowest, time.monotonic() - began)
        self._outer.discard(space)
