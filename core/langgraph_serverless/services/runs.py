"""Runs: creating, reading, cancelling and deleting them. Executing them is the worker's part (``worker.py``).

A run exists once its row is committed; the bell afterwards only makes it start sooner. Everything that depends on a
thread's other runs (the multitask strategy, cancelling, deleting) happens under the lock of the thread's row, so that
two requests, or a request and a settling worker, take turns.

Runs follow their threads: who may see or change a run is decided by the handlers for threads and the thread's metadata. Handlers are
asked before a connection is taken (``run_permits.py``).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace

from langgraph_serverless.domain.auth_filters import Filter, both
from langgraph_serverless.domain.ports import Authorizer, Bell, EventAppender, WebhookPolicy, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_kwargs import check_request
from langgraph_serverless.domain.runs import (
    CancelAction,
    Run,
    RunRequest,
)
from langgraph_serverless.errors import NotFoundError
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.runs import RunRepository, RunResult
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.closing import close_streams
from langgraph_serverless.services.idempotency import Once, claimed_transaction, keep
from langgraph_serverless.services.priorities import Place, PriorityService
from langgraph_serverless.services.quick_runs import QuickRuns
from langgraph_serverless.services.run_cancels import RunCancels
from langgraph_serverless.services.run_making import CreatedRun, RunMaker
from langgraph_serverless.services.run_permits import RunPermit, permit_run
from langgraph_serverless.settings import Settings


class RunService:
    """Use cases around runs, for clients and for the scheduler."""

    def __init__(
        self,
        database: Database,
        catalog: GraphCatalog,
        bell: Bell,
        settings: Settings,
        events: EventAppender | None = None,
        *,
        webhooks: WebhookPolicy | None = None,
        priorities: PriorityService | None = None,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._bell = bell
        self._settings = settings
        self._events = events
        self._webhooks = webhooks
        self._priorities = priorities or PriorityService(database, catalog, None)
        self._authorize = authorize
        self._runs = RunRepository()
        self._cancels = RunCancels(self._runs, bell, settings, events)
        self._maker = RunMaker(
            catalog, settings, self._runs, self._cancels, priorities=self._priorities, webhooks=webhooks
        )
        self._quick = QuickRuns(database, self._maker, settings, self._priorities)

    @property
    def asks(self) -> bool:
        """Whether the project has handlers to be asked, which must not hold up a transaction."""
        return self._authorize is not allow_all

    # -- creating ------------------------------------------------------------------------------------------------

    async def create(
        self,
        caller: Principal,
        request: RunRequest,
        *,
        thread_id: uuid.UUID | None,
        once: Once[Run] | None = None,
        reads: bool = False,
    ) -> Run:
        """Queue a run on a thread, or on a thread of its own (``thread_id`` None: a stateless run).

        Args:
            reads: the caller wants what the thread comes to as the answer.

        Raises:
            AccessError: the project's handler refuses it.
            NotFoundError: no such thread or assistant.
            ConflictError: strategy ``reject`` and the thread is busy.
            InvalidInputError: a field is wrong; the message names it.
        """
        permit = await self.permit(caller, request, thread_id=thread_id)
        if reads:
            allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
            permit = replace(permit, threads=both(permit.threads, allowed))
        return await self.create_permitted(caller, permit, thread_id=thread_id, once=once)

    async def permit(self, caller: Principal, request: RunRequest, *, thread_id: uuid.UUID | None) -> RunPermit:
        """Ask whether the caller may run this, before the transaction that does.

        Raises:
            AccessError: not at all.
            InvalidInputError: as for ``create``.
        """
        check_request(request, stateless=thread_id is None)
        return await permit_run(self._authorize, self._catalog, caller, request, thread_id=thread_id)

    async def create_permitted(
        self, caller: Principal, permit: RunPermit, *, thread_id: uuid.UUID | None, once: Once[Run] | None = None
    ) -> Run:
        """Queue what has been permitted."""
        await self._check_webhook(permit.request)
        if once is None and (quick := await self._quick.create(caller, permit, thread_id)) is not None:
            await self.announce([quick])
            return quick.run
        (place,) = await self._priorities.places(caller, [(permit.request, thread_id)])
        async with claimed_transaction(self._database, caller, once) as connection:
            created = await self._maker.insert(connection, caller, permit, thread_id, place)
            await keep(connection, caller, once, created.run)
        await self.announce([created])
        return created.run

    async def create_within(
        self,
        connection: Connection,
        caller: Principal,
        request: RunRequest,
        *,
        thread_id: uuid.UUID | None,
        place: Place | None = None,
        permit: RunPermit | None = None,
    ) -> CreatedRun:
        """The same in the caller's transaction, who calls ``announce`` after it. Nobody else may hold that up: the webhook's host is
        looked up by the sender, and the project's handlers must have been asked before.

        Args:
            permit: for the caller, this thread and what this request was then; it is asked for now if there is none.
        """
        if permit is None:
            permit = await self.permit(caller, request, thread_id=thread_id)
        else:
            check_request(request, stateless=thread_id is None)
            permit = replace(permit, request=request)
        return await self._maker.insert(connection, caller, permit, thread_id, place)

    async def announce(self, created: Sequence[CreatedRun]) -> None:
        """Wake workers for committed runs, and tell those whose runs had to make way."""
        cancelled = [run_id for each in created for run_id in each.cancelled]
        ended = [run for each in created for run in each.ended]
        await close_streams(self._events, ended, self._settings.stream_retention)
        if cancelled:
            await self._bell.cancel(cancelled)
        waiting = sum(each.waits for each in created)
        await self._bell.ring(len(created) - waiting)
        # who ends what these wait for, or a tick, finds them when they may begin
        await self._bell.ring(waiting, invoke=False)

    async def create_batch(
        self, caller: Principal, requests: Sequence[RunRequest], once: Once[Sequence[Run]] | None = None
    ) -> Sequence[Run]:
        """Queue stateless runs, all of them or none."""
        permits = [await self.permit(caller, request, thread_id=None) for request in requests]
        for permit in permits:
            await self._check_webhook(permit.request)
        places = await self._priorities.places(caller, [(permit.request, None) for permit in permits])
        async with claimed_transaction(self._database, caller, once) as connection:
            wanted = zip(permits, places, strict=True)
            created = [await self._maker.insert(connection, caller, permit, None, place) for permit, place in wanted]
            runs = [each.run for each in created]
            await keep(connection, caller, once, runs)
        await self.announce(created)
        return runs

    async def _check_webhook(self, request: RunRequest) -> None:
        if request.webhook is not None and self._webhooks is not None:
            await self._webhooks.check(request.webhook)

    # -- reading -------------------------------------------------------------------------------------------------

    async def get(self, caller: Principal, thread_id: uuid.UUID, run_id: uuid.UUID) -> Run:
        """Raises: NotFoundError."""
        allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        async with self._database.connection() as connection:
            run = await self._runs.find(connection, run_id, thread_id, allowed)
            if run is None and not await self._runs.thread_is_visible(connection, thread_id, allowed):
                raise NotFoundError(f"Thread with ID {thread_id} not found")
        if run is None:
            raise NotFoundError("Not Found")
        return run

    async def find(self, caller: Principal, thread_id: uuid.UUID | None, run_id: uuid.UUID) -> Run | None:
        """The run, or None if it does not exist (any more)."""
        allowed = await self.readable(caller, thread_id, run_id)
        return await self.look(thread_id, run_id, allowed)

    async def readable(self, caller: Principal, thread_id: uuid.UUID | None, run_id: uuid.UUID) -> Filter | None:
        """Which threads the caller may follow a run of, for ``look`` and ``result``.

        Args:
            thread_id: None if the client has not named it.

        Raises:
            AccessError: none.
        """
        if self._authorize is allow_all:
            return None
        if thread_id is None:
            async with self._database.connection() as connection:
                thread_id = await self._runs.thread_of(connection, run_id)
        return await self._authorize(caller, "threads", "read", {"thread_id": thread_id and str(thread_id)})

    async def look(self, thread_id: uuid.UUID | None, run_id: uuid.UUID, allowed: Filter | None) -> Run | None:
        """The run, of which ``readable`` has said who may see it.

        Raises:
            NotFoundError: there are handlers, and the caller sees no such thread.
        """
        async with self._database.connection() as connection:
            run = await self._runs.find(connection, run_id, thread_id, allowed)
            if run is not None or allowed is None or thread_id is None:
                return run
            if await self._runs.thread_is_visible(connection, thread_id, allowed, gone=True):
                return None
        raise NotFoundError("Thread not found")

    async def list(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        limit: int,
        offset: int,
        status: str | None,
        select: Collection[str] | None = None,
    ) -> list[Run]:
        """A page of a thread's runs, newest first; what is large and not selected is not read, and empty.

        Raises:
            NotFoundError: without the thread.
        """
        read = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        found = await self._authorize(caller, "threads", "search", {"thread_id": thread_id, "metadata": {}})
        allowed = both(read, found)
        async with self._database.connection() as connection:
            looked = allowed is None or await self._runs.thread_is_visible(connection, thread_id, allowed)
            runs = (
                await self._runs.list(connection, thread_id, limit=limit, offset=offset, status=status, select=select)
                if looked
                else []
            )
            if not runs and not await self._runs.thread_is_visible(connection, thread_id, allowed):
                raise NotFoundError(f"Thread with ID {thread_id} not found")
            return runs

    async def result(self, run_id: uuid.UUID, allowed: Filter | None = None) -> RunResult | None:
        """How the run stands and what it left; None if it has been deleted (rolled back). For whoever has been let in to the run
        already, or with what ``readable`` has said."""
        async with self._database.connection() as connection:
            return await self._runs.result(connection, run_id, allowed)

    # -- ending --------------------------------------------------------------------------------------------------

    async def delete(self, caller: Principal, thread_id: uuid.UUID, run_id: uuid.UUID) -> None:
        """Delete a run and the checkpoints that it has written; if it is being executed, its worker loses it and stops.

        Raises:
            NotFoundError: no such run on this thread.
        """
        allowed = await self._authorize(caller, "threads", "delete", {"run_id": run_id, "thread_id": thread_id})
        async with self._database.transaction() as connection:
            # without the lock, a thread that has just been made anew under this id would not be locked, but its runs
            locked = await self._runs.lock_thread(connection, thread_id, allowed)
            if locked:
                await self._runs.live(connection, thread_id)  # their rows too, as ``delete_run`` asks for
            deleted = await self._runs.delete(connection, run_id, thread_id) if locked else None
            if deleted is None:
                raise NotFoundError("Run not found")
            more = not deleted.status.is_final and await self._cancels.refresh(connection, thread_id)
        if not deleted.status.is_final:
            await self._bell.cancel([run_id])
            await close_streams(self._events, [deleted], self._settings.stream_retention)
            await self._bell.ring(int(more))

    async def cancel(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        run_ids: Sequence[uuid.UUID],
        action: CancelAction,
        reason: str,
    ) -> Sequence[uuid.UUID]:
        """Record the cancel of runs; those without a worker end at once, the others within a heartbeat.

        Returns the runs that are cancelled by it.

        Raises:
            NotFoundError: none of them exists, or all of them have finished.
        """
        allowed = await self._may_cancel(caller, thread_id, action, run_ids=list(run_ids))
        async with self._database.transaction() as connection:
            locked = await self._runs.lock_thread(connection, thread_id, allowed)
            runs = await self._runs.lock_runs(connection, thread_id, run_ids) if locked else ()
            if not runs:
                raise NotFoundError("No runs found to cancel.")
            live = [run for run in runs if not run.status.is_final]
            if not live:
                raise NotFoundError(
                    "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the runs haven't been deleted or completed."
                )
            running, ended = await self._cancels.cancel_locked(connection, live, action, reason=reason)
            more = await self._cancels.refresh(connection, thread_id)
        await self._cancels.tell(running, ended, more=more)
        return [*running, *(run.run_id for run in ended)]

    async def cancel_by_status(
        self, caller: Principal, status: str, action: CancelAction, reason: str
    ) -> Sequence[uuid.UUID]:
        """Cancel every ``pending``, ``running`` or live (``all``) run, thread by thread.

        Raises:
            NotFoundError: there is none.
        """
        allowed = await self._may_cancel(caller, None, action, status=status)
        async with self._database.connection() as connection:
            threads = await self._runs.threads_with_status(connection, status)
        cancelled: list[uuid.UUID] = []
        for thread_id in threads:
            async with self._database.transaction() as connection:
                if not await self._runs.lock_thread(connection, thread_id, allowed):
                    continue
                live = [
                    run for run in await self._runs.live(connection, thread_id) if status in ("all", run.wire_status)
                ]
                running, ended = await self._cancels.cancel_locked(connection, live, action, reason=reason)
                more = await self._cancels.refresh(connection, thread_id)
            await self._cancels.tell(running, ended, more=more)
            cancelled += [*running, *(run.run_id for run in ended)]
        if not cancelled:
            raise NotFoundError("No runs found to cancel.")
        return cancelled

    async def _may_cancel(
        self,
        caller: Principal,
        thread_id: uuid.UUID | None,
        action: CancelAction,
        *,
        run_ids: Sequence[uuid.UUID] | None = None,
        status: str | None = None,
    ) -> Filter | None:
        which = {"run_ids": run_ids, "status": status}
        value = {"thread_id": thread_id, "action": action.value, "metadata": which}
        return await self._authorize(caller, "threads", "update", value)
