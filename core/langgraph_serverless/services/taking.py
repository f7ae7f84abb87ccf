"""How a worker takes runs out of the queue: as many as it has slots for, those on trial one at a time.

Promises that a database that does not answer, or any fault nobody foresaw, costs a worker one look and nothing more. Taking
is one statement of the queue's repository; what is taken is begun at once, with the time at which the claim was sent, because
the lease may have been given then.
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


class Taker:
    """Fills the slots of one worker."""

    def __init__(
        self, *, worker_id: str, settings: Settings, queue: QueueRepository, jobs: Jobs, heartbeat: Heartbeat
    ) -> None:
        self._worker_id = worker_id
        self._settings = settings
        self._queue = queue
        self._jobs = jobs
        self._heartbeat = heartbeat
        self._trials = Trials(settings)
        self._heard = False
        #: The last look at the queue has seen it: the database answered.
        self.seen = False

    def hear(self) -> None:
        """Somebody's cancel has been recorded, perhaps that of a run which is being claimed: of it nobody here knows yet."""
        self._heard = True

    @property
    def free(self) -> int:
        """Slots without a run."""
        return self._settings.n_jobs_per_worker - len(self._jobs)

    async def take(self) -> int:
        """Take what is free to run; how many runs that was."""
        free = self.free
        if free <= 0:
            return 0
        taken = await self._claim(free)
        if taken < free and self._trials.may_begin((job.claimed.attempt, job.began) for job in self._jobs):
            tried = await self._claim(1, on_trial=True)
            self._trials.looked(found=tried > 0)
            taken += tried
        return taken

    async def next_due(self) -> float | None:
        """Seconds until the next delayed run may be taken; None if there is none, or nobody who could say so."""
        try:
            return await self._queue.next_due()
        except UnavailableError:
            return None  # the claim says so already
        except Exception:
            logger.exception("cannot look for delayed runs", extra={"action": "next_due_failed"})  # as for claims
            return None

    async def waiting(self) -> int:
        """Runs that could be taken now."""
        try:
            return await self._queue.runnable()
        except UnavailableError:
            return 0  # whoever comes next looks for itself

    async def _claim(self, limit: int, *, on_trial: bool = False) -> int:
        asked, self._heard = time.monotonic(), False
        try:
            claims = await self._queue.claim(
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
        for claimed in claims:
            about = {"action": "run_claimed", "worker": self._worker_id, "handoffs": claimed.handoffs}
            logger.info("run claimed", extra=claimed.about | about)
            self._jobs.begin(claimed, asked=asked)
        if claims and self._heard:
            self._heartbeat.nudge()
        return len(claims)
