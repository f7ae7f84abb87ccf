"""A span for each node of a run, so that what instruments the user's code finds its place in the trace.

A callback of LangGraph's, called in place at the start and the end of each node, in the node's own task: what it makes current is so for
all that the node does, its subgraphs included. Only used where spans are made at all (``tracing.active``). Says a node's name and
step, and the class of an error; never what goes in or comes out.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from langgraph_serverless import tracing


class NodeSpans(BaseCallbackHandler):
    """The spans of one execution."""

    run_inline = True
    # of all that is called back, only the starts and ends of nodes
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self) -> None:
        #: By the callback's own id.
        self._begun: dict[Any, Any] = {}

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
        if (node := metadata.get("langgraph_node")) is None or kwargs.get("name") != node:
            return
        attributes = {"langgraph.node": str(node), "langgraph.step": int(metadata.get("langgraph_step") or 0)}
        self._begun[run_id] = tracing.enter(f"node {node}", attributes)

    def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        tracing.leave(self._begun.pop(run_id, None))

    def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        # an interrupt, or a run that is handed on, is no failure
        failed = isinstance(error, Exception) and not isinstance(error, GraphBubbleUp)
        tracing.leave(self._begun.pop(run_id, None), type(error).__name__ if failed else None)


def with_spans(config: RunnableConfig) -> RunnableConfig:
    """The config with this callback."""
    callbacks = config.get("callbacks")
    return {**config, "callbacks": [*(callbacks if isinstance(callbacks, list) else ()), NodeSpans()]}
