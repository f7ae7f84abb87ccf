"""Redis is emptied, stopped, hung, filled and locked under runs that are waited for and streamed (R8).

Nothing that counts is in Redis: every run ends right and nobody hangs; a stream that lost events ends with what the run came to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cluster import PROJECT
from dev_server import PATIENCE, SHORT_LEASES, DevServer, MakeServer
from figures import Figures, percentile, sizes
from redis.asyncio import Redis
from redis.exceptions import RedisError
from workload import Acknowledged, MakeWorkload, Workload, assert_invariants, run_log

from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey

pytestmark = pytest.mark.timeout(120)

#: R8's target for the 95th percentile of waits (seconds).
LONGEST_WAIT = 70.0
#: Most that a request may take while Redis hangs (seconds); the promise is one second for one of them, and next to nothing after.
LONGEST_CREATE = 5.0


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server of the test's own, to be stopped and started."""
    server = EmbeddedValkey(tmp_path / "own")
    yield server
    server.stop()


@pytest.fixture
def server(valkey: EmbeddedValkey, dev_servers: MakeServer, tmp_path: Path) -> DevServer:
    uri = valkey.start()
    return dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), REDIS_URI=uri, **SHORT_LEASES)


@dataclass
class Clients:
    """Clients that make one run after the other, and follow each to its end."""

    workload: Workload
    waits: list[float] = field(default_factory=list)
    snapshots: int = 0
    lost: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _leaving: bool = False

    def start(self, count: int) -> None:
        self._tasks += [asyncio.create_task(self._client(number)) for number in range(count)]

    async def leave(self, *, patience: float) -> None:
        """After the runs that they are following."""
        self._leaving = True
        async with asyncio.timeout(patience):
            await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        while not self._leaving:
            run = self.workload._new()
            await (self.wait if number % 2 else self.stream)(run)
            assert run.output is not None, f"{run} ended without a state"
            self.lost += run.output["log"] != run_log(run)

    async def wait(self, run: Acknowledged) -> None:
        began = time.monotonic()
        run.output = await self.workload.client.runs.wait(None, **self.workload._request(run))
        self.waits.append(time.monotonic() - began)

    async def stream(self, run: Acknowledged) -> None:
        steps = set()
        async for part in self.workload.client.runs.stream(
            None, **self.workload._request(run), stream_mode=["values", "custom"], stream_resumable=True
        ):
            if part.event == "values":
                run.output = part.data
            elif part.event == "custom":
                steps.add(part.data["step"])
        self.snapshots += steps != set(range(1, run.steps + 1))


async def all_right(workload: Workload) -> None:
    rows = workload.server.rows("SELECT DISTINCT status, attempt FROM lgs.run")
    assert rows == [{"status": "success", "attempt": 1}]
    await assert_invariants(workload.server.database_uri, worker=True)


@sizes(timeout=1800, flush_for=(2.5, 120), flush_every=(0.5, 5), down=(3, 300), clients=(6, 20))
async def test_redis_is_emptied_and_goes_away(
    size: SimpleNamespace,
    server: DevServer,
    valkey: EmbeddedValkey,
    workload_on: MakeWorkload,
    seed: int,
    figures: Figures,
) -> None:
    workload = workload_on(server, seconds=0.1)
    clients = Clients(workload)
    flushes = 0
    clients.start(size.clients)
    async with Redis.from_url(server.redis_uri) as redis:
        until = time.monotonic() + size.flush_for
        while time.monotonic() < until:
            await asyncio.sleep(size.flush_every)
            await redis.flushall()
            flushes += 1
    assert valkey._process is not None
    if seed % 2:
        valkey._process.kill()
    await asyncio.to_thread(valkey.stop)
    await asyncio.sleep(size.down)
    await asyncio.to_thread(valkey.start)
    before = len(workload.runs)
    async with asyncio.timeout(PATIENCE):
        while len(workload.runs) < before + size.clients:
            await asyncio.sleep(0.05)
    await clients.leave(patience=PATIENCE)
    numbers = {"wait_p50": percentile(clients.waits, 50), "wait_p95": percentile(clients.waits, 95)}
    figures(
        "R8",
        flushes=flushes,
        down=size.down,
        runs=len(workload.runs),
        lost=clients.lost,
        **numbers,
        snapshots=clients.snapshots,
        seed=seed,
    )
    assert clients.lost == 0
    assert clients.snapshots > 0, "nothing was in the way of the streams"
    assert numbers["wait_p95"] < LONGEST_WAIT
    await all_right(workload)
    # and it is used again
    with suppress(RedisError):
        async with Redis.from_url(server.redis_uri) as redis:
            assert await redis.dbsize()


# -- other ways to be of no use ------------------------------------------------------------------------------------


Trouble = Callable[[Redis, EmbeddedValkey], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _hangs(_: Redis, valkey: EmbeddedValkey) -> AsyncIterator[None]:
    assert valkey._process is not None
    valkey._process.suspend()
    try:
        yield
    finally:
        valkey._process.resume()


@asynccontextmanager
async def _is_full(redis: Redis, _: EmbeddedValkey) -> AsyncIterator[None]:
    await redis.config_set("maxmemory", "1")
    yield
    await redis.config_set("maxmemory", "0")


@asynccontextmanager
async def _is_a_replica(redis: Redis, _: EmbeddedValkey) -> AsyncIterator[None]:
    await redis.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]
    yield
    await redis.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _has_another_password(redis: Redis, _: EmbeddedValkey) -> AsyncIterator[None]:
    await redis.config_set("requirepass", "changed")
    over = asyncio.Event()

    async def keep_out() -> None:
        # again and again: a connection that is still in would do for health, and for the others after it
        while not over.is_set():
            for kind in ("normal", "pubsub"):
                await redis.client_kill_filter(_type=kind, skipme=True)
            await asyncio.sleep(0.2)

    keeping = asyncio.create_task(keep_out())
    yield
    over.set()
    await keeping
    await redis.config_set("requirepass", "")


TROUBLES: dict[str, Trouble] = {
    "does not answer": _hangs,
    "is full": _is_full,
    "takes no writes": _is_a_replica,
    "refuses": _has_another_password,
}


async def test_redis_is_missing_at_the_start_and_of_no_use_in_every_way_later(
    valkey: EmbeddedValkey, dev_servers: MakeServer, tmp_path: Path, workload_on: MakeWorkload, figures: Figures
) -> None:
    """Absent, hung, full, read-only, with another password: requests are quick, health says which it is, runs end right."""
    uri = valkey.start()
    await asyncio.to_thread(valkey.stop)
    server = dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), REDIS_URI=uri, **SHORT_LEASES)
    assert "runs are found by polling" in server.output
    workload = workload_on(server, seconds=0.02)
    client: Any = workload.client
    clients = Clients(workload)
    slowest = 0.0
    async with Redis.from_url(uri) as redis, httpx.AsyncClient(base_url=server.url, timeout=30) as http:

        async def trouble() -> str:
            response = await http.get("/ok", params={"check_db": "1"})
            assert response.status_code == 200
            return response.json()["services"].get("redis", "")

        async with asyncio.timeout(PATIENCE):
            assert "does not answer" in await trouble()
            thread_id = (await client.threads.create())["thread_id"]
            run = await client.runs.create(thread_id, "steps", input={"name": "c", "steps": 1000, "seconds": 0.1})
            while (await client.runs.get(thread_id, run["run_id"]))["status"] == "pending":
                await asyncio.sleep(0.05)
            await client.runs.cancel(thread_id, run["run_id"], wait=True)
            assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
            await client.threads.delete(thread_id)
            await asyncio.gather(clients.wait(workload._new()), clients.stream(workload._new()))
        assert clients.snapshots == 1
        await asyncio.to_thread(valkey.start)
        for says, begin in TROUBLES.items():
            async with begin(redis, valkey):
                followed = asyncio.gather(clients.wait(workload._new()), clients.stream(workload._new()))
                took = []
                for _ in range(3):
                    began = time.monotonic()
                    background = workload._new()
                    await client.runs.create(None, **workload._request(background))
                    took.append(time.monotonic() - began)
                async with asyncio.timeout(PATIENCE):
                    while says not in (said := await trouble()):
                        print(f"{says!r} is not said yet, but {said!r}")
                        await asyncio.sleep(0.05)
                # one waits for the silence; who comes next does not
                assert sorted(took)[1] < LONGEST_CREATE / 2
                slowest = max(slowest, *took)
                async with asyncio.timeout(PATIENCE):
                    await followed
            async with asyncio.timeout(PATIENCE):
                while await trouble():
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE):
            before = -1
            while clients.snapshots != before:  # until a stream has all of its events
                before = clients.snapshots
                await clients.stream(workload._new())
            while server.rows("SELECT 1 FROM lgs.run WHERE finished_at IS NULL"):
                await asyncio.sleep(0.05)
    figures("R8 in other ways", slowest_create=slowest, slowest_wait=max(clients.waits))
    assert slowest < LONGEST_CREATE
    for made in workload.runs:
        assert made.output is None or made.output["log"] == run_log(made)
    await all_right(workload)


# -- what a stream says of what it lost ----------------------------------------------------------------------------


async def _streamed(client: Any, thread_id: str, run_id: str, after: str, *, until_step: int = 0) -> list[Any]:
    """Parts of a run's stream up to its end, or to this step."""
    seen = []
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(client.runs.join_stream(thread_id, run_id, last_event_id=after)) as s,
    ):
        async for part in s:
            seen.append(part)
            if part.event == "custom" and part.data["step"] == until_step:
                break
    return seen


async def _streamable(client: Any, steps: int) -> tuple[str, str, list[str]]:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread_id,
        "steps",
        input={"name": "s", "steps": steps, "seconds": 0.3},
        stream_mode=["custom"],
        stream_resumable=True,
        durability="sync",
    )
    return thread_id, run["run_id"], [f"s{number}" for number in range(1, steps + 1)]


async def test_a_client_from_before_a_flush_goes_on_and_gets_the_state(
    server: DevServer, workload_on: MakeWorkload
) -> None:
    client: Any = workload_on(server).client
    thread_id, run_id, log = await _streamable(client, 6)
    seen = await _streamed(client, thread_id, run_id, "-1", until_step=2)
    async with Redis.from_url(server.redis_uri) as redis:
        await redis.flushall()
    last = seen[-1].id
    rest = await _streamed(client, thread_id, run_id, last)
    steps = [part.data["step"] for part in rest if part.event == "custom"]
    assert steps[-1] == 6
    assert (rest[-1].event, rest[-1].data["log"]) == ("values", log)
    # the same once it is over; and for whoever comes back between the gap and the end
    assert [part.data for part in await _streamed(client, thread_id, run_id, last)] == [part.data for part in rest]
    late = await _streamed(client, thread_id, run_id, rest[-2].id)
    assert [(part.event, part.data["log"]) for part in late] == [("values", log)]
    assert await _streamed(client, thread_id, run_id, rest[-1].id) == []
    # with an id that is ahead of the log, as after a switch to a server with another clock
    ahead = await _streamed(client, thread_id, run_id, f"{2**43}-0")
    assert (ahead[-1].event, ahead[-1].data["log"]) == ("values", log)
    async with Redis.from_url(server.redis_uri) as redis:
        await redis.flushall()
    (only,) = await _streamed(client, thread_id, run_id, last)
    assert (only.event, only.data["log"]) == ("values", log)


@pytest.mark.slow  # the fast form is in tests/integration/test_event_log.py
@pytest.mark.parametrize("how", ["handed on", "killed"])
async def test_events_that_a_worker_held_back_when_it_left_are_made_good_by_the_state(
    server: DevServer, valkey: EmbeddedValkey, workload_on: MakeWorkload, how: str
) -> None:
    workload = workload_on(server)
    client: Any = workload.client
    thread_id, run_id, log = await _streamable(client, 10)
    seen = await _streamed(client, thread_id, run_id, "-1", until_step=2)
    await asyncio.to_thread(valkey.stop)
    await workload.under_way(5)  # of supersteps, the fourth of which is over: nobody has been told
    if how == "killed":
        await asyncio.to_thread(server.kill)
    else:
        assert await asyncio.to_thread(server.stop) == 0
    await asyncio.to_thread(valkey.start)
    await asyncio.to_thread(server.start)
    rest = await _streamed(client, thread_id, run_id, seen[-1].id)
    assert (rest[-1].event, rest[-1].data["log"]) == ("values", log)
    steps = {part.data["step"] for part in [*seen, *rest] if part.event == "custom"}
    assert 4 not in steps, "nothing was lost"
    (run,) = workload.server.rows("SELECT status, attempt, handoffs FROM lgs.run")
    assert run == {"status": "success", "attempt": 1 + (how == "killed"), "handoffs": int(how != "killed")}
