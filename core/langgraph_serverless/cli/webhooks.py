"""``langgraph-serverless webhooks``: the dead letters of the database that ``DATABASE_URI`` names.

Sends nothing itself: what is replayed becomes due, and the next worker or scheduler that looks sends it; with ``REDIS_URI`` a
scheduler that naps is woken. Of a webhook's URL only what names the receiver is shown, as the rest may be secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

import click

from langgraph_serverless.cli.laptop.addresses import check_postgres, named
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.persistence.webhooks import Letter
from langgraph_serverless.services.webhooks import DeadLetters
from langgraph_serverless.settings import Settings

T = TypeVar("T")


def list_webhooks(*, waiting: bool, limit: int) -> None:
    """Write one JSON object per webhook."""
    for letter in _asked(lambda letters: letters.list(waiting=waiting, limit=limit)):
        click.echo(json.dumps(_shown(letter)))


def replay_webhooks(outbox_ids: Sequence[uuid.UUID] | None) -> None:
    """Make them due."""
    replayed = _asked(lambda letters: letters.replay(outbox_ids))
    for outbox_id in replayed:
        click.echo(str(outbox_id))
    click.echo(f"To be sent again: {len(replayed)}.", err=True)


def _asked(ask: Callable[[DeadLetters], Awaitable[T]]) -> T:
    settings = Settings.from_env(os.environ)
    chosen = named(os.environ, "database_uri")
    check_postgres(chosen[0] if chosen else "DATABASE_URI", settings.database_uri)

    async def asking() -> T:
        container = ApiContainer(settings)
        try:
            return await ask(DeadLetters(container.database.as_system(), container.bell))
        finally:
            await container.aclose()

    return asyncio.run(asking())


def _shown(letter: Letter) -> dict[str, str | int | None]:
    parts = urlsplit(letter.url)
    return {
        "webhook_id": str(letter.outbox_id),
        "run_id": str(letter.run_id),
        "thread_id": str(letter.thread_id),
        "url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path,
        "tries": letter.attempt,
        "reason": letter.last_error,
        "run_ended_at": letter.created_at.isoformat(),
        "given_up_at": _time(letter.dead_at),
        "next_try_at": _time(letter.due_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
