"""The outbox: webhooks that are to be sent, each written by the transaction that ended its run (``queue.sql``, ``runs.sql``).

A claim holds for a lease and counts as a try. What a sender says about its try is accepted only while no other sender has
claimed the row since, so a slow one cannot undo what a later one has achieved.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import fetch_readable

_SQL = load_queries(__file__)
CLAIM_WEBHOOKS = _SQL["claim_webhooks"]
WEBHOOK_DELIVERED = _SQL["webhook_delivered"]
WEBHOOK_FAILED = _SQL["webhook_failed"]
BURY_WEBHOOKS = _SQL["bury_webhooks"]
LIST_DEAD_WEBHOOKS = _SQL["list_dead_webhooks"]
LIST_WAITING_WEBHOOKS = _SQL["list_waiting_webhooks"]
REPLAY_WEBHOOKS = _SQL["replay_webhooks"]

#: Characters of a failure's reason that are kept.
LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook that this sender has claimed."""

    #: The message's id at the receiver, the same for every try.
    outbox_id: uuid.UUID
    run_id: uuid.UUID
    thread_id: uuid.UUID
    url: str
    #: JSON.
    body: str
    #: 1 for the first try.
    attempt: int
    #: Of the request that has made the run.
    request_id: str | None = None
    #: Where the run stands in its client's trace.
    trace: TraceContext | None = None
    #: It tells another agent of its task: what is sent is made of the body (``domain/a2a_push.py``).
    task: bool = False
    #: Why the body could not be decrypted: then it is as it is stored, and nobody's.
    unreadable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A webhook that has not been delivered, as an operator sees it."""

    outbox_id: uuid.UUID
    run_id: uuid.UUID
    thread_id: uuid.UUID
    url: str
    attempt: int
    last_error: str | None
    #: When the run ended.
    created_at: datetime
    #: When it was given up; None if it is still to be tried.
    dead_at: datetime | None
    #: When it is tried next; None if it was given up.
    due_at: datetime | None


class WebhookRepository:
    """The statements of ``webhooks.sql``."""

    async def claim(
        self, connection: Connection, *, limit: int, lease: float, most_tries: int, outbox_id: uuid.UUID | None = None
    ) -> Sequence[Delivery]:
        """Up to ``limit`` due rows, or this one if it is due."""
        parameters = {"limit": limit, "lease": lease, "most_tries": most_tries, "outbox_id": outbox_id}
        cursor = await connection.execute(CLAIM_WEBHOOKS, parameters)
        rows = await fetch_readable(cursor)
        return [Delivery(**row | {"trace": TraceContext.from_json(row["trace"])}) for row in rows]

    async def delivered(self, connection: Connection, delivery: Delivery) -> bool:
        """Whether it was still this sender's."""
        parameters = {"outbox_id": delivery.outbox_id, "attempt": delivery.attempt}
        return (await connection.execute(WEBHOOK_DELIVERED, parameters)).rowcount == 1

    async def failed(self, connection: Connection, delivery: Delivery, error: str, *, delay: float | None) -> bool:
        """Whether it was still this sender's; without a ``delay`` there is no further try."""
        parameters = {
            "outbox_id": delivery.outbox_id,
            "attempt": delivery.attempt,
            "error": error[:LONGEST_ERROR],
            "delay": delay,
        }
        return (await connection.execute(WEBHOOK_FAILED, parameters)).rowcount == 1

    async def bury(self, connection: Connection, *, most_tries: int) -> Sequence[Mapping[str, Any]]:
        """End what was lost at its last try; returns the ids of the webhooks, runs and threads."""
        return await (await connection.execute(BURY_WEBHOOKS, {"most_tries": most_tries})).fetchall()

    async def letters(self, connection: Connection, *, waiting: bool, limit: int) -> Sequence[Letter]:
        """Those that were given up, or those that wait for their next try."""
        query = LIST_WAITING_WEBHOOKS if waiting else LIST_DEAD_WEBHOOKS
        return [Letter(**row) for row in await (await connection.execute(query, {"limit": limit})).fetchall()]

    async def replay(self, connection: Connection, outbox_ids: Sequence[uuid.UUID] | None) -> Sequence[uuid.UUID]:
        """Make these due again, or all, of those that were given up; returns which."""
        ids = None if outbox_ids is None else list(outbox_ids)
        cursor = await connection.execute(REPLAY_WEBHOOKS, {"outbox_ids": ids})
        return [row["outbox_id"] for row in await cursor.fetchall()]
