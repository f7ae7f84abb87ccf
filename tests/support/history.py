"""A history of what clients asked and were told, and what cannot be true of it (R25, after Jepsen).

A ``History`` notes each operation twice: when it is sent, and when its answer comes, as ``ok`` (it was carried out), ``fail`` (it
was not) or ``info`` (nobody knows: the connection broke, or the server said 503 to a write). Between the two lies the moment at
which it took effect, so only operations that do not overlap have an order. ``check`` names everything that no order of those
moments explains; an empty list is a history as it should be.

The checker knows nothing of the server. A run has a name of its own and writes the lines ``<name>1`` to ``<name><steps>`` into
its thread's log; a write of state appends one line. ``final`` operations are reads of whole threads after all faults are over.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FINAL = frozenset({"success", "error", "timeout", "interrupted"})
RANKS = {"pending": 0, "running": 1} | dict.fromkeys(FINAL, 2)
#: What a read says of something that it does not find.
GONE = "gone"
NEVER = 2**62


@dataclass(slots=True)
class Operation:
    """One request of one client.

    By name, what is in ``args`` and ``result``: ``create`` (name, steps, key; run), ``get`` (run; status), ``list`` (thread; status
    by run), ``search`` (thread; whether it was found), ``cancel`` and ``delete`` (run), ``join`` and ``wait`` (run; log), ``write``
    (thread, line), ``read`` (thread; log), ``final`` (thread; ``runs`` with name and status by run, ``log``).
    """

    client: str
    name: str
    args: Mapping[str, Any]
    invoked: int
    returned: int = NEVER
    outcome: str = "info"
    result: Any = None

    def __str__(self) -> str:
        return f"{self.client}: {self.name} {dict(self.args)} -> {self.outcome} {self.result!r} [{self.invoked}, {self.returned}]"


@dataclass(slots=True)
class History:
    """Operations in the order in which they were sent; moments are counted, not timed."""

    operations: list[Operation] = field(default_factory=list)
    _moments: int = 0

    def invoke(self, client: str, name: str, /, **args: Any) -> Operation:
        self.operations.append(Operation(client, name, args, self._moment()))
        return self.operations[-1]

    def end(self, operation: Operation, outcome: str, result: Any = None) -> None:
        operation.outcome, operation.result = outcome, result
        # of what nobody knows, the effect may still be to come
        operation.returned = NEVER if outcome == "info" else self._moment()

    def _moment(self) -> int:
        self._moments += 1
        return self._moments

    def save(self, path: Path) -> None:
        path.write_text("".join(json.dumps(asdict(operation)) + "\n" for operation in self.operations))


@dataclass(slots=True)
class _Run:
    """What is known of one acknowledged run."""

    run: str
    name: str
    thread: str
    steps: int
    #: From when on it is certain to be there.
    made: int
    invoked: int
    #: Since when it may be gone, and since when it must be.
    may_be_gone: int = NEVER
    gone: int = NEVER
    cancelled: bool = False

    @property
    def lines(self) -> list[str]:
        return [f"{self.name}{number}" for number in range(1, self.steps + 1)]


def check(operations: Iterable[Operation]) -> list[str]:
    """All that is wrong with a history, one sentence each."""
    history = sorted(operations, key=lambda operation: operation.invoked)
    runs = _runs(history)
    return [
        *_visible(history, runs),
        *_statuses(history),
        *_one_running(history),
        *_threads_found(history),
        *_ends(history, runs),
        *_logs(history, runs),
        *_joins(history, runs),
        *_writes(history),
    ]


def _runs(history: list[Operation]) -> dict[str, _Run]:
    runs: dict[str, _Run] = {}
    for each in history:
        if each.name == "create" and each.outcome == "ok":
            args = each.args
            # of a repeated Idempotency-Key, the first answer counts
            known = runs.setdefault(
                each.result, _Run(each.result, args["name"], args["thread"], args["steps"], each.returned, each.invoked)
            )
            known.made = min(known.made, each.returned)
            known.invoked = min(known.invoked, each.invoked)
    for each in history:
        run = runs.get(each.args.get("run", ""))
        if run is None or each.outcome == "fail":
            continue
        if each.name == "delete" or (each.name == "cancel" and each.args.get("rollback")):
            run.may_be_gone = min(run.may_be_gone, each.invoked)
        if each.name == "delete" and each.outcome == "ok":
            run.gone = min(run.gone, each.returned)
        if each.name == "cancel" and each.outcome == "ok":
            run.cancelled = True
    return runs


def _reads(history: list[Operation], runs: Mapping[str, _Run]) -> Iterator[tuple[Operation, _Run, str]]:
    """Each thing that a client was told about an acknowledged run."""
    for each in history:
        if each.outcome != "ok":
            continue
        if each.name == "get" and each.args["run"] in runs:
            yield each, runs[each.args["run"]], each.result
        elif each.name in {"list", "final"}:
            found = each.result if each.name == "list" else each.result["runs"]
            for run in runs.values():
                if run.thread == each.args["thread"]:
                    status = found.get(run.run, GONE)
                    yield each, run, status if isinstance(status, str) else status["status"]


def _visible(history: list[Operation], runs: Mapping[str, _Run]) -> Iterator[str]:
    for read, run, status in _reads(history, runs):
        if status == GONE and run.made < read.invoked and read.returned < run.may_be_gone:
            yield f"run {run.run} was acknowledged at {run.made} and is missing: {read}"
        if status != GONE and run.gone < read.invoked:
            yield f"run {run.run} was deleted at {run.gone} and is still there: {read}"


def _statuses(history: list[Operation]) -> Iterator[str]:
    """Pending, running, final, and never back; a final status never changes."""
    told: dict[str, list[tuple[Operation, str]]] = defaultdict(list)
    for each in history:
        if each.outcome != "ok":
            continue
        if each.name == "get":
            told[each.args["run"]].append((each, each.result))
        elif each.name == "list":
            for run, status in each.result.items():
                told[run].append((each, status))
        elif each.name == "final":
            for run, found in each.result["runs"].items():
                told[run].append((each, found["status"]))
    for run, reads in told.items():
        finals = {status for _, status in reads if status in FINAL}
        if len(finals) > 1:
            yield f"run {run} ended in several ways: {sorted(finals)}"
        furthest: list[tuple[int, int, str]] = []  # of reads that have returned: when, rank, status
        for read, status in reads:
            if status == GONE:
                continue
            if status not in RANKS:
                yield f"run {run} has an unknown status: {read}"
                continue
            before = max((rank for returned, rank, _ in furthest if returned < read.invoked), default=0)
            if RANKS[status] < before:
                yield f"run {run} went back: {read}"
            furthest.append((read.returned, RANKS[status], status))


def _one_running(history: list[Operation]) -> Iterator[str]:
    for each in history:
        if each.name == "list" and each.outcome == "ok" and list(each.result.values()).count("running") > 1:
            yield f"two runs of one thread are running: {each}"


def _threads_found(history: list[Operation]) -> Iterator[str]:
    made = {each.args["thread"]: each.returned for each in history if (each.name, each.outcome) == ("make", "ok")}
    for each in history:
        missed = each.name == "search" and each.outcome == "ok" and not each.result
        if missed and made.get(each.args["thread"], NEVER) < each.invoked:
            yield f"a thread that was acknowledged is not found: {each}"


def _finals(history: list[Operation]) -> list[Operation]:
    return [each for each in history if each.name == "final" and each.outcome == "ok"]


def _ends(history: list[Operation], runs: Mapping[str, _Run]) -> Iterator[str]:
    """Every acknowledged run has ended; one per key and none that was refused; a cancel that was acknowledged decides."""
    keys: dict[str, set[str]] = defaultdict(set)
    for each in history:
        if each.name == "create" and each.outcome == "ok" and each.args.get("key"):
            keys[each.args["key"]].add(each.result)
    for key, made in keys.items():
        if len(made) > 1:
            yield f"the key {key} made several runs: {sorted(made)}"
    refused = {each.args["name"] for each in history if each.name == "create" and each.outcome == "fail"}
    refused -= {each.args["name"] for each in history if each.name == "create" and each.outcome != "fail"}
    for final in _finals(history):
        found = final.result["runs"]
        for name, times in Counter(run["name"] for run in found.values()).items():
            if times > 1:
                yield f"{times} runs are named {name}: {final.args['thread']}"
            if name in refused:
                yield f"a run that was refused is there: {name}"
        for run_id, told in found.items():
            if told["status"] not in FINAL:
                yield f"run {run_id} has not ended: {told}"
            known = runs.get(run_id)
            if known is not None and known.cancelled and told["status"] != "interrupted":
                yield f"run {run_id} was cancelled and ended in {told['status']}"
            if told["status"] in {"error", "timeout"}:
                yield f"run {run_id} failed: {told}"


def _logs(history: list[Operation], runs: Mapping[str, _Run]) -> Iterator[str]:
    """What the threads came to: each run's lines, all of them after a success, once, and in the order of creation."""
    sent = {each.args["name"]: each.args["steps"] for each in history if each.name == "create"}
    written = {each.args["line"] for each in history if each.name == "write" and each.outcome != "fail"}
    known = written | {f"{name}{number}" for name, steps in sent.items() for number in range(1, steps + 1)}
    for final in _finals(history):
        thread, log = final.args["thread"], final.result["log"]
        place = {line: number for number, line in enumerate(log)}
        if len(place) < len(log):
            yield f"lines came twice: {[line for line, times in Counter(log).items() if times > 1]} in {thread}"
        if not set(log) <= known:
            yield f"nobody wrote {sorted(set(log) - known)} in {thread}"
        ordered = sorted((run for run in runs.values() if run.thread == thread), key=lambda run: run.invoked)
        spans: list[tuple[_Run, int, int]] = []
        for run in ordered:
            there = [place[line] for line in run.lines if line in place]
            status = final.result["runs"].get(run.run, {}).get("status", GONE)
            if [log[number] for number in there] != run.lines[: len(there)] or there != sorted(there):
                yield f"the output of run {run.run} is wrong: {[log[number] for number in there]}"
            if status == "success" and len(there) != run.steps:
                yield f"run {run.run} succeeded with {len(there)} of {run.steps} steps"
            if there:
                for earlier, _, last in spans:
                    if earlier.made < run.invoked and last > there[0]:
                        yield f"run {run.run} began before run {earlier.run}, which was queued before it"
                spans.append((run, there[0], there[-1]))


def _joins(history: list[Operation], runs: Mapping[str, _Run]) -> Iterator[str]:
    """Who waited for a run that succeeded got all that it wrote."""
    ended = {run: told["status"] for final in _finals(history) for run, told in final.result["runs"].items()}
    for each in history:
        if each.name == "join" and each.outcome == "ok" and ended.get(each.args["run"]) == "success":
            run = runs.get(each.args["run"])
            if run is not None and not set(run.lines) <= set(each.result or ()):
                yield f"a client that waited for run {run.run} got {each.result}"


def _writes(history: list[Operation]) -> Iterator[str]:
    """A state that was written is in every later read, once; reads only ever grow at the end."""
    by_thread: dict[str, list[Operation]] = defaultdict(list)
    for each in history:
        if each.name in {"write", "read"}:
            by_thread[each.args["thread"]].append(each)
    for operations in by_thread.values():
        writes = [each for each in operations if each.name == "write"]
        reads = [each for each in operations if each.name == "read" and each.outcome == "ok"]
        for read in reads:
            if len(set(read.result)) < len(read.result):
                yield f"a write came twice: {read}"
            for write in writes:
                line = write.args["line"]
                if write.outcome == "ok" and write.returned < read.invoked and line not in read.result:
                    yield f"a write that was acknowledged is not there: {write}, {read}"
                if line in read.result and (write.outcome == "fail" or read.returned < write.invoked):
                    yield f"a write that was not made is there: {write}, {read}"
        longest: list[Operation] = []
        for read in reads:
            for earlier in longest:
                if earlier.returned < read.invoked and read.result[: len(earlier.result)] != earlier.result:
                    yield f"a read is not a continuation of an earlier one: {earlier}, {read}"
            longest = [*longest[-20:], read]
