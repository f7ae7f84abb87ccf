"""What the server says about itself: health, version, how long the queue is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from langgraph_serverless import __version__
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


class SystemService:
    """Use cases around the server itself; nobody needs permission for them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._system = SystemRepository()

    async def check_database(self) -> None:
        """One round trip.

        Raises:
            UnavailableError: if the database does not answer.
        """
        await self._database.ping()

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

    async def queue(self) -> QueueNumbers:
        """How many runs wait and run."""
        async with self._database.connection() as connection:
            row = await self._system.measure_queue(connection)
        return QueueNumbers(**row)


def _installed(package: str) -> str | None:
    """A package's version without importing it; None where it is not installed, as in most functions."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
