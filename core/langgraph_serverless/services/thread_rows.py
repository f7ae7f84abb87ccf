"""A thread as its rows show it, for readers whom Redis does not tell: there is none, it is away, or it has lost what it had.

Each look makes events of what has changed since the one before: a run has begun (or begun again), a run has ended. What it
emitted meanwhile is not in the rows, so a gap marker stands for it, and readers give the state instead. A run that was
deleted or rolled back ends too.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Sequence
from datetime import datetime, timedelta

from langgraph_serverless.domain.events import ERROR, GAP, METADATA, Event, end_marker
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.domain.thread_events import ThreadEvent, ThreadRun
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.runs import RunResult
from langgraph_serverless.persistence.thread_runs import RecentRun, RecentRuns, last_run, recent_runs
from langgraph_serverless.services.following import RUN_NOT_FOUND, Instead
from langgraph_serverless.services.runs import RunService

#: How long after its end a run may still be announced by the log (seconds); only then the row stands in for it.
PATIENCE = 3.0
#: For how long after its end a run is looked for (seconds); its row may become visible later than it says.
LATEST_COMMIT = 60.0


class ThreadRows:
    """The rows of one thread, looked at again and again by one reader."""

    def __init__(self, database: Database, runs: RunService, thread_id: uuid.UUID) -> None:
        self._database = database
        self._runs = runs
        self._thread_id = thread_id
        self._since: datetime | None = None
        #: Runs whose beginning has been told, with the attempt.
        self._begun: dict[uuid.UUID, tuple[ThreadRun, int]] = {}
        #: Those whose end has been told, here or by the log, and when it was.
        self._ended: dict[uuid.UUID, datetime] = {}

    async def first_look(self) -> RecentRuns:
        """What there is now; only later changes are told.

        Raises:
            UnavailableError: the database is out of reach.
        """
        found = await self._look()
        self._since = found.now
        self._begun = {
            run.run_id: (run.origin.run(run.run_id), run.attempt) for run in found.runs if run.started_at is not None
        }
        return found

    async def changes(self, *, but: Container[uuid.UUID] = (), ended_only: bool = False) -> Sequence[ThreadEvent]:
        """What has happened since, in the order of the runs' starts.

        Args:
            but: runs that the reader knows otherwise.
            ended_only: the log may still tell of those that go on, and of those that have just ended.

        Raises:
            UnavailableError: the database is out of reach.
        """
        if self._since is None:
            await self.first_look()
            return ()
        found = await self._look()
        there = {run.run_id for run in found.runs}
        events: list[ThreadEvent] = []
        try:
            for run_id, (run, _) in list(self._begun.items()):
                if run_id not in there and run_id not in but:
                    events += await self._vanished(run, found.now)
            for recent in found.runs:
                if recent.run_id in but:
                    if recent.finished_at is not None:
                        self._over(recent.run_id, recent.finished_at)
                elif not ended_only or _is_past(recent, found.now):
                    events += await self._told(recent)
        except UnavailableError:
            if not events:
                raise
            return events  # what is told counts as told; the rest is found by the next look
        self._since = max(self._since, found.now - timedelta(seconds=LATEST_COMMIT))
        self._ended = {run_id: at for run_id, at in self._ended.items() if at > self._since}
        return events

    async def last_end(self) -> Sequence[ThreadEvent] | None:
        """A gap and an end marker with what the thread has come to; nothing while a run goes on, None if there is no run.

        Raises:
            UnavailableError: the database is out of reach.
        """
        async with self._database.connection() as connection:
            last = await last_run(connection, self._thread_id)
        if last is None:
            return None
        if not last.status.is_final or (result := await self._runs.result(last.run_id)) is None:
            return ()
        run = last.origin.run(last.run_id)
        output = result.output if result.error is not None or result.hidden else result.thread_output
        end = end_marker(status=last.status.value, output=dump_json(output))
        return [ThreadEvent(run, event) for event in (Event(GAP, b""), end)]

    async def _look(self) -> RecentRuns:
        async with self._database.connection() as connection:
            return await recent_runs(connection, self._thread_id, self._since, but=list(self._ended))

    def _over(self, run_id: uuid.UUID, at: datetime) -> None:
        self._ended[run_id] = at
        self._begun.pop(run_id, None)

    async def _vanished(self, run: ThreadRun, now: datetime) -> Sequence[ThreadEvent]:
        """A run that went on at the last look and is not among those that do, or have ended since."""
        result = await self._runs.result(run.run_id)
        if result is not None and not result.status.is_final:
            return ()
        self._over(run.run_id, now)
        return [ThreadEvent(run, event) for event in _end(result)]

    async def _told(self, recent: RecentRun) -> Sequence[ThreadEvent]:
        run = recent.origin.run(recent.run_id)
        # asked first: what is not told counts as not told
        end = _end(await self._runs.result(recent.run_id)) if recent.finished_at is not None else ()
        events: list[Event] = []
        _, before = self._begun.get(recent.run_id, (run, 0))
        if recent.started_at is not None and before != recent.attempt and recent.attempt > 0:
            self._begun[recent.run_id] = (run, recent.attempt)
            events.append(Event(METADATA, dump_json({"run_id": str(recent.run_id), "attempt": recent.attempt})))
        if recent.finished_at is not None:
            self._over(recent.run_id, recent.finished_at)
        return [ThreadEvent(run, event) for event in (*events, *end)]


def _end(result: RunResult | None) -> Sequence[Event]:
    """How a run ended, and what stands for its events; None: it was deleted or rolled back."""
    if result is None:
        return [end_marker(status="interrupted", output={"__error__": RUN_NOT_FOUND})]
    left = Instead(GAP, b"") if result.error is None else Event(ERROR, dump_json(result.error))
    return [left, end_marker(status=result.status.value, output=dump_json(result.output))]


def _is_past(recent: RecentRun, now: datetime) -> bool:
    return recent.finished_at is not None and now - recent.finished_at > timedelta(seconds=PATIENCE)
