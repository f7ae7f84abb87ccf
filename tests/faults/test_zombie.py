"""A worker that was paused for longer than its leases wakes up and finds its runs in other hands (R3)."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from audit import as_process, install, stale
from cluster import Cluster, WorkerProcess
from dev_server import until
from figures import Figures, sizes
from redis import Redis
from tolls import doubled_checkpoints
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

from langgraph_serverless.streaming.keys import events_key

pytestmark = [*map(pytest.mark.filterwarnings, RECONNECTING)]

#: A heartbeat that does not see the loss before the graphs go on: the fence has to refuse what they write.
SLOW_HEARTBEAT = {"HEARTBEAT_INTERVAL_SECS": "1.5"}


def everything(cluster: Cluster, workload: Workload) -> dict[str, Any]:
    """All that a worker may write: rows of runs and threads, checkpoints, writes, blobs, streams."""
    tables = ("lgs.run", "lgs.thread", "checkpoints", "checkpoint_writes", "checkpoint_blobs")
    found: dict[str, Any] = {
        table: sorted(str(row) for row in cluster.rows(f"SELECT * FROM {table}"))  # type: ignore[misc]
        for table in tables
    }
    settings = cluster.settings()
    with Redis.from_url(settings.redis_uri) as redis:
        for run_id in workload.rows():
            found[run_id] = redis.xrange(events_key(settings.redis_key_prefix, run_id))  # type: ignore[arg-type]
    return found


async def test_a_zombie_writes_nothing_after_others_have_finished(cluster: Cluster, workload_on: MakeWorkload) -> None:
    workload = workload_on(cluster, seconds=0.3)
    zombie = cluster.worker(**SLOW_HEARTBEAT)
    await workload.start(single=6, stateless=2, streams=2)
    await workload.under_way()
    zombie.pause()
    held = [run_id for run_id, row in workload.rows().items() if row["status"] == "running"]
    assert held
    cluster.worker()
    await workload.all_right()
    before = everything(cluster, workload)

    zombie.wake()
    until(lambda: zombie.output.count("run lost") >= len(held), f"the zombie to notice: {zombie.output}")
    assert everything(cluster, workload) == before
    assert max(workload.repeats().values()) <= 1
    # and it is a good worker again
    cluster.workers[1].kill()
    again = await workload.client.runs.wait(None, "steps", input={"name": "z", "steps": 1, "seconds": 0})
    assert again["log"] == ["z1"]
    await assert_invariants(cluster.database_uri, worker=True)


#: Zombies of the many wake up soon after, and a heartbeat that is not sooner than what they write.
QUICK_LEASES = {
    "LEASE_DURATION_SECS": "2",
    "N_JOBS_PER_WORKER": "13",
    "HEARTBEAT_INTERVAL_SECS": "1",
    "RESUMABLE_STREAM_TTL_SECONDS": "7200",
}
WORKERS = 4


class Zombies:
    """Workers that are stopped at random instants and woken when others have their runs, and what they were refused."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient, chance: random.Random) -> None:
        self._cluster, self._http, self._chance = cluster, http, chance
        self.made = 0
        self.stops = 0
        #: Leases that ran out under a worker that was stopped, and was woken afterwards.
        self.woken: set[str] = set()
        self.ends: Counter[str] = Counter()

    def worker(self) -> WorkerProcess:
        name = f"w{len(self._cluster.workers)}"
        return self._cluster.worker(
            **QUICK_LEASES,
            DATABASE_URI=as_process(self._cluster.database_uri, name),
            DATABASE_POOL_MAX_SIZE="12",  # four of them, those who are stopped and the API share a server of 100
            MAX_RUN_ATTEMPTS="20",
        )

    async def feed(self) -> None:
        """Enough runs for all; every fifth has a webhook that nobody takes, every other one spends its time in writing."""
        [row] = self._cluster.rows("SELECT count(*) AS waiting FROM lgs.run WHERE status = 'pending'")
        if row["waiting"] > 20:
            return
        runs = [
            {
                "assistant_id": "marks",
                "input": {
                    "name": f"z{number}-",
                    "steps": self._chance.randrange(5, 15),
                    "seconds": self._chance.choice([0.0, 0.0, 0.05, 0.3]),
                },
                "stream_mode": ["values", "custom"],
                "durability": "sync",
                "on_completion": "keep",
                **({} if number % 5 else {"webhook": "http://127.0.0.1:9/nobody"}),
            }
            for number in range(self.made, self.made + 60)
        ]
        self.made += len(runs)
        (await self._http.post("/runs/batch", json=runs)).raise_for_status()

    async def once(self, workers: list[WorkerProcess]) -> None:
        """Stop two workers, let the others take over, wake them, and wait until they know."""
        victims = self._chance.sample(workers, 2)
        for victim in victims:
            await asyncio.sleep(self._chance.uniform(0.0, 0.3))
            victim.pause()
            self.stops += 1
        owners = [victim.owner for victim in victims]
        query = "SELECT run_id, lease_token::text AS token FROM lgs.run WHERE lease_owner = ANY(%s)"
        held = {row["token"]: row["run_id"] for row in self._cluster.rows(query, (owners,))}
        await asyncio.to_thread(
            until, lambda: not self._cluster.rows(query, (owners,)), "the runs to be taken back", every=0.1
        )
        if self._chance.random() < 0.5:
            over = "SELECT 1 FROM lgs.run WHERE run_id = ANY(%s) AND status IN ('pending', 'running') LIMIT 1"
            ids = list(held.values())
            await asyncio.to_thread(until, lambda: not self._cluster.rows(over, (ids,)), "others to finish", every=0.1)
        expired = """SELECT entry ->> 'token' AS token FROM lgs.run, jsonb_array_elements(lease_history) AS entry
            WHERE run_id = ANY(%s) AND entry ->> 'end' = 'expired'"""
        lost = held.keys() & {row["token"] for row in self._cluster.rows(expired, (list(held.values()),))}
        self.woken |= lost
        for victim in victims:
            victim.wake()
        leases = {token.replace("-", "")[:8] for token in lost}
        await asyncio.to_thread(until, lambda: leases <= self._ended(victims).keys(), "the zombies to notice")
        self.ends.update(how for lease, how in self._ended(victims).items() if lease in leases)

    @staticmethod
    def _ended(victims: list[WorkerProcess]) -> dict[str, str]:
        """By the beginning of their tokens, what the workers say of the leases that they are done with."""
        said = "\n".join(victim.output for victim in victims)
        return {lease: how for how, lease in re.findall(r" run (\w+)  \[.*lease=(\w+).* seconds=", said)}


@sizes(timeout=1800, zombies=(50, 1000))
async def test_nothing_of_a_zombie_is_accepted_once_others_have_its_runs(
    cluster: Cluster, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    install(cluster.database_uri)
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60) as http:
        zombies = Zombies(cluster, http, random.Random(seed))
        await zombies.feed()
        workers = [zombies.worker() for _ in range(WORKERS)]
        until(lambda: all(worker.owner for worker in workers), "the workers to have runs")
        while len(zombies.woken) < size.zombies:
            await zombies.feed()
            await zombies.once(workers)
    live = "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running') LIMIT 1"
    until(lambda: not cluster.rows(live), "all runs to end", patience=300)

    accepted = stale(cluster.rows("SELECT * FROM audit ORDER BY seq"))
    accepted["stream"], late = stale_events(cluster)
    store = accepted.pop("store", 0)  # an effect of a node's own, as a call to any other server
    [row] = cluster.rows("SELECT count(*) FILTER (WHERE status <> 'success') AS failed FROM lgs.run")
    figures(
        "R3",
        zombies=len(zombies.woken),
        stops=zombies.stops,
        runs=zombies.made,
        woken=len(zombies.woken),
        refused=zombies.ends["lost"],
        accepted=accepted.total(),
        events_before_the_new_owners_first=late,
        store_effects=store,
        failed=row["failed"],
        seed=seed,
    )
    assert not +accepted
    assert (row["failed"], doubled_checkpoints(cluster)) == (0, 0)
    await assert_invariants(cluster.database_uri, worker=True)


def stale_events(cluster: Cluster) -> tuple[int, int]:
    """Events of another process than that whose lease the stream had come to; and those that came between a claim and the
    first event under it, which the log takes (ADR 0004)."""
    owners = {worker.owner: worker.process.pid for worker in cluster.workers}
    found = late = 0
    settings = cluster.settings()
    with Redis.from_url(settings.redis_uri) as redis:
        for row in cluster.rows("SELECT run_id::text AS run_id, lease_history FROM lgs.run"):
            leases = [(owners[entry["owner"]], _time(entry["at"])) for entry in row["lease_history"]]
            epoch = 0
            events: Any = redis.xrange(events_key(settings.redis_key_prefix, row["run_id"]))
            for number, fields in events:
                if fields[b"n"] == b"metadata":
                    epoch = max(epoch, orjson.loads(fields[b"d"])["attempt"])
                elif fields[b"n"] == b"custom":
                    pid = orjson.loads(fields[b"d"])["pid"]
                    found += pid != leases[epoch - 1][0]
                    claimed_since = [owner for owner, at in leases[epoch:] if at < int(number.split(b"-")[0]) / 1000]
                    late += bool(claimed_since)
    return found, late


def _time(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()
