"""What a run's place in the queue is: its thread's settings, or what the project's handler says at the thread's first run.

Runs are asked about before their transaction, as the handler is the user's code and must not hold a lock; what it has said is
stored within it, by the first run that comes that far. Whoever makes runs holds the graphs (a laptop, the state function) or
asks the state function with one event (``HandlerInFunction``), however many runs there are.

Nothing that goes wrong with a handler keeps a run from being made. Without a handler none of this asks the database anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.priorities import AskHandler, FirstRun, ThreadPriority
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.errors import InvalidInputError, ServerError
from langgraph_serverless.persistence import priorities
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.telemetry import logger

#: The key of an event for the state function that is no request. Clients cannot send it: API Gateway writes a request's
#: event itself, and what they send is inside.
ASK = "ask_priority_handler"


class FunctionCaller(Protocol):
    """Another function of this stack."""

    async def call(self, event: Mapping[str, Any]) -> dict[str, Any]: ...


class HandlerInFunction:
    """The handler where the project is; an ``AskHandler``."""

    def __init__(self, function: FunctionCaller) -> None:
        self._function = function

    async def __call__(self, runs: Sequence[FirstRun]) -> list[ThreadPriority | None]:
        answers = (await self._function.call({ASK: [run.to_json() for run in runs]}))["priorities"]
        if len(answers) != len(runs):
            raise ValueError(f"{len(answers)} answers for {len(runs)} runs")
        return [ThreadPriority.of(answer) if answer is not None else None for answer in answers]


async def answer_event(ask: AskHandler | None, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state function's part of ``HandlerInFunction``."""
    answers = await ask([FirstRun.from_json(run) for run in runs]) if ask is not None else [None] * len(runs)
    return {"priorities": [answer and answer.to_json() for answer in answers]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A run's place in the queue."""

    settings: ThreadPriority
    #: They are the handler's and not yet the thread's.
    new: bool


class PriorityService:
    """Places of runs that are to be made."""

    def __init__(self, database: Database, catalog: GraphCatalog, ask: AskHandler | None) -> None:
        self._database = database
        self._catalog = catalog
        self._ask = ask

    @property
    def active(self) -> bool:
        """Whether there is a handler."""
        return self._catalog.manifest.priority

    async def places(
        self, caller: Principal, requests: Sequence[tuple[RunRequest, uuid.UUID | None]]
    ) -> Sequence[Place | None]:
        """For each request, with its thread (None: one of its own), a place; None where the defaults apply for now.

        Raises:
            UnavailableError: the database is out of reach.
        """
        if not self.active:
            return [None] * len(requests)
        found: list[Place | None] = []
        asked: dict[int, FirstRun] = {}
        async with self._database.connection() as connection:
            for number, (request, thread_id) in enumerate(requests):
                place = await self._look(connection, caller, request, thread_id)
                found.append(place if isinstance(place, Place) else None)
                if isinstance(place, FirstRun):
                    asked[number] = place
        for number, answer in zip(asked, await self._answers(list(asked.values())), strict=True):
            found[number] = Place(settings=answer, new=True) if answer is not None else None
        return found

    async def keep(self, connection: Connection, thread_id: uuid.UUID, place: Place | None) -> ThreadPriority:
        """What the run gets; settings that are new become the thread's, which must be locked."""
        if place is None:
            return ThreadPriority()
        return await priorities.keep(connection, thread_id, place.settings) if place.new else place.settings

    async def _look(
        self, connection: Connection, caller: Principal, request: RunRequest, thread_id: uuid.UUID | None
    ) -> Place | FirstRun | None:
        """The place of a run whose thread has one; otherwise what to ask; None if the run will be refused."""
        try:
            assistant_id = self._catalog.resolve_assistant(request.assistant_id)
        except InvalidInputError:
            return None
        known = await priorities.surroundings(connection, assistant_id=assistant_id, thread_id=thread_id)
        if known is None:
            return None
        if known.settings is not None:
            return Place(settings=known.settings, new=False)
        if known.thread_metadata is None and thread_id is not None and request.if_not_exists != "create":
            return None
        return FirstRun(
            identity=caller.identity,
            permissions=list(caller.permissions),
            user=caller.user,
            thread_id=str(thread_id) if thread_id is not None else None,
            # a thread that the run makes gets the run's
            thread_metadata=request.metadata if known.thread_metadata is None else known.thread_metadata,
            assistant_id=str(assistant_id),
            graph_id=known.graph_id,
            assistant_metadata=known.assistant_metadata,
            run_metadata={**(request.config.get("metadata") or {}), **request.metadata},
            cron_id=str(request.cron_id) if request.cron_id is not None else None,
        )

    async def _answers(self, runs: Sequence[FirstRun]) -> Sequence[ThreadPriority | None]:
        if not runs:
            return ()
        if self._ask is None:
            logger.warning("nobody here can ask the priority handler: set STATE_FUNCTION_NAME", extra=_FAILED)
            return [None] * len(runs)
        try:
            return await self._ask(runs)
        except (ServerError, ValueError, LookupError) as error:
            # the function is throttled, has failed, or is of another version: the runs go on without
            logger.error("the priority handler was not asked: %s", error, extra=_FAILED)
            return [None] * len(runs)


_FAILED = {"action": "priority_failed"}
