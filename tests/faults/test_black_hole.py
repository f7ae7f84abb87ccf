"""A worker is cut off from Postgres, but alive (R9): packets to the database are dropped, not refused, and arrive when it is over.

It stops its graphs within the lease, somebody else finishes the runs, and what it had sent comes too late to be written.
"""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import httpx
from audit import as_process, install, stale
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import Figures, sizes
from psycopg.conninfo import conninfo_to_dict
from redis import Redis
from tcp_proxy import TcpProxy
from tolls import doubled_checkpoints, repeats
from wire import through
from workload import assert_invariants

from langgraph_serverless.streaming.keys import events_key

RUNS = 6
PAUSE = 0.2


@sizes(timeout=400, lease=(6.0, 30.0), away=(8.0, 60.0))
async def test_a_worker_that_cannot_reach_postgres_stops_and_is_replaced(
    cluster: Cluster, size: SimpleNamespace, figures: Figures
) -> None:
    target = conninfo_to_dict(cluster.database_uri)
    install(cluster.database_uri)
    times = {"LEASE_DURATION_SECS": f"{size.lease}", "HEARTBEAT_INTERVAL_SECS": f"{size.lease / 4}"}
    async with (
        TcpProxy.to(str(target["host"]), int(target["port"])) as proxy,
        httpx.AsyncClient(base_url=cluster.url, timeout=60) as http,
    ):
        # longer than the lease, so that a worker that goes on is seen: in the journal at its next superstep, and in the
        # stream of a run that speaks all the time
        given = {"steps": int(1.2 * size.lease / PAUSE), "seconds": PAUSE}
        batch = [
            {
                "assistant_id": "tokens" if number == RUNS else "steps",
                "input": {"name": f"b{number}-", **given},
                "durability": "sync",
                "on_completion": "keep",
                "stream_mode": ["custom"],
            }
            for number in range(RUNS + 1)
        ]
        made = (await http.post("/runs/batch", json=batch)).raise_for_status().json()
        *runs, speaker = [run["run_id"] for run in made]
        uri = as_process(through(cluster.database_uri, proxy.port), "cut-off")
        cut_off = cluster.worker(DATABASE_URI=uri, **times)
        await _until(lambda: all(cluster.journal.exists() and run in cluster.journal.read_text() for run in runs))
        await _until(lambda: _streams(cluster, [speaker])[speaker])
        proxy.flowing.clear()
        cut_at = time.time()
        other = cluster.worker(DATABASE_URI=as_process(cluster.database_uri, "other"), **times)
        live = "SELECT 1 FROM lgs.run WHERE status <> 'success' LIMIT 1"
        await _until(lambda: not cluster.rows(live), patience=4 * size.lease + PATIENCE)
        took = time.time() - cut_at
        await asyncio.sleep(max(0.0, cut_at + size.away - time.time()))
        before = _streams(cluster, [*runs, speaker])
        proxy.flowing.set()
        await _until(lambda: cut_off.output.count("run lost") + cut_off.output.count("run crashed") > RUNS)
        # it is a good worker again
        other.kill()
        again = {"assistant_id": "steps", "input": {"name": "z", "steps": 1, "seconds": 0}}
        assert (await http.post("/runs/wait", json=again)).json()["log"] == ["z1"]

    begun = [line.split() for line in cluster.journal.read_text().splitlines()]
    ours, theirs = str(cut_off.process.pid), str(other.process.pid)
    worked_on = _last_word(cluster, speaker) - cut_at
    first_of_other = {run: min(float(at) for each, _, pid, at in begun if (each, pid) == (run, theirs)) for run in runs}
    overlaps = sum(pid == ours and float(at) > first_of_other.get(run, float("inf")) for run, _, pid, at in begun)
    accepted = stale(cluster.rows("SELECT * FROM audit ORDER BY seq"))
    accepted["stream"] = sum(before[run] != events for run, events in _streams(cluster, [*runs, speaker]).items())
    rows = cluster.rows("SELECT run_id::text AS run_id, output FROM lgs.run WHERE run_id = ANY(%s::uuid[])", (runs,))
    right = {run: [f"b{number}-{step}" for step in range(1, given["steps"] + 1)] for number, run in enumerate(runs)}
    counts = {
        "stale": accepted.total(),
        "overlaps": overlaps,
        "wrong_outputs": sum(row["output"]["log"] != right[row["run_id"]] for row in rows),
        "doubled_checkpoints": doubled_checkpoints(cluster),
    }
    repeated = repeats(cluster.journal)
    figures(
        "R9",
        away=size.away,
        lease=size.lease,
        runs=len(rows) + 1,
        stopped_after=worked_on,
        finished_after=took,
        **counts,
        repeats=repeated.total(),
    )
    assert counts == dict.fromkeys(counts, 0), accepted
    assert 0 < worked_on < size.lease
    assert max(repeated.values()) <= 1
    await assert_invariants(cluster.database_uri, worker=True)


async def _until(condition: object, *, patience: float = PATIENCE) -> None:
    # on another thread: the proxy runs on this one
    await asyncio.to_thread(until, condition, "the condition", patience=patience)  # type: ignore[arg-type]


def _last_word(cluster: Cluster, run: str) -> float:
    """When the cut off worker added its last event to the stream; the other one begins anew."""
    events = [(int(at.partition(b"-")[0]) / 1000, str(fields)) for at, fields in _streams(cluster, [run])[run]]
    firsts = [at for at, fields in events if '"token":0}' in fields]
    assert len(firsts) == 2, firsts
    return max(at for at, fields in events if at < firsts[1] and "token" in fields)


def _streams(cluster: Cluster, runs: list[str]) -> dict[str, Any]:
    settings = cluster.settings()
    with Redis.from_url(settings.redis_uri) as redis:
        return {run: redis.xrange(events_key(settings.redis_key_prefix, run)) for run in runs}  # type: ignore[arg-type]
