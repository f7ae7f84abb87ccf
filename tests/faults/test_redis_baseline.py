"""What runs leave in Redis: nothing, however they end, once their streams' time is over; and at no moment a key that would stay.

Runs end in success, in an error, by a cancel, deleted, rolled back, out of time, given up after their worker was killed, and not at
all, as nobody works any more; the last three only in the full form. Times are short: a second for what has ended, two more for what may still be alive.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from api_process import api_process
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import sizes
from redis import Redis
from workload import assert_invariants

SHORT = {
    "RESUMABLE_STREAM_TTL_SECONDS": "1",
    "BG_JOB_TIMEOUT_SECS": "2",
    "MAX_RUN_ATTEMPTS": "1",
    "LEASE_DURATION_SECS": "2",
    "HEARTBEAT_INTERVAL_SECS": "0.5",
    "SWEEP_INTERVAL_SECS": "0.2",
}
LONG = {"name": "s", "steps": 60, "seconds": 0.1}


class Keys:
    """What this cluster has in Redis, and whatever of it was seen without a time to live."""

    def __init__(self, cluster: Cluster) -> None:
        self._redis = Redis.from_url(cluster.environ["REDIS_URI"])
        self._prefix = cluster.environ["REDIS_KEY_PREFIX"]
        self.seen: set[bytes] = set()
        self.lasting: set[bytes] = set()

    def look(self) -> list[bytes]:
        found = list(self._redis.scan_iter(f"{self._prefix}:*", count=1000))
        with self._redis.pipeline(transaction=False) as pipe:
            for key in found:
                pipe.pttl(key)
            lives = pipe.execute() if found else []
        self.seen.update(found)
        self.lasting.update(key for key, life in zip(found, lives, strict=True) if life == -1)
        return found

    def channels(self) -> list[bytes]:
        channels: list[bytes] = self._redis.pubsub_channels(f"{self._prefix}:*")
        return channels

    def close(self) -> None:
        self._redis.close()


async def end_in_every_way(client: httpx.AsyncClient, cluster: Cluster, *, full: bool) -> None:
    """Makes runs, and sees them end."""

    async def run(graph: str, given: Any, **more: Any) -> str:
        thread_id = (await client.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": graph, "input": given, "stream_resumable": True, **more}
        made = await client.post(f"/threads/{thread_id}/runs", json=body)
        return f"/threads/{thread_id}/runs/{made.raise_for_status().json()['run_id']}"

    def began(path: str) -> bool:
        return cluster.journal.exists() and path.rpartition("/")[2] in cluster.journal.read_text()

    ends = {
        await run("gush", {"name": "x" * 1000, "steps": 50, "seconds": 0}): "success",
        await run("steps", {"name": "s", "steps": 2}): "error",  # which it has no time for
        **({await run("steps", LONG): "timeout"} if full else {}),
    }
    pending = await run("steps", LONG, after_seconds=300)
    cancelled, rolled_back, deleted = [await run("steps", LONG) for _ in range(3)]
    stateless = asyncio.create_task(
        client.post("/runs/wait", json={"assistant_id": "gush", "input": {**LONG, "seconds": 0}})
    )
    await asyncio.to_thread(until, lambda: all(map(began, (cancelled, rolled_back, deleted))), "runs to begin")
    answers = [
        await client.post(f"{pending}/cancel"),
        await client.post(f"{cancelled}/cancel"),
        await client.post(f"{rolled_back}/cancel?action=rollback"),
        await client.delete(deleted),
        await stateless,
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 204, 200]
    ends |= {pending: "interrupted", cancelled: "interrupted"}
    statuses = "SELECT run_id::text, status FROM lgs.run WHERE run_id = ANY(%s::uuid[])"
    ids = [path.rpartition("/")[2] for path in (*ends, rolled_back, deleted)]

    def found() -> dict[str, str]:
        return {row["run_id"]: row["status"] for row in cluster.rows(statuses, (ids,))}

    wanted = {path.rpartition("/")[2]: status for path, status in ends.items()}
    await asyncio.to_thread(until, lambda: found() == wanted, "runs to end in their ways")
    if not full:
        cluster.workers[0].kill()
        return
    # at last one that takes its worker along, and one that nobody ends
    given_up = await run("poison", {})
    await asyncio.to_thread(until, lambda: not cluster.workers[0].running, "the worker to die")
    cluster.worker(**SHORT)
    await asyncio.to_thread(
        until,
        lambda: (cluster.rows(statuses, ([given_up.rpartition("/")[2]],)) or [{}])[0].get("status") == "error",
        "it to be given up",
    )
    abandoned = await run("steps", LONG)
    await asyncio.to_thread(until, lambda: began(abandoned), "the last run to begin")
    cluster.workers[1].kill()


@sizes(timeout=200, workers=(1, 2))
async def test_runs_leave_nothing_in_redis(cluster: Cluster, size: Any) -> None:
    keys = Keys(cluster)
    cluster.worker(**SHORT)
    with api_process(cluster, **SHORT) as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            ending = asyncio.create_task(end_in_every_way(client, cluster, full=size.full))
            while not ending.done():
                keys.look()
                await asyncio.sleep(0.01)
            await ending
            assert len([key for key in keys.seen if key.endswith(b":events")]) > 6
            runs = [b":run:", b":thread"]
            await asyncio.to_thread(
                until, lambda: not [key for key in keys.look() if any(part in key for part in runs)], "all to be gone"
            )
            assert keys.lasting == set()
            await asyncio.to_thread(until, lambda: not keys.channels(), "nobody to listen any more")
    keys.close()
    # the run that was abandoned is there for the next worker
    await assert_invariants(cluster.database_uri)
