"""Makes a run in one statement, where nothing else has to be asked first: most of them.

That is what ``lgs.create_run_v1`` can decide by itself. Whatever needs more steps is left to ``run_making`` with its transaction: an
idempotency key, handlers that limit what is seen, priorities, quotas, crons, documents that are encrypted (the database cannot merge
them), and a busy thread whose runs have to make way. ``create`` answers None then, and nothing has happened.

A run is planned with what this process knows of its assistant. The statement compares the assistant's version and time with the row;
if they differ nothing is made, the assistant is read anew, and the run is planned once more: nobody gets a run of an assistant that had
been changed before he asked.
"""

from __future__ import annotations

import uuid

from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.priorities import ThreadPriority
from langgraph_serverless.errors import NotFoundError
from langgraph_serverless.persistence.assistants import AssistantRepository
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.run_creation import NewThread, Outcome, create_run
from langgraph_serverless.persistence.sealing import is_sealed
from langgraph_serverless.services.priorities import PriorityService
from langgraph_serverless.services.run_making import NOT_FOUND, CreatedRun, RunMaker
from langgraph_serverless.services.run_permits import RunPermit
from langgraph_serverless.settings import Settings

#: Assistants that are known at once; the one that was learned first is forgotten for the next.
MOST_ASSISTANTS = 200
#: An assistant that is changed again and again while its run is planned: then under its lock.
_ATTEMPTS = 3


class QuickRuns:
    """Runs that take one statement."""

    def __init__(self, database: Database, maker: RunMaker, settings: Settings, priorities: PriorityService) -> None:
        self._database = database
        self._maker = maker
        self._settings = settings
        self._priorities = priorities
        self._assistants = AssistantRepository()
        #: By tenant, where the database keeps them apart: who may not see it is answered by the statements of one that is not there.
        self._known: dict[tuple[str, uuid.UUID], Assistant] = {}

    async def create(self, caller: Principal, permit: RunPermit, thread_id: uuid.UUID | None) -> CreatedRun | None:
        """The run, on this thread or on one of its own; None if it takes more than this.

        Raises:
            NotFoundError: no such thread or assistant.
            InvalidInputError: no such graph.
        """
        if not self._may(permit):
            return None
        assistant_id = self._maker.catalog.resolve_assistant(permit.request.assistant_id)
        key = (caller.tenant if self._settings.row_level_security else "", assistant_id)
        async with self._database.connection() as connection:
            if is_sealed(connection):
                return None
            for _ in range(_ATTEMPTS):
                assistant = await self._assistant(connection, key)
                if assistant.graph_id not in self._maker.catalog.graphs:
                    return None
                outcome, created = await self._create(connection, caller, permit, assistant, thread_id)
                if outcome is Outcome.MISSING:
                    raise NotFoundError(NOT_FOUND)
                if outcome is not Outcome.STALE:
                    return created
                if self._known.get(key) is assistant:  # nobody else has read it anew
                    del self._known[key]
        return None

    def _may(self, permit: RunPermit) -> bool:
        return (
            permit.threads is None
            and permit.assistants is None
            and permit.request.cron_id is None
            and not self._settings.max_queued_runs
            and not self._priorities.active
        )

    async def _assistant(self, connection: Connection, key: tuple[str, uuid.UUID]) -> Assistant:
        if (known := self._known.get(key)) is not None:
            return known
        found = await self._assistants.get(connection, key[1])
        if found is None:
            raise NotFoundError(NOT_FOUND)
        while len(self._known) >= MOST_ASSISTANTS:
            del self._known[next(iter(self._known))]
        self._known[key] = found
        return found

    async def _create(
        self,
        connection: Connection,
        caller: Principal,
        permit: RunPermit,
        assistant: Assistant,
        thread_id: uuid.UUID | None,
    ) -> tuple[Outcome, CreatedRun | None]:
        request, stateless = permit.request, thread_id is None
        thread_id = thread_id or new_id()
        thread = None
        if stateless or request.if_not_exists == "create":
            temporary = stateless and request.on_completion == "delete"
            ttl = None if temporary else self._maker.catalog.manifest.thread_ttl
            thread = NewThread(metadata=request.metadata, temporary=temporary, ttl=ttl)
        plan = self._maker.plan(caller, permit, assistant, thread_id=thread_id, thread_metadata={}, stateless=stateless)
        row = self._maker.row(
            permit, plan, assistant, thread_id=thread_id, tenant=caller.tenant, priority=ThreadPriority()
        )
        outcome, run, waits = await create_run(
            connection, row, assistant, said=None if stateless else plan.said, thread=thread
        )
        if run is None:
            return outcome, None
        return outcome, CreatedRun(run=run, cancelled=(), ended=(), waits=waits)
