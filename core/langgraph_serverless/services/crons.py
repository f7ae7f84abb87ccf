"""Crons: creating, changing and finding them. ``scheduler.py`` fires them.

A cron that is accepted can fire: its schedule, zone and the request that its runs are made from are checked here, with the
same rules as a run's. Dates are counted from the database's time.

Handlers for ``crons`` are asked before a connection is taken; their filter is compared with a cron's own metadata, that for threads with the
metadata of its thread. Who has made a cron is kept with it, as its runs are made in his name.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.crons import (
    Cron,
    CronField,
    OnRunCompleted,
    check_schedule,
    next_run_date,
    parse_end_time,
    run_request,
)
from langgraph_serverless.domain.encryption import without_scope
from langgraph_serverless.domain.handler_values import changed, changed_metadata, changed_number
from langgraph_serverless.domain.ids import default_assistant_id, new_id
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.ports import Authorizer, Bell, WebhookPolicy, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_kwargs import check_request
from langgraph_serverless.errors import BadRequestError, InvalidInputError, NotFoundError
from langgraph_serverless.persistence.crons import CronFilter, CronRepository
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.threads import ThreadRepository
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.idempotency import Once, claimed_transaction, keep

#: The key of a change that is not even shown: what a cron runs is settled when it is made.
FIXED = frozenset({"assistant_id"})
#: What handlers see of a change beside the payload that it makes.
_SHOWN = ("schedule", "end_time", "enabled", "on_run_completed")


class CronService:
    """Scheduled runs."""

    def __init__(
        self,
        database: Database,
        catalog: GraphCatalog,
        webhooks: WebhookPolicy | None = None,
        *,
        bell: Bell | None = None,
        least_interval: int = 0,
        most: int = 0,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        self._database = database
        self._catalog = catalog
        #: Seconds between two times of a schedule.
        self._least_interval = least_interval
        #: Crons of one tenant; 0 is no limit.
        self._most = most
        self._webhooks = webhooks
        self._bell = bell
        self._crons = CronRepository()
        self._threads = ThreadRepository()

    async def create(
        self,
        caller: Principal,
        payload: Mapping[str, Any],
        *,
        thread_id: uuid.UUID | None,
        once: Once[Cron] | None = None,
    ) -> Cron:
        """A new cron on a thread, or (None) on a fresh thread for each firing; ``payload`` is the request's body.

        Raises:
            InvalidInputError: if the schedule, the zone, the end or a field of the run's is not valid, or there are too
                many crons.
            NotFoundError: if there is no such assistant or thread.
        """
        check_schedule(payload["schedule"], payload.get("timezone"), least_interval=self._least_interval)
        payload, cron_id = without_scope(payload), new_id()
        asked_for, assistant_id = payload["assistant_id"], self._assistant_id(payload["assistant_id"])
        value: dict[str, Any] = {
            "payload": _with_cron_id(payload, cron_id),
            "schedule": payload["schedule"],
            "cron_id": cron_id,
            "thread_id": thread_id,
            "user_id": caller.identity,
            "end_time": payload.get("end_time"),
            "metadata": dict(payload.get("metadata") or {}),
        }
        await self._authorize(caller, "crons", "create", value)
        threads = assistants = None
        if thread_id is not None:
            threads = await self._authorize(
                caller, "threads", "read", {"thread_id": thread_id, "metadata": changed_metadata(value)}
            )
        if assistant_id not in map(default_assistant_id, self._catalog.graphs):
            assistants = await self._authorize(caller, "assistants", "read", {"assistant_id": assistant_id})
        metadata, payload = changed_metadata(value), changed(value, "payload", dict)
        payload = {**payload, "metadata": metadata} if payload.get("metadata") is not None else payload
        schedule, timezone = changed(value, "schedule", str), payload.get("timezone")
        check_schedule(schedule, timezone, least_interval=self._least_interval)
        await self._check_webhook(payload)
        async with claimed_transaction(self._database, caller, once) as connection:
            now = await self._crons.now(connection)
            end_time = parse_end_time(value.get("end_time"))
            cron = Cron(
                cron_id=cron_id,
                assistant_id=assistant_id,
                thread_id=thread_id,
                user_id=caller.identity,
                schedule=schedule,
                timezone=timezone,
                end_time=end_time,
                payload=_with_cron_id({**payload, "assistant_id": str(assistant_id)}, cron_id),
                metadata=metadata,
                on_run_completed=_on_run_completed(payload) if thread_id is None else None,
                enabled=payload.get("enabled") is not False,
                next_run_date=next_run_date(schedule=schedule, timezone=timezone, end_time=end_time, after=now),
                created_at=now,
                updated_at=now,
                tenant=caller.tenant,
            )
            check_request(run_request(cron, now))
            if not await self._crons.assistant_exists(connection, assistant_id, assistants):
                raise NotFoundError(f"Assistant '{asked_for}' not found")
            if self._most and await self._crons.has_as_many(connection, self._most, tenant=caller.tenant):
                raise InvalidInputError(
                    f"Invalid cron: there are {self._most} crons already, and more are not allowed here. Delete one first."
                )
            there = thread_id is None or threads is None or await self._threads.lock(connection, [thread_id], threads)
            stored = await self._crons.insert(connection, cron) if there else None
            if stored is None:
                raise NotFoundError(f"Thread with ID '{thread_id}' not found. Create the thread before its cron.")
            if caller.user is not None or caller.trusted:
                await self._crons.insert_creator(connection, stored, caller)
            await keep(connection, caller, once, stored)
        await self._stir()
        return stored

    async def _stir(self) -> None:
        if self._bell is not None:
            await self._bell.stir()

    async def _check_webhook(self, payload: Mapping[str, Any]) -> None:
        if self._webhooks is not None and (url := payload.get("webhook")) is not None:
            await self._webhooks.check(url)

    async def get(self, caller: Principal, cron_id: uuid.UUID) -> Cron:
        """Raises: NotFoundError."""
        allowed = await self._authorize(caller, "crons", "read", {"cron_id": cron_id})
        async with self._database.connection() as connection:
            cron = await self._crons.find(connection, cron_id)
        if cron is None or not visible(cron.metadata, allowed):
            raise NotFoundError("Not Found")
        return cron

    async def update(self, caller: Principal, cron_id: uuid.UUID, changes: Mapping[str, Any]) -> Cron:
        """Change a cron: metadata is merged, everything else replaced.

        A changed schedule or zone, or being enabled again, counts the next date anew from now.

        Raises:
            BadRequestError: if ``changes`` is empty.
            InvalidInputError: as for ``create``.
            NotFoundError: if there is no such cron.
        """
        if not changes:
            raise BadRequestError("Request body cannot be empty")
        changes = without_scope(changes)
        value: dict[str, Any] = {
            "cron_id": cron_id,
            **{key: changes.get(key) for key in _SHOWN},
            "payload": dict(changes),
        }
        allowed = await self._authorize(caller, "crons", "update", value)
        changes = _with_stamps(changes, value)
        await self._check_webhook(changes)
        async with self._database.transaction() as connection:
            cron = await self._lock(connection, cron_id, allowed)
            if cron is None:
                raise NotFoundError(f"Cron '{cron_id}' not found")
            changed = _changed(cron, {key: value for key, value in changes.items() if key not in FIXED})
            # one that was made before there was a least interval may still be changed otherwise
            least = self._least_interval if changes.get("schedule") is not None else 0
            check_schedule(changed.schedule, changed.timezone, least_interval=least)
            now = await self._crons.now(connection)
            check_request(run_request(changed, now))
            if caller.user is not None and not caller.trusted:
                # what somebody says is to be run is not run with the rights of the project's own code
                await self._crons.take_over(connection, cron_id, caller)
            stored = await self._crons.update(
                connection, replace(changed, next_run_date=_next_date(cron, changed, now))
            )
        await self._stir()
        return stored

    async def delete(self, caller: Principal, cron_id: uuid.UUID) -> None:
        """Raises: NotFoundError."""
        allowed = await self._authorize(caller, "crons", "delete", {"cron_id": cron_id})
        # a single statement is a transaction by itself
        scope = self._database.connection() if allowed is None else self._database.transaction()
        async with scope as connection:
            there = allowed is None or await self._lock(connection, cron_id, allowed) is not None
            if not there or not await self._crons.delete(connection, cron_id):
                raise NotFoundError("Not Found")

    async def _lock(self, connection: Connection, cron_id: uuid.UUID, allowed: Filter | None) -> Cron | None:
        """The cron, locked; None if there is none that the filter lets through."""
        if allowed is not None:  # nobody waits for what he cannot see, nor keeps it from others
            cron = await self._crons.find(connection, cron_id)
            if cron is None or not visible(cron.metadata, allowed):
                return None
        cron = await self._crons.find(connection, cron_id, lock=True)
        return cron if cron is not None and visible(cron.metadata, allowed) else None

    async def search(
        self,
        caller: Principal,
        wanted: CronFilter,
        *,
        sort_by: CronField = CronField.CREATED_AT,
        descending: bool = True,
        limit: int = 10,
        offset: int = 0,
        select: Collection[str] | None = None,
    ) -> Page[Cron]:
        """Crons that match; what is large and not selected is not read, and empty."""
        large = (CronField.PAYLOAD, CronField.METADATA)
        unselected = [field for field in large if select is not None and field not in select]
        wanted, limit, offset = await self._searchable(caller, wanted, limit, offset)
        async with self._database.connection() as connection:
            return await self._crons.search(
                connection,
                wanted,
                sort_by=sort_by,
                descending=descending,
                limit=limit,
                offset=offset,
                unselected=unselected,
            )

    async def count(self, caller: Principal, wanted: CronFilter) -> int:
        wanted, _, _ = await self._searchable(caller, wanted, 0, 0)
        async with self._database.connection() as connection:
            return await self._crons.count(connection, wanted)

    async def _searchable(
        self, caller: Principal, wanted: CronFilter, limit: int, offset: int
    ) -> tuple[CronFilter, int, int]:
        """The search as the handlers let it be made. A cron on a thread is shown to those who may find the thread."""
        value: dict[str, Any] = {
            "assistant_id": wanted.assistant_id,
            "thread_id": wanted.thread_id,
            "limit": limit,
            "offset": offset,
            "metadata": dict(wanted.metadata or {}),
        }
        allowed = await self._authorize(caller, "crons", "search", value)
        threads = await self._authorize(caller, "threads", "search", {})
        wanted = replace(wanted, metadata=changed_metadata(value), allowed=allowed, allowed_threads=threads)
        return wanted, changed_number(value, "limit", limit), changed_number(value, "offset", offset)

    def _assistant_id(self, assistant: str) -> uuid.UUID:
        try:
            return self._catalog.resolve_assistant(assistant)
        except InvalidInputError:
            # here the wire has 404 for any name that is not known
            raise NotFoundError(f"Assistant '{assistant}' not found") from None


def _on_run_completed(payload: Mapping[str, Any]) -> OnRunCompleted:
    return OnRunCompleted(payload.get("on_run_completed") or OnRunCompleted.DELETE)


def _with_cron_id(payload: Mapping[str, Any], cron_id: uuid.UUID) -> dict[str, Any]:
    config = payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(cron_id)}
    return {**payload, "config": {**config, "configurable": configurable}}


def _with_stamps(changes: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """A client's changes with what the handler has made of them, in the payload or beside it."""
    found = dict(changed(value, "payload", dict))
    found |= {key: value[key] for key in _SHOWN if key in value and value[key] != changes.get(key)}
    if stamps := changed_metadata(value):
        found["metadata"] = {**(found.get("metadata") or {}), **stamps}
    return found


def _changed(cron: Cron, changes: Mapping[str, Any]) -> Cron:
    """The cron with a client's changes; its next date is not looked at."""
    payload = _with_cron_id({**cron.payload, **changes}, cron.cron_id)
    changed = replace(cron, payload=payload, metadata={**cron.metadata, **(changes.get("metadata") or {})})
    if changes.get("schedule") is not None:
        changed = replace(changed, schedule=changes["schedule"])
    if "timezone" in changes:
        changed = replace(changed, timezone=changes["timezone"])
    if "end_time" in changes:
        changed = replace(changed, end_time=parse_end_time(changes["end_time"]))
    if changes.get("enabled") is not None:
        changed = replace(changed, enabled=changes["enabled"])
    if "on_run_completed" in changes and cron.thread_id is None:
        changed = replace(changed, on_run_completed=_on_run_completed(changes))
    return changed


def _next_date(cron: Cron, changed: Cron, now: datetime) -> datetime | None:
    """A date that is due and not yet fired stays, unless the change makes it meaningless."""
    paused_until_now = changed.enabled and not cron.enabled
    same_schedule = (cron.schedule, cron.timezone) == (changed.schedule, changed.timezone)
    if cron.next_run_date is None or paused_until_now or not same_schedule:
        return next_run_date(schedule=changed.schedule, timezone=changed.timezone, end_time=changed.end_time, after=now)
    if changed.end_time is not None and changed.end_time < max(cron.next_run_date, now):
        return None
    return cron.next_run_date
