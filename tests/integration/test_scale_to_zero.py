"""From nobody to as many workers as there may be, and back: how many invocations that takes, and how few are made in vain.

Lambda's part is played by ``lambda_edge.py``; workers are the worker function's own ``consume``, each in a thread with a loop of
its own. Crashes are in ``tests/faults/test_scale_to_zero.py``, the real API and real functions in ``tests/e2e``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dev_server import PATIENCE
from figures import Figures, percentile, sizes
from redis.asyncio import Redis
from worker_container import MakeContainer

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, MultitaskStrategy, RunRequest
from langgraph_serverless.queue.slots import BoardKeys, SlotBoard
from langgraph_serverless.queue.worker_function import WorkerFunction
from langgraph_serverless.services.worker import Worker

PROJECT = Path(__file__).parent.parent / "faults" / "project" / "langgraph.json"
JOBS = 10


def request(seconds: float = 0.0, steps: int = 1, **more: Any) -> RunRequest:
    return RunRequest(assistant_id="steps", input={"name": "s", "steps": steps, "seconds": seconds}, **more)


class Nobody:
    """A Lambda that takes every event, and on which nothing ever begins."""

    def __init__(self) -> None:
        self.invocations = 0

    def invoke(self, **_: Any) -> None:
        self.invocations += 1


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Nobody:
    made = Nobody()
    monkeypatch.setattr(WorkerFunction, "client", made)
    return made


@pytest.fixture
async def api(worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerContainer:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return await worker_on(PROJECT, worker_function_name="worker", n_jobs_per_worker=JOBS, worker_start=600.0)


@pytest.fixture
async def scheduler(api: WorkerContainer) -> AsyncIterator[SchedulerContainer]:
    made = SchedulerContainer(api.settings, manifest=api.catalog.manifest)
    yield made
    await made.aclose()


async def several_apis(api: WorkerContainer, worker_on: MakeContainer, count: int) -> list[WorkerContainer]:
    """Functions share nothing but the databases."""
    others = [
        await worker_on(api.registry, **{name: getattr(api.settings, name) for name in SHARED})
        for _ in range(count - 1)
    ]
    return [api, *others]


SHARED = ("redis_key_prefix", "worker_function_name", "n_jobs_per_worker", "worker_concurrency", "worker_start")


@pytest.mark.usefixtures("clean_database")
async def test_requests_of_many_functions_invoke_a_worker_for_each_ten_runs(
    api: WorkerContainer, worker_on: MakeContainer, nobody: Nobody, scheduler: SchedulerContainer
) -> None:
    apis = await several_apis(api, worker_on, 4)
    creating = [apis[n % 4].runs.create(ANONYMOUS, request(), thread_id=None) for n in range(45)]
    await asyncio.gather(*creating)
    assert nobody.invocations == 5
    await api.runs.create_batch(ANONYMOUS, [request() for _ in range(45)])
    assert nobody.invocations == 9
    # those have room for all
    assert (await scheduler.scheduler.tick()).bells_rung == 90
    assert nobody.invocations == 9


async def forget(api: WorkerContainer) -> None:
    """As a Redis that has failed over; others use this one as well."""
    assert api.redis is not None
    board = [key async for key in api.redis.scan_iter(f"{api.settings.redis_key_prefix}:*")]
    await api.redis.delete(*board, "nothing")


@pytest.mark.usefixtures("clean_database")
async def test_runs_that_cannot_begin_invoke_nobody(
    api: WorkerContainer, nobody: Nobody, scheduler: SchedulerContainer
) -> None:
    service, thread = api.runs, (await api.threads.create(ANONYMOUS)).thread_id

    async def invocations(step: Any) -> int:
        before = nobody.invocations
        await step
        return nobody.invocations - before

    # in an hour, and what comes before it
    late = await service.create(ANONYMOUS, request(after_seconds=3600), thread_id=thread)
    assert nobody.invocations == 0
    assert (await scheduler.scheduler.tick()).bells_rung == 0
    first = service.create(ANONYMOUS, request(), thread_id=thread)
    assert await invocations(first) == 1
    await forget(api)  # who was on the way
    # behind it on its thread
    behind = [
        await service.create(ANONYMOUS, request(multitask_strategy=MultitaskStrategy.ENQUEUE), thread_id=thread)
        for _ in range(3)
    ]
    assert nobody.invocations == 1
    # the end of one that waits frees nobody, the end of the first one does
    assert await invocations(service.delete(ANONYMOUS, thread, late.run_id)) <= 1
    await forget(api)
    alone = (await api.threads.create(ANONYMOUS)).thread_id
    only = await service.create(ANONYMOUS, request(after_seconds=60), thread_id=alone)
    cancel = service.cancel(ANONYMOUS, alone, [only.run_id], CancelAction.INTERRUPT, "test")
    assert await invocations(cancel) == 0
    # the tick sees one run that may begin on this thread, however many wait behind it
    assert (await scheduler.scheduler.tick()).bells_rung == 1
    assert len(behind) == 3


@pytest.mark.usefixtures("clean_database")
async def test_crons_that_are_due_at_once_invoke_as_a_batch_does(
    api: WorkerContainer, nobody: Nobody, scheduler: SchedulerContainer
) -> None:
    payload = {"assistant_id": "steps", "schedule": "* * * * *", "input": {"name": "s", "steps": 1, "seconds": 0}}
    for _ in range(25):
        cron = await api.crons.create(ANONYMOUS, payload, thread_id=None)
    report = await scheduler.scheduler.tick(now=cron.next_run_date)
    assert (report.crons_fired, report.bells_rung) == (25, 25)
    assert nobody.invocations == 3


async def become(what: Any, why: str, *, patience: float = PATIENCE) -> None:
    until = time.monotonic() + patience
    while not await what():
        assert time.monotonic() < until, why
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "known", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["limit known", "limit unknown"]
)
@sizes(timeout=900, runs=(80, 1000), limit=(3, 20))
async def test_a_burst_raises_workers_to_the_limit_and_back_to_zero(
    size: SimpleNamespace,
    known: bool,
    worker_on: MakeContainer,
    clean_database: None,
    sites: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seed: int,
    figures: Figures,
) -> None:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    chance = random.Random(seed)
    jobs, grace = 5, 0.5
    api = await worker_on(
        PROJECT,
        worker_function_name="worker",
        n_jobs_per_worker=jobs,
        worker_concurrency=size.limit if known else 0,
        pool_max_size=5,
        poll_interval=1.0,
    )
    apis = await several_apis(api, worker_on, 3)
    scheduler = SchedulerContainer(api.settings, manifest=api.catalog.manifest)
    lambda_ = sites(api, cold_start=0.3, idle_grace=grace, concurrency=size.limit, retry=(0.1, 0.4))

    began = time.monotonic()
    threads = [(await api.threads.create(ANONYMOUS)).thread_id for _ in range(4)]
    left = size.runs

    async def some() -> None:
        nonlocal left
        while left > 0:
            service, kind = chance.choice(apis).runs, chance.choice(("batch", "one", "one", "thread"))
            given = request(seconds=chance.uniform(0, 0.05), steps=2)
            count = min(left, 20 if kind == "batch" else 1)
            left -= count
            if kind == "batch":
                await service.create_batch(ANONYMOUS, [given] * count)
            elif kind == "one":
                await service.create(ANONYMOUS, given, thread_id=None)
            else:
                given = replace(given, multitask_strategy=MultitaskStrategy.ENQUEUE)
                await service.create(ANONYMOUS, given, thread_id=chance.choice(threads))

    await asyncio.gather(*(some() for _ in range(6)))
    created = time.monotonic() - began

    async def drained() -> bool:
        queue = (await api.system.numbers()).queue
        return queue.pending + queue.running == 0

    await become(drained, "the queue to be empty", patience=PATIENCE * (10 if size.full else 2))
    drain = time.monotonic() - began

    async def nobody_is_left() -> bool:
        return lambda_.idle

    await become(nobody_is_left, "every worker to leave")
    to_zero = time.monotonic() - began - drain
    invocations = len(lambda_.invocations)
    empty = [each for each in lambda_.invocations if each.empty]
    reports = [each.report for each in lambda_.invocations]
    waste = sum((each.ended or 0) - each.began for each in empty)
    figures(
        f"C6 burst, {'limit known' if known else 'limit unknown'}",
        runs=size.runs,
        limit=size.limit,
        invocations=invocations,
        peak=lambda_.peak,
        empty=len(empty),
        empty_seconds=waste,
        crowded=lambda_.crowded,
        dropped=lambda_.too_old,
        create=created,
        drain=drain,
        to_zero=to_zero,
        seed=seed,
    )
    assert sum(report["succeeded"] for report in reports if report) == size.runs
    assert {report["reason"] for report in reports if report} == {"idle"}
    assert lambda_.peak == size.limit
    if known:
        assert invocations - len(empty) <= 2 * size.limit
        assert len(empty) <= size.limit
        # one that leaves is off the board a moment before it is gone
        assert lambda_.crowded <= size.limit
        assert lambda_.too_old == 0
    else:
        assert invocations + lambda_.too_old <= size.runs / jobs + 2 * size.limit
    # over: no tick finds anything, and invokes nobody
    assert (await scheduler.scheduler.tick()).bells_rung == 0
    assert api.redis is not None
    assert await SlotBoard(api.redis, api.settings.redis_key_prefix).workers() == 0
    await asyncio.sleep(0.3)
    assert len(lambda_.invocations) == invocations
    await scheduler.aclose()


@pytest.mark.usefixtures("clean_database")
async def test_queues_of_threads_are_carried_on_by_the_worker_that_has_them(
    worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, sites: Any, tmp_path: Path
) -> None:
    """It is full all the time, and each end lets the next run of a thread begin."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    api = await worker_on(PROJECT, worker_function_name="worker", n_jobs_per_worker=2)
    lambda_ = sites(api, cold_start=0.1, idle_grace=0.3)
    runs = []
    for _ in range(2):
        thread = (await api.threads.create(ANONYMOUS)).thread_id
        given = request(0.05, multitask_strategy=MultitaskStrategy.ENQUEUE)
        runs += [await api.runs.create(ANONYMOUS, given, thread_id=thread) for _ in range(5)]

    async def over() -> bool:
        results = [await api.runs.result(run.run_id) for run in runs]
        return lambda_.idle and all(result is not None and result.status.is_final for result in results)

    await become(over, "all runs to end")
    assert len(lambda_.invocations) == 1


@pytest.mark.usefixtures("clean_database")
async def test_a_worker_that_finds_nothing_leaves_at_once_and_one_that_had_a_run_waits(
    api: WorkerContainer, sites: Any
) -> None:
    lambda_ = sites(api, cold_start=0, idle_grace=2 * PATIENCE)
    lambda_.accept({"ticket": "+in vain"})

    async def ended() -> bool:
        return lambda_.idle

    await become(ended, "the first one to leave, long before its grace is over")
    (empty,) = lambda_.invocations
    assert empty.empty
    grace = 0.5
    lambda_ = sites(api, cold_start=0, idle_grace=grace)
    # the grace begins with its end
    run = await api.runs.create(ANONYMOUS, request(grace), thread_id=None)
    await become(ended, "the second one to leave")
    (useful,) = lambda_.invocations
    result = await api.runs.result(run.run_id)
    assert result is not None
    assert result.status.value == "success"
    assert useful.ended - useful.began >= 2 * grace


@pytest.mark.usefixtures("clean_database")
async def test_a_run_that_ends_between_a_look_and_the_wait_is_noticed(
    worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, sites: Any, tmp_path: Path
) -> None:
    """Its slot is free, and nothing else wakes the worker but the time of the next poll."""
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    wait = Worker._wait

    async def slow(self: Worker, seconds: float) -> None:
        while self.active:
            await asyncio.sleep(0.01)
        async with Redis.from_url(api.settings.redis_uri) as redis:  # the ring for it, which another worker has heard
            await redis.delete(BoardKeys(api.settings.redis_key_prefix).tokens)
        await wait(self, seconds)

    monkeypatch.setattr(Worker, "_wait", slow)
    api = await worker_on(PROJECT, worker_function_name="worker", n_jobs_per_worker=JOBS, poll_interval=10 * PATIENCE)
    lambda_ = sites(api, cold_start=0, idle_grace=0.3)
    run = await api.runs.create(ANONYMOUS, request(0.05), thread_id=None)

    async def over() -> bool:
        return lambda_.idle

    await become(over, "the worker to leave", patience=PATIENCE / 2)
    result = await api.runs.result(run.run_id)
    assert result is not None
    assert result.status.value == "success"


@pytest.mark.usefixtures("clean_database")
async def test_a_worker_that_cannot_look_stays_for_its_grace(api: WorkerContainer, sites: Any) -> None:
    """The run that it was woken for may be there once the database answers again."""
    settings = api.settings
    api.__dict__["settings"] = settings.replace(
        database_uri="postgresql://nobody@127.0.0.1:1/none", pool_timeout=0.1, pool_min_size=0, poll_interval=0.1
    )
    grace = 0.7
    lambda_ = sites(api, cold_start=0, idle_grace=grace)
    lambda_.accept({"ticket": "+while it is away"})

    async def ended() -> bool:
        return lambda_.idle

    await become(ended, "it to leave")
    api.__dict__["settings"] = settings
    (invocation,) = lambda_.invocations
    assert invocation.empty
    assert invocation.ended - invocation.began >= grace


@pytest.mark.usefixtures("clean_database")
async def test_a_run_of_many_functions_has_one_worker_at_a_time(
    api: WorkerContainer, sites: Any, scheduler: SchedulerContainer, figures: Figures
) -> None:
    """Hardly anybody comes twice for what one hands on, however often the scheduler ticks meanwhile."""
    settings = api.settings.replace(worker_deadline_margin=3.5)  # it works for 1.5 of its five seconds
    api.__dict__["settings"] = settings
    lambda_ = sites(api, cold_start=0.6, idle_grace=0.2, seconds=5)
    runs = [await api.runs.create(ANONYMOUS, request(0.2, 12), thread_id=None) for _ in range(JOBS)]

    async def over() -> bool:
        await scheduler.scheduler.tick()
        results = [await api.runs.result(run.run_id) for run in runs]
        return lambda_.idle and all(result is not None and result.status.is_final for result in results)

    await become(over, "all runs to end, and the last worker to leave")
    overlap = sum(
        max(0.0, (before.ended or 0) - after.began)
        for before, after in zip(lambda_.invocations, lambda_.invocations[1:], strict=False)
    )
    lives = [(each.ended or 0) - each.began for each in lambda_.invocations]
    empty = sum(each.empty for each in lambda_.invocations)
    figures(
        "C6 chain",
        invocations=len(lambda_.invocations),
        peak=lambda_.peak,
        empty=empty,
        overlap=overlap,
        life_p50=percentile(lives, 50),
    )
    useful = len(lambda_.invocations) - empty
    assert useful >= 2
    # as a rule there is none; a worker that has been rung for and is slow to look may be taken for full
    assert empty < useful
    assert lambda_.peak - empty <= 2, "who hands on is about to leave"


@pytest.mark.usefixtures("clean_database")
async def test_without_redis_invocations_are_bounded_and_runs_end(
    worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, sites: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    api = await worker_on(
        PROJECT, worker_function_name="worker", n_jobs_per_worker=JOBS, redis_uri="", poll_interval=0.2
    )
    scheduler = SchedulerContainer(api.settings, manifest=api.catalog.manifest)
    lambda_ = sites(api, cold_start=0.1, idle_grace=0.3, concurrency=3)
    runs = [await api.runs.create(ANONYMOUS, request(), thread_id=None) for _ in range(40)]

    ticks = 0

    async def over() -> bool:
        nonlocal ticks
        results = [await api.runs.result(run.run_id) for run in runs]
        if not lambda_.idle:
            return False
        if all(result is not None and result.status.is_final for result in results):
            return True
        # a worker whose grace is so short may have left before the last of the runs that it was invoked for was made
        ticks += 1
        await scheduler.scheduler.tick()
        return False

    await become(over, "all runs to end")
    await scheduler.aclose()
    assert len(lambda_.invocations) <= len(runs) / JOBS + ticks
