"""Crons as rows.

Promises that a due cron is given to one scheduler at a time (``claim_due``), which makes its run and moves its date in the
same transaction. Never commits; when the next date is, ``domain/crons.py`` says.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.crons import Cron, CronField, OnRunCompleted
from langgraph_serverless.domain.encryption import UNREADABLE, with_scope
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.persistence.filters import Search, column, fetch, fetch_count
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document, fetch_readable

_SQL = load_queries(__file__)
INSERT_CRON = _SQL["insert_cron"]
INSERT_CRON_CREATOR = _SQL["insert_cron_creator"]
GET_CRON_CREATOR = _SQL["get_cron_creator"]
REPLACE_CRON_CREATOR = _SQL["replace_cron_creator"]
LOCK_CRON_COUNT = _SQL["lock_cron_count"]
HAS_AS_MANY_CRONS = _SQL["has_as_many_crons"]
GET_CRON = _SQL["get_cron"]
LOCK_CRON = _SQL["lock_cron"]
UPDATE_CRON = _SQL["update_cron"]
DELETE_CRON = _SQL["delete_cron"]
ASSISTANT_EXISTS = _SQL["assistant_exists"]
CLAIM_DUE_CRON = _SQL["claim_due_cron"]
MOVE_CRON = _SQL["move_cron"]
PUT_OFF_CRON = _SQL["put_off_cron"]
DATABASE_TIME = _SQL["database_time"]


#: In the document of a creator: see ``Principal.trusted``.
TRUSTED = "trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CronFilter:
    """Which crons a search or a count is about; None filters nothing."""

    assistant_id: uuid.UUID | None = None
    thread_id: uuid.UUID | None = None
    enabled: bool | None = None
    metadata: Mapping[str, Any] | None = None
    #: What authorisation handlers say of crons, and of the threads that they are on.
    allowed: Filter | None = None
    allowed_threads: Filter | None = None

    def conditions(self) -> Search:
        search = Search("lgs.cron", key="cron_id")
        search.equals("assistant_id", self.assistant_id)
        search.equals("thread_id", self.thread_id)
        search.equals("enabled", self.enabled)
        search.contains("metadata", self.metadata)
        search.allowed("metadata", self.allowed)
        search.of_allowed_threads(self.allowed_threads)
        return search


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCron:
    """A cron that is to fire, locked for this transaction."""

    cron: Cron
    #: The time that it was due at, which identifies the firing.
    due_at: datetime
    #: The database's time, from which the next date is counted.
    now: datetime
    #: There is a run for this time already.
    fired: bool
    #: Its thread and its assistant are locked for this transaction too; if not, somebody else has one of them just now.
    free: bool
    #: In whose name its runs are made.
    creator: Principal


def cron_from_row(row: Mapping[str, Any]) -> Cron:
    return Cron(
        cron_id=row["cron_id"],
        assistant_id=row["assistant_id"],
        thread_id=row["thread_id"],
        user_id=row["user_id"],
        schedule=row["schedule"],
        timezone=row["timezone"],
        end_time=row["end_time"],
        payload=row["payload"],
        metadata=row["metadata"],
        on_run_completed=OnRunCompleted(row["on_run_completed"]) if row["on_run_completed"] else None,
        enabled=row["enabled"],
        next_run_date=row["next_run_date"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        tenant=row.get("tenant", ""),
    )


def _creator(cron: Cron, known: Mapping[str, Any] | None) -> Principal:
    """Who has made the cron; of one without authentication, only the name is known. It acts in the tenant that it belongs to."""
    creator = Principal.from_json(known) if known is not None else Principal(identity=cron.user_id)
    return replace(creator, tenant=cron.tenant, trusted=known is not None and known.get(TRUSTED) is True)


def _content(cron: Cron) -> dict[str, Any]:
    return {
        "cron_id": cron.cron_id,
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "end_time": cron.end_time,
        "payload": document("cron", "payload", with_scope(cron.payload)),
        "metadata": document("cron", "metadata", cron.metadata),
        "on_run_completed": cron.on_run_completed,
        "enabled": cron.enabled,
        "next_run_date": cron.next_run_date,
    }


class CronRepository:
    """The statements of ``crons.sql``."""

    async def now(self, connection: Connection) -> datetime:
        """The database's time."""
        row = await (await connection.execute(DATABASE_TIME)).fetchone()
        assert row is not None  # a SELECT without FROM
        now: datetime = row["now"]
        return now

    async def assistant_exists(
        self, connection: Connection, assistant_id: uuid.UUID, allowed: Filter | None = None
    ) -> bool:
        """Whether there is this assistant, and the filter lets it through."""
        cursor = await connection.execute(ASSISTANT_EXISTS, {"assistant_id": assistant_id})
        row = await cursor.fetchone()
        return row is not None and visible(row["metadata"], allowed)

    async def has_as_many(self, connection: Connection, most: int, *, tenant: str) -> bool:
        """Whether the tenant has this many crons. Until the transaction ends nobody else can ask it."""
        await connection.execute(LOCK_CRON_COUNT, {"tenant": tenant})
        # a statement of its own: it sees what those have made that were waited for
        row = await (await connection.execute(HAS_AS_MANY_CRONS, {"tenant": tenant, "most": most})).fetchone()
        assert row is not None  # an aggregate
        return bool(row["reached"])

    async def insert(self, connection: Connection, cron: Cron) -> Cron | None:
        """The stored cron; None if its thread does not exist."""
        cursor = await connection.execute(
            INSERT_CRON,
            {
                **_content(cron),
                "tenant": cron.tenant,
                "assistant_id": cron.assistant_id,
                "thread_id": cron.thread_id,
                "user_id": cron.user_id,
            },
        )
        row = await cursor.fetchone()
        return cron_from_row(row) if row else None

    async def insert_creator(self, connection: Connection, cron: Cron, creator: Principal) -> None:
        """Note who has made a cron that has just been inserted."""
        # nobody but the project's own code, in a server's process, is trusted
        known = document("cron", "creator", creator.to_json() | ({TRUSTED: True} if creator.trusted else {}))
        parameters = {"cron_id": cron.cron_id, "tenant": cron.tenant, "value": known}
        await connection.execute(INSERT_CRON_CREATOR, parameters)

    async def take_over(self, connection: Connection, cron_id: uuid.UUID, caller: Principal) -> None:
        """If a cron is the project's own, for whose runs no handler is asked, make it the caller's. The cron must be locked."""
        row = await (await connection.execute(GET_CRON_CREATOR, {"cron_id": cron_id})).fetchone()
        if row is not None and row["value"].get(TRUSTED) is True:
            known = document("cron", "creator", caller.to_json())
            await connection.execute(REPLACE_CRON_CREATOR, {"cron_id": cron_id, "value": known})

    async def find(self, connection: Connection, cron_id: uuid.UUID, *, lock: bool = False) -> Cron | None:
        cursor = await connection.execute(LOCK_CRON if lock else GET_CRON, {"cron_id": cron_id})
        row = await cursor.fetchone()
        return cron_from_row(row) if row else None

    async def update(self, connection: Connection, cron: Cron) -> Cron:
        """Write a changed cron, which the caller has locked."""
        row = await (await connection.execute(UPDATE_CRON, _content(cron))).fetchone()
        assert row is not None  # it is locked
        return cron_from_row(row)

    async def delete(self, connection: Connection, cron_id: uuid.UUID) -> bool:
        cursor = await connection.execute(DELETE_CRON, {"cron_id": cron_id})
        return await cursor.fetchone() is not None

    async def search(
        self,
        connection: Connection,
        wanted: CronFilter,
        *,
        sort_by: CronField,
        descending: bool,
        limit: int,
        offset: int,
        unselected: Collection[CronField] = (),
    ) -> Page[Cron]:
        """A page of crons; those of ``payload`` and ``metadata`` that are not selected are not read, and empty."""
        columns = [column(field) for field in CronField if field not in unselected]
        order = [] if sort_by is CronField.CRON_ID else [column(sort_by)]
        rows = await fetch(
            connection,
            wanted.conditions().page(columns, order=order, descending=descending, limit=limit, offset=offset),
        )
        blank: dict[str, Any] = {field.value: {} for field in unselected}
        return Page.of([cron_from_row(blank | row) for row in rows], offset=offset, limit=limit)

    async def count(self, connection: Connection, wanted: CronFilter) -> int:
        return await fetch_count(connection, wanted.conditions())

    async def claim_due(
        self, connection: Connection, *, now: datetime | None, skipped: Collection[uuid.UUID]
    ) -> DueCron | None:
        """The next due cron, locked; ``now`` is for tests, None means the database's time."""
        cursor = await connection.execute(CLAIM_DUE_CRON, {"now": now, "skipped": list(skipped)})
        rows = await fetch_readable(cursor)
        if not rows:
            return None
        (row,) = rows
        if UNREADABLE in row:
            row = {**row, "payload": {UNREADABLE: row[UNREADABLE]}, "metadata": {}, "value": None}
        cron = cron_from_row(row)
        return DueCron(
            cron=cron,
            creator=_creator(cron, row["value"]),
            due_at=row["next_run_date"],
            now=row["now"],
            fired=row["fired"],
            free=row["free"],
        )

    async def move(self, connection: Connection, cron_id: uuid.UUID, next_run_date: datetime | None) -> None:
        await connection.execute(MOVE_CRON, {"cron_id": cron_id, "next_run_date": next_run_date})

    async def put_off(
        self, connection: Connection, cron_id: uuid.UUID, due_at: datetime, next_run_date: datetime | None
    ) -> None:
        """Give up the firing that was due at ``due_at``, if nobody has dealt with it."""
        parameters = {"cron_id": cron_id, "due_at": due_at, "next_run_date": next_run_date}
        await connection.execute(PUT_OFF_CRON, parameters)
