"""The queue consumer: claims runs, executes up to ``n_jobs_per_worker`` of them at once, settles or hands them on.

::

    ┌▶ claim as many as there are free slots ──▶ a task each: execute ──▶ settle ─┐
    └── wait: bell, a finished task, the next due run, the poll interval ◀────────┘

The same loop serves a laptop and a function; a function adds a deadline and an idle limit. When it is to stop, nothing more
is claimed and the graphs are asked to drain at their next superstep boundary; their runs go back to the queue without an
attempt being counted. What has not drained in time is released on a laptop (its superstep starts again elsewhere), and left
to the expiry of its lease in a function, so that a node that can never finish in time ends after its attempts.

It never executes a run whose lease it has lost, and never writes for one: the fence refuses it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from langgraph_serverless.domain.ports import Bell, EventAppender
from langgraph_serverless.domain.runs import CancelRequest, ClaimedRun, RunOutcome, RunStatus
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.execution.runner import GraphRunner, HandedOff, RunSignals
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.courier import Courier
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.settling import SETTLE_RETRY, Settler
from langgraph_serverless.services.trials import Trials
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: How long a published free slot counts without being published again (seconds).
SLOT_TTL = 15.0
#: Before its deadline a function stops waiting for graphs that do not drain (seconds).
LAST_MOMENT = 2.0
#: A worker that leaves because nothing is left to do lets the webhooks that it is sending end (seconds).
LAST_WEBHOOKS = 12.0


class Ears(Protocol):
    """What a worker hears: rings, and cancels that have been recorded."""

    async def wait(self, timeout: float) -> bool: ...  # noqa: ASYNC109

    def cancels(self) -> AsyncIterator[list[uuid.UUID]]: ...

    async def aclose(self) -> None: ...


class Slots(Protocol):
    """Where a worker function says that it can take runs."""

    async def publish(self, worker_id: str, free: int, ttl: float) -> None: ...

    async def withdraw(self, worker_id: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class WorkReport:
    """What one stay of a worker did."""

    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    handed_off: int = 0
    lost: int = 0
    #: ``stopped``, ``deadline`` or ``idle``.
    reason: str = ""
    #: Runs were still waiting when it left.
    work_left: bool = False

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.interrupted + self.handed_off + self.lost


@dataclass(slots=True)
class _Job:
    claimed: ClaimedRun
    signals: RunSignals = field(default_factory=RunSignals)
    began: float = field(default_factory=time.monotonic)


class Worker:
    """One queue consumer; runs once, on one event loop."""

    def __init__(
        self,
        *,
        settings: Settings,
        queue: QueueRepository,
        sweeper: QueueService,
        runner: GraphRunner,
        heartbeat: Heartbeat,
        log: EventAppender | None,
        bell: Bell,
        ears: Ears | None,
        slots: Slots | None = None,
        courier: Courier | None = None,
    ) -> None:
        self.worker_id = f"worker-{uuid.uuid4().hex[:12]}"
        self._settings = settings
        self._queue = queue
        self._sweeper = sweeper
        self._runner = runner
        self._heartbeat = heartbeat
        self._bell = bell
        self._ears = ears
        self._slots = slots
        self._courier = courier
        self._jobs: dict[asyncio.Task[None], _Job] = {}
        self._stop = asyncio.Event()
        self._report = WorkReport()
        self._ring: asyncio.Task[bool] | None = None
        self._next_look = 0.0
        self._trials = Trials(settings)
        self._settler = Settler(
            settings=settings, queue=queue, heartbeat=heartbeat, log=log, bell=bell, courier=courier
        )

    def stop(self) -> None:
        """Claim nothing more, hand on what runs, and return. Call it on the worker's event loop."""
        self._stop.set()

    @property
    def active(self) -> int:
        """Runs that are being executed."""
        return len(self._jobs)

    async def work(
        self,
        *,
        remaining: Callable[[], float] | None = None,
        idle_grace: float | None = None,
    ) -> WorkReport:
        """Consume the queue until ``stop()``, the deadline or idleness.

        Args:
            remaining: seconds until the process is killed; None for ever.
            idle_grace: leave after this many seconds without a run; None never.
        """
        self._heartbeat.start()
        listener = asyncio.create_task(self._listen_for_cancels()) if self._ears is not None else None
        sweeper = asyncio.create_task(self._sweep())
        try:
            self._report.reason = await self._consume(remaining, idle_grace)
            await _ended(sweeper)  # or it would begin with webhooks that nobody waits for
            await self._leave(remaining)
        finally:
            for task in (listener, sweeper, self._ring):
                if task is not None:
                    await _ended(task)
            if self._ears is not None:
                await self._ears.aclose()
            await asyncio.to_thread(self._heartbeat.stop)
        return self._report

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _consume(self, remaining: Callable[[], float] | None, idle_grace: float | None) -> str:
        margin = self._settings.worker_deadline_margin
        idle_since = time.monotonic()
        while not self._stop.is_set():
            left = remaining() if remaining is not None else None
            if left is not None and left < margin:
                return "deadline"
            claimed = await self._claim()
            if self._jobs:
                idle_since = time.monotonic()
            elif idle_grace is not None and time.monotonic() - idle_since >= idle_grace:
                # first nobody may count on this worker, then a last look: a run in between is not missed
                await self._withdraw()
                if not await self._claim():
                    return "idle"
                continue
            await self._publish_slots()
            if claimed and self._free():
                continue  # there may be more
            limits = [self._settings.poll_interval]
            if left is not None:
                limits.append(max(0.0, left - margin))
            if idle_grace is not None and not self._jobs:
                limits.append(max(0.0, idle_since + idle_grace - time.monotonic()))
            await self._wait(min(limits))
        return "stopped"

    def _free(self) -> int:
        return self._settings.n_jobs_per_worker - len(self._jobs)

    async def _claim(self) -> int:
        """Take what is free to run; how many runs that was."""
        free = self._free()
        if free <= 0:
            return 0
        taken = await self._take(free)
        if taken < free and self._trials.may_begin((job.claimed.attempt, job.began) for job in self._jobs.values()):
            tried = await self._take(1, on_trial=True)
            self._trials.looked(found=tried > 0)
            taken += tried
        return taken

    async def _take(self, limit: int, *, on_trial: bool = False) -> int:
        asked = time.monotonic()
        try:
            claims = await self._queue.claim(
                owner=self.worker_id,
                limit=limit,
                lease=self._settings.lease_duration,
                last_attempt=self._trials.last_attempt,
                on_trial=on_trial,
            )
        except UnavailableError as error:
            logger.warning("cannot claim: %s", error, extra={"action": "claim_failed"})
            return 0
        except Exception:
            # the worker must outlive faults that nobody foresaw; it tries again after the poll interval
            logger.exception("cannot claim", extra={"action": "claim_failed"})
            return 0
        for claimed in claims:
            logger.info(
                "run claimed",
                extra=claimed.about | {"action": "run_claimed", "worker": self.worker_id, "handoffs": claimed.handoffs},
            )
            job = _Job(claimed)
            self._hold(job, asked)
            task = asyncio.create_task(self._carry_out(job), name=f"run-{claimed.run.run_id}")
            self._jobs[task] = job
            task.add_done_callback(self._jobs.pop)
        return len(claims)

    async def _wait(self, seconds: float) -> None:
        """Until something may have changed: a ring, a free slot, a delayed run that is due, the time."""
        if self._free() > 0:
            try:
                due = await self._queue.next_due()
            except UnavailableError:
                due = None  # the claim says so already
            except Exception:
                logger.exception("cannot look for delayed runs", extra={"action": "next_due_failed"})  # as for claims
                due = None
            if due is not None:
                seconds = min(seconds, max(0.01, due))
            if self._ears is not None and (self._ring is None or self._ring.done()):
                self._ring = asyncio.create_task(self._ears.wait(self._settings.poll_interval))
        elif self._ring is not None:
            # a ring is for somebody who can take a run
            await _ended(self._ring)
            self._ring = None
        stop = asyncio.create_task(self._stop.wait())
        waiting: set[asyncio.Task[Any]] = {stop, *self._jobs}
        if self._ring is not None:
            waiting.add(self._ring)
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()

    async def _publish_slots(self) -> None:
        if self._slots is None:
            return
        await self._slots.publish(self.worker_id, self._free(), SLOT_TTL)
        if self._free() <= 0 and time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + SLOT_TTL
            # at most another worker's worth, as every full worker looks
            await self._bell.ring(min(await self._runnable(), self._settings.n_jobs_per_worker), again=True)

    async def _withdraw(self) -> None:
        if self._slots is not None:
            await self._slots.withdraw(self.worker_id)

    async def _runnable(self) -> int:
        try:
            return await self._queue.runnable()
        except UnavailableError:
            return 0  # whoever comes next looks for itself

    async def _sweep(self) -> None:
        """Take back what lost workers hold, every few seconds, beside the loop."""
        while True:
            try:
                report = await self._sweeper.sweep()
                if report.requeued:
                    await self._bell.ring(report.requeued)
                if self._courier is not None:
                    self._courier.send_left()
            except UnavailableError as error:
                logger.warning("cannot sweep: %s", error, extra={"action": "sweep_failed"})
            except Exception:
                logger.exception("cannot sweep", extra={"action": "sweep_failed"})  # as for claims
            await asyncio.sleep(self._settings.sweep_interval)

    async def _listen_for_cancels(self) -> None:
        assert self._ears is not None
        async for run_ids in self._ears.cancels():
            if any(job.claimed.run.run_id in run_ids for job in self._jobs.values()):
                # what counts is the column; the message only saves the wait for the next heartbeat
                self._heartbeat.nudge()

    # -- leaving -------------------------------------------------------------------------------------------------

    async def _leave(self, remaining: Callable[[], float] | None) -> None:
        await self._withdraw()
        for job in self._jobs.values():
            job.signals.drain()
        if self._jobs:
            seconds = self._settings.shutdown_grace
            if remaining is not None and self._report.reason == "deadline":
                seconds = max(0.0, remaining() - LAST_MOMENT)
            logger.info("handing on %s runs", len(self._jobs), extra={"action": "drain", "worker": self.worker_id})
            await asyncio.wait(self._jobs, timeout=seconds)
        if self._jobs:
            abandon = self._report.reason == "deadline"
            for job in self._jobs.values():
                # a function's run that did not reach its boundary keeps its attempt: its lease runs out
                job.signals.lose() if abandon else job.signals.release()
            await asyncio.wait(self._jobs, timeout=max(LAST_MOMENT, SETTLE_RETRY))
        if self._courier is not None:
            seconds = LAST_WEBHOOKS if self._report.reason == "idle" else LAST_MOMENT
            if remaining is not None:  # what is left is for the bell and for closing
                seconds = max(0.0, min(seconds, remaining() - LAST_MOMENT / 2))
            await self._courier.leave(seconds)
        if self._report.reason != "idle":
            runnable = await self._runnable()
            self._report.work_left = runnable > 0
            if runnable:
                await self._bell.ring(runnable)

    # -- one run -------------------------------------------------------------------------------------------------

    def _hold(self, job: _Job, asked: float) -> None:
        loop = asyncio.get_running_loop()

        def on_lost() -> None:
            loop.call_soon_threadsafe(job.signals.lose)

        def on_cancel(request: CancelRequest) -> None:
            loop.call_soon_threadsafe(job.signals.cancel, request)

        claimed = job.claimed
        if not self._heartbeat.hold(
            claimed.lease, since=asked, on_lost=on_lost, on_cancel=on_cancel, about=claimed.about
        ):
            # a node kept the event loop from seeing the answer: the run goes back before it begins, if it is still ours
            job.signals.release()

    async def _carry_out(self, job: _Job) -> None:
        claimed = job.claimed
        began = time.monotonic()
        how = "crashed"
        try:
            try:
                execution = await self._runner.execute(claimed, job.signals)
            except HandedOff:
                await self._settler.hand_off(claimed, job.signals)
                self._report.handed_off += 1
                how = "handed_off"
            else:
                how = self._count(await self._settler.settle(claimed, job.signals, execution))
        except LeaseLostError:
            self._report.lost += 1
            how = "lost"
        except UnavailableError as error:
            # the lease runs out and another worker, or this one, goes on from the last checkpoint
            logger.warning("run interrupted: %s", error, extra=claimed.about | {"action": "run_interrupted"})
            self._report.lost += 1
        except Exception:
            # a fault of ours, not of the graph: the same
            logger.exception("run could not be executed", extra=claimed.about | {"action": "run_crashed"})
            self._report.lost += 1
        finally:
            self._heartbeat.release(claimed.lease)
            seconds = round(time.monotonic() - began, 4)
            logger.info("run %s", how, extra=claimed.about | {"action": f"run_{how}", "seconds": seconds})

    def _count(self, outcome: RunOutcome) -> str:
        """What to call this end."""
        if outcome.status is RunStatus.SUCCESS:
            self._report.succeeded += 1
        elif outcome.status is RunStatus.INTERRUPTED:
            self._report.interrupted += 1
        else:
            self._report.failed += 1
        return "rolled_back" if outcome.rollback else outcome.status.value


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has cleaned up after itself."""
    task.cancel()
    await asyncio.wait([task])
