"""How a run goes on that has begun under an earlier lease: with which input, and which of the graph's chunks are repeats.

It goes on with input ``None`` from its newest checkpoint. What LangGraph takes that for, a client's word to resume, is right
only where subgraphs are in flight; elsewhere it would pass a breakpoint, or skip a subgraph with a checkpointer of its
own, which it takes for one that waits. So it is told that nothing is resumed, unless there is something; and then each
subgraph is judged by itself, when it looks for its checkpoint (``OnlyBegun``). A run that has not come
to a checkpoint of its own begins with its request again, but for what its command has brought about already: an
update is not made twice, and an answer is not given to a second interrupt.

The limit of supersteps counts from where the run began. In subgraphs, which have their own count, it begins again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import CONFIG_KEY_CHECKPOINT_MAP, CONFIG_KEY_RESUMING
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.pregel import Pregel
from langgraph.pregel._utils import is_xxh3_128_hexdigest
from langgraph.types import Command

from langgraph_serverless.domain.progress import Progress
from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.execution.graph_input import graph_input

#: How LangGraph marks the updates of tasks that had finished before.
_CACHED = {"cached": True}


def remaining_input(progress: Progress, claimed: ClaimedRun, serde: SerializerProtocol) -> tuple[Any, bool]:
    """What to give the graph, and whether the run goes on from the thread's newest checkpoint."""
    if progress.own:
        return None, True
    kwargs = claimed.run.kwargs
    value = graph_input(kwargs)
    if not isinstance(value, Command):
        return value, False
    if progress.commanded_back and value.resume is not None:
        return Command(resume=value.resume), False  # no other goes back without a checkpoint of its own
    answers = value.resume if isinstance(value.resume, dict) else {}
    by_id = bool(answers) and all(map(is_xxh3_128_hexdigest, answers))
    if not (progress.commanded or progress.resumed or progress.answered):
        return value, False
    rest: dict[str, Any] = {} if progress.commanded else {"update": value.update, "goto": value.goto}
    rest = {key: part for key, part in rest.items() if part}
    if by_id:  # LangGraph does not store these
        answered = {interrupt.id for written in progress.answered for interrupt in serde.loads_typed(written)}
        if left := {key: answer for key, answer in answers.items() if key not in answered}:
            rest["resume"] = left
    elif value.resume is not None and not progress.resumed:
        rest["resume"] = value.resume  # a node had taken it, and was stopped
    return (Command(**rest) if rest else None), True


def going_on(config: RunnableConfig, progress: Progress, graph: Pregel[Any, Any, Any, Any]) -> RunnableConfig:
    """The config of a run that goes on from a checkpoint of its own."""
    changed: dict[str, Any] = {**config}
    limit = config.get("recursion_limit") or (graph.config or {}).get("recursion_limit")
    if limit is not None:
        changed["recursion_limit"] = _Limit(limit, progress.base + 1 + limit)
    if not progress.spaces:
        changed["configurable"] = {**config["configurable"], CONFIG_KEY_RESUMING: False}
    return changed  # type: ignore[return-value]


class OnlyBegun:
    """Of a run that goes on: keeps a subgraph from being resumed at a checkpoint of an earlier superstep of its parents.

    One with a checkpointer of its own has such checkpoints. It would be taken for one that has ended, and be skipped. To be
    called with what each graph has looked for and found, before it begins: its config says whether it is to resume, and where
    its parents stand. Where the run has not come further than the run before it, what LangGraph resumes is what a client means.
    """

    def __init__(self, run_id: uuid.UUID) -> None:
        self._run_id = str(run_id)
        #: Checkpoints of this run at which graphs go on.
        self._own: set[str] = set()

    def __call__(self, config: RunnableConfig, found: CheckpointTuple) -> None:
        configurable = config["configurable"]
        around: dict[str, str] = configurable.get(CONFIG_KEY_CHECKPOINT_MAP) or {}
        # the innermost comes last
        if any(checkpoint_id in self._own for checkpoint_id in [*around.values()][-1:]) and (
            configurable.get(CONFIG_KEY_RESUMING) and found.metadata.get("parents") != around
        ):
            configurable[CONFIG_KEY_RESUMING] = False
        if found.metadata.get("run_id") == self._run_id:
            self._own.add(found.checkpoint["id"])


class _Limit(int):
    """A limit of supersteps that began to count under an earlier lease.

    LangGraph adds it to the number of the superstep with which a graph begins; the first to do so is the run's own graph.
    Afterwards, for subgraphs, and wherever it is shown, it is the number that it always was.
    """

    _last: int | None

    def __new__(cls, limit: int, last: int) -> _Limit:
        made = super().__new__(cls, limit)
        made._last = last
        return made

    def __radd__(self, step: int) -> int:
        if self._last is None:
            return step + int(self)
        last, self._last = self._last, None
        return last


class Repeats:
    """Recognises what a graph streams again when it goes on where it was handed on, as clients have had it already.

    Nothing is taken for a repeat after a crash: some of it may never have been sent.
    """

    def __init__(self, progress: Progress, *, handed_on: bool) -> None:
        self._around = progress.spaces
        self._due: dict[str, set[str]] = {}
        if handed_on and (progress.own or progress.commanded or progress.resumed or progress.spaces):
            # a superstep that begins has announced itself before it drained, and what is resumed tells its state first
            self._due = {space: {"values", "checkpoints", "debug"} for space in progress.spaces}
            self._due[""] = {"checkpoints", "debug"}
            if progress.spaces or not progress.own:
                self._due[""].add("values")
        #: In the midst of a superstep: its tasks are announced once more, with the updates of those that have finished.
        self._amid = {around for spaces in progress.spaces.values() for around in spaces}

    def __call__(self, mode: str, namespace: Sequence[str], data: Any) -> bool:
        """Whether a chunk is one."""
        space = "|".join(namespace)
        due = self._due.get(space)
        if due is None:
            return False
        if mode == "updates":
            return space in self._amid and data.get("__metadata__") == _CACHED
        if mode == "tasks" or (mode == "debug" and data["type"] != "checkpoint"):
            return space in self._amid and "result" not in data.get("payload", data)
        if mode in due:
            due.remove(mode)
            return True
        if mode in {"values", "checkpoints", "debug"}:
            self._next_superstep(space)
        return False

    def _next_superstep(self, space: str) -> None:
        """Nothing is repeated any more of a graph that has got there, nor of what was in it: that may begin anew."""
        del self._due[space]
        for inner, around in self._around.items():
            if space in around:
                self._due.pop(inner, None)
