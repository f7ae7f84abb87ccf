"""The runs that one worker executes at the moment: each is a task that executes it, then settles it or hands it on.

Promises that whatever happens to a run is counted in the report, that its lease is kept alive exactly as long as its task
lives, and that a fault of ours ends no worker: the lease runs out, and another worker goes on from the last checkpoint.
Leaving is asked of all runs at once: first to drain at their next superstep boundary, then to stop where they are.

It never executes a run whose lease it has lost, and never writes for one: the fence refuses it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from langgraph_serverless import tracing
from langgraph_serverless.domain.encryption import encrypting_for, scope_of
from langgraph_serverless.domain.run_kwargs import user_of
from langgraph_serverless.domain.runs import CancelRequest, ClaimedRun, RunOutcome, RunStatus
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.execution.current_node import current_node
from langgraph_serverless.execution.node_clock import NodeClock
from langgraph_serverless.execution.runner import GraphRunner, HandedOff, RunSignals
from langgraph_serverless.loopback import on_behalf_of
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.settling import Settler
from langgraph_serverless.services.work_report import WorkReport
from langgraph_serverless.telemetry import logger, saying

#: Ends that are failures in a trace; a run that was handed on or taken away goes on in another span.
_FAILURES = frozenset({RunStatus.ERROR.value, RunStatus.TIMEOUT.value, "crashed"})


@dataclass(slots=True)
class Job:
    """One run that is being executed."""

    claimed: ClaimedRun
    signals: RunSignals = field(default_factory=RunSignals)
    began: float = field(default_factory=time.monotonic)


class Jobs:
    """What a worker executes, and what has become of it."""

    def __init__(self, *, runner: GraphRunner, heartbeat: Heartbeat, settler: Settler, report: WorkReport) -> None:
        self._runner = runner
        self._heartbeat = heartbeat
        self._settler = settler
        self._report = report
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._clock: NodeClock | None = None
        #: How many have ended.
        self.ended = 0
        #: Called when one has.
        self.on_end: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def watch_nodes(self) -> None:
        """From now on take the time of nodes."""
        self._clock = NodeClock()

    @property
    def slowest_node(self) -> float:
        """Seconds that the slowest node has taken, ended or not; 0 if nobody takes the time."""
        return self._clock.slowest if self._clock is not None else 0.0

    def begin(self, claimed: ClaimedRun, *, asked: float) -> None:
        """Execute a run that has been claimed; ``asked`` is the monotonic time when the claim was sent."""
        job = Job(claimed, RunSignals(clock=self._clock))
        self._hold(job, asked)
        if claimed.waited is not None:
            self._report.waited(claimed.waited)
        task = asyncio.create_task(self._observe(job), name=f"run-{claimed.run.run_id}")
        self._jobs[task] = job
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._jobs[task]
        self.ended += 1
        self.on_end()

    async def drain(self, seconds: float) -> None:
        """Ask all graphs to stop at their next superstep boundary, and wait for them so long."""
        for job in self:
            job.signals.drain()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=seconds)

    async def stop(self, seconds: float, *, abandon: bool) -> None:
        """Stop what has not drained where it is.

        Args:
            seconds: how long to wait until all of it is written.
            abandon: leave the runs to the expiry of their leases, with their attempt counted, instead of giving them back.
        """
        for job in self:
            job.signals.lose() if abandon else job.signals.release()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=seconds)

    def _hold(self, job: Job, asked: float) -> None:
        loop = asyncio.get_running_loop()

        def on_lost() -> None:
            loop.call_soon_threadsafe(job.signals.lose)

        def on_cancel(request: CancelRequest) -> None:
            loop.call_soon_threadsafe(job.signals.cancel, request)

        claimed = job.claimed
        if self._heartbeat.hold(
            claimed.lease,
            since=asked,
            on_lost=on_lost,
            on_cancel=on_cancel,
            about=claimed.about,
            time_left=self._runner.run_timeout - claimed.age,
        ):
            job.signals.held = functools.partial(self._heartbeat.holds, claimed.lease)
        else:
            # a node kept the event loop from seeing the answer: the run goes back before it begins, if it is still ours
            job.signals.release()

    async def _observe(self, job: Job) -> None:
        """In the trace of whoever made it, with its ids in every line that is written meanwhile."""
        claimed = job.claimed
        with (
            saying(claimed.about, current_node),
            encrypting_for(scope_of(claimed.run.kwargs)),
            on_behalf_of(user_of(claimed.run.kwargs)),
            tracing.span(f"run {claimed.graph_id}", kind="consumer", parent=claimed.trace) as span,
        ):
            span.set(**_attributes(claimed))
            how = await self._carry_out(job)
            span.set(**{"langgraph.outcome": how})
            if how in _FAILURES:
                span.fail(how)
        if claimed.waited is not None and job.signals.first_event is not None:
            self._report.began(max(0.0, job.signals.first_event - job.began))

    async def _carry_out(self, job: Job) -> str:
        claimed = job.claimed
        began = time.monotonic()
        self._report.repeated += claimed.attempt > 1
        how = "crashed"
        try:
            try:
                execution = await self._runner.execute(claimed, job.signals)
            except HandedOff:
                await self._settler.hand_off(claimed, job.signals)
                self._report.handed_off += 1
                how = "handed_off"
            else:
                how = self._count(claimed, await self._settler.settle(claimed, job.signals, execution), began)
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
            if job.signals.unsaved is not None:
                job.signals.unsaved.close()
            self._heartbeat.release(claimed.lease)
            seconds = round(time.monotonic() - began, 4)
            logger.info("run %s", how, extra=claimed.about | {"action": f"run_{how}", "seconds": seconds})
        return how

    def _count(self, claimed: ClaimedRun, outcome: RunOutcome, began: float) -> str:
        """What to call this end."""
        self._report.took(outcome.status.value, claimed.age + time.monotonic() - began)
        if outcome.status is RunStatus.SUCCESS:
            self._report.succeeded += 1
        elif outcome.status is RunStatus.INTERRUPTED:
            self._report.interrupted += 1
        else:
            self._report.failed += 1
        return "rolled_back" if outcome.rollback else outcome.status.value


def _attributes(claimed: ClaimedRun) -> dict[str, str | int | float]:
    """What a trace says about a run: ids, and never what it was given."""
    waited = {"langgraph.queue_wait_seconds": claimed.waited} if claimed.waited is not None else {}
    return {
        "langgraph.run_id": str(claimed.run.run_id),
        "langgraph.thread_id": str(claimed.run.thread_id),
        "langgraph.assistant_id": str(claimed.run.assistant_id),
        "langgraph.graph_id": claimed.graph_id,
        "langgraph.attempt": claimed.attempt,
        "langgraph.handoffs": claimed.handoffs,
        "langgraph.request_id": claimed.request_id or "",
        **waited,
    }
