"""Tasks for other agents: messages that make runs, and how they stand, by the Agent-to-Agent protocol.

A task is a run, its context the thread. Everything goes through the services of runs, threads and assistants, which ask what the caller may
do; what is read here beside them belongs to a thread that they have shown. A message to a task makes another run of it: the answer to
what it asks, if it waits, or else one that waits for its turn. Which of the two is decided while the thread is locked, so that of
two answers only one counts. Streams are the event log's, as of any run, and can be taken up again (``updates``).
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
from langgraph_serverless.domain.a2a_card import input_fields
from langgraph_serverless.domain.a2a_messages import Incoming
from langgraph_serverless.domain.a2a_push import PushConfig
from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.cursors import FROM_THE_START
from langgraph_serverless.domain.events import is_gap
from langgraph_serverless.domain.ids import parse_id, random_id
from langgraph_serverless.domain.ports import EventReader, WebhookPolicy
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import CancelAction, Run, RunRequest, StreamMode
from langgraph_serverless.domain.threads import ThreadField
from langgraph_serverless.errors import InvalidInputError, NotFoundError, RpcError
from langgraph_serverless.persistence.a2a import A2ARepository, FoundTask
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.runs import RunRepository
from langgraph_serverless.services.a2a_push import check_push, too_many
from langgraph_serverless.services.assistants import AssistantService
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.following import RunFollower
from langgraph_serverless.services.priorities import PriorityService
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.threads import ThreadService
from langgraph_serverless.settings import Settings

#: Contexts that a list without one looks at: those that something has happened in last.
MOST_CONTEXTS = 1000
_TERMINAL = "A terminal task cannot accept another message"
_BY_CLIENT = "the task was canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """A message, and what its client wants beside an answer."""

    message: Incoming
    context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    push: PushConfig | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What the agent has said so far."""

    message_id: str
    text: str
    at: datetime


#: What a stream tells: what was said, and at last the task. An empty batch is time for a keep-alive.
Updates = AsyncGenerator[Sequence[Said | Task], None]


class A2AService:
    """Use cases of the Agent-to-Agent protocol."""

    def __init__(
        self,
        database: Database,
        catalog: GraphCatalog,
        settings: Settings,
        *,
        assistants: AssistantService,
        threads: ThreadService,
        runs: RunService,
        priorities: PriorityService,
        events: EventReader | None,
        webhooks: WebhookPolicy,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._assistants = assistants
        self._threads = threads
        self._runs = runs
        self._priorities = priorities
        self._webhooks = webhooks
        self._follower = RunFollower(events, runs, settings)
        self._tasks = A2ARepository()
        self._locks = RunRepository()

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

    # -- messages ------------------------------------------------------------------------------------------------

    async def send(self, caller: Principal, assistant_id: str, request: SendRequest) -> Task:
        """Make a run of a message: of a new task, or of the one that it names.

        Raises:
            RpcError: with the reason.
        """
        assistant, schema = await self.agent(caller, assistant_id)
        message = request.message
        task = await self._addressed(caller, assistant.assistant_id, message)
        thread_id = task.ref.thread_id if task is not None else _context(message)
        if task is not None and task.state.is_terminal:
            raise RpcError(a2a.UNSUPPORTED, _TERMINAL)
        if task is None or task.state is not TaskState.INPUT_REQUIRED:
            _check_conversation(assistant, schema, message)
        if request.push is not None:
            await check_push(self._webhooks, request.push)
        asked = RunRequest(
            assistant_id=str(assistant.assistant_id),
            context=request.context,
            metadata=request.metadata or {},
            stream_mode=(StreamMode.MESSAGES_TUPLE,),
            stream_resumable=True,
            if_not_exists="create",
            request_id=request.request_id,
        )
        run, ref = await self._make(caller, thread_id, asked, request, task)
        return Task(
            ref=ref,
            assistant_id=assistant.assistant_id,
            run_id=run.run_id,
            state=TaskState.SUBMITTED,
            at=run.updated_at,
        )

    async def _make(
        self, caller: Principal, thread_id: uuid.UUID, asked: RunRequest, request: SendRequest, task: FoundTask | None
    ) -> tuple[Run, TaskRef]:
        message = request.message
        # may ask the user's code, which must not hold a lock
        (place,) = await self._priorities.places(caller, [(asked, thread_id)])
        try:
            async with self._database.transaction() as connection:
                state = None
                if task is not None:
                    await self._locks.lock_thread(connection, thread_id)
                    # what it asks may have been answered meanwhile, and it may have ended
                    found = await self._tasks.find(connection, task.ref)
                    if found is None:
                        raise a2a.not_found(str(task.ref))
                    if found.state.is_terminal:
                        raise RpcError(a2a.UNSUPPORTED, _TERMINAL)
                    state = found.state
                if state is TaskState.INPUT_REQUIRED:
                    asked = replace(asked, command={"resume": message.answer})
                else:
                    asked = replace(asked, input=message.input)
                created = await self._runs.create_within(connection, caller, asked, thread_id=thread_id, place=place)
                run = created.run
                ref = task.ref if task is not None else TaskRef(thread_id, run.run_id)
                await self._tasks.add_turn(connection, run.run_id, task_id=ref.run_id, message_id=message.message_id)
                if request.push is not None and not await self._tasks.set_push(connection, ref, request.push):
                    raise too_many()
        except (InvalidInputError, NotFoundError) as error:
            if isinstance(error, RpcError):
                raise
            raise RpcError(a2a.INVALID_PARAMS, f"Failed to create run: {error.detail}") from None
        await self._runs.announce([created])
        return run, ref

    async def _addressed(self, caller: Principal, assistant_id: uuid.UUID, message: Incoming) -> FoundTask | None:
        if message.task_id is None:
            return None
        found = await self.find(caller, assistant_id, message.task_id)
        if message.context_id not in (None, str(found.ref.thread_id)):
            raise a2a.not_found(message.task_id)
        return found

    # -- tasks ---------------------------------------------------------------------------------------------------

    async def find(self, caller: Principal, assistant_id: uuid.UUID, task_id: object) -> FoundTask:
        """How a task stands.

        Raises:
            RpcError: there is none of this name, or it is not this assistant's, or not the caller's.
        """
        if not isinstance(task_id, str) or not task_id:
            raise RpcError(a2a.INVALID_PARAMS, "Missing required parameter: id (task_id)")
        ref = TaskRef.parse(task_id)
        # whether the caller may know of it
        if await self._runs.find(caller, ref.thread_id, ref.run_id) is None:
            raise a2a.not_found(task_id)
        async with self._database.connection() as connection:
            found = await self._tasks.find(connection, ref)
        if found is None or found.assistant_id != assistant_id:
            raise a2a.not_found(task_id)
        return found

    async def get(self, caller: Principal, assistant_id: str, task_id: object) -> Task:
        """A task with what was said."""
        assistant, _ = await self.agent(caller, assistant_id)
        return await self._whole(caller, await self.find(caller, assistant.assistant_id, task_id))

    async def left_by(self, caller: Principal, task: Task) -> Task:
        """What a run of a task has come to; canceled, if it is gone."""
        async with self._database.connection() as connection:
            found = await self._tasks.find(connection, task.ref, run_id=task.run_id)
        if found is None:
            return replace(task, state=TaskState.CANCELED, at=datetime.now(UTC))
        return await self._whole(caller, found)

    async def _whole(self, caller: Principal, found: FoundTask) -> Task:
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
        return [await self._whole(caller, each) for each in found if each is not None], total

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

    async def cancel(self, caller: Principal, assistant_id: str, task_id: object) -> Task:
        """End a task: what goes on and what waits for its turn; or nothing but the task, if that waits for an answer.

        Raises:
            RpcError: there is none, or it is over.
        """
        assistant, _ = await self.agent(caller, assistant_id)
        found = await self.find(caller, assistant.assistant_id, task_id)
        refused = RpcError(a2a.NOT_CANCELABLE, "Task is not cancelable in its current state")
        if found.state.is_terminal:
            raise refused
        if found.state is TaskState.INPUT_REQUIRED:
            # nothing of it is left to be done; whether the caller may end it is asked as for any change of the thread
            await self._threads.update(caller, found.ref.thread_id, metadata={}, ttl=None)
        else:
            async with self._database.connection() as connection:
                live = await self._tasks.live_runs(connection, found.ref)
            try:
                await self._runs.cancel(caller, found.ref.thread_id, live, CancelAction.INTERRUPT, _BY_CLIENT)
            except NotFoundError:
                raise refused from None
        async with self._database.transaction() as connection:
            await self._tasks.cancel(connection, found.ref, found.run_id)
        return await self._whole(caller, await self.find(caller, assistant.assistant_id, task_id))

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


def _context(message: Incoming) -> uuid.UUID:
    if message.context_id is None:
        return random_id()
    try:
        return parse_id(message.context_id, "thread", suffix="")
    except InvalidInputError as error:
        raise RpcError(a2a.INVALID_PARAMS, f"Failed to create run: {error.detail}") from None


def _check_conversation(assistant: Assistant, schema: Any, message: Incoming) -> None:
    fields = input_fields(schema)
    if message.speaks and fields is not None and "messages" not in fields:
        raise RpcError(
            a2a.INVALID_PARAMS,
            f"Assistant '{assistant.assistant_id}' (graph '{assistant.graph_id}') does not support A2A conversational"
            " messages. Graph input schema must include a 'messages' field to accept text or file parts. Available"
            f" input fields: {fields}",
        )


def _messages(values: Any) -> Sequence[Mapping[str, Any]]:
    found = values.get("messages") if isinstance(values, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _asked(run: Run | None) -> Sequence[Mapping[str, Any]]:
    """The message of a run that has not come far enough to have it in its thread."""
    given = _messages(run.kwargs.get("input")) if run is not None else ()
    return [{**each, "type": "human"} for each in given if each.get("role") == "user"]
