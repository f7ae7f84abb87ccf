"""Hundreds of streams of runs that say nothing, on a real server process: none of them holds a connection to the database, and all of
them share two to Redis. The pool has a single connection, so that one stream that held it would be noticed by everybody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import urlsplit

import httpx
import psutil
from api_process import api_process
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import Figures
from redis import Redis

STREAMS, RUNS = 500, 20
NAME = "idle-streams"


class Idle:
    """One client on one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, url: str, path: str) -> Idle:
        place = urlsplit(url)
        idle = cls(*await asyncio.open_connection(place.hostname, place.port))
        idle._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert (await idle._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        return idle

    async def is_kept_alive(self) -> None:
        await self._reader.readuntil(b"\n")

    async def rest(self) -> bytes:
        text = await self._reader.read()
        self._writer.close()
        return text


def redis_connections(cluster: Cluster) -> tuple[int, int]:
    """How many there are, and how many of them are subscribed to something."""
    with Redis.from_url(cluster.environ["REDIS_URI"]) as redis:
        ours = [client for client in redis.client_list() if client["name"] == NAME]
        return len(ours), sum(client["sub"] != "0" for client in ours)


def database_connections(cluster: Cluster) -> Counter[str]:
    """What connections of servers do, of the cluster's own as well."""
    query = (
        "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = 'langgraph-serverless'"
    )
    return Counter(row["state"] for row in cluster.rows(query))


async def test_idle_streams_share_two_connections_and_hold_none_to_the_database(
    cluster: Cluster, figures: Figures
) -> None:
    uri = cluster.environ["REDIS_URI"]
    environ = {
        "REDIS_URI": f"{uri}{'&' if '?' in uri else '?'}client_name={NAME}",
        "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "1",
        "DATABASE_POOL_MIN_SIZE": "0",
    }
    others = database_connections(cluster).total()
    with api_process(cluster, **environ) as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            paths = []
            for _ in range(RUNS):
                thread_id = (await client.post("/threads", json={})).json()["thread_id"]
                body = {"assistant_id": "steps", "input": {}, "after_seconds": 300}
                made = (await client.post(f"/threads/{thread_id}/runs", json=body)).json()
                paths.append(f"/threads/{thread_id}/runs/{made['run_id']}")
            before = redis_connections(cluster)[0]
            # streams for the most part, and waits
            kinds = ["stream"] * 4 + ["join"]
            idle: list[Idle] = []
            for first in range(0, STREAMS, 50):
                places = [f"{paths[at % RUNS]}/{kinds[at % 5]}" for at in range(first, first + 50)]
                idle += await asyncio.gather(*(Idle.of(url, path) for path in places))
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(one.is_kept_alive() for one in idle))
            # each looks at its run's row now and then
            await asyncio.to_thread(until, lambda: database_connections(cluster)["active"] == 0, "nobody to ask")
            redis, database = redis_connections(cluster), database_connections(cluster)
            memory = psutil.Process(process.pid).memory_info().rss / 2**20
            # the only connection there is is free for whoever asks
            assert (await client.post("/threads/search", json={"limit": 1})).status_code == 200
            for path in paths:
                assert (await client.post(f"{path}/cancel")).status_code == 202
            async with asyncio.timeout(PATIENCE):
                ends = await asyncio.gather(*(one.rest() for one in idle))
    figures(
        "500 streams",
        runs=RUNS,
        redis=redis[0],
        redis_before=before,
        database=database.total() - others,
        memory_mb=memory,
    )
    assert all(end.endswith(b"0\r\n\r\n") for end in ends), "every stream ends"
    assert database["idle in transaction"] == 0
    assert database.total() <= others + 1
    assert redis[1] == 1
    assert redis[0] <= before + 2
