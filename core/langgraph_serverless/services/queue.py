"""The queue as a whole: taking back what lost workers held, and ending what has lost too many.

Both the worker (every few seconds) and the scheduler (every minute) sweep; sweeps pass each other by row locks.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph_serverless.domain import run_errors
from langgraph_serverless.domain.events import ERROR, Event, end_marker
from langgraph_serverless.domain.ports import EventAppender
from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.domain.runs import CancelAction, CancelRequest, RunOutcome, RunStatus
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.domain.threads import ThreadStatus
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.persistence.queue_rows import ExhaustedRun
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What one sweep did."""

    #: Runs put back into the queue.
    requeued: int
    #: Runs that ended in ``error`` because every attempt lost its worker.
    buried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a run ends that nobody can execute."""

    outcome: RunOutcome
    thread_error: Mapping[str, Any]
    closing: Sequence[Event]


class QueueService:
    """Sweeps; knows nothing of graphs."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        events: EventAppender | None,
        *,
        groups: GroupLimits | None = None,
    ) -> None:
        self._queue = QueueRepository(database, groups)
        self._settings = settings
        self._events = events
        self._owner = f"sweep-{uuid.uuid4().hex[:12]}"

    async def runnable(self) -> int:
        """How many runs wait for nothing but a worker."""
        return await self._queue.runnable()

    async def sweep(self) -> SweepReport:
        """Put the runs of lost workers back into the queue, and end those that have no attempt left."""
        settings = self._settings
        requeued = await self._queue.requeue_expired(max_attempts=settings.max_attempts)
        exhausted = await self._queue.claim_exhausted(
            owner=self._owner, lease=settings.lease_duration, max_attempts=settings.max_attempts
        )
        buried = 0
        for run in exhausted:
            end = await self._end_of(run)
            try:
                cancel = await self._settle(run, end)
                if cancel is not None:  # recorded since the run was taken over
                    end = await self._end_of(replace(run, cancel=cancel))
                    await self._settle(run, end)
            except LeaseLostError:
                continue  # deleted or taken over between the two statements: then it is not ours to end
            buried += 1
            logger.error(
                "run given up after %s attempts",
                run.attempts,
                extra=run.about | {"action": "run_buried"},
            )
            if self._events is not None:
                try:
                    await self._events.append(run.lease, end.closing)
                    await self._events.expire(run.lease.run_id, settings.stream_retention)
                except (UnavailableError, LeaseLostError) as failure:
                    logger.warning("event log: %s", failure, extra=run.about | {"action": "bury"})
        if requeued:
            logger.warning("took back %s runs of lost workers", requeued, extra={"action": "leases_expired"})
        return SweepReport(requeued=requeued, buried=buried)

    async def _settle(self, run: ExhaustedRun, end: _End) -> CancelRequest | None:
        settled = await self._queue.settle(
            run.lease,
            run.thread_id,
            end.outcome,
            thread_error=end.thread_error,
            temporary_retention=self._settings.temporary_retention,
        )
        return settled if isinstance(settled, CancelRequest) else None

    async def _end_of(self, run: ExhaustedRun) -> _End:
        nodes = run.nodes or await self._queue.nodes_in_flight(run.thread_id, run.lease.run_id)
        given_up = run_errors.attempts_exhausted(run.attempts, nodes=nodes)
        last_error, last_node = run.last_error or given_up["message"], ", ".join(nodes) or None
        if run.cancel is None:
            output = {"__error__": given_up}
            return _End(
                outcome=RunOutcome(
                    status=RunStatus.ERROR,
                    output=output,
                    thread_status=ThreadStatus.ERROR.value,
                    error=given_up,
                    last_error=last_error,
                    last_node=last_node,
                ),
                thread_error=given_up,
                closing=[Event(ERROR, dump_json(given_up)), end_marker(status="error", output=output)],
            )
        # the client wanted an end, and nothing else: the state is where the last checkpoint left it
        rollback = run.cancel.action is CancelAction.ROLLBACK
        error = (run_errors.rolled_back if rollback else run_errors.cancelled)(run.cancel.reason)
        waiting = ThreadStatus.INTERRUPTED if nodes else ThreadStatus.IDLE
        return _End(
            outcome=RunOutcome(
                status=RunStatus.INTERRUPTED,
                thread_status=waiting.value,
                error=error,
                last_error=last_error,
                last_node=last_node,
                rollback=rollback,
            ),
            thread_error=error,
            closing=[end_marker(status="rollback" if rollback else RunStatus.INTERRUPTED.value, output=None)],
        )
