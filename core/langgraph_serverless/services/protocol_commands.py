"""Commands of the thread protocol that make runs: starting one, answering what one asks, going on from an earlier checkpoint.

They are runs like any other, made by ``services/runs.py``; what is special is that their events are records of the protocol
(``domain/run_kwargs.py``), that the thread is made with the first one, and that they take turns.

An interrupt is answered once. Its thread is locked while the interrupt is looked up and the run that answers it is made, so of
two clients that answer at once one is told that it is too late. Different interrupts of a thread can be answered one by one.
Clients answer what they see, which may be before the run that asks has come to its end; so that run's log is looked at too.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ports import Authorizer, EventReader, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_commands import NO_SUCH_CHECKPOINT, NO_SUCH_RUN, unknown_interrupt
from langgraph_serverless.domain.runs import MultitaskStrategy, Run, RunRequest
from langgraph_serverless.errors import CommandError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.protocol_commands import (
    Asked,
    AskingThread,
    LiveCommand,
    find_asking,
    has_checkpoint,
)
from langgraph_serverless.persistence.runs import RunRepository
from langgraph_serverless.services.idempotency import Once, claimed_transaction, keep
from langgraph_serverless.services.priorities import PriorityService
from langgraph_serverless.services.run_permits import RunPermit
from langgraph_serverless.services.runs import RunService

NO_INTERRUPTED_RUN = "No interrupted run is bound to this thread."
NO_RUN = "No run is bound to this thread."
#: Before the first event of a run.
NOTHING_YET = "0-0"

_INTERRUPT_ID = re.compile(rb'"(?:interrupt_)?id":"([0-9a-f]{32})"')


class ProtocolCommandService:
    """Use cases behind the commands that make runs."""

    def __init__(
        self,
        database: Database,
        runs: RunService,
        priorities: PriorityService,
        events: EventReader | None,
        *,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        self._database = database
        self._events = events
        self._runs = runs
        self._priorities = priorities
        self._locks = RunRepository()

    async def start(
        self, caller: Principal, thread_id: uuid.UUID, request: RunRequest, once: Once[Run] | None = None
    ) -> Run:
        """Queue a run on a thread, which is made if it is missing.

        The input of a run on a thread that asks is the answer, as on the official server, unless the run names a checkpoint.

        Raises:
            The same as ``RunService.create``.
        """
        permit = await self._runs.permit(caller, _as_command(request), thread_id=thread_id)
        request = permit.request
        may_answer = request.input is not None and not (request.config.get("configurable") or {}).get("checkpoint_id")
        if may_answer and (found := await self._find(thread_id, permit.threads)) and found.open_interrupts({}):
            return await self._make(caller, thread_id, permit, once, _as_answer)
        return await self._runs.create_permitted(caller, permit, thread_id=thread_id, once=once)

    async def respond(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        interrupt_ids: Collection[str],
        request: RunRequest,
        once: Once[Run] | None = None,
    ) -> Run:
        """Queue a run of the assistant that has asked; ``request`` has its command and everything else but the assistant.

        Raises:
            CommandError: the thread does not exist, or does not ask this (any longer).
        """
        found = await self._find(thread_id, await self._readable(caller, thread_id))
        # the assistant only decides here what handlers are told; what counts is looked up under the lock
        request = replace(_as_command(request), assistant_id=(found and found.assistant_id) or "")
        permit = await self._runs.permit(caller, request, thread_id=thread_id)
        asked_now: Asked = {}
        if found is not None and not found.open_interrupts({}).issuperset(interrupt_ids):
            asked_now = await self._asked_by(found.live)

        def asked(request: RunRequest, thread: AskingThread | None) -> RunRequest:
            if thread is None:
                raise CommandError(NO_SUCH_RUN, NO_INTERRUPTED_RUN)
            left = thread.open_interrupts(asked_now)
            for interrupt_id in interrupt_ids:
                if interrupt_id not in left:
                    raise unknown_interrupt(interrupt_id)
            if thread.assistant_id is None:
                raise CommandError(NO_SUCH_RUN, NO_INTERRUPTED_RUN)
            return replace(request, assistant_id=thread.assistant_id)

        return await self._make(caller, thread_id, permit, once, asked)

    async def fork(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        checkpoint_id: uuid.UUID,
        request: RunRequest,
        once: Once[Run] | None = None,
    ) -> Run:
        """Queue a run of the thread's assistant that starts from an earlier checkpoint.

        Raises:
            CommandError: the thread has no assistant, or not this checkpoint.
        """
        thread = await self._find(thread_id, await self._readable(caller, thread_id))
        if thread is None or thread.assistant_id is None:
            raise CommandError(NO_SUCH_RUN, NO_RUN)
        async with self._database.connection() as connection:
            there = await has_checkpoint(connection, thread_id, checkpoint_id)
        if not there:
            raise CommandError(NO_SUCH_CHECKPOINT, f"Unknown checkpoint: {checkpoint_id}")
        request = replace(request, assistant_id=thread.assistant_id, checkpoint={"checkpoint_id": str(checkpoint_id)})
        return await self._runs.create(caller, _as_command(request), thread_id=thread_id, once=once)

    async def _readable(self, caller: Principal, thread_id: uuid.UUID) -> Filter | None:
        return await self._authorize(caller, "threads", "read", {"thread_id": thread_id})

    async def _find(self, thread_id: uuid.UUID, allowed: Filter | None) -> AskingThread | None:
        async with self._database.connection() as connection:
            found = await find_asking(connection, thread_id)
        return found if found is not None and visible(found.metadata, allowed) else None

    async def _asked_by(self, live: Sequence[LiveCommand]) -> Asked:
        """What the run that goes on has asked so far. Its client has seen that in the log, so there it is."""
        if not live or self._events is None:
            return {}
        run_id, asked = live[0].run_id, set[str]()
        newest = await self._events.newest(run_id)
        if newest is None or newest == NOTHING_YET:
            return {}
        async with aclosing(
            cast(AsyncGenerator[Sequence[Event], None], self._events.read(run_id, NOTHING_YET))
        ) as batches:
            async for batch in batches:
                for event in batch:
                    asked.update(_interrupts_in(event))
                if not batch or batch[-1].is_end or _place(batch[-1].id) >= _place(newest):
                    break
        return {run_id: frozenset(asked)}

    async def _make(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        permit: RunPermit,
        once: Once[Run] | None,
        decide: Callable[[RunRequest, AskingThread | None], RunRequest],
    ) -> Run:
        """Queue what is decided while the thread is locked, and nobody else can answer what it asks."""
        # may ask the user's code, which must not hold a lock
        (place,) = await self._priorities.places(caller, [(permit.request, thread_id)])
        async with claimed_transaction(self._database, caller, once) as connection:
            locked = await self._locks.lock_thread(connection, thread_id, permit.threads)
            request = decide(permit.request, await find_asking(connection, thread_id) if locked else None)
            created = await self._runs.create_within(
                connection, caller, request, thread_id=thread_id, place=place, permit=permit
            )
            await keep(connection, caller, once, created.run)
        await self._runs.announce([created])
        return created.run


def _as_answer(request: RunRequest, thread: AskingThread | None) -> RunRequest:
    if thread is None or not thread.open_interrupts({}):
        return request  # somebody else was quicker
    return replace(request, input=None, command={"resume": request.input})


def _as_command(request: RunRequest) -> RunRequest:
    return replace(
        request,
        protocol=True,
        if_not_exists="create",
        multitask_strategy=MultitaskStrategy.ENQUEUE,
        stream_resumable=True,
        stream_subgraphs=True,
    )


def _interrupts_in(event: Event) -> Iterable[str]:
    """The ids of the interrupts that an event tells of, whichever way the run is streamed."""
    if event.name.startswith("input.requested") or b'"__interrupt__"' in event.data:
        return (found.decode() for found in _INTERRUPT_ID.findall(event.data))
    return ()


def _place(event_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in event_id.split("-"))
