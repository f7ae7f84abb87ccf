"""Clients that go away from runs with ``on_disconnect: cancel``: their sockets are cut, and so is what they had asked for.

On raw sockets, closed in order or reset, with Redis and without it. Nobody sees a client go whose API process has been killed
at the same moment: then the run goes on, as its client may come back to it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from api_process import api_process
from cluster import Cluster
from dev_server import PATIENCE, until
from workload import assert_invariants

HEARTBEAT = 1.0
NO_REDIS = {"REDIS_URI": "redis://127.0.0.1:9/0"}
RUN = {
    "assistant_id": "steps",
    "input": {"name": "s", "steps": 60, "seconds": 0.5},
    "stream_mode": "custom",
    "on_disconnect": "cancel",
}
#: With a thread or without one: the method, the path, whether the run is there before.
FOLLOWERS = {
    "stream": ("POST", "/threads/{thread_id}/runs/stream", False),
    "wait": ("POST", "/threads/{thread_id}/runs/wait", False),
    "stateless stream": ("POST", "/runs/stream", False),
    "stateless wait": ("POST", "/runs/wait", False),
    "join stream": ("GET", "/threads/{thread_id}/runs/{run_id}/stream?cancel_on_disconnect=true", True),
    "join": ("GET", "/threads/{thread_id}/runs/{run_id}/join?cancel_on_disconnect=true", True),
}


class Follower:
    """One client on one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, url: str, method: str, path: str, body: Any = None) -> Follower:
        place = urlsplit(url)
        follower = cls(*await asyncio.open_connection(place.hostname, place.port))
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        follower._writer.write(head.encode() + content)
        return follower

    async def location(self) -> str:
        """Where its run is, from the head of the answer."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200"), head
        return head.split("\r\ncontent-location: ")[1].split("\r\n")[0]

    async def hears(self, word: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._reader.readuntil(word)

    def leave(self, *, reset: bool) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        else:
            self._writer.close()


async def follow(url: str, client: httpx.AsyncClient, kind: str, **changes: Any) -> tuple[Follower, str]:
    """A client that follows a run, and the run."""
    method, path, joins = FOLLOWERS[kind]
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    run_id = ""
    if joins:
        made = await client.post(f"/threads/{thread_id}/runs", json={**RUN, "on_disconnect": "continue", **changes})
        run_id = made.raise_for_status().json()["run_id"]
    path = path.format(thread_id=thread_id, run_id=run_id)
    follower = await Follower.of(url, method, path, None if joins else {**RUN, **changes})
    location = await follower.location()
    return follower, run_id or location.split("/runs/")[1].split("/")[0]


def nodes(cluster: Cluster, run_id: str) -> list[float]:
    """When those of a run began."""
    lines = cluster.journal.read_text().splitlines() if cluster.journal.exists() else []
    return [float(line.split()[-1]) for line in lines if line.startswith(run_id)]


def statuses(cluster: Cluster, run_ids: list[str]) -> list[str]:
    rows = cluster.rows("SELECT status, cancel_reason FROM lgs.run WHERE run_id = ANY(%s::uuid[])", (run_ids,))
    return [row["status"] for row in rows]


def unnamed(cluster: Cluster, run_ids: list[str], waiting: list[Any]) -> bool:
    """Whether there are runs of clients that do not know them."""
    known = [*run_ids, *(run_id for _, run_id in waiting)]
    return bool(cluster.rows("SELECT 1 FROM lgs.run WHERE NOT run_id = ANY(%s::uuid[])", (known,)))


@pytest.mark.parametrize("redis", ["up", "down"])
async def test_who_leaves_stops_the_run(cluster: Cluster, redis: str) -> None:
    if redis == "up":
        cluster.worker()
        await leave_everything(cluster, cluster.url)
    else:
        cluster.worker(**NO_REDIS)
        with api_process(cluster, **NO_REDIS) as (url, _):
            await leave_everything(cluster, url)
    await assert_invariants(cluster.database_uri)


async def leave_everything(cluster: Cluster, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        followed = [await follow(url, client, kind) for kind in FOLLOWERS]
        waiting = [await follow(url, client, kind, after_seconds=300) for kind in ("stream", "wait")]
        run_ids = [run_id for _, run_id in followed]
        await asyncio.to_thread(until, lambda: all(nodes(cluster, run_id) for run_id in run_ids), "all to begin")
        # these have not even seen the head of an answer
        hasty = [await Follower.of(url, "POST", f"/runs/{kind}", RUN) for kind in ("stream", "wait") * 3]
        await asyncio.to_thread(until, lambda: unnamed(cluster, run_ids, waiting), "the first of them to be made")
        for number, follower in enumerate([*hasty, *(follower for follower, _ in followed + waiting)]):
            follower.leave(reset=number % 2 == 0)
        run_ids += [run_id for _, run_id in waiting]
        over = ["interrupted"] * len(run_ids)
        await asyncio.to_thread(until, lambda: statuses(cluster, run_ids) == over, "the runs to stop")
        live = "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')"
        await asyncio.to_thread(until, lambda: not cluster.rows(live), "those of the hasty to stop as well")
    recorded = "SELECT run_id::text, extract(epoch FROM cancel_requested_at)::float8 AS at FROM lgs.run"
    late = [sum(at > row["at"] + HEARTBEAT for at in nodes(cluster, row["run_id"])) for row in cluster.rows(recorded)]
    assert max(late) <= 1, late
    reasons = cluster.rows("SELECT DISTINCT cancel_reason FROM lgs.run")
    assert reasons == [{"cancel_reason": "the client disconnected"}]


async def test_a_client_whose_server_is_killed_finds_its_run_again(cluster: Cluster) -> None:
    """Nobody was there to see the client go; the run is what it was, and goes on for whoever comes back."""
    cluster.worker()
    with api_process(cluster) as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            follower, run_id = await follow(
                url, client, "stream", input={"name": "s", "steps": 6, "seconds": 0.4}, stream_resumable=True
            )
            await follower.hears(b'{"step":1}')
            process.kill()
            await asyncio.to_thread(process.wait)
            follower.leave(reset=True)
    async with httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE) as other:
        answer = await other.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": "-1"})
    assert [line for line in answer.text.splitlines() if "step" in line] == [
        f'data: {{"step":{n}}}' for n in range(1, 7)
    ]
    await asyncio.to_thread(until, lambda: statuses(cluster, [run_id]) == ["success"], "the end")
    await assert_invariants(cluster.database_uri)
