"""How a worker takes runs out of the queue: as many as it has slots for, those on trial one at a time.

Promises that a database that does not answer, or any fault nobody foresaw, costs a worker one look and nothing more. Taking
is one statement of the queue's repository; what is taken is begun at once, with the time at which the claim was sent, because
the lease may have been given then.

It says when a look may find something that the last one has not (``due``), so that nobody looks in vain, and no run waits for a poll
that somebody could have taken: after a ring; once a slot is free again, if the last look has taken as much as there was room for; when
a thread has its next run, or a group of runs with a limit has room again; when the first of the delayed runs is due, of which each look
says when that is; and every few seconds in case that a ring was lost.
"""

from __future__ import annotations

import time

from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.jobs import Jobs
from langgraph_serverless.services.trials import Trials
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

#: Before a look follows another one for what is due, or for what another worker was in the way of (seconds).
SOON = 0.01


class Taker:
    """Fills the slots of one worker."""

    def __init__(
        self,
        *,
        worker_id: str,
        settings: Settings,
        queue: QueueRepository,
        jobs: Jobs,
        heartbeat: Heartbeat,
        deaf: bool = False,
    ) -> None:
        """``deaf``: nobody can tell of runs that are made, so it looks whenever it has a reason to be awake."""
        self._worker_id = worker_id
        self._settings = settings
        self._queue = queue
        self._jobs = jobs
        self._heartbeat = heartbeat
        self._trials = Trials(settings)
        #: After every run: it may have been what its fairness group had no room for.
        self._looks_often = deaf or queue.limited
        self._heard = False
        #: Something has happened that the last look has not seen.
        self._again = True
        #: The last look has taken as much as it could: there may be more.
        self._filled = False
        #: Runs that had ended before the last look.
        self._ended = 0
        #: When to look though nothing happens, by the monotonic clock.
        self._next = 0.0
        #: The last look at the queue has seen it: the database answered.
        self.seen = False

    def hear(self) -> None:
        """Somebody's cancel has been recorded, perhaps that of a run which is being claimed: of it nobody here knows yet."""
        self._heard = True

    @property
    def free(self) -> int:
        """Slots without a run."""
        return self._settings.n_jobs_per_worker - len(self._jobs)

    def look_again(self) -> None:
        """There may be something to take now; also if a look is under way."""
        self._again = True

    @property
    def due(self) -> bool:
        """Whether a look may find what the last one has not."""
        if self.free <= 0:
            return False
        room = self._looks_often and self._jobs.ended != self._ended
        return self._again or self._filled or room or time.monotonic() >= self._next

    @property
    def seconds(self) -> float:
        """How long to wait for something to happen before the next look."""
        if self.free <= 0:
            return self._settings.poll_interval
        return max(0.0, self._next - time.monotonic())

    async def take(self) -> int:
        """Take what is free to run; how many runs that was."""
        free = self.free
        if free <= 0:
            return 0
        self._again, self._ended = False, self._jobs.ended
        self._next = time.monotonic() + self._settings.poll_interval
        taken = await self._claim(free)
        if taken < free and self._trials.may_begin((job.claimed.attempt, job.began) for job in self._jobs):
            tried = await self._claim(1, on_trial=True)
            self._trials.looked(found=tried > 0)
            taken += tried
        self._filled = taken >= free
        return taken

    async def waiting(self) -> int:
        """Runs that could be taken now."""
        try:
            return await self._queue.runnable()
        except UnavailableError:
            return 0  # whoever comes next looks for itself

    async def _claim(self, limit: int, *, on_trial: bool = False) -> int:
        asked, self._heard = time.monotonic(), False
        try:
            found = await self._queue.look(
                owner=self._worker_id,
                limit=limit,
                lease=self._settings.lease_duration,
                last_attempt=self._trials.last_attempt,
                on_trial=on_trial,
            )
        except UnavailableError as error:
            self.seen = False
            logger.warning("cannot claim: %s", error, extra={"action": "claim_failed"})
            return 0
        except Exception:
            # the worker must outlive faults that nobody foresaw; it tries again after the poll interval
            self.seen = False
            logger.exception("cannot claim", extra={"action": "claim_failed"})
            return 0
        self.seen = True
        due = SOON if found.again else found.due
        if due is not None:
            self._next = min(self._next, time.monotonic() + max(SOON, due))
        for claimed in found.runs:
            about = {"action": "run_claimed", "worker": self._worker_id, "handoffs": claimed.handoffs}
            logger.info("run claimed", extra=claimed.about | about)
            self._jobs.begin(claimed, asked=asked)
        if found.runs and self._heard:
            self._heartbeat.nudge()
        return len(found.runs)
