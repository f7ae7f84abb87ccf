"""Bells that come not at all, twice, late, in any order and for runs that are gone (R27): everything ends as with one bell each.

Both kinds: the list in Redis that workers wait on, and invocations of a worker function.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster import PROJECT
from dev_server import PATIENCE
from figures import Figures, percentile, sizes
from worker_container import MakeContainer, working

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, RunRequest
from langgraph_serverless.queue.bell import RedisBell
from langgraph_serverless.queue.worker_function import WorkerFunction

pytestmark = pytest.mark.timeout(120)

#: What each way of making a run comes to: status and last lines of its log; None if it is gone.
Results = dict[str, Any]


class Noise:
    """Delivers what it is given none to three times, each after a time of its own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.asked: Counter[int] = Counter()
        self._late: set[asyncio.Task[None]] = set()

    def deliver(self, message: Callable[[], Awaitable[Any]]) -> None:
        times = self._chance.choice((0, 1, 2, 3))
        self.asked[times] += 1
        for _ in range(times):
            task = asyncio.create_task(self._later(self._chance.uniform(0, 0.3), message))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _later(self, delay: float, message: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(delay)
        await message()

    async def silence(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while self._late:
                await asyncio.wait(self._late)


class NoisyBell:
    """A bell whose rings and cancels go through the noise; cancels name every run there has been, and some there have not."""

    def __init__(self, bell: RedisBell, noise: Noise) -> None:
        self._bell, self._noise = bell, noise
        self.runs: list[uuid.UUID] = []

    async def ring(self, count: int = 1, *, again: bool = False, invoke: bool = True) -> None:
        self._noise.deliver(lambda: self._bell.ring(count, again=again, invoke=invoke))

    async def stir(self) -> None:
        await self._bell.stir()

    async def cancel(self, run_ids: Sequence[uuid.UUID]) -> None:
        everything = [*run_ids, *self.runs, uuid.uuid4()]
        self._noise.deliver(lambda: self._bell.cancel(everything))

    async def trouble(self) -> str | None:
        return await self._bell.trouble()


async def play(container: WorkerContainer, runs: int, made: list[uuid.UUID]) -> tuple[Results, list[float]]:
    """Make runs of all kinds, cancel some and delete some, wait for all: what they come to, and how long each took."""
    service = container.runs
    threads = [(await container.threads.create(ANONYMOUS)).thread_id for _ in range(max(2, runs // 8))]
    names: dict[str, tuple[uuid.UUID | None, uuid.UUID]] = {}
    began: dict[str, float] = {}
    for number in range(runs):
        kind = ("stateless", "queued", "queued", "alone", "cancelled", "deleted")[number % 6]
        name = f"{kind}{number}-"
        thread_id = None
        if kind == "queued":
            thread_id = threads[number % len(threads)]
        elif kind != "stateless":
            thread_id = (await container.threads.create(ANONYMOUS)).thread_id
        long = kind in {"cancelled", "deleted"}
        request = RunRequest(
            assistant_id="steps",
            input={"name": name, "steps": 1000 if long else 3, "seconds": 0.02},
            durability=Durability.SYNC,
        )
        run = await service.create(ANONYMOUS, request, thread_id=thread_id)
        made.append(run.run_id)
        names[name], began[name] = (thread_id, run.run_id), time.monotonic()
    for name, (thread_id, run_id) in names.items():
        if name.startswith("cancelled"):
            await service.cancel(ANONYMOUS, thread_id, [run_id], CancelAction.INTERRUPT, "the test wants it")
        elif name.startswith("deleted"):
            await service.delete(ANONYMOUS, thread_id, run_id)
    results: Results = {}
    took = []
    for name, (_, run_id) in names.items():
        async with asyncio.timeout(5 * PATIENCE):
            while (result := await service.result(run_id)) is not None and not result.status.is_final:
                await asyncio.sleep(0.01)
        took.append(time.monotonic() - began[name])
        if result is None:
            results[name] = None
        elif name.startswith("cancelled"):
            results[name] = result.status.value
        else:
            own = [line for line in result.output["log"] if line.startswith(name)]
            results[name] = (result.status.value, own)
    return results, took


def check(results: Results, journal: Path, made: Sequence[uuid.UUID]) -> None:
    """What one bell each would have made of it; and no superstep ran twice."""
    for name, result in results.items():
        kind = name.rstrip("-0123456789")
        expected = {"deleted": None, "cancelled": "interrupted"}.get(
            kind, ("success", [f"{name}{n}" for n in (1, 2, 3)])
        )
        assert result == expected, name
    steps = Counter(tuple(line.split()[:2]) for line in journal.read_text().splitlines())
    ours = {str(run_id) for run_id in made}
    assert [step for step, times in steps.items() if times > 1 and step[0] in ours] == []


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


SIZE = sizes(timeout=900, runs=(24, 240))


@SIZE
async def test_bells_in_redis(
    size: SimpleNamespace,
    worker_on: MakeContainer,
    journal: Path,
    clean_database: None,
    seed: int,
    figures: Figures,
) -> None:
    noise = Noise(random.Random(seed))
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    workers = [
        await worker_on(PROJECT, redis_key_prefix=prefix, poll_interval=0.5, n_jobs_per_worker=5) for _ in range(2)
    ]
    bells = [NoisyBell(container.bell, noise) for container in workers]
    for container, bell in zip(workers, bells, strict=True):
        container.__dict__["bell"] = bell
        bell.runs = bells[0].runs
    async with working(workers[0]), working(workers[1]):
        results, took = await play(workers[0], size.runs, bells[0].runs)
        await noise.silence()
    check(results, journal, bells[0].runs)
    asked = {f"rung_{times}x": count for times, count in sorted(noise.asked.items())}
    figures("R27 Redis", runs=size.runs, lost=0, repeated=0, **asked, wait_p95=percentile(took, 95), seed=seed)


@SIZE
async def test_bells_that_invoke_a_function(
    size: SimpleNamespace,
    worker_on: MakeContainer,
    journal: Path,
    clean_database: None,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    figures: Figures,
) -> None:
    """Invocations are lost and doubled; the scheduler's tick, here every half second, is what finds the rest."""
    noise = Noise(random.Random(seed))
    container = await worker_on(PROJECT, worker_function_name="worker", n_jobs_per_worker=5, worker_start=0.3)
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    over = time.monotonic() + PATIENCE * 10

    async def invocation(ticket: str) -> None:
        worker = container.worker(ticket)
        reports.append(await worker.work(remaining=lambda: over - time.monotonic(), idle_grace=0.3))

    class Lambda:
        """The edge of AWS: takes an event, and nobody knows when it is delivered, and how often."""

        def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:
            assert (FunctionName, InvocationType) == ("worker", "Event")
            ticket = json.loads(Payload)["ticket"]
            loop.call_soon_threadsafe(noise.deliver, lambda: invocation(ticket))

    monkeypatch.setattr(WorkerFunction, "client", Lambda())
    made: list[uuid.UUID] = []
    async with _ticking(container):
        results, took = await play(container, size.runs, made)
    await noise.silence()
    check(results, journal, made)
    assert {report.reason for report in reports} == {"idle"}
    asked = {f"invoked_{times}x": count for times, count in sorted(noise.asked.items())}
    figures("R27 Lambda", runs=size.runs, lost=0, repeated=0, **asked, wait_p95=percentile(took, 95), seed=seed)


@asynccontextmanager
async def _ticking(container: WorkerContainer) -> AsyncIterator[None]:
    scheduler = SchedulerContainer(container.settings, manifest=container.catalog.manifest)

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.5)
            await scheduler.scheduler.tick()

    ticking = asyncio.create_task(tick())
    try:
        yield
        assert not ticking.done()
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await scheduler.aclose()
