"""Which subgraphs a run is in, as its tasks tell: the ``lifecycle`` of the thread protocol, below the root.

A subgraph has started when the first of its tasks is announced, and is over with the task of its parent that executes it,
whose result says how. Both as LangGraph's own stream infers them, with the same names and causes; but nothing is kept of a
subgraph that is over, so that a run may enter as many as it likes. A subgraph with a checkpointer of its own has a namespace
without tasks, so LangGraph's says nothing of it; here it belongs to the task with its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Status = Literal["completed", "failed", "interrupted"]


class Lifecycle:
    """The subgraphs of one execution that have started and are not over."""

    def __init__(self) -> None:
        #: With their names.
        self._open: dict[tuple[str, ...], str] = {}
        #: By the task that executes them: its subgraphs, and the tool call that it carries out.
        self._of_task: dict[str, list[tuple[str, ...]]] = {}
        self._tool_calls: dict[str, str] = {}
        #: Names of nodes, from the root's on: the task that executes the last of them.
        self._running: dict[tuple[str, ...], str] = {}
        self._places: dict[str, tuple[str, ...]] = {}

    def begins(self, namespace: Sequence[str], task: Mapping[str, Any]) -> dict[str, Any] | None:
        """A task has been announced; what is to be said if that was the first of its graph."""
        if (call := _tool_call(task.get("input"))) is not None:
            self._tool_calls[task["id"]] = call
        place = (*_names(namespace), task["name"])
        self._running[place], self._places[task["id"]] = task["id"], place
        agent = (task.get("metadata") or {}).get("lc_agent_name")
        task_id = self.enter(namespace, agent)
        if task_id is None:
            return None
        said: dict[str, Any] = {"event": "started", "namespace": list(namespace)}
        if name := self._open[tuple(namespace)]:
            said["graph_name"] = name
        said["trigger_call_id"] = task_id
        if agent is not None and task_id in self._tool_calls:
            said["cause"] = {"type": "toolCall", "tool_call_id": self._tool_calls[task_id]}
        return said

    def enter(self, namespace: Sequence[str], agent: str | None = None) -> str | None:
        """Note that a subgraph has started; the task that executes it, unless that was known or it is no subgraph."""
        space = tuple(namespace)
        if not space or space in self._open:
            return None
        name, _, task_id = space[-1].partition(":")
        task_id = task_id or self._running.get(_names(space), "")
        if not task_id:
            return None  # called again by the same task: what there is to say has been said of the first call
        self._open[space] = agent if agent is not None else name
        self._of_task.setdefault(task_id, []).append(space)
        return task_id

    def ends(
        self, task_id: str, status: Status, error: str | None = None
    ) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """A task is over; of each of its subgraphs the namespace and what is to be said."""
        self._tool_calls.pop(task_id, None)
        place = self._places.pop(task_id, None)
        if place is not None and self._running.get(place) == task_id:
            del self._running[place]
        for space in self._of_task.pop(task_id, ()):
            said: dict[str, Any] = {"event": status, "graph_name": self._open.pop(space)}
            if error is not None:
                said["error"] = error
            yield list(space), said

    def ends_all(self, status: Status, error: str | None = None) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """The run is over; the same of all that is left, the innermost first."""
        for task_id in list(reversed(self._of_task)):
            yield from self.ends(task_id, status, error)


def _names(namespace: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.partition(":")[0] for part in namespace)


def _tool_call(given: Any) -> str | None:
    """The tool call that a task carries out, as LangGraph's agents write it into the task's input."""
    calls = [given.get("tool_call")] if isinstance(given, dict) else given if isinstance(given, list) else ()
    for call in calls:
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            return str(call["id"])
    return None
