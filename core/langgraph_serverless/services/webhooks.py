"""Sends what is in the outbox: at least once, never before the run's end is committed, and never in a run's way.

A worker hands over each webhook right after the run that it belongs to (``deliver``); what is left, because a receiver was
down, a sender died or no worker had the run, is found when it is due (``deliver_due``) by workers and by the scheduler. Any
number of senders may work at once: rows are claimed. A receiver that answers with a 2xx has it; everything else is tried
again, up to eight times over about a day, with the same ``webhook-id``.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import orjson

from langgraph_serverless import tracing
from langgraph_serverless.domain.a2a_push import notification
from langgraph_serverless.domain.ports import Bell
from langgraph_serverless.domain.runs import correlation
from langgraph_serverless.domain.webhooks import MOST_TRIES, for_receivers, retry_delay
from langgraph_serverless.errors import DeliveryError, NotFoundError, UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.webhooks import Delivery, Letter, WebhookRepository
from langgraph_serverless.telemetry import logger

#: How long a claim holds (seconds): a few times as long as a try may take.
LEASE = 60.0
#: Webhooks that one process sends at once.
MOST_AT_ONCE = 16
#: After this long, ``deliver_due`` claims nothing more (seconds); the next call goes on.
LONGEST_STAY = 10.0


class Sender(Protocol):
    """Carries a body to a URL."""

    async def send(self, url: str, message_id: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Raises: DeliveryError: if the receiver has not accepted it."""


@dataclass(slots=True, kw_only=True)
class DeliveryReport:
    """What became of the webhooks that were due."""

    delivered: int = 0
    #: To be tried again.
    failed: int = 0
    #: Given up.
    dead: int = 0


class WebhookService:
    """The sending side of webhooks."""

    def __init__(self, database: Database, sender: Sender) -> None:
        self._database = database
        self._sender = sender
        self._webhooks = WebhookRepository()
        #: What this process has come to with its webhooks so far.
        self.sent = DeliveryReport()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def deliver(self, outbox_id: uuid.UUID) -> None:
        """Try one webhook, if nobody else does. What goes wrong is logged: the row says what is still to be done."""
        with _deferring():
            async with self._at_once:
                for delivery in await self._claim(1, outbox_id):
                    await self._try(delivery, DeliveryReport())

    async def deliver_due(self) -> DeliveryReport:
        """Try everything that is due, for a while.

        Raises:
            UnavailableError: if the database is out of reach.
        """
        report = DeliveryReport()
        async with self._database.connection() as connection:
            buried = await self._webhooks.bury(connection, most_tries=MOST_TRIES)
        report.dead += len(buried)
        for row in buried:
            about = {
                "webhook_id": str(row["outbox_id"]),
                "run_id": str(row["run_id"]),
                "thread_id": str(row["thread_id"]),
            }
            logger.warning(
                "webhook given up: the sender was lost at the last try", extra=about | {"action": "webhook_dead"}
            )
        until = time.monotonic() + LONGEST_STAY
        while time.monotonic() < until:
            claimed = await self._claim(MOST_AT_ONCE)
            async with asyncio.TaskGroup() as tasks:
                for delivery in claimed:
                    tasks.create_task(self._in_turn(delivery, report))
            if len(claimed) < MOST_AT_ONCE:
                break
        return report

    async def deliver_left(self) -> None:
        """``deliver_due`` for those who have nobody to tell."""
        with _deferring():
            await self.deliver_due()

    async def _claim(self, limit: int, outbox_id: uuid.UUID | None = None) -> Sequence[Delivery]:
        async with self._database.connection() as connection:
            return await self._webhooks.claim(
                connection, limit=limit, lease=LEASE, most_tries=MOST_TRIES, outbox_id=outbox_id
            )

    async def _in_turn(self, delivery: Delivery, report: DeliveryReport) -> None:
        with _deferring():  # its lease runs out; the others are not to suffer
            await self._try(delivery, report)

    async def _try(self, delivery: Delivery, report: DeliveryReport) -> None:
        about = {
            "webhook_id": str(delivery.outbox_id),
            "run_id": str(delivery.run_id),
            "thread_id": str(delivery.thread_id),
            "tries": delivery.attempt,
            **correlation(delivery.request_id, delivery.trace),
        }
        ids = {"langgraph.run_id": about["run_id"], "langgraph.webhook_id": about["webhook_id"]}
        try:
            with tracing.span("webhook", kind="client", parent=delivery.trace, attributes=ids):
                body, headers = _message(delivery)
                await self._sender.send(delivery.url, str(delivery.outbox_id), body, headers)
        except DeliveryError as error:
            delay = None if error.final else retry_delay(delivery.attempt, random.random())  # noqa: S311 - no secret
            async with self._database.connection() as connection:
                await self._webhooks.failed(connection, delivery, str(error), delay=delay)
            dead = delay is None
            for each in (report, self.sent):
                each.dead += dead
                each.failed += not dead
            logger.warning(
                "webhook %s: %s",
                "given up" if dead else "not delivered",
                error,
                extra=about | {"action": "webhook_dead" if dead else "webhook_failed"},
            )
            return
        async with self._database.connection() as connection:
            await self._webhooks.delivered(connection, delivery)
        report.delivered += 1
        self.sent.delivered += 1
        logger.info("webhook delivered", extra=about | {"action": "webhook_delivered"})


class DeadLetters:
    """The operator's side of webhooks; needs no sender. With a bell, the scheduler does not sleep over what is sent again."""

    def __init__(self, database: Database, bell: Bell | None = None) -> None:
        self._database = database
        self._bell = bell
        self._webhooks = WebhookRepository()

    async def list(self, *, waiting: bool = False, limit: int = 100) -> Sequence[Letter]:
        """For an operator: webhooks that were given up within the last week, or those that wait for their next try."""
        async with self._database.connection() as connection:
            return await self._webhooks.letters(connection, waiting=waiting, limit=limit)

    async def replay(self, outbox_ids: Sequence[uuid.UUID] | None = None) -> Sequence[uuid.UUID]:
        """Send these, or all, of those that were given up again, with the same ids and as many tries as the first time.

        Raises:
            NotFoundError: one of them was not given up, or is not known; then nothing is sent again.
        """
        async with self._database.transaction() as connection:
            replayed = await self._webhooks.replay(connection, outbox_ids)
            if missing := set(outbox_ids or ()) - set(replayed):
                names = ", ".join(sorted(map(str, missing)))
                raise NotFoundError(f"Not among the webhooks that were given up: {names}.")
        if replayed and self._bell is not None:
            await self._bell.stir()
        for outbox_id in replayed:
            logger.info("webhook to be sent again", extra={"action": "webhook_replayed", "webhook_id": str(outbox_id)})
        return replayed


def _message(delivery: Delivery) -> tuple[bytes, Mapping[str, str]]:
    """What is sent, and the headers that belong to it."""
    if delivery.unreadable is not None:
        raise DeliveryError(delivery.unreadable)  # it may be readable by the next try
    return notification(orjson.loads(delivery.body)) if delivery.task else (for_receivers(delivery.body).encode(), {})


@contextmanager
def _deferring() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        logger.warning("webhook left to a later try: %s", error, extra={"action": "webhook_deferred"})
    except Exception:
        # nobody waits for this, so nobody else would hear of a fault of ours
        logger.exception("webhook left to a later try", extra={"action": "webhook_deferred"})
