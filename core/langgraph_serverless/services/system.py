"""What the server says about itself: health, version, and the numbers that an operator watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from langgraph_serverless import __version__
from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.system import SystemRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNumbers:
    """The queue at one moment. Waiting times are None while nothing waits."""

    pending: int
    running: int
    wait_max_seconds: float | None
    wait_median_seconds: float | None
    #: Of runs that wait for nothing but a worker.
    unblocked_wait_max_seconds: float | None
    #: Of running runs: their workers have not been heard of, and nobody has taken them back yet.
    expired_leases: int
    #: Running runs whose worker has been heard of, and how many workers have them.
    executing: int
    workers: int
    #: Due runs whose fairness group has as many running as it may have.
    over_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveNumbers:
    """What became of the leases that workers took within the last hour."""

    lease_expiries: int
    handoffs: int
    #: Leases that began a run again after one that had expired.
    repeats: int
    #: Runs that ended because every attempt lost its worker.
    given_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookNumbers:
    """The outbox at one moment."""

    undelivered: int
    #: How long the longest due one has been due; None if none is.
    lag_seconds: float | None
    #: Given up within the last week.
    dead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CronNumbers:
    """Crons that should have fired."""

    overdue: int
    lag_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What an operator watches."""

    queue: QueueNumbers
    moves: MoveNumbers
    webhooks: WebhookNumbers
    crons: CronNumbers
    jobs_per_worker: int

    @property
    def slots(self) -> int:
        """Runs that the workers could execute at once. One that has none is not seen here; there is or comes one at least."""
        return max(self.jobs_per_worker * max(1, self.queue.workers), self.queue.executing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the server can do its work."""

    #: Nothing that it cannot work without is down.
    ok: bool
    #: What is down, in a sentence each.
    services: dict[str, str]


class SystemService:
    """Use cases around the server itself; nobody needs permission for them."""

    def __init__(
        self,
        database: Database,
        redis_trouble: Callable[[], Awaitable[str | None]],
        *,
        groups: GroupLimits | None = None,
        jobs_per_worker: int = 1,
    ) -> None:
        self._jobs_per_worker = jobs_per_worker
        self._database = database
        self._groups = groups or GroupLimits()
        self._redis_trouble = redis_trouble
        self._system = SystemRepository()
        self._leaving = False

    def leave(self) -> None:
        """From now on health says that the process is going to stop, so that nobody sends it anything new."""
        self._leaving = True

    async def health(self) -> Health:
        """One round trip to each database. Without Redis the server still does everything, only later."""
        if self._leaving:
            return Health(ok=False, services={"server": "This process is about to stop; another one answers"})
        postgres, redis = await asyncio.gather(self._postgres_answers(), self._redis_trouble())
        services = {}
        if not postgres:
            services["postgres"] = "Postgres does not answer"
        if redis:
            services["redis"] = f"{redis}: runs are found by polling, and streams end in snapshots"
        return Health(ok=postgres, services=services)

    async def _postgres_answers(self) -> bool:
        try:
            await self._database.ping()
        except UnavailableError:
            return False
        return True

    @cached_property
    def info(self) -> dict[str, Any]:
        """Versions and what clients may rely on."""
        return {
            "version": __version__,
            "langgraph_py_version": _installed("langgraph"),
            "flags": {
                "assistants": True,
                "crons": True,
                "langsmith": False,
                "langsmith_tracing_replicas": False,
                "langsmith_tracing_session_on_runs": False,
            },
            "host": {
                "kind": "self-hosted",
                "project_id": None,
                "host_revision_id": None,
                "revision_id": None,
                "tenant_id": None,
            },
        }

    async def numbers(self) -> Numbers:
        """The queue, leases, webhooks and crons, one moment after the other."""
        async with self._database.connection() as connection:
            return Numbers(
                queue=QueueNumbers(**await self._system.measure_queue(connection, self._groups)),
                moves=MoveNumbers(**await self._system.measure_moves(connection)),
                webhooks=WebhookNumbers(**await self._system.measure_webhooks(connection)),
                crons=CronNumbers(**await self._system.measure_crons(connection)),
                jobs_per_worker=self._jobs_per_worker,
            )


def _installed(package: str) -> str | None:
    """A package's version without importing it; None where it is not installed, as in most functions."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
