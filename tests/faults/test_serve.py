"""``serve`` and ``worker`` as a deployment of several processes has them: rolled over, killed, and asked how they are.

Clients are the SDK behind a load balancer, and reconnect by its means only.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT
from deployment import Deployment, Process
from dev_server import PATIENCE, SHORT_LEASES, until
from figures import Figures, sizes
from workload import RECONNECTING, Workload, assert_invariants

pytestmark = [pytest.mark.timeout(180), *map(pytest.mark.filterwarnings, RECONNECTING)]

JOBS = "10"
#: How a process tells, at its end, how many answers it has broken off.
BROKEN_OFF = re.compile(r'"broken_off":(\d+)')


@pytest.fixture(scope="module")
def deployment(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One of each, which the tests share; its database is migrated by whoever of them comes first."""
    folder = tmp_path_factory.mktemp("deployment")
    environ = {
        "DATABASE_URI": databases.create(migrated=False),
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
        "LANGGRAPH_CONFIG": str(PROJECT),
        "JOURNAL": str(folder / "journal"),
        "N_JOBS_PER_WORKER": JOBS,
        "SCHEDULER_INTERVAL_SECS": "0.3",
        **SHORT_LEASES,
    }
    deployment = Deployment(environ, folder)
    try:
        for role in ("serve", "worker"):
            deployment.start(role, "--migrate")
        for process in deployment.made:
            process.ready()
        yield deployment
    finally:
        deployment.close()
        databases.drop(deployment.database_uri)


@pytest.fixture
async def workload(deployment: Deployment) -> AsyncIterator[Workload]:
    """None yet. Its journal is empty, so that it can be seen how far it is."""
    journal = Path(deployment.environ["JOURNAL"])
    journal.write_text("")
    workload = Workload(deployment, deployment.client(), journal)  # type: ignore[arg-type]
    yield workload
    await workload.aclose()
    await assert_invariants(deployment.database_uri)


async def standing(deployment: Deployment, *, apis: int = 1, workers: int = 1) -> None:
    """At least so many, as some have fallen in the tests before. A start costs seconds: tests take what is there."""
    for role, wanted in (("serve", apis), ("worker", workers)):
        while len(running(deployment, role)) < wanted:
            deployment.start(role)
    for process in deployment.made:
        if process.running:
            await asyncio.to_thread(process.ready)


def running(deployment: Deployment, role: str) -> list[Process]:
    return [process for process in deployment.made if process.running and process.arguments[0] == role]


class _LongStream:
    """Somebody who streams a run that is not resumable for as long as processes come and go."""

    def __init__(self, workload: Workload) -> None:
        self._client = workload.client
        self._over = False
        self._run: Any = None
        self.begun = asyncio.Event()

    async def follow(self) -> list[int]:
        seen = []
        stream = self._client.runs.stream(
            (await self._client.threads.create())["thread_id"],
            "steps",
            input={"name": "long-", "steps": 10_000, "seconds": 0.1},
            config={"recursion_limit": 20_000},
            stream_mode="custom",
            on_run_created=lambda made: setattr(self, "_run", made),
        )
        async for part in stream:
            if part.event == "custom":
                seen.append(part.data["step"])
                self.begun.set()
                if self._over:
                    break
        return seen

    async def leave(self, following: asyncio.Task[list[int]]) -> list[int]:
        """What it has seen."""
        self._over = True
        seen = await asyncio.wait_for(following, PATIENCE)
        await self._client.runs.cancel(self._run["thread_id"], self._run["run_id"], wait=True)
        return seen


@sizes(timeout=1800, runs=(15, 200), rounds=(1, 4))  # the SDK follows a wait over five breaks, and no more
async def test_a_roll_over_interrupts_nothing(
    deployment: Deployment, workload: Workload, figures: Figures, size: Any
) -> None:
    """R12 for containers: processes are told to go while runs go on, and others come."""
    await standing(deployment, apis=2, workers=2 if size.full else 1)
    long = _LongStream(workload)
    following = asyncio.create_task(long.follow())
    await asyncio.wait_for(long.begun.wait(), PATIENCE)
    workload.seconds = 0.5 if size.full else 0.25
    followed = size.runs // 5
    await workload.start(single=size.runs - 2 * followed, waits=followed, streams=followed)
    codes: list[int] = []
    for number in range(size.rounds):
        await workload.under_way(size.runs // 3 + number * size.runs)
        going = [running(deployment, role)[0] for role in ("serve", "worker")]
        # what comes instead is there before the next ones go; of two APIs one may go for good
        coming = [deployment.start(role) for role in (("serve", "worker") if size.full else ("worker",))]
        codes += await asyncio.gather(*(asyncio.to_thread(process.stop) for process in going))
        await asyncio.gather(*(asyncio.to_thread(process.ready) for process in coming))
    assert codes == [0] * 2 * size.rounds
    seen = await long.leave(following)
    assert seen == list(range(1, len(seen) + 1)), "neither gap nor repeat"
    await workload.all_right(patience=PATIENCE * (2 if size.full else 1))
    rows = list(workload.rows().values())
    assert Counter(row["attempt"] for row in rows) == {1: size.runs}, "a planned stop is no attempt"
    handed_on = sum(row["handoffs"] for row in rows)
    assert handed_on > 0, "too late for a test"
    repeats = sum(workload.repeats().values())
    assert repeats == 0
    for run in workload.runs:
        if run.events is not None:
            steps = [event.data["step"] for event in run.events if event.event == "custom"]
            assert steps == list(range(1, run.steps + 1)), "it shows in no stream"
    broken_off = sum(int(told) for process in deployment.made for told in BROKEN_OFF.findall(process.output))
    assert broken_off > 0
    figures(
        "R12 containers",
        runs=size.runs,
        stops=len(codes),
        interrupted=0,
        handed_on=handed_on,
        repeats=repeats,
        broken_off=broken_off,
        gaps=0,
    )


async def test_workers_are_seen_by_whoever_asks(deployment: Deployment, workload: Workload) -> None:
    """A worker serves no API; its runs show in everybody's metrics, its health on its own port."""
    await standing(deployment)
    workload.seconds = 60.0  # none of them ends before it has been seen
    await workload.start(single=3)
    api, worker = running(deployment, "serve")[0], running(deployment, "worker")[0]

    def active() -> int:
        return int(api.get("/metrics?format=json").json()["workers"]["active"])

    await asyncio.to_thread(until, lambda: active() == 3, "three runs in the metrics")
    metrics = worker.get("/metrics").text
    assert "lg_api_workers_active 3" in metrics
    assert "\nlg_worker_slots " in metrics  # its own
    assert worker.get("/ok").json() == {"ok": True, "services": {}}
    assert worker.get("/threads").status_code == 404
    for run in workload.runs:
        await workload.client.runs.cancel(run.thread_id, run.run_id, wait=True)


async def test_a_node_that_blocks_its_thread_does_not_keep_a_worker_from_ending(
    deployment: Deployment, workload: Workload
) -> None:
    """Its superstep starts again elsewhere; here nobody waits for its thread, as Python would."""
    await standing(deployment)
    worker, *others = running(deployment, "worker")
    for process in others:
        assert await asyncio.to_thread(process.stop) == 0
    made = await workload.client.runs.create(None, "blocking", input={"seconds": 600})
    journal = Path(deployment.environ["JOURNAL"])
    await asyncio.to_thread(until, lambda: f"{made['run_id']} blocking" in journal.read_text(), "the node to block")
    worker.signal()
    worker.signal(signal.SIGINT)  # wait for no superstep
    assert await asyncio.to_thread(worker.ended) == 0
    query = "SELECT status, attempt, handoffs FROM lgs.run WHERE run_id = %s"
    assert deployment.rows(query, (made["run_id"],)) == [{"status": "pending", "attempt": 0, "handoffs": 1}]
    assert await workload.client.runs.cancel(made["thread_id"], made["run_id"]) is None


async def test_health_turns_first_and_the_second_signal_does_not_wait(
    deployment: Deployment, workload: Workload, tmp_path: Path
) -> None:
    """While a balancer still sends requests, they are answered, and whoever asks is told to look elsewhere."""
    api = await asyncio.to_thread(deployment.start("serve", "--with-worker", SHUTDOWN_DELAY_SECS="60").ready)
    deployment.balancer.ports.remove(api.port)
    others = running(deployment, "worker")
    for process in others:
        process.signal()
    for process in others:
        assert await asyncio.to_thread(process.ended) == 0
    workload.seconds = 30.0  # longer than anybody waits here
    await workload.start(single=2)
    await workload.under_way(2)
    api.signal()
    answer = await asyncio.to_thread(
        until, lambda: (found := api.get("/ok?check_db=1")).status_code == 500 and found, "health to turn"
    )
    assert answer.json()["services"] == {"server": "This process is about to stop; another one answers"}
    assert api.get("/ok").status_code == 200
    assert api.get("/info").status_code == 200
    api.signal(signal.SIGINT)
    assert await asyncio.to_thread(api.ended) == 0
    rows = workload.rows().values()
    assert [(row["status"], row["attempt"], row["handoffs"]) for row in rows] == [("pending", 0, 1)] * 2
    for run in workload.runs:
        await workload.client.runs.cancel(run.thread_id, run.run_id)


@pytest.mark.slow  # in one process after the other, and of schedulers without an API: test_scheduler_kills.py
async def test_two_schedulers_fire_a_cron_once(deployment: Deployment, workload: Workload) -> None:
    """Both tick; every due time makes one run."""
    await standing(deployment, apis=2)
    cron = await workload.client.crons.create(
        "steps", schedule="* * * * * *", input={"name": "c", "steps": 1, "seconds": 0}
    )
    query = "SELECT cron_due_at FROM lgs.run WHERE cron_id = %s"
    made = await asyncio.to_thread(
        until, lambda: len(found := deployment.rows(query, (cron["cron_id"],))) >= 3 and found, "three runs of a cron"
    )
    await workload.client.crons.delete(cron["cron_id"])
    times = [row["cron_due_at"] for row in made]
    assert len(set(times)) == len(times), "a time has made two runs"
    ticked = [process for process in deployment.made if "cron_fired" in process.output]
    assert ticked
    assert all(process.arguments[0] == "serve" for process in ticked)


@pytest.mark.slow  # in a quick form of workers alone: test_many_kills.py; of one process with both: test_kill_dev.py
@pytest.mark.timeout(1800)
async def test_kill_9_of_an_api_and_a_worker(deployment: Deployment, workload: Workload, figures: Figures) -> None:
    """Others go on with what they had."""
    # the SDK follows a wait over five breaks, and no more
    runs, kills = int(os.environ.get("RUNS", "200")), int(os.environ.get("KILLS", "8"))
    await standing(deployment, apis=2, workers=2)
    workload.seconds = 0.5
    followed = runs // 5
    await workload.start(single=runs - 2 * followed, waits=followed, streams=followed)
    for number in range(kills):
        await workload.under_way(4 * runs * (number + 1) // (kills + 1))  # of four lines or more each
        role = ("worker", "serve")[number % 2]
        running(deployment, role)[0].kill()
        await asyncio.to_thread(deployment.start(role).ready)
    await workload.all_right(patience=PATIENCE * 10)
    repeats = workload.repeats()
    for run_id, row in workload.rows().items():
        assert repeats[run_id] <= row["attempt"] - 1, "the superstep in flight at most"
    figures(
        "R1 containers",
        runs=runs,
        kills=kills,
        lost=0,
        most_attempts=max(row["attempt"] for row in workload.rows().values()),
        repeats=sum(repeats.values()),
    )
