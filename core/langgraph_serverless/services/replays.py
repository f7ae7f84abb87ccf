"""Runs that were given up after their attempts: which there are, and putting one back into the queue.

For an operator, once what took the workers away has been mended: more memory, a fixed node, another version of a library. A
replayed run is the same run, with its id, input and history. It goes on from its newest checkpoint, as after the loss of a
worker, has all its attempts and its whole time again, and its end makes a new webhook and a new stream. To replay what is
being replayed changes nothing.

Never replays what its thread has left behind: what others have built on the state would be undone, or repeated.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langgraph_serverless.domain.ports import Bell, EventAppender
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_errors import ATTEMPTS_EXHAUSTED
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.errors import ConflictError, NotFoundError, UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.replays import GivenUp, ReplayRepository, Standing
from langgraph_serverless.persistence.runs import RunRepository
from langgraph_serverless.telemetry import logger


class ReplayService:
    """Use cases around runs that were given up."""

    def __init__(self, database: Database, bell: Bell, events: EventAppender | None) -> None:
        self._database = database
        self._bell = bell
        self._events = events
        self._replays = ReplayRepository()
        self._runs = RunRepository()

    async def list(self, caller: Principal, *, limit: int = 100) -> Sequence[GivenUp]:
        """Runs that ended because every attempt had lost its worker, the last one first."""
        async with self._database.connection() as connection:
            return await self._replays.given_up(connection, limit=limit)

    async def replay(self, caller: Principal, run_id: uuid.UUID) -> bool:
        """Put a run back into the queue; false if somebody has done so already and it has not ended since.

        Raises:
            NotFoundError: no such run.
            ConflictError: it was not given up, or its thread has gone on.
        """
        async with self._database.transaction() as connection:
            thread_id = await self._replays.thread_of(connection, run_id)
            locked = thread_id is not None and await self._runs.lock_thread(connection, thread_id)
            standing = await self._replays.standing(connection, run_id) if locked else None
            if standing is None:
                raise NotFoundError(f"Run {run_id} not found")
            if standing.replayed and not standing.status.is_final:
                return False
            if refusal := _refusal(standing):
                raise ConflictError(f"Run {run_id} cannot be replayed: {refusal}.")
            await self._replays.replay(connection, run_id)
            # before a worker can claim it, whose first events would go as well
            await self._end_stream(run_id)
        logger.info(
            "run to be replayed",
            extra={"action": "run_replayed", "run_id": str(run_id), "thread_id": str(thread_id)},
        )
        await self._bell.ring()
        return True

    async def _end_stream(self, run_id: uuid.UUID) -> None:
        """Forget the stream of a run; its end marker would end whoever joins the run from now on."""
        if self._events is None:
            return
        try:
            await self._events.expire(run_id, 0)
        except UnavailableError as error:
            logger.warning("old stream kept: %s", error, extra={"action": "run_replayed", "run_id": str(run_id)})


def _refusal(run: Standing) -> str | None:
    """Why a run must not go on."""
    if not run.status.is_final:
        return f"it is {run.status.value}"
    if run.error != ATTEMPTS_EXHAUSTED:
        other = ", but not because it had lost every worker" if run.status is RunStatus.ERROR else ""
        return f"it ended in {run.status.value}{other}"
    if run.passed:
        return "another run of its thread is running or has begun since"
    if run.written:
        return "the state of its thread has been written since"
    return None
