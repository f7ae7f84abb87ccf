"""Inserts runs in a transaction of the caller's: the way for all of them that ``quick_runs`` is not for.

Everything that depends on a thread's other runs happens under the lock of the thread's row. What the run comes to of its request, its
assistant and its thread is planned here for both ways.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langgraph_serverless import tracing
from langgraph_serverless.domain.auth_filters import visible
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.ports import WebhookPolicy
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.priorities import ThreadPriority
from langgraph_serverless.domain.run_kwargs import RunPlan, context_keys, plan_run
from langgraph_serverless.domain.runs import Durability, MultitaskStrategy, Run
from langgraph_serverless.errors import NotFoundError
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.runs import LiveRun, NewRun, RunRepository
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.priorities import Place, PriorityService
from langgraph_serverless.services.quotas import check_queue
from langgraph_serverless.services.run_cancels import RunCancels
from langgraph_serverless.services.run_permits import RunPermit
from langgraph_serverless.settings import Settings

NOT_FOUND = "Thread or assistant not found."
#: A run that makes its thread and meets a delete of it between the two steps looks again.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedRun:
    """A run that has been inserted, and the runs of its thread that had to make way for it."""

    run: Run
    #: Running: their workers have to be told.
    cancelled: Sequence[uuid.UUID]
    #: No worker had them: they have ended.
    ended: Sequence[LiveRun]
    #: It cannot begin yet, whoever looks.
    waits: bool


class RunAssistant(Protocol):
    """What a run takes from its assistant."""

    @property
    def assistant_id(self) -> uuid.UUID: ...

    @property
    def graph_id(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def context(self) -> Mapping[str, Any]: ...

    @property
    def metadata(self) -> Mapping[str, Any]: ...


class RunMaker:
    """What makes runs, for those that have been permitted."""

    def __init__(
        self,
        catalog: GraphCatalog,
        settings: Settings,
        runs: RunRepository,
        cancels: RunCancels,
        *,
        priorities: PriorityService,
        webhooks: WebhookPolicy | None,
    ) -> None:
        self.catalog = catalog
        self._settings = settings
        self._runs = runs
        self._cancels = cancels
        self._priorities = priorities
        self._webhooks = webhooks

    def plan(
        self,
        caller: Principal,
        permit: RunPermit,
        assistant: RunAssistant,
        *,
        thread_id: uuid.UUID,
        thread_metadata: Mapping[str, Any],
        stateless: bool,
    ) -> RunPlan:
        """What the run comes to.

        Raises:
            GraphNotFoundError: the assistant's graph is not one of this deployment.
        """
        return plan_run(
            permit.request,
            caller,
            run_id=permit.run_id,
            thread_id=thread_id,
            assistant_id=assistant.assistant_id,
            graph_id=assistant.graph_id,
            assistant_config=assistant.config,
            assistant_context=assistant.context,
            assistant_metadata=assistant.metadata,
            thread_metadata=thread_metadata,
            context_keys=context_keys(self.catalog.require(assistant.graph_id).schemas.get("context_schema")),
            stateless=stateless,
            now_ms=time.time_ns() // 1_000_000,
            default_durability=Durability(self._settings.default_durability),
        )

    def row(
        self,
        permit: RunPermit,
        plan: RunPlan,
        assistant: RunAssistant,
        *,
        thread_id: uuid.UUID,
        tenant: str,
        priority: ThreadPriority,
    ) -> NewRun:
        """The row of a planned run."""
        request = permit.request
        return NewRun(
            run_id=permit.run_id,
            thread_id=thread_id,
            tenant=tenant,
            assistant_id=assistant.assistant_id,
            graph_id=assistant.graph_id,
            metadata=plan.metadata,
            kwargs=plan.kwargs,
            multitask_strategy=request.multitask_strategy,
            webhook=request.webhook if self._webhooks is None or self._webhooks.sends else None,
            cron_id=request.cron_id,
            cron_due_at=request.cron_due_at,
            priority=priority,
            after_seconds=max(0.0, request.after_seconds),
            thread_metadata=plan.thread_metadata,
            thread_config=plan.thread_config,
            trace=tracing.of_new_run(permit.run_id, thread_id, assistant.graph_id),
        )

    async def insert(
        self,
        connection: Connection,
        caller: Principal,
        permit: RunPermit,
        thread_id: uuid.UUID | None,
        place: Place | None,
    ) -> CreatedRun:
        """Insert a run, with its thread if it makes one.

        Raises:
            NotFoundError, ConflictError, QuotaError, GraphNotFoundError: as of ``RunService.create``.
        """
        request, run_id = permit.request, permit.run_id
        assistant_id = self.catalog.resolve_assistant(request.assistant_id)
        stateless = thread_id is None
        thread_id = thread_id or new_id()
        makes_thread, made = stateless or request.if_not_exists == "create", False
        target = None
        for _ in range(_ATTEMPTS if makes_thread else 1):
            if makes_thread:
                temporary = stateless and request.on_completion == "delete"
                made = await self._runs.ensure_thread(
                    connection,
                    thread_id,
                    tenant=caller.tenant,
                    metadata=request.metadata,
                    temporary=temporary,
                    ttl=None if temporary else self.catalog.manifest.thread_ttl,
                )
            # nobody waits for what he cannot see, nor keeps it from others
            hidden = not made and permit.threads is not None
            if hidden and not await self._runs.thread_is_visible(connection, thread_id, permit.threads):
                continue
            target = await self._runs.lock_for_create(connection, assistant_id=assistant_id, thread_id=thread_id)
            if target is None or target.thread_id is not None:
                break
        if target is None or target.thread_id is None:
            raise NotFoundError(NOT_FOUND)
        # a thread that has just been made is the caller's, whatever a handler has forgotten to write into its metadata
        if not made and not visible(target.thread_metadata, permit.threads):
            raise NotFoundError(NOT_FOUND)
        if not visible(target.metadata, permit.assistants):
            raise NotFoundError(NOT_FOUND)
        await check_queue(connection, target.tenant, request, self._settings.max_queued_runs)
        strategy = request.multitask_strategy if target.thread_is_busy else MultitaskStrategy.ENQUEUE
        cancelled, ended = await self._cancels.make_way(connection, thread_id, strategy, run_id)
        plan = self.plan(
            caller,
            permit,
            target,
            thread_id=thread_id,
            thread_metadata={} if stateless else target.thread_metadata,
            stateless=stateless,
        )
        priority = await self._priorities.keep(connection, thread_id, place)
        run, waits = await self._runs.insert(
            connection, self.row(permit, plan, target, thread_id=thread_id, tenant=target.tenant, priority=priority)
        )
        return CreatedRun(run=run, cancelled=cancelled, ended=ended, waits=waits)
