"""Workers are killed at each statement that they send for a run (R2): before it reaches Postgres, and once it has been carried
out but not answered. Whoever comes next brings the run to its end, whatever the statement was.

The victim is a process of its own behind a proxy that reads along; it gets SIGKILL at the point. A first pass without a kill
says which points there are. Leases are ended by hand, so that nobody has to wait for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import victim
from dev_server import PATIENCE
from figures import Figures, sizes
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from tcp_proxy import TcpProxy
from tolls import repeats
from wire import Wire, through
from worker_container import MakeContainer, working
from workload import assert_invariants

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, Run, RunRequest

PROJECT = Path(__file__).parent / "project" / "langgraph.json"
#: Of what a worker does all the time, the first time counts.
PERIODIC = {"claim", "requeue_expired", "claim_exhausted", "bury_webhooks", "runnable"}
#: Runs that are killed at once, each in a database of its own.
LANES = 3
END = {"settle", "claim_webhooks", "webhook_delivered"}
LOST = {"token": "7e000000-0000-4000-8000-000000000000", "owner": "a worker that is gone", "at": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True, order=True)
class Point:
    """The nth time that a statement is sent, and on which side of it the worker dies."""

    scenario: str
    statement: str
    time: int
    side: str


@dataclass
class Lane:
    """A database, somebody who finishes what victims leave, and the way that victims take to the database."""

    uri: str
    admin: psycopg.AsyncConnection[DictRow]
    container: WorkerContainer
    proxy: TcpProxy
    environ: dict[str, str]
    posts: list[tuple[str, str]]
    log: Path
    process: BaseProcess | None = None
    wires: dict[int, Wire] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    async def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        # never in the way of the event loop: what holds a lock may be waiting for the proxy, which runs on it
        cursor = await self.admin.execute(query, parameters)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description else []

    def start(self, point: Point | None, **environ: str) -> None:
        """A worker that is to die at the point."""
        self.wires, self.sent = {}, Counter()
        self.proxy.rule = lambda data, from_client, number: self._rule(point, data, number) if from_client else None
        self.process = victim.start({**self.environ, **environ}, str(self.log))

    def _rule(self, point: Point | None, data: bytes, number: int) -> int | None:
        assert self.process is not None
        for statement in self.wires.setdefault(number, Wire()).read(data):
            self.sent[statement.name] += 1
            if point is not None and (point.statement, point.time) == (statement.name, self.sent[statement.name]):
                assert self.process.pid is not None
                os.kill(self.process.pid, signal.SIGKILL)
                return statement.begin if point.side == "before" else statement.end
        return None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.exitcode is None

    def begun(self, run: Run) -> int:
        """Supersteps of the run that have begun, by the journal."""
        journal = Path(self.environ["JOURNAL"])
        return journal.read_text().count(str(run.run_id)) if journal.exists() else 0


# -- what runs go through ------------------------------------------------------------------------------------------


async def nothing(lane: Lane, run: Run) -> None:
    """The victim executes it."""


async def handed_off(lane: Lane, run: Run) -> None:
    assert lane.process is not None
    lane.process.terminate()


async def rolled_back(lane: Lane, run: Run) -> None:
    await lane.container.runs.cancel(ANONYMOUS, run.thread_id, [run.run_id], CancelAction.ROLLBACK, "test")


async def cancelled_unheard(lane: Lane, run: Run) -> None:
    """Recorded, and nobody tells the worker: it finds out when it settles."""
    query = """UPDATE lgs.run SET cancel_action = 'interrupt', cancel_reason = 'test', cancel_requested_at = now()
        WHERE run_id = %s AND status = 'running' RETURNING run_id"""
    assert await lane.rows(query, run.run_id)


async def lost(lane: Lane, run: Run, attempt: int = 1) -> None:
    """Before the victim comes: the run's last worker has died, in this attempt."""
    query = """UPDATE lgs.run SET status = 'running', attempt = %s, lease_token = %s, lease_owner = %s,
        lease_expires_at = now() - interval '1 second', started_at = now(),
        lease_history = (SELECT jsonb_agg(%s::jsonb || CASE WHEN n < %s THEN '{"end": "expired"}' ELSE '{}' END::jsonb)
                         FROM generate_series(1, %s) AS n)
        WHERE run_id = %s"""
    await lane.rows(query, attempt, LOST["token"], LOST["owner"], json.dumps(LOST), attempt, attempt, run.run_id)


async def lost_for_good(lane: Lane, run: Run) -> None:
    await lost(lane, run, attempt=3)


@dataclass(frozen=True)
class Scenario:
    """One way through a run's life; ``end`` is its last status, ``gone`` after a rollback."""

    end: str = "success"
    #: Done to the run before the victim starts, and once its first superstep has begun.
    before: Callable[[Lane, Run], Awaitable[None]] = nothing
    during: Callable[[Lane, Run], Awaitable[None]] = nothing
    #: The statements in question; None for all of them.
    statements: frozenset[str] | None = None
    #: The victim leaves the run to somebody else.
    leaves: bool = False
    steps: int = 2
    heartbeat: str = "30"


SCENARIOS = {
    "success": Scenario(heartbeat="0.1"),
    "hand-off": Scenario(during=handed_off, statements=frozenset({"hand_off", "runnable"}), leaves=True, steps=4),
    "rollback": Scenario(
        end="gone",
        during=rolled_back,
        statements=frozenset({"settle_rollback", "webhook_delivered"}),
        steps=30,
    ),
    "cancel": Scenario(
        end="interrupted",
        during=cancelled_unheard,
        statements=frozenset({*END, "recorded_cancel"}),
        steps=5,
    ),
    "sweep": Scenario(before=lost, statements=frozenset({"requeue_expired", "claim"})),
    "burial": Scenario(
        end="error",
        before=lost_for_good,
        statements=frozenset({*END, "claim_exhausted", "nodes_in_flight"}),
    ),
}


async def new_run(lane: Lane, scenario: Scenario) -> Run:
    thread = await lane.container.threads.create(ANONYMOUS)
    given = RunRequest(
        assistant_id="steps",
        input={"name": "c", "steps": scenario.steps, "seconds": 0.1},
        durability=Durability.SYNC,
        webhook=lane.environ["RECEIVER"],
    )
    return await lane.container.runs.create(ANONYMOUS, given, thread_id=thread.thread_id)


async def over(lane: Lane, run: Run) -> bool:
    """The run has ended, and whoever waited for its webhook has it."""
    live = await lane.rows("SELECT 1 FROM lgs.run WHERE run_id = %s AND status IN ('pending', 'running')", run.run_id)
    return not live and bool(
        await lane.rows("SELECT 1 FROM lgs.outbox WHERE run_id = %s AND delivered_at IS NOT NULL", run.run_id)
    )


async def lived(lane: Lane, scenario: Scenario, point: Point | None) -> tuple[Run, str]:
    """A run that a worker executes until it dies at the point, or until nothing is left to do; and how the run is to end."""
    run = await new_run(lane, scenario)
    await scenario.before(lane, run)
    lane.start(point, HEARTBEAT_INTERVAL_SECS=scenario.heartbeat)
    assert lane.process is not None
    end = "success" if scenario.during is not nothing else scenario.end
    try:
        async with asyncio.timeout(PATIENCE):
            while lane.alive and not lane.begun(run) and not await over(lane, run):
                await asyncio.sleep(0.01)
            if lane.alive:
                await scenario.during(lane, run)
                end = scenario.end
            while lane.alive and not await over(lane, run):
                await asyncio.sleep(0.02)
            if lane.alive and not scenario.leaves:
                lane.process.terminate()
            while lane.alive:
                await asyncio.sleep(0.01)
    finally:
        lane.process.kill()
    return run, end


async def recovered(lane: Lane, run: Run) -> None:
    """Somebody else finishes it; the dead worker's leases are over."""
    async with working(lane.container) as worker, asyncio.timeout(PATIENCE):
        mine = [worker.worker_id, lane.container.queue._owner]
        while not await over(lane, run):
            await lane.rows(
                "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second'"
                " WHERE status = 'running' AND lease_owner <> ALL(%s)",
                mine,
            )
            # a webhook is the sender's for a minute; that one of ours may send it twice is allowed
            await lane.rows("UPDATE lgs.outbox SET available_at = now() WHERE delivered_at IS NULL")
            await asyncio.sleep(0.1)


async def check(lane: Lane, scenario: Scenario, run: Run, end: str) -> None:
    """It has ended as it should have, once, and nothing of it is half done."""
    found = await lane.rows("SELECT * FROM lgs.run WHERE run_id = %s", run.run_id)
    [thread] = await lane.rows("SELECT * FROM lgs.thread WHERE thread_id = %s", run.thread_id)
    right = [f"c{number}" for number in range(1, scenario.steps + 1)]
    if end == "gone":
        assert not found
        assert (thread["status"], thread["channel_values"]) == ("idle", None)
        for table in ("checkpoints", "checkpoint_writes", "checkpoint_blobs"):
            assert not await lane.rows(f"SELECT 1 FROM {table} WHERE thread_id = %s", str(run.thread_id)), table
    else:
        [row] = found
        assert row["status"] == end, row
        assert thread["status"] == {"success": "idle", "error": "error", "interrupted": "idle"}[end]
        if end == "success":
            assert row["output"]["log"] == thread["channel_values"]["log"] == right
            assert row["attempt"] <= 3
    assert len({message for run_id, message in lane.posts if run_id == str(run.run_id)}) == 1, "one webhook, one id"


async def points_of(lane: Lane, name: str) -> list[Point]:
    """Where a worker can die in this scenario."""
    scenario = SCENARIOS[name]
    run, end = await lived(lane, scenario, None)
    sent = lane.sent
    assert sent, lane.log.read_text()
    await recovered(lane, run)
    await check(lane, scenario, run, end)
    return [
        Point(name, statement, time, side)
        for statement, times in sorted(sent.items())
        if scenario.statements is None or statement in scenario.statements
        for time in range(1, 1 + (1 if statement in PERIODIC or "heartbeat" in statement else times))
        for side in ("before", "after")
    ]


@pytest.fixture
async def lanes(
    databases: Any, redis_uri: str, worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Sequence[Lane]]:
    journal = tmp_path / "journal"
    monkeypatch.setenv("JOURNAL", str(journal))
    posts: list[tuple[str, str]] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.strip().splitlines()[1:])
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        posts.append((body["run_id"], fields["webhook-id"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(await asyncio.start_server(receive, "127.0.0.1", 0))
        made = []
        for number in range(LANES):
            uri = databases.create()
            stack.callback(databases.drop, uri)
            container = await worker_on(
                PROJECT,
                database_uri=uri,
                pool_max_size=4,
                lease_duration=60,
                heartbeat_interval=20,
                poll_interval=0.2,
                sweep_interval=0.1,
                webhook_allowed_hosts=("127.0.0.1",),
            )
            stack.push_async_callback(container.aclose)
            target = conninfo_to_dict(uri)
            proxy = await stack.enter_async_context(TcpProxy.to(str(target["host"]), int(target["port"])))
            environ = {
                "DATABASE_URI": through(uri, proxy.port),
                "DATABASE_PREPARED_STATEMENTS": "false",
                "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "4",
                "REDIS_URI": redis_uri,
                "REDIS_KEY_PREFIX": container.settings.redis_key_prefix,
                "LANGGRAPH_CONFIG": str(PROJECT),
                "JOURNAL": str(journal),
                "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
                "LEASE_DURATION_SECS": "120",
                "QUEUE_POLL_INTERVAL_SECS": "30",
                "SWEEP_INTERVAL_SECS": "30",
                "RECEIVER": f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/hook",
            }
            admin = await stack.enter_async_context(
                await psycopg.AsyncConnection[DictRow].connect(uri, row_factory=dict_row, autocommit=True)
            )
            made.append(Lane(uri, admin, container, proxy, environ, posts, tmp_path / f"victim{number}.output"))
        yield made
        for lane in made:
            if lane.process is not None:
                lane.process.kill()
                lane.process.join()


async def everywhere(lanes: Sequence[Lane], task: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            tasks.create_task(task(lane))


@sizes(timeout=1800, points=(12, 10_000))
async def test_a_worker_killed_at_any_statement_is_replaced(
    lanes: Sequence[Lane], size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    chance = random.Random(seed)
    chosen = list(SCENARIOS) if size.full else ["success", chance.choice(list(SCENARIOS)[1:])]
    names = iter(chosen)
    points: list[Point] = []

    async def look(lane: Lane) -> None:
        for name in names:
            points.extend(await points_of(lane, name))

    await everywhere(lanes, look)
    points = chance.sample(sorted(points), min(size.points, len(points)))
    waiting, missed = iter(points), []

    async def kill(lane: Lane) -> None:
        for point in waiting:
            scenario = SCENARIOS[point.scenario]
            try:
                run, end = await lived(lane, scenario, point)
                assert lane.process is not None
                if lane.process.exitcode != -signal.SIGKILL:
                    missed.append(point)
                await recovered(lane, run)
                await check(lane, scenario, run, end)
                await assert_invariants(lane.uri, worker=True)
            except BaseException as error:
                error.add_note(f"killed at {point} with seed {seed}: {lane.log.read_text()[-3000:]}")
                raise

    await everywhere(lanes, kill)
    repeated = repeats(Path(lanes[0].environ["JOURNAL"]))
    figures(
        "R2",
        points=len(points),
        missed=len(missed),
        recovered=len(points) - len(missed),
        repeats=repeated.total(),
        most_repeats_of_a_run=max(repeated.values()),
        seed=seed,
    )
    # which statements there are depends a little on who is faster: a heartbeat may come late, a cancel be heard or found
    assert len(missed) <= len(points) // 10, missed
    assert max(repeated.values()) <= 1, "more than the superstep in flight"
