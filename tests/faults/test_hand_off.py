"""Runs that take longer than the functions that execute them: R4, R5, R12.

Workers are the worker function in processes that end, are frozen and killed as on Lambda (``lambda_service.py``), and nothing
but their own invocations of themselves keeps a run going, unless the test ticks.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster import PROJECT, Cluster
from dev_server import PATIENCE, SHORT_LEASES, DevServer
from figures import Figures, sizes
from lambda_service import Deploy, idle
from langgraph_sdk.client import LangGraphClient
from workload import RECONNECTING, MakeWorkload, Workload, assert_invariants

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.services.scheduler import TickReport

pytestmark = [pytest.mark.filterwarnings(warning) for warning in RECONNECTING]

PLACES = ("start", "side", "walk0", "walk1", "walk2", "first", "deep0", "deep1", "second", "gather")
SUPERSTEPS = 6
DURABILITIES = ("sync", "async", "exit")


async def ticked(cluster: Cluster) -> TickReport:
    """One tick of the scheduler function."""
    container = SchedulerContainer(cluster.settings(), manifest=Manifest.of({}))
    try:
        return await container.scheduler.tick()
    finally:
        await container.aclose()


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a webhook's receiver, and what it has received."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Race:
    """Runs of the marathon on one deployment, each followed by a client of another kind."""

    def __init__(self, cluster: Cluster, client: LangGraphClient, laps: int, seconds: float) -> None:
        self.cluster, self.client, self.laps, self.seconds = cluster, client, laps, seconds
        #: By name: the runs of one race, one after the other.
        self.runs: dict[str, list[str]] = {}
        self.gaps = 0

    def _request(self, name: str, durability: str, **more: Any) -> dict[str, Any]:
        self.runs.setdefault(name, [])
        race = {"name": name, "laps": self.laps, "seconds": self.seconds, "log": []}
        return {"assistant_id": "marathon", "input": race, "durability": durability, **more}

    def _made(self, name: str) -> Any:
        return lambda made: self.runs[name].append(made["run_id"])

    async def _thread(self) -> str:
        return str((await self.client.threads.create())["thread_id"])

    async def stream(self, name: str, durability: str, *, thread: bool) -> None:
        thread_id = await self._thread() if thread else None
        request = self._request(name, durability, stream_mode=["custom", "values", "updates"], stream_subgraphs=True)
        await self._follow(name, self.client.runs.stream(thread_id, **request, on_run_created=self._made(name)))

    async def _follow(self, name: str, stream: AsyncIterator[Any], *, laps: range | None = None) -> None:
        events = [event async for event in stream]
        assert not [event for event in events if event.event in ("error", "gap")], events[-1]
        ids = [tuple(map(int, event.id.split("-"))) for event in events if event.id]
        assert ids == sorted(set(ids)), f"{name}: an event came twice"
        places = Counter(event.data["at"] for event in events if event.event.startswith("custom"))
        expected = Counter(f"{lap}:{place}" for lap in laps or range(1, self.laps + 1) for place in PLACES)
        self.gaps += len(expected - places)
        assert places == expected, f"{name}: missed {expected - places}, again {places - expected}"
        updates = Counter(
            entry
            for event in events
            if event.event == "updates"
            for update in event.data.values()
            for entry in update["log"]
        )
        assert max(updates.values()) == 1, f"{name}: updates came again: {updates.most_common(3)}"
        lengths = [len(event.data.get("log", ())) for event in events if event.event == "values"]
        assert lengths == sorted(set(lengths)), f"{name}: a state came again"
        assert [event.data.get("attempt") for event in events if event.event == "metadata"] == [1]

    async def wait(self, name: str, durability: str, *, thread: bool) -> None:
        thread_id = await self._thread() if thread else None
        request = self._request(name, durability)
        self._check(name, await self.client.runs.wait(thread_id, **request, on_run_created=self._made(name)))

    async def join(self, name: str, durability: str) -> None:
        thread_id = await self._thread()
        run = await self.client.runs.create(thread_id, **self._request(name, durability))
        self._made(name)(run)
        watching = asyncio.create_task(self._watch(thread_id, run["run_id"]))
        self._check(name, await self.client.runs.join(thread_id, run["run_id"]))
        await watching

    async def _watch(self, thread_id: str, run_id: str) -> None:
        """The run is waiting, then running all the time, then over; its thread is busy until then."""
        seen = ["pending"]
        while seen[-1] != "success":
            thread = await self.client.threads.get(thread_id)
            status = (await self.client.runs.get(thread_id, run_id))["status"]
            if status != seen[-1]:
                seen.append(status)
            assert status == "success" or thread["status"] == "busy"
            await asyncio.sleep(0.05)
        assert seen in (["pending", "running", "success"], ["pending", "success"])

    async def webhook(self, name: str, durability: str, url: str, received: list[dict[str, Any]]) -> None:
        thread_id = await self._thread()
        run = await self.client.runs.create(thread_id, **self._request(name, durability, webhook=url))
        self._made(name)(run)
        while not received:
            assert (await self.client.runs.get(thread_id, run["run_id"]))["status"] in ("pending", "running", "success")
            await asyncio.sleep(0.05)
        [payload] = received
        assert (payload["run_id"], payload["status"]) == (run["run_id"], "success")
        self._check(name, payload["values"])

    async def question(self, name: str, durability: str) -> None:
        thread_id, ask_in = await self._thread(), self.laps // 2
        request = self._request(name, durability)
        request["input"]["ask_in"] = ask_in
        output = await self.client.runs.wait(thread_id, **request, on_run_created=self._made(name))
        assert [asked["value"] for asked in output["__interrupt__"]] == ["go on?"]
        again = {**request, "input": None, "command": {"resume": "yes"}, "stream_mode": ["custom", "values", "updates"]}
        stream = self.client.runs.stream(thread_id, **again, stream_subgraphs=True, on_run_created=self._made(name))
        await self._follow(name, stream, laps=range(ask_in + 1, self.laps + 1))
        output = await self.client.runs.join(thread_id, self.runs[name][-1])
        assert output["log"].count("answer=yes") == 1
        self._check(name, output)

    def _check(self, name: str, output: Mapping[str, Any]) -> None:
        got = Counter(place for place in output["log"] if not place.startswith("answer"))
        assert got == Counter(f"{lap}:{place}" for lap in range(1, self.laps + 1) for place in PLACES), name

    def repeats(self) -> Counter[str]:
        """What has begun more than once."""
        lines = [line.split() for line in self.cluster.journal.read_text().splitlines()]
        begun = Counter(f"{name} {place}" for name, place, *_ in lines)
        return Counter({which: times - 1 for which, times in begun.items() if times > 1})

    def rows(self) -> list[dict[str, Any]]:
        ids = [run_id for runs in self.runs.values() for run_id in runs]
        return self.cluster.rows("SELECT * FROM lgs.run WHERE run_id = ANY(%s::uuid[])", (ids,))


@sizes(timeout=1800, limit=(5.5, 20), margin=(3.5, 6), seconds=(0.1, 1.0), race=(6, 300))
async def test_r4_a_marathon_of_hand_offs(size: SimpleNamespace, deployed: Deploy, figures: Figures, seed: int) -> None:
    """R4: many times the limit, in every durability, with every kind of client; nothing is repeated, nobody notices."""
    laps = max(4, round(size.race / size.seconds / SUPERSTEPS))
    cluster, service = deployed(
        limit=size.limit,
        WORKER_DEADLINE_MARGIN_SECS=str(size.margin),
        WORKER_IDLE_GRACE_SECS="0.5",
        N_JOBS_PER_WORKER="12",
    )
    began = time.monotonic()
    async with cluster.client() as client:
        race = Race(cluster, client, laps, size.seconds)
        with receiver() as (url, received):
            async with asyncio.timeout(PATIENCE + 6 * size.race):
                await asyncio.gather(
                    race.stream("streamed", "sync", thread=True),
                    race.stream("stateless", "async", thread=False),
                    race.wait("waited", "exit", thread=True),
                    race.wait("waited-stateless", "sync", thread=False),
                    race.join("joined", "async"),
                    race.webhook("webhook", "sync", url, received),
                    *(race.question(f"question-{durability}", durability) for durability in DURABILITIES),
                )
            await asyncio.to_thread(idle, service)
            assert len(received) == 1
    rows = race.rows()
    handoffs, repeats = sum(row["handoffs"] for row in rows), race.repeats()
    assert {(row["status"], row["attempt"]) for row in rows} == {("success", 1)}
    assert not repeats, repeats
    assert handoffs >= 15
    assert service.invocations[-1].report is not None
    # idle, unless its time was over just then
    assert not service.invocations[-1].report["work_left"]
    invocations = len(service.invocations)
    report = await ticked(cluster)
    assert (report.bells_rung, len(service.invocations)) == (0, invocations), "it is over"
    seconds = round(time.monotonic() - began, 1)
    figures("R4", runs=len(rows), handoffs=handoffs, repeats=len(repeats), gaps=race.gaps, seconds=seconds, seed=seed)
    await assert_invariants(cluster.database_uri)


async def test_the_chain_of_invocations_does_not_break(deployed: Deploy) -> None:
    """A function that cannot invoke itself leaves its runs to the scheduler's tick."""
    cluster, service = deployed(
        limit=5, WORKER_DEADLINE_MARGIN_SECS="3.5", WORKER_IDLE_GRACE_SECS="0.3", QUEUE_POLL_INTERVAL_SECS="30"
    )
    async with cluster.client() as client, asyncio.timeout(3 * PATIENCE):
        race = Race(cluster, client, 4, 0.1)
        joined = asyncio.create_task(race.join("joined", "sync"))
        while not service.running:
            await asyncio.sleep(0.02)
        service.throttled = True
        await asyncio.to_thread(idle, service)
        assert service.refused >= 1
        assert [(row["status"], row["resuming"], row["handoffs"]) for row in race.rows()] == [("pending", True, 1)]
        assert (await ticked(cluster)).bells_rung == 1
        assert service.running == 0
        service.throttled = False
        # as long as a function that has been promised may take to start, nobody else is invoked
        while not service.running:
            await ticked(cluster)
            await asyncio.sleep(0.2)
        await joined
        await asyncio.to_thread(idle, service)
    assert {row["attempt"] for row in race.rows()} == {1}
    assert not race.repeats()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_r5_a_node_that_takes_longer_than_the_function(deployed: Deploy, figures: Figures) -> None:
    """R5: it ends in an error after three attempts, which names the node, wherever it is; whoever streams it sees that.

    Its fast form is in ``test_attempts.py``; ``test_nodes_in_flight.py`` has more places for a node.
    """
    limit, tick_every, lease = float(os.environ.get("LIMIT", "10")), 0.5, 3.0
    cluster, service = deployed(
        limit=limit,
        sandboxes=4,
        WORKER_DEADLINE_MARGIN_SECS="1.2",
        WORKER_IDLE_GRACE_SECS="0.1",
        N_JOBS_PER_WORKER="1",
    )
    names = {
        "endless": "linger",
        "endless_sent": "linger",
        "endless_inside": "inside|linger",
        "endless_beside": "linger",
    }
    async with cluster.client() as client, asyncio.timeout(2 * PATIENCE + 6 * limit):
        over = asyncio.Event()

        async def tick_now_and_then() -> None:
            while not over.is_set():
                await ticked(cluster)
                await asyncio.sleep(tick_every)

        async def follow(graph: str) -> tuple[str, float, list[Any]]:
            began = time.monotonic()
            made: list[str] = []
            stream = client.runs.stream(
                None, graph, input={"log": []}, on_run_created=lambda created: made.append(created["run_id"])
            )
            events = [event async for event in stream]
            return made[0], time.monotonic() - began, events

        ticking = asyncio.create_task(tick_now_and_then())
        followed = await asyncio.gather(*map(follow, names))
        over.set()
        await ticking
        await asyncio.to_thread(idle, service)
    longest = 0.0
    for (graph, node), (run_id, seconds, events) in zip(names.items(), followed, strict=True):
        [row] = cluster.rows("SELECT * FROM lgs.run WHERE run_id = %s", (run_id,))
        assert (row["status"], row["error"]["error"]) == ("error", "RunAttemptsExhausted"), graph
        assert f"lost its worker 3 times while it executed the node '{node}'" in row["error"]["message"], graph
        assert events[-1].event == "error"
        assert events[-1].data["message"] == row["error"]["message"]
        longest = max(longest, seconds)
    sweeps = 3 * (lease + tick_every) + 5  # of a promised function, whose start nobody waits for longer
    assert longest < 3 * limit + sweeps + PATIENCE / 2, "on a machine that is busy with other things too"
    figures("R5", runs=len(names), longest=round(longest, 1), limits=round(3 * limit + sweeps, 1))


@sizes(timeout=1200, runs=(24, 100), redeploys=(1, 8))
async def test_r12_workers_are_redeployed(
    size: SimpleNamespace, workload_on: MakeWorkload, cluster: Cluster, figures: Figures, seed: int
) -> None:
    """R12: SIGTERM in the midst of many runs: none is interrupted, fails or tries again, and nothing is repeated."""
    for _ in range(2):
        cluster.worker()
    await redeployed("workers", cluster, workload_on(cluster, seconds=0.25), size, figures, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_r12_a_laptop_is_stopped_and_started(
    dev_servers: Callable[..., DevServer], workload_on: MakeWorkload, tmp_path: Path, figures: Figures, seed: int
) -> None:
    """R12 with the command; ``test_kill_dev.py`` has its fast form."""
    server = dev_servers(PROJECT, JOURNAL=str(tmp_path / "journal"), **SHORT_LEASES)
    size = SimpleNamespace(runs=int(os.environ.get("RUNS", "100")), redeploys=int(os.environ.get("REDEPLOYS", "8")))
    await redeployed("laptop", server, workload_on(server, seconds=0.25), size, figures, seed)


async def redeployed(
    place: str, server: Cluster | DevServer, workload: Workload, size: SimpleNamespace, figures: Figures, seed: int
) -> None:
    chance = random.Random(seed)
    await workload.start(single=size.runs - 14, queued=4, stateless=4, waits=3, streams=3)
    for redeploy in range(1, size.redeploys + 1):
        await workload.under_way(round(size.runs * 5 * redeploy / (size.redeploys + 2)))
        await asyncio.sleep(chance.uniform(0, 0.25))  # anywhere in a superstep
        if isinstance(server, Cluster):
            leaving = [worker for worker in server.workers if worker.running]
            for worker in leaving:
                worker.process.terminate()
            for _ in leaving:
                server.worker()
            for worker in leaving:
                # or ended by the signal: one that had only begun to start
                assert await asyncio.to_thread(worker.process.wait, PATIENCE) in (0, -signal.SIGTERM), worker.output
        else:
            assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)
    await workload.all_right(patience=PATIENCE + 4 * size.runs)
    rows = list(workload.rows().values())
    statuses = Counter(row["status"] for row in rows)
    repeats = sum(workload.repeats().values())
    assert statuses == {"success": size.runs}
    assert {row["attempt"] for row in rows} == {1}
    assert repeats == 0
    handoffs = sum(row["handoffs"] for row in rows)
    assert handoffs >= size.redeploys
    figures(
        "R12",
        place=place,
        runs=len(rows),
        redeploys=size.redeploys,
        handoffs=handoffs,
        interrupted=0,
        errors=0,
        repeats=repeats,
        seed=seed,
    )
    await assert_invariants(server.database_uri, worker=True)
