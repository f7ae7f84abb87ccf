"""What other agents do: messages that make runs, and canceling, by the Agent-to-Agent protocol.

Everything goes through the services of runs, threads and assistants, which ask what the caller may do. A message to a task makes another run
of it: the answer to what it asks, if it waits, or else one that waits for its turn. Which of the two is decided while the thread is locked,
so that of two answers only one counts. Whoever wants notifications is noted in the transaction that makes the run (``a2a_push.py``).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from langgraph_serverless.domain import a2a
from langgraph_serverless.domain.a2a import Task, TaskRef, TaskState
from langgraph_serverless.domain.a2a_card import input_fields
from langgraph_serverless.domain.a2a_messages import Incoming
from langgraph_serverless.domain.a2a_push import PushConfig
from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.auth_filters import both
from langgraph_serverless.domain.ids import parse_id, random_id
from langgraph_serverless.domain.ports import Authorizer, WebhookPolicy, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import CancelAction, RunRequest, StreamMode
from langgraph_serverless.errors import InvalidInputError, NotFoundError, RpcError
from langgraph_serverless.persistence.a2a import A2ARepository, FoundTask
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.runs import RunRepository
from langgraph_serverless.services.a2a_push import check_push, too_many
from langgraph_serverless.services.a2a_tasks import A2ATasks
from langgraph_serverless.services.priorities import PriorityService
from langgraph_serverless.services.run_permits import RunPermit
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.threads import ThreadService

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


class A2AService:
    """Use cases of the Agent-to-Agent protocol."""

    def __init__(
        self,
        database: Database,
        tasks: A2ATasks,
        *,
        threads: ThreadService,
        runs: RunService,
        priorities: PriorityService,
        webhooks: WebhookPolicy,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._threads = threads
        self._runs = runs
        self._priorities = priorities
        self._webhooks = webhooks
        self._authorize = authorize
        self._rows = A2ARepository()
        self._locks = RunRepository()

    # -- messages ------------------------------------------------------------------------------------------------

    async def send(self, caller: Principal, assistant_id: str, request: SendRequest) -> Task:
        """Make a run of a message: of a new task, or of the one that it names.

        Raises:
            RpcError: with the reason.
        """
        assistant, schema = await self._tasks.agent(caller, assistant_id)
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
        waits = task is not None and task.state is TaskState.INPUT_REQUIRED
        permit = await self._permit(caller, _saying(asked, message, answer=waits), thread_id)
        # may ask the user's code, which must not hold a lock
        (place,) = await self._priorities.places(caller, [(permit.request, thread_id)])
        try:
            async with self._database.transaction() as connection:
                if task is not None:
                    permit = await self._decided(connection, task, permit, message, answer=waits)
                created = await self._runs.create_within(
                    connection, caller, permit.request, thread_id=thread_id, place=place, permit=permit
                )
                run = created.run
                ref = task.ref if task is not None else TaskRef(thread_id, run.run_id)
                await self._rows.add_turn(connection, run.run_id, task_id=ref.run_id, message_id=message.message_id)
                if request.push is not None and not await self._rows.set_push(connection, ref, request.push):
                    raise too_many()
        except RpcError:
            raise
        except (InvalidInputError, NotFoundError) as error:
            raise RpcError(a2a.INVALID_PARAMS, f"Failed to create run: {error.detail}") from None
        await self._runs.announce([created])
        return Task(
            ref=ref,
            assistant_id=assistant.assistant_id,
            run_id=run.run_id,
            state=TaskState.SUBMITTED,
            at=run.updated_at,
        )

    async def _permit(self, caller: Principal, asked: RunRequest, thread_id: uuid.UUID) -> RunPermit:
        """To run this, and to be told what comes of it."""
        try:
            permit = await self._runs.permit(caller, asked, thread_id=thread_id)
        except InvalidInputError as error:
            raise RpcError(a2a.INVALID_PARAMS, f"Failed to create run: {error.detail}") from None
        allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        return replace(permit, threads=both(permit.threads, allowed))

    async def _decided(
        self, connection: Connection, task: FoundTask, permit: RunPermit, message: Incoming, *, answer: bool
    ) -> RunPermit:
        """What a message to a task is once nobody else can answer it: its question may have been answered, and it may be over."""
        await self._locks.lock_thread(connection, task.ref.thread_id)
        found = await self._rows.find(connection, task.ref)
        if found is None:
            raise a2a.not_found(str(task.ref))
        if found.state.is_terminal:
            raise RpcError(a2a.UNSUPPORTED, _TERMINAL)
        waits = found.state is TaskState.INPUT_REQUIRED
        if waits is answer:
            return permit
        return replace(permit, request=_saying(permit.request, message, answer=waits))

    async def _addressed(self, caller: Principal, assistant_id: uuid.UUID, message: Incoming) -> FoundTask | None:
        if message.task_id is None:
            return None
        found = await self._tasks.find(caller, assistant_id, message.task_id)
        if message.context_id not in (None, str(found.ref.thread_id)):
            raise a2a.not_found(message.task_id)
        return found

    # -- the end -------------------------------------------------------------------------------------------------

    async def cancel(self, caller: Principal, assistant_id: str, task_id: object) -> Task:
        """End a task: what goes on and what waits for its turn; or nothing but the task, if that waits for an answer.

        Raises:
            RpcError: there is none, or it is over.
        """
        assistant, _ = await self._tasks.agent(caller, assistant_id)
        found = await self._tasks.find(caller, assistant.assistant_id, task_id)
        refused = RpcError(a2a.NOT_CANCELABLE, "Task is not cancelable in its current state")
        if found.state.is_terminal:
            raise refused
        if found.state is TaskState.INPUT_REQUIRED:
            # nothing of it is left to be done; whether the caller may end it is asked as for any change of the thread
            await self._threads.update(caller, found.ref.thread_id, metadata={}, ttl=None)
            if not await self._cancel_waiting(found):
                return await self.cancel(caller, assistant_id, task_id)  # it has just been answered, and goes on
        else:
            async with self._database.connection() as connection:
                live = await self._rows.live_runs(connection, found.ref)
            try:
                await self._runs.cancel(caller, found.ref.thread_id, live, CancelAction.INTERRUPT, _BY_CLIENT)
            except NotFoundError:
                raise refused from None
            async with self._database.transaction() as connection:
                await self._rows.cancel(connection, found.ref, found.run_id)
        return await self._tasks.whole(caller, await self._tasks.find(caller, assistant.assistant_id, task_id))

    async def _cancel_waiting(self, found: FoundTask) -> bool:
        """Whether the task still waits for an answer once nobody else can give one; then it is canceled."""
        async with self._database.transaction() as connection:
            await self._locks.lock_thread(connection, found.ref.thread_id)
            now = await self._rows.find(connection, found.ref)
            if now is None or now.state is not TaskState.INPUT_REQUIRED:
                return False
            await self._rows.cancel(connection, now.ref, now.run_id)
            return True


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


def _saying(asked: RunRequest, message: Incoming, *, answer: bool) -> RunRequest:
    """A run that begins with a message, or goes on with it as the answer to what it asks."""
    if answer:
        return replace(asked, input=None, command={"resume": message.answer})
    return replace(asked, input=message.input, command=None)
