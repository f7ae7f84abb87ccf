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
        #: By the callback's own id: when a node has begun.
        self._begun: dict[Any, float] = {}
        #: What is called below a node: the id of that node.
        self._below: dict[Any, Any] = {}
        #: Nodes that have begun nodes.
        self._outer: set[Any] = set()

    @property
    def slowest(self) -> float:
        """Seconds of the slowest node so far, with those that have not ended."""
        now = time.monotonic()
        running = [now - began for run_id, began in list(self._begun.items()) if run_id not in self._outer]
        return max([self._slowest, *running])

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
        parent_run_id: Any = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        node = parent_run_id if parent_run_id in self._begun else self._below.get(parent_run_id)
        # what a node calls inherits its metadata; only the node itself has its name as well
        if kwargs.get("name") == (metadata or {}).get("langgraph_node"):
            if node is not None:
                self._outer.add(node)
            self._begun[run_id] = time.monotonic()
        elif node is not None:
            self._below[run_id] = node

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self._end(run_id)

    def _end(self, run_id: Any) -> None:
        self._below.pop(run_id, None)
        began = self._begun.pop(run_id, None)
        if began is None:
            return
        if run_id not in self._outer:
            self._slowest = max(self._slowest, time.monotonic() - began)
        self._outer.discard(run_id)
