"""A tick that has found nothing to do lets the next ones leave the database alone, until something is made or is due."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click.testing import CliRunner
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_serverless.cli.main import main
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, RunRequest
from langgraph_serverless.persistence.system import SystemRepository
from langgraph_serverless.queue.slots import BoardKeys
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")
NAP = 900.0
REQUEST = RunRequest(assistant_id="chat", input={})
CHAT = GraphManifest(
    graph_id="chat", description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
)


@pytest.fixture
async def site(settings: Settings, clean_database: None) -> AsyncIterator[SchedulerContainer]:
    own = settings.replace(redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}", scheduler_nap=NAP)
    container = SchedulerContainer(own, manifest=Manifest.of({"chat": CHAT}))
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()


async def naps(site: SchedulerContainer) -> bool:
    return (await site.scheduler.tick()).napped


async def asleep_for(site: SchedulerContainer) -> float:
    assert site.redis is not None
    return await site.redis.pttl(BoardKeys(site.settings.redis_key_prefix).nap) / 1000


async def test_idle_ticks_leave_the_database_alone(site: SchedulerContainer) -> None:
    assert not await naps(site)
    assert await naps(site)
    assert NAP - 30 < await asleep_for(site) <= NAP
    nowhere = site.settings.replace(database_uri="postgresql://nobody@127.0.0.1:1/none")
    blind = SchedulerContainer(nowhere, manifest=Manifest.of({"chat": CHAT}))
    assert await naps(blind), "it does not even ask for a connection"
    await blind.aclose()


async def test_nobody_naps_who_was_not_told_to(site: SchedulerContainer) -> None:
    awake = SchedulerContainer(site.settings.replace(scheduler_nap=0.0), manifest=Manifest.of({"chat": CHAT}))
    assert not await naps(site)
    assert not await naps(awake)
    await awake.aclose()


async def test_a_run_ends_the_nap_and_keeps_others_from_beginning(site: SchedulerContainer) -> None:
    await naps(site)
    run = await site.runs.create(ANONYMOUS, REQUEST, thread_id=None)
    for _ in range(2):
        assert not await naps(site)
    await site.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction.INTERRUPT, "test")
    assert not await naps(site)
    assert await naps(site)


async def test_a_nap_ends_when_something_is_due(site: SchedulerContainer) -> None:
    thread = (await site.threads.create(ANONYMOUS)).thread_id
    run = await site.runs.create(
        ANONYMOUS, RunRequest(assistant_id="chat", input={}, after_seconds=300), thread_id=thread
    )
    await naps(site)
    assert 200 < await asleep_for(site) <= 300
    # a cancel frees nobody, but its webhook may be waiting
    await site.runs.cancel(ANONYMOUS, thread, [run.run_id], CancelAction.INTERRUPT, "test")
    assert not await naps(site)
    # soon is not worth a nap
    await site.runs.create(ANONYMOUS, RunRequest(assistant_id="chat", input={}, after_seconds=30), thread_id=thread)
    for _ in range(2):
        assert not await naps(site)


async def test_crons_end_the_nap(site: SchedulerContainer) -> None:
    payload: dict[str, Any] = {"assistant_id": "chat", "input": {}}
    await naps(site)
    cron = await site.crons.create(ANONYMOUS, {**payload, "schedule": "0 0 1 1 *"}, thread_id=None)
    assert not await naps(site)
    assert await naps(site), "its time is far"
    await site.crons.update(ANONYMOUS, cron.cron_id, {"schedule": "* * * * *"})
    for _ in range(2):
        assert not await naps(site)


async def test_a_webhook_that_is_sent_again_ends_the_nap(site: SchedulerContainer) -> None:
    given = RunRequest(assistant_id="chat", input={}, webhook="https://93.184.216.34/hook")
    run = await site.runs.create(ANONYMOUS, given, thread_id=None)
    await site.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction.INTERRUPT, "test")
    async with site.database.connection() as connection:
        await connection.execute("UPDATE lgs.outbox SET dead_at = now() WHERE run_id = %s", (run.run_id,))
    assert [await naps(site), await naps(site)] == [False, True]
    settings = site.settings
    environ = {
        "DATABASE_URI": settings.database_uri,
        "REDIS_URI": settings.redis_uri,
        "REDIS_KEY_PREFIX": settings.redis_key_prefix,
        # an operator may have the stack's variables, and has no manifest
        "WORKER_FUNCTION_NAME": "worker",
    }
    done = await asyncio.to_thread(CliRunner().invoke, main, ["webhooks", "replay", "--all"], env=environ)
    assert (done.exit_code, "To be sent again: 1." in done.output) == (0, True), done.output
    async with site.database.connection() as connection:  # nothing is to be sent from here
        await connection.execute("UPDATE lgs.outbox SET dead_at = now()")
    assert not await naps(site)


async def test_a_mark_that_may_come_late_begins_no_nap(
    site: SchedulerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the tick's look and its late mark, a ring may have removed what was there before."""
    write = Redis.set

    async def late(self: Redis, *args: Any, **options: Any) -> Any:
        await write(self, *args, **options)
        raise RedisTimeoutError("the answer is late")

    with monkeypatch.context() as slow:
        slow.setattr(Redis, "set", late)
        for _ in range(2):
            assert not await naps(site)
    assert [await naps(site), await naps(site)] == [False, True]


async def test_what_is_made_while_a_tick_looks_is_not_slept_over(
    site: SchedulerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = SystemRepository.seconds_until_work

    async def late(self: SystemRepository, connection: Any) -> float | None:
        seconds = await look(self, connection)
        await site.runs.create(ANONYMOUS, REQUEST, thread_id=None)
        return seconds

    monkeypatch.setattr(SystemRepository, "seconds_until_work", late)
    assert not await naps(site)
    assert (await site.scheduler.tick()).bells_rung == 1


async def test_without_redis_every_tick_looks(site: SchedulerContainer, redis_uri: str) -> None:
    await naps(site)
    async with Redis.from_url(redis_uri) as redis:
        await redis.delete(BoardKeys(site.settings.redis_key_prefix).nap)  # as after a failover
    assert not await naps(site)
    away = SchedulerContainer(
        site.settings.replace(redis_uri="redis://127.0.0.1:1"), manifest=Manifest.of({"chat": CHAT})
    )
    for _ in range(2):
        assert not await naps(away)
    await away.aclose()
