"""Readers that take a byte a second, or nothing any more (R19): the run takes as long as without them, what the API keeps for them
is bounded, and in the end each of them has all of the stream, or hears of the gap and gets the state.

On raw sockets with the smallest buffers there are, so that nothing hides in the kernel. The API is a process of its own, whose
memory is looked at all the time.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from api_process import api_process
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import Figures, sizes
from tcp_proxy import TcpProxy
from workload import assert_invariants

#: What the API may keep for all of them, whatever their number up to a hundred (bytes).
MOST_MEMORY = 50 * 2**20
LARGE = "x" * 20_000


class Reader:
    """One client that joins a run from its first event."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._text = b""

    @classmethod
    async def of(cls, url: str, path: str, *, slow: bool = True) -> Reader:
        place = urlsplit(url)
        connection = socket.socket()
        connection.setblocking(False)
        if slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel gives the least it has
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (place.hostname, place.port))
        request = f"GET {path}/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: -1\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        return cls(connection)

    async def read_slowly(self, seconds: float) -> None:
        """A byte at a time."""
        while True:
            self._text += await asyncio.get_running_loop().sock_recv(self._connection, 1)
            await asyncio.sleep(seconds)

    async def read_on(self) -> list[tuple[str, Any]]:
        """All that there is up to the end of the stream, at once."""
        pieces = [self._text]
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        with self._connection:
            while piece := await asyncio.get_running_loop().sock_recv(self._connection, 2**16):
                pieces.append(piece)
        return _events(b"".join(pieces))

    def close(self) -> None:
        self._connection.close()


def _events(answer: bytes) -> list[tuple[str, Any]]:
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    chunks, at, size = [], len(head) + 4, -1
    while size:
        end = answer.find(b"\r\n", at)
        assert end >= 0, "the answer was cut off"
        size = int(answer[at:end], 16)
        chunks.append(answer[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    text = b"".join(chunks)
    frames = [frame.split(b"\r\n") for frame in text.split(b"\r\n\r\n") if frame.startswith(b"event: ")]
    return [(name[7:].decode(), _brief(json.loads(data[6:]))) for name, data, *_ in frames]


def _brief(data: dict[str, Any]) -> dict[str, Any]:
    # what makes it large is nothing to look at, and there are many of them
    return {name: value for name, value in data.items() if value != LARGE}


def missed(events: Sequence[tuple[str, Any]], steps: int) -> bool:
    """Whether a reader missed some of the events of its run, and whether it knows."""
    numbers = [data["number"] for name, data in events if name == "custom"]
    assert numbers == sorted(set(numbers)), "an event came twice"
    assert numbers[-1:] == [steps - 1], "the last event is always there"
    assert events[0][0] == ("metadata" if numbers[0] == 0 else "custom")
    gap = len(numbers) < steps
    last, state = events[-1]
    assert last == ("values" if gap else "custom"), f"gap: {gap}, and the last event is {last}"
    assert not gap or state["log"] == ["said"]
    return gap


class Memory:
    """How much a process has grown at most."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = psutil.Process(process.pid)
        self._before = self.most = self._process.memory_info().rss

    @property
    def growth(self) -> int:
        return self.most - self._before

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                self.most = max(self.most, self._process.memory_info().rss)
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def make_run(client: httpx.AsyncClient, steps: int) -> str:
    """A run with a large output, paced as tokens are; its path."""
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    body = {
        "assistant_id": "gush",
        "input": {"name": LARGE, "steps": steps, "seconds": 0.002},
        "stream_mode": "custom",
        "stream_resumable": True,
    }
    made = await client.post(f"/threads/{thread_id}/runs", json=body)
    return f"/threads/{thread_id}/runs/{made.raise_for_status().json()['run_id']}"


def seconds_of(cluster: Cluster, path: str) -> float:
    """How long the worker took for a run, once it is over."""
    query = "SELECT extract(epoch FROM finished_at - started_at)::float8 AS took FROM lgs.run WHERE run_id = %s AND status = 'success'"
    run_id = path.rpartition("/")[2]
    until(lambda: cluster.rows(query, (run_id,)), "the run to end", patience=10 * PATIENCE)
    took: float = cluster.rows(query, (run_id,))[0]["took"]
    return took


@sizes(timeout=900, readers=(10, 100), quick=(5, 20), steps=(200, 2000), kept=(2**20, 16 * 2**20))
async def test_slow_readers_cost_nobody_anything(cluster: Cluster, size: Any, figures: Figures) -> None:
    worker = cluster.worker(STREAM_MAX_BYTES=str(size.kept))
    with api_process(cluster) as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:

            async def run(followers: Sequence[int]) -> tuple[float, list[Reader], list[asyncio.Task[Any]]]:
                """How long the worker takes with so many readers that are slow, and that are not."""
                worker.pause()
                path = await make_run(client, size.steps)
                readers = [await Reader.of(url, path, slow=at < followers[0]) for at in range(sum(followers))]
                tasks = [asyncio.create_task(reader.read_slowly(1)) for reader in readers[: followers[0]]]
                tasks += [asyncio.create_task(reader.read_on()) for reader in readers[followers[0] :]]
                worker.wake()
                return await asyncio.to_thread(seconds_of, cluster, path), readers, tasks

            async def finished(followers: Sequence[int]) -> float:
                seconds, _, tasks = await run(followers)
                for events in await asyncio.gather(*tasks):
                    missed(events, size.steps)
                return seconds

            crowded = await finished((0, size.quick))
            alone = await finished((0, 1))
            memory = Memory(process)
            async with memory.watched():
                beside, slow, tasks = await run((size.readers, 0))
                assert not any(task.done() for task in tasks), "one was not slow"
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                growth = memory.growth
                gaps = [missed(await reader.read_on(), size.steps) for reader in slow]
    figures(
        "R19",
        readers=size.readers,
        alone=alone,
        beside=beside,
        quick=size.quick,
        beside_quick=crowded,
        memory_mb=growth / 2**20,
        memory_catching_up_mb=memory.growth / 2**20,
        gaps=sum(gaps),
        caught_up=len(gaps) - sum(gaps),
    )
    assert all(gaps), "the log holds less than the run has said, and they had read nothing"
    assert max(growth, memory.growth) < MOST_MEMORY
    # as fast as on a machine that has other things to do
    assert beside < 1.5 * alone + 1
    await assert_invariants(cluster.database_uri)


#: A client as a process of its own, which can be paused.
CLIENT = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(f"GET {sys.argv[2]}/stream HTTP/1.1\\r\\nHost: x\\r\\nLast-Event-ID: -1\\r\\n\\r\\n".encode())
while piece := connection.recv(100):
    print("reads", flush=True)
"""


@pytest.mark.slow
async def test_dead_readers_are_let_go(cluster: Cluster) -> None:
    """Some never read, one is a process that is paused, one has a network that drops everything; one reads."""
    worker = cluster.worker()
    worker.pause()
    with api_process(cluster, STREAM_WRITE_TIMEOUT_SECS="0.6", STREAM_KEEPALIVE_SECS="0.2") as (url, process):
        port = urlsplit(url).port
        assert port is not None

        def connections() -> int:
            there = psutil.Process(process.pid).net_connections("tcp")
            return sum(found.status == "ESTABLISHED" and found.laddr.port == port for found in there)

        async with TcpProxy.to("127.0.0.1", port) as proxy:
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
                path = await make_run(client, 300)
            dead = [await Reader.of(url, path) for _ in range(5)]
            dead.append(await Reader.of(f"http://127.0.0.1:{proxy.port}", path))
            alive = await Reader.of(url, path, slow=False)
            reading = asyncio.create_task(alive.read_on())
            paused = subprocess.Popen(
                [sys.executable, "-c", CLIENT, str(port), path], stdout=subprocess.PIPE, start_new_session=True
            )
            try:
                assert paused.stdout is not None
                await asyncio.to_thread(paused.stdout.readline)
                paused.send_signal(signal.SIGSTOP)
                await asyncio.to_thread(until, lambda: connections() == 8, "all to be connected")
                proxy.flowing.clear()
                worker.wake()
                began = time.monotonic()
                assert not missed(await asyncio.wait_for(reading, PATIENCE), 300)
                await asyncio.to_thread(until, lambda: connections() == 0, "the dead to be let go")
                assert time.monotonic() > began + 0.6, "a client that is slow for a moment is no dead one"
            finally:
                paused.kill()
                paused.wait()
                paused.stdout.close()
                for reader in dead:
                    reader.close()
    await asyncio.to_thread(seconds_of, cluster, path)
    await assert_invariants(cluster.database_uri)
