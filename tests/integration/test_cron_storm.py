"""Crons in 22 zones over a year, ticked by ten schedulers at once, late, twice and after gaps of hours (R16, P9).

What has to fire comes from a reference that looks at every minute (``tests/support/cron_reference.py``), and a model of four
lines: what is due fires once, and goes on with its next time after the tick. A round is one tick of every scheduler.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from cron_reference import MINUTE, ZONES, Reference, changes
from figures import Figures, sizes

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

GRAPH = GraphManifest(graph_id="chat", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
MANIFEST = Manifest.of({"chat": GRAPH})
YEAR = 2026
SCHEDULES = ("30 2 * * *", "15 0-3 * * *", "*/30 * * * *", "0 0 * * *", "59 23 * * 6,0", "10 1,3 1,25,29 * *")
#: Runs are taken away now and then, or the queue would be what is measured.
ROUNDS_BETWEEN_CLEANING = 20


@dataclass
class Model:
    """One cron: what it must do."""

    cron_id: uuid.UUID
    reference: Reference
    due: datetime

    def tick(self, now: datetime) -> datetime | None:
        """The time that fires now."""
        if self.due > now:
            return None
        fired, self.due = self.due, self.reference.after(now)
        return fired


def moments(chance: random.Random, count: int) -> list[datetime]:
    """Times of rounds over a year: most of them in the hours around the changes of some zone's clocks, some far apart."""
    around = sorted({change for zone in ZONES for change in changes(zone, YEAR)})
    found: set[datetime] = set()
    while len(found) < count:
        if len(found) < count * 4 // 5:
            start, minutes = chance.choice(around), chance.randrange(-120, 240)
        else:
            start, minutes = datetime(YEAR, 1, 2, tzinfo=UTC), chance.randrange(360 * 24 * 60)
        found.add(start + minutes * MINUTE + timedelta(seconds=chance.choice((0, 0, 0, 1, 30))))
    return sorted(found)


async def _storm(
    containers: Sequence[SchedulerContainer],
    database: psycopg.AsyncConnection[Any],
    chance: random.Random,
    ticks: int,
    per_zone: int,
) -> dict[str, int]:
    times = moments(chance, ticks)
    models = []
    for number, zone in enumerate(ZONES):
        for schedule in chance.sample(SCHEDULES, per_zone):
            on_thread = number % 4 == 0
            thread = await containers[0].threads.create(ANONYMOUS) if on_thread else None
            body = {"assistant_id": "chat", "schedule": schedule, "timezone": zone}
            cron = await containers[0].crons.create(ANONYMOUS, body, thread_id=thread and thread.thread_id)
            reference = Reference(schedule, zone)
            models.append(Model(cron.cron_id, reference, reference.after(times[0] - timedelta(days=1))))
    # the database's time is not ours to choose: only when each cron is due first
    for model in models:
        move = "UPDATE lgs.cron SET next_run_date = %s WHERE cron_id = %s"
        await database.execute(move, (model.due, model.cron_id))

    expected: Counter[tuple[uuid.UUID, datetime]] = Counter()
    fired: Counter[tuple[uuid.UUID, datetime]] = Counter()
    failed = 0
    for number, now in enumerate(times):
        due = [(model.cron_id, date) for model in models if (date := model.tick(now)) is not None]
        expected.update(due)
        # some come late, with the time of the round before; at least one comes in time
        late = [chance.random() < 0.2 for _ in containers[1:]]
        theirs = [now, *(times[max(0, number - 1)] if is_late else now for is_late in late)]
        reports = await asyncio.gather(
            *(container.scheduler.tick(own) for container, own in zip(containers, theirs, strict=True))
        )
        # nobody even ran into the unique constraint that stands behind the row lock
        failed += sum(report.failures + report.crons_failed for report in reports)
        assert sum(report.crons_fired for report in reports) == len(due), f"round {number} at {now}"
        if number % ROUNDS_BETWEEN_CLEANING == ROUNDS_BETWEEN_CLEANING - 1 or now == times[-1]:
            cursor = await database.execute("DELETE FROM lgs.run RETURNING cron_id, cron_due_at")
            fired.update((cron_id, date) for cron_id, date in await cursor.fetchall())
            await database.execute("DELETE FROM lgs.thread WHERE temporary")
            await database.execute("UPDATE lgs.thread SET status = settled_status")
    cursor = await database.execute("SELECT cron_id, next_run_date FROM lgs.cron")
    assert dict(await cursor.fetchall()) == {model.cron_id: model.due for model in models}
    return {
        "crons": len(models),
        "zones": len(ZONES),
        "due": expected.total(),
        "fired": fired.total(),
        "duplicated": fired.total() - len(fired),
        "missed": (expected - fired).total(),
        "surplus": (fired - expected).total(),
        "failed": failed,
    }


@sizes(timeout=3600, schedulers=(10, 10), ticks=(8, 1000), per_zone=(1, 2))
async def test_ten_schedulers_over_a_year_of_changing_clocks(
    settings: Settings, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    containers = [
        SchedulerContainer(settings.replace(pool_max_size=2), manifest=MANIFEST) for _ in range(size.schedulers)
    ]
    await containers[0].assistants.ensure_defaults()
    connecting = psycopg.AsyncConnection.connect(settings.database_uri, autocommit=True)
    async with await connecting as database:
        try:
            counted = await _storm(containers, database, random.Random(seed), size.ticks, size.per_zone)
        finally:
            for container in containers:
                await container.aclose()
    figures("R16", schedulers=size.schedulers, ticks=size.ticks * size.schedulers, **counted, seed=seed)
    assert (counted["duplicated"], counted["missed"], counted["surplus"], counted["failed"]) == (0, 0, 0, 0)
