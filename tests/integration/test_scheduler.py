"""The scheduler's tick on a real queue: exactly one run per due time, whoever ticks and however often (P9)."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from langgraph_serverless.containers.scheduler import SchedulerContainer, tick, tick_and_measure
from langgraph_serverless.domain.crons import Cron
from langgraph_serverless.domain.ids import default_assistant_id
from langgraph_serverless.domain.manifest import GraphManifest, Manifest, encode
from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.domain.runs import RunOutcome, RunStatus
from langgraph_serverless.errors import InvalidInputError, NotFoundError, UnavailableError
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.services import scheduler
from langgraph_serverless.services.scheduler import TickReport
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

GRAPH = GraphManifest(graph_id="chat", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
MANIFEST = Manifest.of({"chat": GRAPH})
QUIET = TickReport(
    crons_fired=0,
    crons_failed=0,
    crons_late_seconds=0.0,
    leases_expired=0,
    runs_buried=0,
    threads_purged=0,
    threads_pruned=0,
    items_swept=0,
    webhooks_delivered=0,
    webhooks_failed=0,
    webhooks_swept=0,
    keys_swept=0,
    bells_rung=0,
    failures=0,
)


@pytest.fixture
async def container(settings: Settings, clean_database: None) -> AsyncIterator[SchedulerContainer]:
    container = SchedulerContainer(settings, manifest=MANIFEST)
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()


@pytest.fixture
async def database(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(
        database_uri, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        yield connection


class Bench:
    """Arranges crons and looks at what has become of them."""

    def __init__(self, container: SchedulerContainer, database: psycopg.AsyncConnection[Any]) -> None:
        self.container = container
        self.database = database

    async def cron(
        self,
        schedule: str = "0 5 * * *",
        *,
        thread_id: uuid.UUID | None = None,
        caller: Principal = ANONYMOUS,
        **body: Any,
    ) -> Cron:
        payload = {"assistant_id": "chat", "schedule": schedule, **body}
        return await self.container.crons.create(caller, payload, thread_id=thread_id)

    async def due(self, cron: Cron, *, ago: str = "1 second") -> datetime:
        """Set back the cron's date."""
        cursor = await self.database.execute(
            "UPDATE lgs.cron SET next_run_date = now() - %s::interval WHERE cron_id = %s RETURNING next_run_date",
            (ago, cron.cron_id),
        )
        date: datetime = (await cursor.fetchone())["next_run_date"]  # type: ignore[index]
        return date

    async def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        cursor = await self.database.execute(statement, parameters)  # type: ignore[arg-type]
        return await cursor.fetchall()

    async def runs(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM lgs.run ORDER BY created_at, run_id")

    async def finish(self) -> uuid.UUID:
        """End the only run that waits, as a worker does; its thread."""
        queue = QueueRepository(self.container.database)
        (run,) = await queue.claim(owner="bench", limit=1, lease=60)
        outcome = RunOutcome(status=RunStatus.SUCCESS, output={}, values={}, write_values=True)
        await queue.settle(run.lease, run.run.thread_id, outcome, thread_error=None, temporary_retention=0)
        return run.run.thread_id

    async def tick(self, now: datetime | None = None) -> TickReport:
        return await self.container.scheduler.tick(now)


@pytest.fixture
def bench(container: SchedulerContainer, database: psycopg.AsyncConnection[Any]) -> Bench:
    return Bench(container, database)


async def test_nothing_to_do(bench: Bench) -> None:
    await bench.cron()
    assert await bench.tick() == QUIET


async def test_a_due_cron_makes_one_run_and_moves_on(bench: Bench) -> None:
    cron = await bench.cron(input={"x": 1}, metadata={"m": 1}, config={"configurable": {"q": 1}}, stream_mode="updates")
    due = await bench.due(cron)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.bells_rung) == (1, 0, 1)
    (run,) = await bench.runs()
    assert (run["cron_id"], run["cron_due_at"], run["status"]) == (cron.cron_id, due, "pending")
    kwargs = run["kwargs"]
    assert (kwargs["input"], kwargs["stream_mode"], kwargs["temporary"]) == ({"x": 1}, ["updates"], True)
    configurable = kwargs["config"]["configurable"]
    assert (configurable["q"], configurable["cron_id"]) == (1, str(cron.cron_id))
    assert configurable["langgraph_request_id"] is None
    assert run["metadata"] == {"created_by": "system", "m": 1, "assistant_id": str(default_assistant_id("chat"))}
    after = await bench.container.crons.get(ANONYMOUS, cron.cron_id)
    assert after.next_run_date == cron.next_run_date
    assert after.updated_at == cron.updated_at
    assert (await bench.tick()).crons_fired == 0


async def test_missed_times_collapse_into_one(bench: Bench) -> None:
    cron = await bench.cron("* * * * *")
    await bench.due(cron, ago="3 hours")
    assert (await bench.tick()).crons_fired == 1
    (row,) = await bench.rows("SELECT next_run_date > now() AS ahead FROM lgs.cron")
    assert row["ahead"]


async def test_ten_schedulers_make_one_run_per_due_time(settings: Settings, bench: Bench) -> None:
    crons = [await bench.cron("* * * * * */20") for _ in range(5)]
    containers = [SchedulerContainer(settings.replace(pool_max_size=2), manifest=MANIFEST) for _ in range(10)]
    start = min(cron.next_run_date for cron in crons if cron.next_run_date)
    try:
        times = [start + timedelta(seconds=20 * step) for step in range(6)]
        for now in times:
            reports = await asyncio.gather(*(container.scheduler.tick(now) for container in containers))
            assert sum(report.crons_fired for report in reports) == len(crons)
            # nobody even ran into the unique constraint that stands behind the row lock
            assert [report.crons_failed + report.failures for report in reports] == [0] * 10
    finally:
        for container in containers:
            await container.aclose()
    fired = {(run["cron_id"], run["cron_due_at"]) for run in await bench.runs()}
    assert fired == {(cron.cron_id, now) for cron in crons for now in times}
    assert len(await bench.runs()) == len(fired)


async def test_a_date_that_was_set_back_does_not_fire_again(bench: Bench) -> None:
    cron = await bench.cron()
    due = await bench.due(cron)
    await bench.tick()
    await bench.database.execute("UPDATE lgs.cron SET next_run_date = %s", (due,))
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.failures) == (0, 0, 0)
    assert len(await bench.runs()) == 1
    (row,) = await bench.rows("SELECT next_run_date FROM lgs.cron")
    assert row["next_run_date"] == cron.next_run_date


@pytest.mark.parametrize("completed", ["keep", "delete"])
async def test_each_firing_of_a_stateless_cron_has_a_thread_of_its_own(bench: Bench, completed: str) -> None:
    cron = await bench.cron(metadata={"m": 1}, on_run_completed=completed)
    for ago in ("2 days", "1 day"):
        await bench.due(cron, ago=ago)
        assert (await bench.tick()).crons_fired == 1
    threads = await bench.rows("SELECT * FROM lgs.thread")
    assert len(threads) == 2
    for thread in threads:
        assert thread["temporary"] is (completed == "delete")
        assert thread["metadata"] == {"m": 1, "graph_id": "chat", "assistant_id": str(default_assistant_id("chat"))}


@pytest.mark.parametrize("completed", ["keep", "delete"])
async def test_what_becomes_of_a_firings_thread_when_its_run_ends(bench: Bench, completed: str) -> None:
    await bench.due(await bench.cron(on_run_completed=completed))
    await bench.tick()
    thread_id = await bench.finish()
    if completed == "keep":
        assert (await bench.container.threads.get(ANONYMOUS, thread_id)).status == "idle"
        return
    with pytest.raises(NotFoundError):
        await bench.container.threads.get(ANONYMOUS, thread_id)
    assert (await bench.tick()).threads_purged == 1
    assert await bench.rows("SELECT 1 FROM lgs.thread") == await bench.rows("SELECT 1 FROM lgs.run") == []


async def test_every_field_of_a_cron_reaches_its_run(bench: Bench) -> None:
    thread = await bench.container.threads.create(ANONYMOUS)
    cron = await bench.cron(
        thread_id=thread.thread_id,
        input={"x": 1},
        metadata={"m": 1},
        config={"tags": ["t"], "recursion_limit": 9, "metadata": {"c": 1}},
        context={"k": 1},
        interrupt_before=["a"],
        interrupt_after="*",
        stream_mode=["updates", "custom"],
        stream_subgraphs=True,
        stream_resumable=True,
        durability="exit",
        multitask_strategy="interrupt",
        webhook="https://8.8.8.8/hook",
        timezone="Asia/Kolkata",
        end_time="2090-01-01T00:00:00Z",
    )
    await bench.due(cron)
    await bench.tick()
    (run,) = await bench.runs()
    kwargs = run["kwargs"]
    assert {key: kwargs[key] for key in kwargs if key not in ("config", "checkpoint_during")} == {
        "input": {"x": 1},
        "command": None,
        "context": {"k": 1},
        "stream_mode": ["updates", "custom"],
        "interrupt_before": ["a"],
        "interrupt_after": "*",
        "webhook": "https://8.8.8.8/hook",
        "feedback_keys": None,
        "temporary": False,
        "subgraphs": True,
        "resumable": True,
        "durability": "exit",
    }
    config = kwargs["config"]
    assert (config["tags"], config["recursion_limit"]) == (["t"], 9)
    configurable = config["configurable"]
    assert (configurable["k"], configurable["cron_id"]) == (1, str(cron.cron_id))
    assert (run["multitask_strategy"], run["webhook"]) == ("interrupt", "https://8.8.8.8/hook")
    assert (run["metadata"]["m"], run["metadata"]["c"], run["metadata"]["graph_id"]) == (1, 1, "chat")
    # Asia/Kolkata is 5:30 ahead
    following = (await bench.container.crons.get(ANONYMOUS, cron.cron_id)).next_run_date
    assert following is not None
    assert following.astimezone(UTC).strftime("%H:%M") == "23:30"


async def test_a_cron_that_is_deleted_leaves_its_live_run(bench: Bench) -> None:
    cron = await bench.cron(on_run_completed="keep")
    await bench.due(cron)
    await bench.tick()
    await bench.container.crons.delete(ANONYMOUS, cron.cron_id)
    await bench.finish()
    (run,) = await bench.runs()
    assert (run["status"], run["cron_id"]) == ("success", cron.cron_id)
    assert await bench.rows("SELECT 1 FROM lgs.cron") == []


async def test_deleting_crons_and_their_assistant_under_schedulers(settings: Settings, bench: Bench) -> None:
    """Each cron fires once, before it is deleted, or not at all; no run is without its thread."""
    assistant = await bench.container.assistants.create(ANONYMOUS, graph_id="chat")
    crons = [await bench.cron(assistant_id=str(assistant.assistant_id)) for _ in range(20)]
    for cron in crons:
        await bench.due(cron)

    async def delete(cron: Cron) -> None:
        with contextlib.suppress(NotFoundError):  # the assistant has gone first
            await bench.container.crons.delete(ANONYMOUS, cron.cron_id)

    others = [SchedulerContainer(settings.replace(pool_max_size=2), manifest=MANIFEST) for _ in range(3)]
    reports, *_ = await asyncio.gather(
        asyncio.gather(*(other.scheduler.tick() for other in others)),
        *(delete(cron) for cron in crons[:10]),
        bench.container.assistants.delete(ANONYMOUS, assistant.assistant_id, delete_threads=True),
    )
    for other in others:
        await other.aclose()
    assert [report.failures for report in reports] == [0, 0, 0]
    assert await bench.rows("SELECT 1 FROM lgs.cron") == []
    runs = await bench.runs()
    assert len({run["cron_id"] for run in runs}) == len(runs)
    threads = {row["thread_id"] for row in await bench.rows("SELECT thread_id FROM lgs.thread")}
    assert threads == {run["thread_id"] for run in runs}


async def test_a_thread_cron_runs_on_its_thread_in_its_creators_name(bench: Bench) -> None:
    thread = await bench.container.threads.create(ANONYMOUS, metadata={"t": 1})
    cron = await bench.cron(thread_id=thread.thread_id, caller=Principal(identity="ada"), metadata={"m": 1})
    await bench.due(cron)
    await bench.tick()
    (run,) = await bench.runs()
    assert run["thread_id"] == thread.thread_id
    assert run["metadata"]["graph_id"] == "chat"
    configurable = run["kwargs"]["config"]["configurable"]
    assert (configurable["langgraph_auth_user_id"], configurable["user_id"]) == ("ada", "ada")
    await bench.container.threads.delete(ANONYMOUS, thread.thread_id)
    assert await bench.rows("SELECT * FROM lgs.cron") == []


async def test_a_paused_cron_does_not_fire_and_has_no_backlog(bench: Bench) -> None:
    cron = await bench.cron()
    await bench.container.crons.update(ANONYMOUS, cron.cron_id, {"enabled": False})
    await bench.due(cron, ago="2 hours")
    assert (await bench.tick()).crons_fired == 0
    resumed = await bench.container.crons.update(ANONYMOUS, cron.cron_id, {"enabled": True})
    assert resumed.next_run_date == cron.next_run_date
    assert (await bench.tick()).crons_fired == 0


async def test_a_change_of_something_else_keeps_a_date_that_is_due(bench: Bench) -> None:
    cron = await bench.cron()
    due = await bench.due(cron)
    changed = await bench.container.crons.update(ANONYMOUS, cron.cron_id, {"input": {"y": 1}})
    assert changed.next_run_date == due
    assert (await bench.tick()).crons_fired == 1


async def test_a_cron_ends(bench: Bench) -> None:
    soon = datetime.now().astimezone() + timedelta(hours=1)
    ends = await bench.cron("0 0 1 1 *", end_time=(soon + timedelta(days=800)).isoformat())
    over = await bench.cron()
    healthy = await bench.cron()
    for cron in (ends, over, healthy):
        await bench.due(cron)
    await bench.due(over, ago="2 hours")
    await bench.database.execute(
        "UPDATE lgs.cron SET end_time = now() - interval '1 hour' WHERE cron_id = %s", (over.cron_id,)
    )
    await bench.database.execute(
        "UPDATE lgs.cron SET end_time = now() + interval '1 s' WHERE cron_id = %s", (ends.cron_id,)
    )
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed) == (2, 0)
    assert {run["cron_id"] for run in await bench.runs()} == {ends.cron_id, healthy.cron_id}
    left = await bench.rows("SELECT cron_id FROM lgs.cron WHERE next_run_date IS NOT NULL")
    assert left == [{"cron_id": healthy.cron_id}]


async def test_broken_crons_stop_nothing(bench: Bench) -> None:
    """One whose assistant is gone moves on; one that cannot even be computed stays for the next tick."""
    orphan, garbage, healthy = [await bench.cron() for _ in range(3)]
    await bench.database.execute(
        "UPDATE lgs.cron SET assistant_id = gen_random_uuid() WHERE cron_id = %s", (orphan.cron_id,)
    )
    await bench.database.execute("UPDATE lgs.cron SET schedule = 'garbage' WHERE cron_id = %s", (garbage.cron_id,))
    for cron in (orphan, garbage, healthy):
        await bench.due(cron)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.failures) == (1, 2, 0)
    assert [run["cron_id"] for run in await bench.runs()] == [healthy.cron_id]
    due = await bench.rows("SELECT cron_id FROM lgs.cron WHERE next_run_date <= now()")
    assert due == [{"cron_id": garbage.cron_id}]
    # what was made for the broken ones has been taken back
    assert len(await bench.rows("SELECT * FROM lgs.thread")) == 1


async def test_one_that_goes_on_failing_is_given_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Not refused but broken: tried for ten minutes, then it skips a time; without a schedule it has no next one."""
    payload, schedule, healthy = [await bench.cron() for _ in range(3)]
    await bench.database.execute(
        """UPDATE lgs.cron SET payload = payload || '{"stream_mode": "nonsense"}' WHERE cron_id = %s""",
        (payload.cron_id,),
    )
    await bench.database.execute("UPDATE lgs.cron SET schedule = 'garbage' WHERE cron_id = %s", (schedule.cron_id,))
    for ago, expected in (("9 minutes", 2), ("11 minutes", 2)):
        for cron in (payload, schedule):
            await bench.due(cron, ago=ago)
        await bench.due(healthy)
        report = await bench.tick()
        assert (report.crons_fired, report.crons_failed, report.failures) == (1, expected, 0)
    assert await bench.rows("SELECT 1 FROM lgs.cron WHERE next_run_date <= now()") == []
    assert (await bench.container.crons.get(ANONYMOUS, payload.cron_id)).next_run_date == payload.next_run_date
    assert (await bench.container.crons.get(ANONYMOUS, schedule.cron_id)).next_run_date is None
    assert (await bench.tick()).crons_failed == 0
    told = [record for record in caplog.records if getattr(record, "action", None) == "cron_given_up"]
    assert {record.cron_id for record in told} == {str(payload.cron_id), str(schedule.cron_id)}  # type: ignore[attr-defined]
    mended = await bench.container.crons.update(ANONYMOUS, schedule.cron_id, {"schedule": "0 5 * * *"})
    assert mended.next_run_date == healthy.next_run_date


async def test_a_database_that_refuses_one_cron_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock or a lock that is waited for too long ends one transaction, not the tick."""
    unlucky, healthy = await bench.cron(), await bench.cron()
    await bench.due(unlucky, ago="1 hour")
    await bench.due(healthy)
    create = bench.container.runs.create_within

    async def create_within(connection: Any, caller: Any, request: Any, **options: Any) -> Any:
        if request.cron_id == unlucky.cron_id:
            await connection.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)")
        return await create(connection, caller, request, **options)

    monkeypatch.setattr(bench.container.runs, "create_within", create_within)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.failures) == (1, 1, 0)
    monkeypatch.undo()
    # however late, as nothing was wrong with it
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed) == (1, 0)
    assert report.crons_late_seconds > 3600


async def test_a_bell_that_breaks_stops_no_cron(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        await bench.due(await bench.cron())

    async def announce(created: Any) -> None:
        raise RuntimeError("no bell today")

    monkeypatch.setattr(bench.container.runs, "announce", announce)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.bells_rung, report.failures) == (2, 0, 2, 0)


async def test_the_last_time_is_the_end(bench: Bench) -> None:
    """Its tick comes later, as every tick does."""
    last = await bench.cron()
    due = await bench.due(last)
    await bench.database.execute("UPDATE lgs.cron SET end_time = %s WHERE cron_id = %s", (due, last.cron_id))
    assert (await bench.tick()).crons_fired == 1
    assert (await bench.container.crons.get(ANONYMOUS, last.cron_id)).next_run_date is None


async def test_no_more_crons_than_allowed(settings: Settings, bench: Bench) -> None:
    container = SchedulerContainer(settings.replace(max_crons=3), manifest=MANIFEST)
    payload = {"assistant_id": "chat", "schedule": "0 5 * * *"}
    made = await asyncio.gather(
        *(container.crons.create(ANONYMOUS, payload, thread_id=None) for _ in range(10)), return_exceptions=True
    )
    refused = [each for each in made if isinstance(each, Exception)]
    assert len(refused) == 7
    assert {str(each) for each in refused} == {
        "Invalid cron: there are 3 crons already, and more are not allowed here. Delete one first."
    }
    assert all(isinstance(each, InvalidInputError) for each in refused)
    (first, *_) = [each for each in made if isinstance(each, Cron)]
    await container.crons.update(ANONYMOUS, first.cron_id, {"input": {}})
    await container.crons.delete(ANONYMOUS, first.cron_id)
    await container.crons.create(ANONYMOUS, payload, thread_id=None)
    await container.aclose()


async def test_a_busy_thread_refuses_with_reject_and_queues_otherwise(bench: Bench) -> None:
    thread = await bench.container.threads.create(ANONYMOUS)
    first = await bench.cron(thread_id=thread.thread_id)
    await bench.due(first)
    await bench.tick()
    rejecting = await bench.cron(thread_id=thread.thread_id, multitask_strategy="reject")
    for cron in (first, rejecting):
        await bench.due(cron)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed) == (1, 1)
    assert [run["cron_id"] for run in await bench.runs()] == [first.cron_id, first.cron_id]
    assert await bench.rows("SELECT 1 FROM lgs.cron WHERE next_run_date <= now()") == []


async def test_a_locked_thread_is_not_waited_for(bench: Bench) -> None:
    """Whoever deletes a thread holds it and then wants its crons; a scheduler that waited would be a deadlock."""
    thread = await bench.container.threads.create(ANONYMOUS)
    held, healthy = await bench.cron(thread_id=thread.thread_id), await bench.cron()
    for cron in (held, healthy):
        await bench.due(cron)
    async with bench.database.transaction():
        await bench.database.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (thread.thread_id,))
        report = await asyncio.wait_for(bench.tick(), 10)
        assert (report.crons_fired, report.crons_failed, report.failures) == (1, 1, 0)
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed) == (1, 0)


async def test_a_thread_that_was_locked_for_a_moment_costs_no_minute(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await bench.container.threads.create(ANONYMOUS)
    held, healthy = await bench.cron(thread_id=thread.thread_id), await bench.cron()
    for cron in (held, healthy):
        await bench.due(cron)
    passed_by = asyncio.Event()
    announce = bench.container.scheduler._announce

    async def fired(created: Any) -> None:
        passed_by.set()  # this is the other one, which is due later
        await announce(created)

    monkeypatch.setattr(bench.container.scheduler, "_announce", fired)
    monkeypatch.setattr(scheduler, "LOCKED_PAUSE", 1.0)
    async with bench.database.transaction():
        await bench.database.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (thread.thread_id,))
        ticking = asyncio.create_task(bench.tick())
        await asyncio.wait_for(passed_by.wait(), 10)
    report = await ticking
    assert (report.crons_fired, report.crons_failed) == (2, 0)


async def test_deleting_threads_under_a_scheduler(bench: Bench) -> None:
    threads = [(await bench.container.threads.create(ANONYMOUS)).thread_id for _ in range(20)]
    for thread_id in threads:
        await bench.due(await bench.cron(thread_id=thread_id))
    report, *_ = await asyncio.gather(
        bench.tick(), *(bench.container.threads.delete(ANONYMOUS, thread_id) for thread_id in threads)
    )
    assert report.failures == 0
    assert await bench.rows("SELECT 1 FROM lgs.run") == await bench.rows("SELECT 1 FROM lgs.cron") == []


async def test_threads_whose_time_is_over_go_with_everything(bench: Bench) -> None:
    threads = [await bench.container.threads.create(ANONYMOUS) for _ in range(6)]
    hidden, expired, kept, busy, later, plain = (thread.thread_id for thread in threads)
    past = "now() - interval '1 s'"
    for statement, thread_id in [
        (f"UPDATE lgs.thread SET purge_at = {past} WHERE thread_id = %s", hidden),
        (f"UPDATE lgs.thread SET expires_at = {past}, ttl_strategy = 'delete' WHERE thread_id = %s", expired),
        (f"UPDATE lgs.thread SET expires_at = {past}, ttl_strategy = 'keep_latest' WHERE thread_id = %s", kept),
        (
            f"UPDATE lgs.thread SET expires_at = {past}, ttl_strategy = 'delete', status = 'busy' WHERE thread_id = %s",
            busy,
        ),
        (
            "UPDATE lgs.thread SET expires_at = now() + interval '1 h', ttl_strategy = 'delete' WHERE thread_id = %s",
            later,
        ),
    ]:
        await bench.database.execute(statement, (thread_id,))  # type: ignore[arg-type]
    for thread_id in (hidden, expired, plain):
        await bench.database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (%s, '1', '{}')", (str(thread_id),)
        )
        await bench.database.execute(
            "INSERT INTO checkpoint_blobs (thread_id, channel, version, type) VALUES (%s, 'c', '1', 't')",
            (str(thread_id),),
        )
        await bench.database.execute(
            "INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob)"
            " VALUES (%s, '1', 't', 0, 'c', '')",
            (str(thread_id),),
        )
    await bench.database.execute(
        "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs) VALUES (%s, %s, %s, 'chat', '{}')",
        (busy, busy, busy),
    )
    assert (await bench.tick()).threads_purged == 2
    left = {row["thread_id"] for row in await bench.rows("SELECT thread_id FROM lgs.thread")}
    assert left == {kept, busy, later, plain}
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        assert await bench.rows(f"SELECT thread_id FROM {table}") == [{"thread_id": str(plain)}]


async def test_expired_items_are_swept(bench: Bench) -> None:
    await bench.container.store.put(ANONYMOUS, namespace=["a"], key="k", value={}, ttl=0)
    await bench.container.store.put(ANONYMOUS, namespace=["a"], key="later", value={}, ttl=5)
    assert (await bench.tick()).items_swept == 1
    assert [row["key"] for row in await bench.rows("SELECT key FROM store")] == ["later"]


async def test_a_lost_lease_is_taken_back_and_the_bell_rung(bench: Bench) -> None:
    cron = await bench.cron()
    await bench.due(cron)
    await bench.tick()
    await bench.database.execute(
        "UPDATE lgs.run SET status = 'running', lease_token = gen_random_uuid(), attempt = 1,"
        " lease_history = '[{}]', lease_expires_at = now() - interval '1 s'"
    )
    report = await bench.tick()
    assert (report.leases_expired, report.bells_rung, report.failures) == (1, 1, 0)


async def test_a_part_that_fails_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise RuntimeError("no sweep today")

    monkeypatch.setattr(bench.container.scheduler._queue, "sweep", fail)
    cron = await bench.cron()
    await bench.due(cron)
    report = await bench.tick()
    assert (report.crons_fired, report.bells_rung, report.failures) == (1, 1, 1)


async def test_crons_that_take_long_stop_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A function whose time is over is ended: what comes after thousands of crons would never be done."""
    monkeypatch.setattr(scheduler, "CRONS_UNTIL", 0.5)
    announce = bench.container.scheduler._announce

    async def slowly(created: Any) -> None:
        await asyncio.sleep(0.5)
        await announce(created)

    monkeypatch.setattr(bench.container.scheduler, "_announce", slowly)
    for _ in range(3):
        await bench.due(await bench.cron())
    report = await bench.tick()
    assert (report.crons_fired, report.crons_failed, report.bells_rung, report.failures) == (1, 0, 1, 0)
    assert "crons_left" in {getattr(record, "action", "") for record in caplog.records}
    monkeypatch.undo()
    assert (await bench.tick()).crons_fired == 2


async def test_sweeps_that_take_long_are_gone_on_with_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await bench.container.threads.create(ANONYMOUS)
    await bench.database.execute("UPDATE lgs.thread SET purge_at = now() - interval '1 second'")
    monkeypatch.setattr(scheduler, "BATCH", 1)
    monkeypatch.setattr(scheduler, "SWEEPS_UNTIL", 0.0)
    assert (await bench.tick()).threads_purged == 1
    monkeypatch.undo()
    assert (await bench.tick()).threads_purged == 2


async def test_without_a_database_the_tick_says_so(settings: Settings) -> None:
    nowhere = settings.replace(database_uri="postgresql://nobody@127.0.0.1:1/none", pool_timeout=0.5)
    container = SchedulerContainer(nowhere, manifest=MANIFEST)
    with pytest.raises(UnavailableError):
        await container.scheduler.tick()
    await container.aclose()


async def test_the_functions_tick(settings: Settings, bench: Bench, tmp_path: Any) -> None:
    import orjson

    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(orjson.dumps(MANIFEST.to_json()))
    await bench.due(await bench.cron())
    assert (await tick(settings.replace(manifest_path=manifest))).crons_fired == 1


async def test_a_tick_before_the_first_migration_is_no_failed_invocation(
    settings: Settings, databases: Any, tmp_path: Path
) -> None:
    """As when a deployment takes longer than a minute: what has failed is told, and the next tick finds the tables."""
    uri = databases.create(migrated=False)
    try:
        (tmp_path / "manifest.json").write_text(encode(MANIFEST))
        empty = settings.replace(database_uri=uri, manifest_path=tmp_path / "manifest.json")
        report, numbers = await tick_and_measure(empty)
        assert report.failures > 0
        assert numbers is None
    finally:
        databases.drop(uri)
