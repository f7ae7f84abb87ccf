"""How a worker gives a run back: ended, with everything that hangs on that, or to the queue.

What counts is one statement under the run's lease; it is tried again while the database is away, and refused once the lease
is lost. An outcome that would lose a cancel, recorded since the last heartbeat, is refused too, and made from the cancel instead.
What follows it may be missed without harm: the end of the stream (readers look at the row), the webhook (its
outbox row is sent by whoever sweeps next) and the bell (a tick finds the next run).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from langgraph_serverless.domain import run_errors
from langgraph_serverless.domain.events import ERROR, Event, end_marker
from langgraph_serverless.domain.ports import Bell, EventAppender
from langgraph_serverless.domain.runs import CancelAction, CancelRequest, ClaimedRun, RunOutcome, RunStatus
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.domain.threads import ThreadStatus
from langgraph_serverless.errors import EncryptionError, LeaseLostError, UnavailableError
from langgraph_serverless.execution.runner import Execution, RunSignals
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.persistence.queue_rows import Settled
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.courier import Courier
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: Between attempts to write an outcome while the database is away (seconds).
SETTLE_RETRY = 0.5

_Written = TypeVar("_Written")


class Settler:
    """Writes what has become of a worker's runs."""

    def __init__(
        self,
        *,
        settings: Settings,
        queue: QueueRepository,
        heartbeat: Heartbeat,
        log: EventAppender | None,
        bell: Bell,
        courier: Courier | None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._heartbeat = heartbeat
        self._log = log
        self._bell = bell
        self._courier = courier
        #: Its worker takes no more runs.
        self.leaving = False
        #: Called when a run has left its worker's slot to the next one of its thread.
        self.on_more: Callable[[], None] = lambda: None

    async def settle(self, claimed: ClaimedRun, signals: RunSignals, execution: Execution) -> RunOutcome:
        """End a run; then close its stream, send its webhook, and ring for the thread's next run. How it has ended.

        Raises:
            LeaseLostError: somebody else has the run, nothing was written.
        """
        try:
            settled = await self._settle(claimed, signals, execution.outcome)
        except EncryptionError as error:
            # nothing has been written; a later worker would get no further
            if signals.unsaved is not None:
                with suppress(EncryptionError):  # what cannot be encrypted is dropped
                    await signals.unsaved.flush()
            execution = unencrypted(execution.outcome, error)
            settled = await self._settle(claimed, signals, execution.outcome)
        while isinstance(settled, CancelRequest):
            signals.cancel(settled)
            execution = Execution(outcome=honouring(settled, execution.outcome))
            settled = await self._settle(claimed, signals, execution.outcome)
        await self._close_stream(claimed, execution)
        if settled.outbox_id is not None and self._courier is not None:
            self._courier.send(settled.outbox_id)
        if settled.pushed and self._courier is not None:
            self._courier.send_left()
        if settled.more:
            # this worker has a slot for it now; only if it leaves, somebody else must come
            self.on_more()
            if self.leaving:
                await self._bell.ring()
        return execution.outcome

    async def _settle(self, claimed: ClaimedRun, signals: RunSignals, outcome: RunOutcome) -> Settled | CancelRequest:
        async def write() -> Settled | CancelRequest:
            # each time anew: what was saved before may be gone with the database that had it
            save = await signals.unsaved.take() if signals.unsaved is not None else None
            settled = await self._queue.settle(
                claimed.lease,
                claimed.run.thread_id,
                outcome,
                thread_error=_thread_error(outcome, signals),
                temporary_retention=self._settings.temporary_retention,
                save=save,
            )
            if signals.unsaved is not None and isinstance(settled, Settled):
                signals.unsaved.written()
            return settled

        return await self._until_written(
            claimed,
            signals,
            write,
            lambda: self._queue.already_settled(claimed.lease, claimed.run.thread_id, rollback=outcome.rollback),
        )

    async def hand_off(self, claimed: ClaimedRun, signals: RunSignals) -> None:
        """Give a run back to the queue at a superstep boundary, and ring for it.

        Raises:
            LeaseLostError: somebody else has the run, nothing was written.
        """
        # A graph that was stopped in the midst of a superstep may have had events that nobody has heard of, of the one before
        # even; and the next owner shuts out whatever is sent after its first event.
        if self._log is not None and not signals.released:
            await self._log.seal(claimed.lease)

        async def write() -> None:
            if signals.unsaved is not None:
                await signals.unsaved.flush()
            await self._queue.hand_off(claimed.lease)

        await self._until_written(claimed, signals, write)
        # at once: others that are to drain may take as long as their worker has
        await self._bell.ring()

    async def _close_stream(self, claimed: ClaimedRun, execution: Execution) -> None:
        if self._log is None:
            return
        outcome = execution.outcome
        status = "rollback" if outcome.rollback else outcome.status.value
        closing = [*execution.closing, end_marker(status=status, output=outcome.output)]
        try:
            await self._log.append(claimed.lease, closing)
        except (UnavailableError, LeaseLostError) as error:
            logger.warning("stream left open: %s", error, extra=claimed.about | {"action": "close_stream"})

    async def _until_written(
        self,
        claimed: ClaimedRun,
        signals: RunSignals,
        write: Callable[[], Awaitable[_Written]],
        recall: Callable[[], Awaitable[_Written | None]] | None = None,
    ) -> _Written:
        """Try again while the database is away; ends by success or because the lease is lost.

        ``recall`` looks for what was written although its answer never came: then the lease is gone, but not lost.
        """
        unsure = False

        async def once() -> _Written:
            try:
                return await write()
            except LeaseLostError:
                before = await recall() if unsure and recall is not None else None
                if before is None:
                    raise
                return before

        while True:
            try:
                written = await asyncio.shield(asyncio.ensure_future(once()))
            except UnavailableError as error:
                unsure = True
                logger.warning("cannot settle yet: %s", error, extra=claimed.about | {"action": "settle_retry"})
                if signals.lost:
                    raise LeaseLostError(f"run {claimed.run.run_id} was lost while the database was away") from error
                await asyncio.sleep(SETTLE_RETRY)
            else:
                if isinstance(written, CancelRequest):
                    return written  # nothing was, so the lease must be kept
                # at once: the row has no lease any more, and a heartbeat that looks for it would call it lost
                self._heartbeat.release(claimed.lease)
                return written


def honouring(request: CancelRequest, outcome: RunOutcome) -> RunOutcome:
    """The outcome of a run that had got this far when its cancel was recorded."""
    return replace(
        outcome,
        status=RunStatus.INTERRUPTED,
        output=outcome.values,
        error=run_errors.cancelled(request.reason),
        rollback=request.action is CancelAction.ROLLBACK,
    )


def unencrypted(outcome: RunOutcome, failure: EncryptionError) -> Execution:
    """In place of an outcome that cannot be encrypted: says so, and has nothing of it. The checkpoints that there are stay."""
    error = run_errors.describe(failure, mask=False)
    ended = replace(
        outcome,
        status=RunStatus.ERROR,
        output={"__error__": error},
        thread_status=ThreadStatus.ERROR.value,
        values=None,
        write_values=False,
        interrupts=None,
        error=error,
        last_error=None,
    )
    return Execution(outcome=ended, closing=(Event(ERROR, dump_json(error)),))


def _thread_error(outcome: RunOutcome, signals: RunSignals) -> Mapping[str, Any] | None:
    return run_errors.rolled_back(signals.cancel_reason) if outcome.rollback else outcome.error
