"""Crons: creating, changing and finding them. ``scheduler.py`` fires them.

A cron that is accepted can fire: its schedule, zone and the request that its runs are made from are checked here, with the
same rules as a run's. Dates are counted from the database's time.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.crons import (
    Cron,
    CronField,
    OnRunCompleted,
    check_schedule,
    next_run_date,
    parse_end_time,
    run_request,
)
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.ports import Bell, WebhookPolicy
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_kwargs import check_request
from langgraph_serverless.errors import BadRequestError, InvalidInputError, NotFoundError
from langgraph_serverless.persistence.crons import CronFilter, CronRepository
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.idempotency import Once, claimed_transaction, keep

#: The key of a change that is not even shown: what a cron runs is settled when it is made.
FIXED = frozenset({"assistant_id"})


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
    ) -> None:
        self._database = database
        self._catalog = catalog
        #: Seconds between two times of a schedule.
        self._least_interval = least_interval
        #: Crons of one tenant; 0 is no limit.
        self._most = most
        self._webhooks = webhooks
        self._bell = bell
        self._crons = CronRepository()

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
        schedule, timezone = payload["schedule"], payload.get("timezone")
        check_schedule(schedule, timezone, least_interval=self._least_interval)
        assistant_id = self._assistant_id(payload["assistant_id"])
        cron_id = new_id()
        await self._check_webhook(payload)
        async with claimed_transaction(self._database, caller, once) as connection:
            now = await self._crons.now(connection)
            end_time = parse_end_time(payload.get("end_time"))
            cron = Cron(
                cron_id=cron_id,
                assistant_id=assistant_id,
                thread_id=thread_id,
                user_id=caller.identity,
                schedule=schedule,
                timezone=timezone,
                end_time=end_time,
                payload=_with_cron_id({**payload, "assistant_id": str(assistant_id)}, cron_id),
                metadata=payload.get("metadata") or {},
                on_run_completed=_on_run_completed(payload) if thread_id is None else None,
                enabled=payload.get("enabled") is not False,
                next_run_date=next_run_date(schedule=schedule, timezone=timezone, end_time=end_time, after=now),
                created_at=now,
                updated_at=now,
                tenant=caller.tenant,
            )
            check_request(run_request(cron, now))
            if not await self._crons.assistant_exists(connection, assistant_id):
                raise NotFoundError(f"Assistant '{payload['assistant_id']}' not found")
            if self._most and await self._crons.has_as_many(connection, self._most, tenant=caller.tenant):
                raise InvalidInputError(
                    f"Invalid cron: there are {self._most} crons already, and more are not allowed here. Delete one first."
                )
            stored = await self._crons.insert(connection, cron)
            if stored is None:
                raise NotFoundError(f"Thread with ID '{thread_id}' not found. Create the thread before its cron.")
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
        async with self._database.connection() as connection:
            cron = await self._crons.find(connection, cron_id)
        if cron is None:
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
        await self._check_webhook(changes)
        async with self._database.transaction() as connection:
            cron = await self._crons.find(connection, cron_id, lock=True)
            if cron is None:
                raise NotFoundError(f"Cron '{cron_id}' not found")
            changed = _changed(cron, {key: value for key, value in changes.items() if key not in FIXED})
            # one that was made before there was a least interval may still be changed otherwise
            least = self._least_interval if changes.get("schedule") is not None else 0
            check_schedule(changed.schedule, changed.timezone, least_interval=least)
            now = await self._crons.now(connection)
            check_request(run_request(changed, now))
            stored = await self._crons.update(
                connection, replace(changed, next_run_date=_next_date(cron, changed, now))
            )
        await self._stir()
        return stored

    async def delete(self, caller: Principal, cron_id: uuid.UUID) -> None:
        """Raises: NotFoundError."""
        async with self._database.connection() as connection:
            if not await self._crons.delete(connection, cron_id):
                raise NotFoundError("Not Found")

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
        async with self._database.connection() as connection:
            return await self._crons.count(connection, wanted)

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
