"""Reading other agents' tasks and following them: how they stand, what was said, what is being said.

A task is a run, its context the thread. What is read here belongs to threads that the services of runs and threads have shown to the caller.
Streams are the event log's, as of any run, and can be taken up again. Never changes anything; ``a2a.py`` does.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from langgraph_serverless.domain import a2a
from langgraph_serverless.domain.a2a import Spoken, Task, TaskRef, TaskState
from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.cursors import FROM_THE_START
from langgraph_serverless.domain.events import is_gap
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.ports import EventReader
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import Run
from langgraph_serverless.domain.threads import ThreadField
from langgraph_serverless.errors import InvalidInputError, NotFoundError, RpcError
from langgraph_serverless.persistence.a2a import A2ARepository, FoundTask
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.assistants import AssistantService
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.following import RunFollower
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.threads import ThreadService
from langgraph_serverless.settings import Settings

#: Contexts that a list without one looks at: those that something has happened in last.
MOST_CONTEXTS = 1000


@dataclass(frozen=True, slots=True)
class Said:
    """What the agent has said so far."""

    message_id: str
    text: str
    at: datetime


#: What a stream tells: what was said, and at last the task. An empty batch is time for a keep-alive.
Updates = AsyncGenerator[Sequence[Said | Task], None]


class A2ATasks:
    """Tasks as clients see them."""

    def __init__(
        self,
        database: Database,
        catalog: GraphCatalog,
        settings: Settings,
        *,
        assistants: AssistantService,
        threads: ThreadService,
        runs: RunService,
        events: EventReader | None,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._assistants = assistants
        self._threads = threads
        self._runs = runs
        self._follower = RunFollower(events, runs, settings)
        self._tasks = A2ARepository()

    # -- agents --------------------------------------------------------------------------------------------------

    async def agent(self, caller: Principal, assistant_id: str) -> tuple[Assistant, Any]:
        """An assistant, and the schema of what its graph takes.

        Raises:
            RpcError: there is none.
        """
        try:
            parsed = parse_id(assistant_id, "assistant")
        except InvalidInputError as error:
            raise RpcError(a2a.INVALID_PARAMS, error.detail) from None
        try:
            assistant = await self._assistants.get(caller, parsed)
        except NotFoundError:
            raise RpcError(a2a.INVALID_PARAMS, f"Assistant '{parsed}' not found") from None
        graph = self._catalog.graphs.get(assistant.graph_id)
        return assistant, graph.schemas.get("input_schema") if graph is not None else None

    # -- tasks ---------------------------------------------------------------------------------------------------

    async def find(self, caller: Principal, assistant_id: uuid.UUID, task_id: object) -> FoundTask:
        """How a task stands.

        Raises:
            RpcError: there is none of this name, or it is not this assistant's, or not the caller's.
        """
        if not isinstance(task_id, str) or not task_id:
            raise RpcError(a2a.INVALID_PARAMS, "Missing required parameter: id (task_id)")
        ref = TaskRef.parse(task_id)
        try:
            shown = await self._runs.find(caller, ref.thread_id, ref.run_id)
        except NotFoundError:  # the thread is somebody else's
            shown = None
        if shown is None:
            raise a2a.not_found(task_id)
        async with self._database.connection() as connection:
            found = await self._tasks.find(connection, ref)
        if found is None or found.assistant_id != assistant_id:
            raise a2a.not_found(task_id)
        return found

    async def get(self, caller: Principal, assistant_id: str, task_id: object) -> Task:
        """A task with what was said."""
        assistant, _ = await self.agent(caller, assistant_id)
        return await self.whole(caller, await self.find(caller, assistant.assistant_id, task_id))

    async def left_by(self, caller: Principal, task: Task) -> Task:
        """What a run of a task has come to; canceled, if it is gone."""
        async with self._database.connection() as connection:
            found = await self._tasks.find(connection, task.ref, run_id=task.run_id)
        if found is None:
            return replace(task, state=TaskState.CANCELED, at=datetime.now(UTC))
        return await self.whole(caller, found)

    async def whole(self, caller: Principal, found: FoundTask) -> Task:
        """The task with what was said, of one that the caller has found."""
        result = await self._runs.result(found.run_id)
        run = await self._runs.find(caller, found.ref.thread_id, found.run_id) if found.state.is_live else None
        if result is None:
            raise a2a.not_found(str(found.ref))
        output = result.output if isinstance(result.output, dict) else None
        known = output if output is not None and "__error__" not in output else result.thread_values
        messages = _messages(known)
        # of a thread that has gone on since; a run's output ends with the run anyway
        ends = next((at for at, each in enumerate(messages) if each.get("id") in found.later), len(messages))
        asked = _asked(run)
        there = {each.get("id") for each in messages}
        messages = [*messages[:ends], *(each for each in asked if each.get("id") not in there)]
        interrupts = [each for task in (result.thread_interrupts or {}).values() for each in task]
        return Task(
            ref=found.ref,
            assistant_id=found.assistant_id,
            run_id=found.run_id,
            state=found.state,
            at=found.at,
            messages=messages,
            output=known,
            interrupts=interrupts if found.state is TaskState.INPUT_REQUIRED else (),
            error=result.error,
            turns=found.turns,
        )

    async def list(
        self,
        caller: Principal,
        assistant_id: str,
        *,
        context_id: str | None,
        state: TaskState | None,
        after: datetime | None,
        limit: int,
        offset: int,
    ) -> tuple[Sequence[Task], int]:
        """A page of an assistant's tasks, of one context or of the last ones, and how many there are."""
        assistant, _ = await self.agent(caller, assistant_id)
        threads = await self._contexts(caller, assistant.assistant_id, context_id)
        if not threads:
            return (), 0
        async with self._database.connection() as connection:
            refs, total = await self._tasks.list(
                connection, threads, assistant.assistant_id, state=state, after=after, limit=limit, offset=offset
            )
            found = [await self._tasks.find(connection, ref) for ref in refs]
        return [await self.whole(caller, each) for each in found if each is not None], total

    async def _contexts(
        self, caller: Principal, assistant_id: uuid.UUID, context_id: str | None
    ) -> Sequence[uuid.UUID]:
        if context_id is not None:
            try:
                thread_id = parse_id(context_id, "thread")
                return [(await self._threads.get(caller, thread_id)).thread_id]
            except (InvalidInputError, NotFoundError):
                return ()
        page = await self._threads.search(
            caller,
            ids=None,
            metadata={"assistant_id": str(assistant_id)},
            values={},
            status=None,
            select=(ThreadField.THREAD_ID,),
            limit=MOST_CONTEXTS,
        )
        return [row["thread_id"] for row in page.items]

    # -- following -----------------------------------------------------------------------------------------------

    async def subscribe(self, caller: Principal, assistant_id: str, task_id: object) -> Task:
        """A task that can be followed from here (``updates``).

        Raises:
            RpcError: there is none, or nothing will happen to it any more.
        """
        task = await self.get(caller, assistant_id, task_id)
        if task.state.is_terminal:
            raise RpcError(a2a.UNSUPPORTED, f"Task {task.ref} is in a terminal state: {task.state}")
        return task

    async def updates(self, caller: Principal, task: Task) -> Updates:
        """What the agent says in a run of a task, and at last what the task has come to. Of what was ready together only the
        newest is told, as it has all that was said before."""
        spoken = Spoken()
        async with aclosing(self._follower.follow(task.run_id, FROM_THE_START)) as batches:
            async for batch in batches:
                more = False
                for event in batch:
                    if is_gap(event):
                        spoken.miss()
                    elif event.name.startswith("messages"):
                        more = spoken.hear(orjson.loads(event.data)) or more
                if more:
                    yield [Said(spoken.message_id, spoken.text, datetime.now(UTC))]
                elif not batch:
                    yield ()
        yield [await self.left_by(caller, task)]

    async def wait(self, caller: Principal, task: Task) -> Updates:
        """Nothing but what the task has come to."""
        async with aclosing(self._follower.end(task.run_id)) as batches:
            async for batch in batches:
                if not batch:
                    yield ()
        yield [await self.left_by(caller, task)]


def _messages(values: Any) -> Sequence[Mapping[str, Any]]:
    found = values.get("messages") if isinstance(values, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _asked(run: Run | None) -> Sequence[Mapping[str, Any]]:
    """The message of a run that has not come far enough to have it in its thread."""
    given = _messages(run.kwargs.get("input")) if run is not None else ()
    return [{**each, "type": "human"} for each in given if each.get("role") == "user"]
