"""``langgraph-serverless runs``: runs that were given up, in the database that ``DATABASE_URI`` names, and their way back.

Executes nothing itself: what is replayed waits in the queue for the next worker. With ``REDIS_URI`` the workers are told at once,
and whoever joins such a run is not answered from the stream of its first end.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from langgraph_serverless.cli.laptop.addresses import check_postgres, named
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.persistence.replays import GivenUp
from langgraph_serverless.services.replays import ReplayService
from langgraph_serverless.settings import Settings

T = TypeVar("T")


def list_runs(*, limit: int) -> None:
    """Write one JSON object per run that was given up."""
    for run in _asked(lambda replays: replays.list(ANONYMOUS, limit=limit)):
        click.echo(json.dumps(_shown(run)))


def replay_runs(run_ids: Sequence[uuid.UUID]) -> None:
    """Put them back into the queue, one after the other; a refusal ends it."""

    async def replay(replays: ReplayService) -> None:
        for run_id in run_ids:
            new = await replays.replay(ANONYMOUS, run_id)
            click.echo(f"{run_id} {'waits for a worker' if new else 'is being replayed already'}")

    _asked(replay)


def _asked(ask: Callable[[ReplayService], Awaitable[T]]) -> T:
    settings = Settings.from_env(os.environ)
    chosen = named(os.environ, "database_uri")
    check_postgres(chosen[0] if chosen else "DATABASE_URI", settings.database_uri)

    async def asking() -> T:
        container = ApiContainer(settings)
        try:
            return await ask(container.replays)
        finally:
            await container.aclose()

    return asyncio.run(asking())


def _shown(run: GivenUp) -> dict[str, str | int | None]:
    return {
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
        "graph_id": run.graph_id,
        "ended_at": run.finished_at.isoformat(),
        "node": run.last_node,
        "leases": run.leases,
        "error": run.message,
        "last_error": run.last_error,
    }
