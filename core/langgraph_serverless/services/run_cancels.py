"""Ending runs that somebody does not want any more: cancelled, superseded, deleted with their threads.

All but ``tell`` happens in the caller's transaction, with the thread's row locked. Who may do it has been asked before (``runs.py``).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langgraph_serverless.domain import run_errors
from langgraph_serverless.domain.ports import Bell, EventAppender
from langgraph_serverless.domain.runs import CancelAction, MultitaskStrategy, RunStatus
from langgraph_serverless.errors import ConflictError
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.runs import LiveRun, RunRepository
from langgraph_serverless.services.closing import close_streams
from langgraph_serverless.settings import Settings

BUSY = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."


class RunCancels:
    """What ends runs, for those that hold the thread's lock."""

    def __init__(self, runs: RunRepository, bell: Bell, settings: Settings, events: EventAppender | None) -> None:
        self._runs = runs
        self._bell = bell
        self._settings = settings
        self._events = events

    async def make_way(
        self, connection: Connection, thread_id: uuid.UUID, strategy: MultitaskStrategy, later: uuid.UUID
    ) -> tuple[Sequence[uuid.UUID], Sequence[LiveRun]]:
        """Apply the strategy of a new run to the live runs of its thread, which is locked."""
        if strategy is MultitaskStrategy.REJECT:
            raise ConflictError(BUSY)
        if strategy is MultitaskStrategy.ENQUEUE:
            return (), ()
        action = CancelAction(strategy.value)
        live = await self._runs.live(connection, thread_id)
        reason = f"superseded by run {later} (multitask_strategy={strategy.value})"
        return await self.cancel_locked(connection, live, action, reason=reason)

    async def cancel_locked(
        self, connection: Connection, live: Sequence[LiveRun], action: CancelAction, *, reason: str
    ) -> tuple[Sequence[uuid.UUID], Sequence[LiveRun]]:
        """Runs whose workers have to be told, and runs that have ended by this; the rows of ``live`` are locked."""
        # one that waits for its next worker has written checkpoints already: that worker ends it, or takes them back
        running = [run.run_id for run in live if run.status is RunStatus.RUNNING or run.resuming]
        pending = [run.run_id for run in live if run.status is RunStatus.PENDING and not run.resuming]
        told: Sequence[uuid.UUID] = ()
        ended: Sequence[LiveRun] = ()
        if running:
            told = await self._runs.request_cancel(connection, running, action, reason)
        if pending and action is CancelAction.ROLLBACK:
            ended = await self._runs.delete_pending(connection, pending, error=run_errors.rolled_back(reason))
        elif pending:
            error = run_errors.cancelled(reason)
            ended = await self._runs.interrupt_pending(connection, pending, reason=reason, error=error)
        return told, ended

    async def refresh(self, connection: Connection, thread_id: uuid.UUID) -> bool:
        """Whether the thread has live runs left."""
        retention = self._settings.temporary_retention
        return await self._runs.refresh_thread_status(connection, thread_id, temporary_retention=retention)

    async def tell(self, running: Sequence[uuid.UUID], ended: Sequence[LiveRun], *, more: bool) -> None:
        """What is to happen once that is committed: workers stop, streams end, whoever was waiting begins."""
        if running:
            await self._bell.cancel(running)
        await close_streams(self._events, ended, self._settings.stream_retention)
        if ended and more:
            # the next run of the thread may be free to start, unless one runs that has a worker
            await self._bell.ring(invoke=not running)
        elif ended:
            await self._bell.stir()  # for its webhook
