"""Where a reader of a thread begins: in which of its runs, after which event, and with what of the index.

A reader that comes back names the last event that it has. The run whose log has exactly this event is the one to go on with;
those that were announced before it have been delivered, those after it have not, whatever their ids. An id that no log has (its
log is gone, or the event was given its id on delivery) is a time: what is later is delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from langgraph_serverless.domain.cursors import FROM_THE_START
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.domain.thread_events import ThreadRun
from langgraph_serverless.persistence.thread_runs import RecentRuns
from langgraph_serverless.streaming.thread_index import IndexView, LogEnds

#: A run that has been going on for so long and is not in the index has been lost from it.
ANNOUNCED_BY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Begin:
    """A run to be followed, after this event of its log."""

    run: ThreadRun
    after: str


def place(event_id: str) -> tuple[int, int]:
    """An id as it is ordered."""
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def plan(view: IndexView, recent: RecentRuns, after: str | None) -> Sequence[Begin | Event]:
    """What to deliver first, in the order of the index; what it says later follows.

    Args:
        view: looked up to ``after``.
        recent: looked at after that.
    """
    if view.made is not None and view.made != recent.made:
        view = replace(view, next_base=None, runs=(), updates=())  # of a thread that had this id before, or is gone
    runs, updates = view.runs, view.updates
    if after is None:
        begins = [(ends, ends.last.id) for ends in runs if ends.last is not None and not ends.last.is_end]
    elif after == FROM_THE_START:
        begins = [
            (ends, FROM_THE_START if ends.run.resumable else ends.last.id)
            for ends in runs
            if ends.last is not None and (ends.run.resumable or not ends.last.is_end)
        ]
    else:
        begins = _resumed(runs, after)
    items: list[tuple[tuple[int, int], Begin | Event]] = [
        (place(ends.entry_id), Begin(ends.run, start)) for ends, start in begins
    ]
    if after is not None and after != FROM_THE_START:
        items += [(place(update.id), update) for update in updates if place(update.id) > place(after)]
    announced = {ends.run.run_id for ends in runs}
    lost = [
        Begin(run.origin.run(run.run_id).begins_by(view.next_base), FROM_THE_START)
        for run in recent.runs
        if run.status is RunStatus.RUNNING
        and run.run_id not in announced
        and run.started_at is not None
        and recent.now - run.started_at > ANNOUNCED_BY
    ]
    return [*(item for _, item in sorted(items, key=lambda each: each[0])), *lost]


def _resumed(runs: Sequence[LogEnds], after: str) -> list[tuple[LogEnds, str]]:
    exact = next((at for at, ends in enumerate(runs) if ends.before is not None and ends.before.id == after), None)
    if exact is None:
        exact, skip = _given(runs, after)
    else:
        skip = 0
    begins: list[tuple[LogEnds, str]] = []
    for at, ends in enumerate(runs):
        if ends.last is None:
            continue
        if exact is None:
            start = ends.before.id if ends.before is not None else FROM_THE_START
        elif at < exact:
            continue
        elif at == exact:
            start = ends.before.id if ends.before is not None else FROM_THE_START
        elif skip and ends.run.over:
            skip -= 1
            continue
        else:
            start = FROM_THE_START
        if not (ends.last.is_end and ends.last.id == start):
            begins.append((ends, start))
    return begins


def _given(runs: Sequence[LogEnds], after: str) -> tuple[int | None, int]:
    """The run behind whose end this id was given on delivery, and to which of those behind it that never began."""
    milliseconds, sequence = place(after)
    for at in range(len(runs) - 1, -1, -1):
        before = runs[at].before
        if before is not None and before.is_end and place(before.id)[0] == milliseconds:
            return at, sequence - place(before.id)[1]
    return None, 0
