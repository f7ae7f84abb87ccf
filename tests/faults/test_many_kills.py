"""Workers are killed again and again while runs go on (R1): nothing is lost, stuck, doubled or wrong, and little is repeated."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import islice
from types import SimpleNamespace

import pytest
from cluster import Cluster, WorkerProcess
from dev_server import until
from figures import Figures, percentile, sizes
from langgraph_sdk.client import LangGraphClient
from tolls import doubled_checkpoints, leases_lost, recoveries, repeats
from workload import RECONNECTING, assert_invariants

STEPS, WORKERS = 10, 3
#: The backends of those that were killed stay for a while.
FEW_CONNECTIONS = {"DATABASE_POOL_MAX_SIZE": "8"}
FINAL = {"success", "error", "timeout", "interrupted"}

pytestmark = [*map(pytest.mark.filterwarnings, RECONNECTING)]


@sizes(timeout=1800, runs=(100, 1000), kills=(10, 100))
async def test_nothing_is_lost_stuck_or_wrong_under_many_kills(
    cluster: Cluster, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    chance = random.Random(seed)
    async with cluster.client() as client:
        await _many_kills(cluster, client, size, chance, figures, seed)


async def _many_kills(
    cluster: Cluster, client: LangGraphClient, size: SimpleNamespace, chance: random.Random, figures: Figures, seed: int
) -> None:
    given = {"steps": STEPS, "seconds": 0.1 if size.full else 0.05}
    names = iter(f"r{number}-" for number in range(size.runs))
    # new ones all the time, so that there is always something to kill
    batch = size.runs // (size.kills + 2)
    runs = dict([await _made(client, name, given) for name in islice(names, 2 * batch)])
    workers = [cluster.worker(**FEW_CONNECTIONS) for _ in range(WORKERS)]
    killed_at: dict[str, float] = {}
    for _ in range(size.kills):
        victim = chance.choice(await asyncio.to_thread(until, lambda: _at_work(cluster, workers), "a worker at work"))
        await asyncio.sleep(chance.uniform(0.0, 0.5 if size.full else 0.2))
        workers[victim].kill()
        killed_at[workers[victim].owner] = time.time()
        workers[victim] = cluster.worker(**FEW_CONNECTIONS)
        runs |= dict([await _made(client, name, given) for name in islice(names, batch)])
    runs |= dict([await _made(client, name, given) for name in names])

    outcomes = await _outcomes(client, runs, patience=1000 if size.full else 100)
    wrong = 0
    for name, thread_id in runs.values():
        thread = await client.threads.get(thread_id)
        right = [f"{name}{step}" for step in range(1, STEPS + 1)]
        wrong += (thread["status"], (thread["values"] or {}).get("log")) != ("idle", right)
    repeated, lost = repeats(cluster.journal), leases_lost(cluster)
    took = recoveries(cluster, killed_at)
    counts = {
        "lost": sum(status == "gone" for status in outcomes.values()),
        "stuck": sum(status not in {*FINAL, "gone"} for status in outcomes.values()),
        "failed": sum(status in FINAL - {"success"} for status in outcomes.values()),
        "wrong_outputs": wrong,
        "doubled_checkpoints": doubled_checkpoints(cluster),
        # at most the superstep in flight for each lease that a kill cost the run
        "repeated_beyond_one_per_kill": sum(repeated[run_id] > lost[run_id] for run_id in runs),
    }
    figures(
        "R1",
        runs=size.runs,
        kills=size.kills,
        **counts,
        leases_lost=lost.total(),
        repeated=repeated.total(),
        repeats_per_lost_lease=repeated.total() / max(lost.total(), 1),
        recovered_p50=percentile(took, 50),
        recovered_p99=percentile(took, 99),
        seed=seed,
    )
    assert counts == dict.fromkeys(counts, 0)
    assert lost.total() > 0, "no kill hit a run"
    await assert_invariants(cluster.database_uri, worker=True)


def _at_work(cluster: Cluster, workers: list[WorkerProcess]) -> list[int]:
    """The numbers of the workers that hold runs."""
    held = cluster.rows("SELECT DISTINCT lease_owner FROM lgs.run WHERE status = 'running'")
    owners = {row["lease_owner"] for row in held}
    return [number for number, worker in enumerate(workers) if worker.owner in owners]


async def _made(client: LangGraphClient, name: str, given: dict[str, float]) -> tuple[str, tuple[str, str]]:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread_id, "steps", input={"name": name, **given}, durability="sync")
    return run["run_id"], (name, thread_id)


async def _outcomes(client: LangGraphClient, runs: dict[str, tuple[str, str]], *, patience: float) -> dict[str, str]:
    """What the API says of each run once all have ended or the patience has."""
    outcomes: dict[str, str] = {}
    deadline = time.monotonic() + patience
    while True:
        for run_id, (_, thread_id) in runs.items():
            if outcomes.get(run_id) not in FINAL:
                found = await client.runs.list(thread_id)
                outcomes[run_id] = next((run["status"] for run in found if run["run_id"] == run_id), "gone")
        if set(outcomes.values()) <= FINAL or time.monotonic() > deadline:
            return outcomes
        await asyncio.sleep(0.2)
