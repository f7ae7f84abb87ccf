"""Whether a run that lost its worker had come to a breakpoint by then.

LangGraph takes input ``None`` as the word to go on, and passes the breakpoint at which the thread stands. That is what a
client means by it. A run that is resumed because its worker was lost between the checkpoint at a breakpoint and the end of
the run means the opposite: nobody has agreed yet to what comes next. So the runner asks here first, and ends such a run
where it stands.

Looks at the graph's own breakpoints and those of the run; those that are compiled into subgraphs are the part of ``control``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import START
from langgraph.pregel import Pregel

from langgraph_serverless.domain.runs import Run

#: Under this name a checkpoint says which versions of the channels the last breakpoint has seen.
_INTERRUPT = "__interrupt__"


async def stopped_at_breakpoint(graph: Pregel[Any, Any, Any, Any], saver: BaseCheckpointSaver[Any], run: Run) -> bool:
    """Whether the thread's newest checkpoint, which this run has written, is one at which it was to stop."""
    before = run.kwargs.get("interrupt_before") or graph.interrupt_before_nodes
    after = run.kwargs.get("interrupt_after") or graph.interrupt_after_nodes
    if not before and not after:
        return False
    config: RunnableConfig = {"configurable": {"thread_id": str(run.thread_id), "checkpoint_ns": ""}}
    newest = await saver.aget_tuple(config)
    if newest is None:
        return False
    seen = newest.checkpoint["versions_seen"].get(_INTERRUPT, {})
    versions = newest.checkpoint["channel_versions"]
    if not any(channel not in seen or version > seen[channel] for channel, version in versions.items()):  # type: ignore[operator]
        return False  # somebody has agreed: the run goes on from a breakpoint
    if before and any_of((await graph.aget_state(config)).next, before):
        return True
    if after and newest.parent_config is not None:
        return any_of((await graph.aget_state(newest.parent_config)).next, after)
    return False


def any_of(nodes: Iterable[str], breakpoints: Any) -> bool:
    return any(node != START if breakpoints == "*" else node in breakpoints for node in nodes)
