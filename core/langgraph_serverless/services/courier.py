"""A worker's webhooks: sent beside its runs, each as soon as its run has ended, and what others have left whenever it sweeps.

Promises that no run waits for a receiver, and that a worker which leaves waits for its receivers as long as it can afford.
What is not sent by then, or is too much, stays in the outbox for whoever sweeps next. Bound to the worker's event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

from langgraph_serverless.services.webhooks import DeliveryReport, WebhookService

#: Webhooks that may wait for a worker; more are left to the sweep.
MOST_WAITING = 200


class Courier:
    """Made anew for each worker."""

    def __init__(self, webhooks: WebhookService) -> None:
        self._webhooks = webhooks
        self._sending: set[asyncio.Task[None]] = set()
        self._left: asyncio.Task[None] | None = None

    @property
    def sent(self) -> DeliveryReport:
        """What this process has come to with its webhooks so far."""
        return self._webhooks.sent

    def send(self, outbox_id: uuid.UUID) -> None:
        """Try this one, of a run that has just ended."""
        if len(self._sending) < MOST_WAITING:
            self._begin(self._webhooks.deliver(outbox_id))

    def send_left(self) -> None:
        """Try what is due, unless the last time still goes on."""
        if self._left is None or self._left.done():
            self._left = self._begin(self._webhooks.deliver_left())

    async def leave(self, seconds: float) -> None:
        """Wait this long at most, and give up the rest: its claims run out, and another process tries again."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=seconds)
        if given_up := [*self._sending]:
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up)

    def _begin(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(sending, name="webhooks")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task
