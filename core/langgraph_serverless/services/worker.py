"""The queue consumer: claims runs, executes up to ``n_jobs_per_worker`` of them at once, settles or hands them on.

::

    ┌▶ if there may be any: claim as many as there are free slots ──▶ a task each: execute ──▶ settle ─┐
    └── wait: bell, a finished task, the next due run, the poll interval ◀─────────────────────────────┘

The same loop serves a laptop and a function; a function adds a deadline and an idle limit. When it is to stop, nothing more
is claimed and the graphs are asked to drain at their next superstep boundary; their runs go back to the queue without an
attempt being counted. What has not drained in time is released on a laptop (its superstep starts again elsewhere), and left
to the expiry of its lease in a function, so that a node that can never finish in time ends after its attempts.

The loop and the leaving are here; ``taking`` claims, ``jobs`` executes, ``settling`` writes what has become of a run.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

from langgraph_serverless.domain.ports import Bell, EventAppender
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.execution.runner import GraphRunner
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.courier import Courier
from langgraph_serverless.services.jobs import Jobs
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.settling import SETTLE_RETRY, Settler
from langgraph_serverless.services.taking import Taker
from langgraph_serverless.services.work_report import WorkReport
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: How long a published free slot counts without being published again (seconds).
SLOT_TTL = 15.0
#: Before a task that has been cancelled and goes on is cancelled again (seconds).
CANCEL_AGAIN = 2.0
#: Before its deadline a function stops waiting for graphs that do not drain (seconds).
LAST_MOMENT = 2.0
#: A worker that leaves because nothing is left to do lets the webhooks that it is sending end (seconds).
LAST_WEBHOOKS = 12.0


class Ears(Protocol):
    """What a worker hears: rings, and cancels that have been recorded."""

    async def wait(self, timeout: float, most: int = 1) -> bool: ...  # noqa: ASYNC109

    def cancels(self) -> AsyncIterator[list[uuid.UUID]]: ...

    async def aclose(self) -> None: ...


class Slots(Protocol):
    """Where a worker function says that it can take runs."""

    async def publish(self, worker_id: str, free: int, ttl: float, *, ticket: str = "") -> bool: ...

    async def withdraw(self, *names: str) -> bool: ...


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
        ticket: str = "",
    ) -> None:
        """``ticket`` is what a function was invoked with; see ``queue.slots``."""
        self.worker_id = f"worker-{uuid.uuid4().hex[:12]}"
        self._settings = settings
        self._sweeper = sweeper
        self._heartbeat = heartbeat
        self._bell = bell
        self._ears = ears
        self._slots = slots
        self._ticket = ticket
        self._courier = courier
        self._stop = asyncio.Event()
        #: Something has happened that the loop has to see.
        self._turn = asyncio.Event()
        self._hurry = asyncio.Event()
        self._report = WorkReport()
        self._ring: asyncio.Task[bool] | None = None
        self._next_look = 0.0
        self._settler = settler = Settler(
            settings=settings, queue=queue, heartbeat=heartbeat, log=log, bell=bell, courier=courier
        )
        self._jobs = Jobs(runner=runner, heartbeat=heartbeat, settler=settler, report=self._report)
        self._taker = Taker(
            worker_id=self.worker_id,
            settings=settings,
            queue=queue,
            jobs=self._jobs,
            heartbeat=heartbeat,
            deaf=ears is None,
        )
        self._jobs.on_end = self._turn.set
        settler.on_more = self._taker.look_again

    def stop(self) -> None:
        """Claim nothing more, hand on what runs, and return. Call it on the worker's event loop."""
        self._stop.set()
        self._turn.set()

    def hurry(self) -> None:
        """The same, without waiting for superstep boundaries: runs are released as they are."""
        self._hurry.set()
        self.stop()

    @property
    def active(self) -> int:
        """Runs that are being executed."""
        return len(self._jobs)

    @property
    def metrics(self) -> str:
        """What it has done so far, for Prometheus; may be asked on any thread."""
        self._count_webhooks()
        lines = self._report.prometheus(active=self.active, slots=self._settings.n_jobs_per_worker)
        return "\n".join([*lines, ""])

    def _count_webhooks(self) -> None:
        if self._courier is not None:
            sent = self._courier.sent
            self._report.webhooks_delivered, self._report.webhooks_failed = sent.delivered, sent.failed + sent.dead

    async def work(
        self,
        *,
        remaining: Callable[[], float] | None = None,
        idle_grace: float | None = None,
    ) -> WorkReport:
        """Consume the queue until ``stop()``, the deadline or idleness.

        Args:
            remaining: seconds until the process is killed; None for ever.
            idle_grace: leave after this many seconds without a run, or at once if there was none at all; None never.
        """
        self._heartbeat.start()
        listener = asyncio.create_task(self._listen_for_cancels()) if self._ears is not None else None
        sweeper = asyncio.create_task(self._sweep())
        try:
            if remaining is not None:
                self._jobs.watch_nodes()
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
        self._count_webhooks()
        return self._report

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _consume(self, remaining: Callable[[], float] | None, idle_grace: float | None) -> str:
        half = remaining() / 2 if remaining is not None else 0.0
        floor = self._settings.worker_deadline_margin
        if floor >= 2 * half:
            floor = half  # it would leave at once, and invoke itself for ever
        idle_since, had_none, ended = time.monotonic(), True, 0
        while not self._stop.is_set():
            left = remaining() if remaining is not None else None
            # however slow its nodes are, a function works for half of its time
            margin = max(floor, min(half, 2 * self._jobs.slowest_node))
            if left is not None and left < margin:
                return "deadline"
            self._turn.clear()
            self._hear()
            if self._taker.due:
                await self._taker.take()
            if self._jobs or self._jobs.ended != ended:
                # from the end of the last run, however long that took
                idle_since, had_none, ended = time.monotonic(), False, self._jobs.ended
            elif idle_grace is not None and (had_none or time.monotonic() - idle_since >= idle_grace):
                # first nobody may count on this worker, then a last look: a run in between is not missed
                await self._withdraw()
                if await self._taker.take():
                    continue
                if not had_none or (self._taker.seen and not await self._taker.waiting()):
                    return "idle"
                had_none = False  # the database is away, or somebody holds a run for a moment
            await self._publish_slots()
            if self._taker.due:
                continue  # a slot or a run that the look has not seen
            limits = [self._taker.seconds]
            if left is not None:
                limits.append(max(0.0, left - margin))
            if idle_grace is not None and not self._jobs:
                limits.append(max(0.0, idle_since + idle_grace - time.monotonic()))
            await self._wait(min(limits))
        return "stopped"

    def _hear(self) -> None:
        """What has rung is looked for now; a ring during the look is for the next one."""
        if (ring := self._ring) is not None and ring.done():
            self._ring = None
            if ring.exception() is not None or ring.result():
                self._taker.look_again()

    async def _wait(self, seconds: float) -> None:
        """Until something may have changed: a ring, a run that has ended, the time."""
        if self._taker.free <= 0:
            if self._ring is not None:
                # a ring is for somebody who can take a run
                await _ended(self._ring)
                self._ring = None
        elif self._ears is not None and self._ring is None:
            self._ring = asyncio.create_task(self._ears.wait(self._settings.poll_interval, self._taker.free))
            self._ring.add_done_callback(lambda _: self._turn.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._turn.wait()

    async def _publish_slots(self) -> None:
        if self._slots is None:
            return
        known = await self._slots.publish(self.worker_id, self._taker.free, SLOT_TTL, ticket=self._ticket)
        self._ticket = "" if known else self._ticket
        # without the board nobody knows who is on the way, and every full worker would invoke others
        if known and self._taker.free <= 0 and time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + SLOT_TTL
            await self._bell.ring(await self._taker.waiting(), again=True)

    async def _withdraw(self) -> None:
        if self._slots is not None:
            await self._slots.withdraw(self.worker_id, *([self._ticket] if self._ticket else []))

    async def _sweep(self) -> None:
        """Take back what lost workers hold, every few seconds, beside the loop."""
        while True:
            try:
                report = await self._sweeper.sweep()
                self._report.leases_expired += report.requeued
                self._report.given_up += report.buried
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
            self._taker.hear()
            if any(job.claimed.run.run_id in run_ids for job in self._jobs):
                # what counts is the column; the message only saves the wait for the next heartbeat
                self._heartbeat.nudge()

    # -- leaving -------------------------------------------------------------------------------------------------

    async def _leave(self, remaining: Callable[[], float] | None) -> None:
        self._settler.leaving = True
        if self._slots is not None and self._report.reason != "idle":
            # it takes no more, but until it has gone it is one of those that the limit of workers allows
            seconds = remaining() if remaining is not None else self._settings.shutdown_grace + SLOT_TTL
            await self._slots.publish(self.worker_id, 0, max(SLOT_TTL, seconds), ticket=self._ticket)
        if self._ring is not None:
            await _ended(self._ring)  # or it would hear what it rings itself
        if self._jobs:
            seconds = self._settings.shutdown_grace
            if remaining is not None and self._report.reason == "deadline":
                seconds = max(0.0, remaining() - LAST_MOMENT)
            logger.info("handing on %s runs", len(self._jobs), extra={"action": "drain", "worker": self.worker_id})
            await self._drain(seconds)
            # a function's run that did not reach its boundary keeps its attempt: its lease runs out
            abandon = self._report.reason == "deadline"
            await self._jobs.stop(max(LAST_MOMENT, SETTLE_RETRY), abandon=abandon)
        if self._courier is not None:
            seconds = LAST_WEBHOOKS if self._report.reason == "idle" else LAST_MOMENT
            if remaining is not None:  # what is left is for the bell and for closing
                seconds = max(0.0, min(seconds, remaining() - LAST_MOMENT / 2))
            await self._courier.leave(seconds)
        if self._report.reason != "idle":
            await self._withdraw()
            runnable = await self._taker.waiting()
            self._report.work_left = runnable > 0
            # all of them: for what it has handed on it has rung, and whoever is on the way to that takes the rest along
            await self._bell.ring(runnable, again=True)

    async def _drain(self, seconds: float) -> None:
        hurry = asyncio.create_task(self._hurry.wait())
        draining = asyncio.create_task(self._jobs.drain(seconds))
        try:
            await asyncio.wait({hurry, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (hurry, draining):  # the runs themselves go on
                await _ended(task)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has cleaned up after itself.

    Again after a while: what a task waits for may swallow a cancellation, and a loop would then go on for ever, and a worker
    that is to leave wait for it.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
