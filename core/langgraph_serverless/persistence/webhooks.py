"""The outbox: webhooks that are to be sent, each written by the transaction that ended its run (``queue.sql``, ``runs.sql``).

A claim holds for a lease and counts as a try. What a sender says about its try is accepted only while no other sender has
claimed the row since, so a slow one cannot undo what a later one has achieved.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
CLAIM_WEBHOOKS = _SQL["claim_webhooks"]
WEBHOOK_DELIVERED = _SQL["webhook_delivered"]
WEBHOOK_FAILED = _SQL["webhook_failed"]
BURY_WEBHOOKS = _SQL["bury_webhooks"]

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


class WebhookRepository:
    """The statements of ``webhooks.sql``."""

    async def claim(
        self, connection: Connection, *, limit: int, lease: float, most_tries: int, outbox_id: uuid.UUID | None = None
    ) -> Sequence[Delivery]:
        """Up to ``limit`` due rows, or this one if it is due."""
        parameters = {"limit": limit, "lease": lease, "most_tries": most_tries, "outbox_id": outbox_id}
        cursor = await connection.execute(CLAIM_WEBHOOKS, parameters)
        return [Delivery(**row) for row in await cursor.fetchall()]

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

    async def bury(self, connection: Connection, *, most_tries: int) -> int:
        """End what was lost at its last try; returns how many."""
        cursor = await connection.execute(BURY_WEBHOOKS, {"most_tries": most_tries})
        return len(await cursor.fetchall())
