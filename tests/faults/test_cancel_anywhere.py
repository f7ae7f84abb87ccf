"""Cancels at random instants, of runs in every state, while no worker hears a bell (R14).

The workers have no Redis, or one on which nobody speaks to them: a cancel is a column, and nothing else carries it. Of each
round's runs a part is with a worker that is killed, a part with one that hands them on and leaves, the others wait, for a worker
or behind each other, or run. Every cancel that was acknowledged ends its run as it says.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from cluster import Cluster, WorkerProcess
from dev_server import PATIENCE
from figures import Figures, percentile, sizes
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from tcp_proxy import TcpProxy
from workload import assert_invariants

#: Runs that are made and cancelled together.
ROUND = 125
STEPS, SECONDS = 12, 0.5
HEARTBEAT = 1.0
#: Nobody listens there.
NO_REDIS = {"REDIS_URI": "redis://127.0.0.1:9/0"}
#: Its bells and cancels are others'.
DEAF = {"REDIS_KEY_PREFIX": "deaf"}
QUICK = {"HEARTBEAT_INTERVAL_SECS": str(HEARTBEAT), "QUEUE_POLL_INTERVAL_SECS": "0.2"}


@dataclass
class Cancelled:
    """A run, and what was asked of it."""

    run_id: str
    thread_id: str
    action: str = "interrupt"
    #: When the cancel was acknowledged (None if it was refused), and what the run was just before that.
    at: float | None = None
    was: str = ""
    #: Seconds from there to its end; of a rollback nobody has written them down.
    seconds: float | None = None


class Round:
    """Some runs on some workers."""

    def __init__(self, cluster: Cluster, client: httpx.AsyncClient, database: Any, chance: random.Random) -> None:
        self._cluster, self._client, self._database, self._chance = cluster, client, database, chance
        self.runs: list[Cancelled] = []

    async def carry_out(self, count: int) -> None:
        doomed, leaving = await self._with_two_workers(count // 4)
        busy = self.runs[:]
        waiting = [await self._wait_for_a_worker(number) for number in range(count - len(busy))]
        for redis in (NO_REDIS, DEAF):
            self._cluster.worker(N_JOBS_PER_WORKER=str(count), **QUICK, **redis)
        tasks = [asyncio.create_task(self._end([run])) for run in busy]
        tasks += [asyncio.create_task(self._end(runs)) for runs in waiting[len(waiting) // 10 :]]
        leaving.process.terminate()
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        doomed.kill()
        await asyncio.gather(*tasks)
        await self._end_what_is_left([run for runs in waiting[: len(waiting) // 10] for run in runs])
        await self._until_over()

    async def _with_two_workers(self, count: int) -> list[WorkerProcess]:
        """Workers that have taken so many runs each, and take no more."""
        workers = [self._cluster.worker(N_JOBS_PER_WORKER=str(count), **QUICK, **redis) for redis in (NO_REDIS, DEAF)]
        made = [await self._make() for _ in range(2 * count)]
        running = "SELECT count(*) AS n FROM lgs.run WHERE status = 'running' AND run_id = ANY(%s::uuid[])"
        async with asyncio.timeout(PATIENCE):
            while (await self._rows(running, [run.run_id for run in made]))[0]["n"] < 2 * count:
                await asyncio.sleep(0.05)
        return workers

    async def _wait_for_a_worker(self, number: int) -> list[Cancelled]:
        """A run, a run that is due later, or two on one thread."""
        if number % 5 == 0:
            return [await self._make(after_seconds=300)]
        first = await self._make()
        return [first, await self._make(first.thread_id)] if number % 5 == 1 else [first]

    async def _make(self, thread_id: str | None = None, **more: Any) -> Cancelled:
        if thread_id is None:
            thread_id = (await self._client.post("/threads", json={})).raise_for_status().json()["thread_id"]
        body = {
            "assistant_id": "steps",
            "input": {"name": "s", "steps": STEPS, "seconds": SECONDS},
            "durability": self._chance.choice(["sync", "async", "exit"]),
            **more,
        }
        made = await self._client.post(f"/threads/{thread_id}/runs", json=body)
        run = Cancelled(made.raise_for_status().json()["run_id"], thread_id or "")
        self.runs.append(run)
        return run

    # -- cancelling ----------------------------------------------------------------------------------------------

    async def _end(self, runs: list[Cancelled]) -> None:
        """Cancel them at some instant, in one of the ways there are."""
        await asyncio.sleep(self._chance.uniform(0, 3))
        action, way = self._chance.choice(["interrupt", "rollback"]), self._chance.choice(["one", "wait", "many"])
        if way == "many":
            body = {"thread_id": runs[0].thread_id, "run_ids": [run.run_id for run in runs]}
            await self._cancel(runs, "/runs/cancel", action, json=body)
            return
        for run in runs:
            path = f"/threads/{run.thread_id}/runs/{run.run_id}"
            await self._cancel([run], f"{path}/cancel", action, wait=way == "wait")
            if way == "wait":
                after = await self._client.get(path)
                assert after.status_code == 404 or after.json()["status"] not in {"pending", "running"}, after.text

    async def _end_what_is_left(self, runs: list[Cancelled]) -> None:
        await self._cancel(runs, "/runs/cancel", "interrupt", json={"status": "all"})

    async def _cancel(
        self, runs: list[Cancelled], path: str, action: str, *, json: Any = None, wait: bool = False
    ) -> None:
        for run in runs:
            run.was = await self._state(run)
        parameters = {"action": action, **({"wait": "true"} if wait else {})}
        async with self._client.stream("POST", path, params=parameters, json=json) as response:
            for run in runs:
                run.action, run.at = action, time.time() if response.status_code < 400 else None
            answer = await response.aread()
        assert response.status_code in {200, 202, 204, 404}, answer
        assert response.status_code < 400 or not [run for run in runs if not await self._is_over(run)], answer

    async def _state(self, run: Cancelled) -> str:
        states = """SELECT CASE WHEN resuming THEN 'resuming' WHEN lease_expires_at < now() THEN 'expired' ELSE status END AS s
            FROM lgs.run WHERE run_id = %s"""
        return next((row["s"] for row in await self._rows(states, run.run_id)), "gone")

    async def _is_over(self, run: Cancelled) -> bool:
        return await self._state(run) not in {"pending", "resuming", "running", "expired"}

    async def _until_over(self) -> None:
        live = "SELECT run_id FROM lgs.run WHERE status IN ('pending', 'running') AND run_id = ANY(%s::uuid[])"
        async with asyncio.timeout(PATIENCE):
            while await self._rows(live, [run.run_id for run in self.runs]):
                await asyncio.sleep(0.05)

    async def _rows(self, query: Any, *parameters: Any) -> list[dict[str, Any]]:
        return await (await self._database.execute(query, parameters)).fetchall()

    # -- what has become of them ---------------------------------------------------------------------------------

    async def wrong(self) -> list[Any]:
        """Runs, threads and checkpoints that are not as the cancels have it."""
        ids, threads = [run.run_id for run in self.runs], list({run.thread_id for run in self.runs})
        rows = await self._rows(
            "SELECT run_id::text, status, extract(epoch FROM finished_at)::float8 AS ended FROM lgs.run WHERE run_id = ANY(%s::uuid[])",
            ids,
        )
        status = {row["run_id"]: row["status"] for row in rows}
        ended = {row["run_id"]: row["ended"] for row in rows}
        for run in self.runs:
            if run.at and ended.get(run.run_id):
                run.seconds = max(0.0, ended[run.run_id] - run.at)
        wanted = {"interrupt": "interrupted", "rollback": None}
        wrong: list[Any] = []
        for run in self.runs:
            # one of several that are cancelled together may have ended by itself before
            by_itself = run.seconds == 0 and status[run.run_id] == "success"
            if run.at and not by_itself and status.get(run.run_id) != wanted[run.action]:
                wrong.append((run, status.get(run.run_id)))
        wrong += await self._rows(
            "SELECT thread_id, status FROM lgs.thread WHERE thread_id = ANY(%s::uuid[]) AND status NOT IN ('idle', 'interrupted')",
            threads,
        )
        gone = [run.run_id for run in self.runs if run.at and run.action == "rollback"]
        return wrong + await self._rows(
            "SELECT metadata FROM checkpoints WHERE thread_id = ANY(%s) AND metadata ->> 'run_id' = ANY(%s)",
            threads,
            gone,
        )

    async def nodes_after(self, begun: dict[str, list[tuple[int, float]]]) -> tuple[list[int], int]:
        """How many nodes each run has started more than a heartbeat after its cancel; and how many a worker that took it then."""
        late = [sum(1 for _, at in begun[run.run_id] if run.at and at > run.at + HEARTBEAT) for run in self.runs]
        claims = await self._rows(
            """SELECT run_id::text, max(extract(epoch FROM (entry ->> 'at')::timestamptz)) AS at
            FROM lgs.run, jsonb_array_elements(lease_history) AS entry WHERE run_id = ANY(%s::uuid[]) GROUP BY run_id""",
            [run.run_id for run in self.runs],
        )
        claimed = {row["run_id"]: float(row["at"]) for row in claims}
        by_next = sum(
            1
            for run in self.runs
            if run.at and run.at < claimed.get(run.run_id, 0)
            for _, at in begun[run.run_id]
            if at > claimed[run.run_id]
        )
        return late, by_next


def journal(cluster: Cluster) -> dict[str, list[tuple[int, float]]]:
    """When each run's nodes began, and in which process."""
    begun: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in cluster.journal.read_text().splitlines():
        run_id, _, pid, at = line.split()
        begun[run_id].append((int(pid), float(at)))
    return begun


@sizes(timeout=1800, runs=(40, 1000))
async def test_an_acknowledged_cancel_ends_its_run(cluster: Cluster, size: Any, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    rounds: list[Round] = []
    limits = httpx.Limits(max_connections=ROUND)
    async with (
        httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE, limits=limits) as client,
        await psycopg.AsyncConnection.connect(cluster.database_uri, autocommit=True, row_factory=dict_row) as database,
    ):
        left = size.runs
        while left > 0:
            rounds.append(Round(cluster, client, database, chance))
            await rounds[-1].carry_out(min(left, ROUND))
            left -= ROUND
            for worker in cluster.workers:
                worker.kill()
        begun = journal(cluster)
        wrong = [each for one in rounds for each in await one.wrong()]
        late, by_next = [], 0
        for one in rounds:
            after, more = await one.nodes_after(begun)
            late, by_next = late + after, by_next + more
    runs = [run for one in rounds for run in one.runs]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    acknowledged = [run for run in runs if run.at]
    assert not wrong, wrong[:5]
    assert max(late) <= 1, [run for run, nodes in zip(runs, late, strict=True) if nodes > 1]
    assert by_next == 0, "a worker that took a cancelled run has run its nodes"
    await assert_invariants(cluster.database_uri)
    states = Counter(run.was for run in acknowledged)
    assert not size.full or {"pending", "running", "resuming", "expired"} <= set(states), states
    figures(
        "R14",
        runs=len(runs),
        acknowledged=len(acknowledged),
        final=len(runs),
        wrong=len(wrong),
        nodes_after_max=max(late),
        ended_after_p50=percentile(seconds, 50),
        ended_after_p99=percentile(seconds, 99),
        nodes_of_next_worker=by_next,
        **{f"was_{state}": number for state, number in sorted(states.items())},
        seed=seed,
    )


@pytest.mark.parametrize("heals", ["before its lease runs out", "afterwards"])
async def test_a_cancel_outlives_a_partition(cluster: Cluster, heals: str) -> None:
    """The worker is cut off from Postgres when the cancel is recorded: it hears of it later, or whoever comes next does."""
    target = conninfo_to_dict(cluster.database_uri)
    async with (
        TcpProxy.to(str(target["host"]), int(target["port"])) as proxy,
        httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE) as client,
        await psycopg.AsyncConnection.connect(cluster.database_uri, autocommit=True, row_factory=dict_row) as database,
    ):
        behind = f"postgresql://{target['user']}@127.0.0.1:{proxy.port}/{target['dbname']}?sslmode=disable"
        lease = "3" if heals == "afterwards" else "60"
        cut_off = cluster.worker(DATABASE_URI=behind, LEASE_DURATION_SECS=lease, **QUICK, **NO_REDIS)
        one = Round(cluster, client, database, random.Random(heals))
        for _ in range(6):
            await one._make()
        async with asyncio.timeout(PATIENCE):
            while not cluster.journal.exists() or len(journal(cluster)) < len(one.runs):
                assert cut_off.running, cut_off.output
                await asyncio.sleep(0.05)
        proxy.flowing.clear()
        actions = ["interrupt", "rollback"] * 3
        for run, action in zip(one.runs, actions, strict=True):
            await one._cancel([run], f"/threads/{run.thread_id}/runs/{run.run_id}/cancel", action)
        if heals == "afterwards":
            cluster.worker(**QUICK, **NO_REDIS)
            await one._until_over()
        proxy.flowing.set()
        await one._until_over()
        assert not await one.wrong()
        for run in one.runs:
            begun = journal(cluster)[run.run_id]
            assert {pid for pid, _ in begun} == {cut_off.process.pid}, "another worker has begun a node"
            # cut off, it gives a run up after half its lease, and then stops at the next await
            assert run.at is not None
            assert sum(at > run.at + 3 for _, at in begun) <= 1, begun
    await assert_invariants(cluster.database_uri)
