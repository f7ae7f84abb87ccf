"""How a running graph is asked to drain, and what else happens at the boundaries of its supersteps.

LangGraph asks the control of a run before each superstep, of the graph and of every subgraph, whether it is to drain. Two
things that a run needs in order to be handed on are only possible there:

* With ``durability: exit`` a subgraph that drains saves nothing, as it ends without an error; so there it ends with one.
* A subgraph that goes on passes the breakpoint at which it stands, as if a client had agreed (``breakpoints.py`` says more).
  If it was this run that has come there, under an earlier lease, it stops again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from langgraph._internal._constants import INTERRUPT
from langgraph.errors import GraphDrained, GraphInterrupt
from langgraph.pregel._loop import PregelLoop
from langgraph.runtime import RunControl

from langgraph_serverless.execution.breakpoints import any_of


class Control(RunControl):
    """The control of one execution."""

    __slots__ = ("_continues", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._continues: str | None = None
        self._seen: WeakSet[PregelLoop] = WeakSet()

    def continues(self, run_id: str) -> None:
        """The run has begun under an earlier lease."""
        self._continues = run_id

    @property
    def drain_requested(self) -> bool:
        # nodes may ask as well, and only get an answer
        caller = sys._getframe(1).f_locals.get("self")
        if isinstance(caller, PregelLoop) and caller.is_nested:
            self._at_boundary(caller)
        return super().drain_requested

    def _at_boundary(self, loop: PregelLoop) -> None:
        if self._continues is not None and loop not in self._seen:
            self._seen.add(loop)
            # what it was loaded from says so; what it has saved since does not
            if loop.checkpoint_metadata.get("run_id") == self._continues and _stands_at_breakpoint(loop):
                raise GraphInterrupt
        if self.drain_reason is not None and loop.durability == "exit":
            raise GraphDrained(self.drain_reason)


def _stands_at_breakpoint(loop: PregelLoop) -> bool:
    if loop.interrupt_before and any_of((task.name for task in loop.tasks.values()), loop.interrupt_before):
        return True
    after = loop.interrupt_after and loop.checkpoint_metadata.get("source") == "loop"
    return bool(after) and any_of(_ran_last(loop.checkpoint["versions_seen"]), loop.interrupt_after)


def _ran_last(versions_seen: dict[str, dict[str, Any]]) -> Iterable[str]:
    """The nodes of the superstep that led to a checkpoint: they have seen the newest versions before it."""
    newest = {node: max(seen.values()) for node, seen in versions_seen.items() if node != INTERRUPT and seen}
    last = max(newest.values(), default=None)
    return [node for node, version in newest.items() if version == last]
