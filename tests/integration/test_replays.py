"""Runs that were given up, listed and put back into the queue by one call."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from dev_server import PATIENCE
from worker_container import MakeContainer, working

from langgraph_serverless.cli.main import main
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, Durability, Run, RunRequest, RunStatus
from langgraph_serverless.errors import ConflictError, NotFoundError
from langgraph_serverless.execution.runner import RunSignals
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent.parent / "faults" / "project" / "langgraph.json"


@pytest.fixture
async def container(worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerContainer:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return await worker_on(PROJECT, max_attempts=1, poll_interval=0.1, webhook_allowed_hosts=("127.0.0.1",))


async def create(container: WorkerContainer, thread_id: uuid.UUID | None, **options: Any) -> Run:
    given: dict[str, Any] = {"input": {"name": "a", "steps": 2, "seconds": 0}, "durability": Durability.SYNC} | options
    return await container.runs.create(ANONYMOUS, RunRequest(assistant_id="steps", **given), thread_id=thread_id)


async def thread(container: WorkerContainer) -> uuid.UUID:
    return (await container.threads.create(ANONYMOUS)).thread_id


async def give_up(container: WorkerContainer, *, begun: bool = False) -> None:
    """Take the next run and lose it, before it begins or in the midst of its first step."""
    (claimed,) = await QueueRepository(container.database).claim(owner="dies", limit=1, lease=30)
    if begun:
        task = asyncio.create_task(container.runner.execute(claimed, signals := RunSignals()))
        async with asyncio.timeout(PATIENCE):
            while (await row(container, claimed.run))["lease_history"][-1].get("nodes") != ["step"]:
                await asyncio.sleep(0.02)
        signals.lose()
        await asyncio.wait([task])
    async with container.database.connection() as connection:
        await connection.execute(
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE run_id = %s", (claimed.run.run_id,)
        )
    assert (await container.queue.sweep()).buried == 1


async def row(container: WorkerContainer, run: Run) -> Any:
    async with container.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT r.*, t.status AS thread_status, t.purge_at, t.channel_values FROM lgs.run r"
            " JOIN lgs.thread t USING (thread_id) WHERE r.run_id = %s",
            (run.run_id,),
        )
        return await cursor.fetchone()


async def ended(container: WorkerContainer, run: Run) -> Any:
    async with working(container), asyncio.timeout(PATIENCE):
        while (found := await row(container, run))["finished_at"] is None:
            await asyncio.sleep(0.02)
    return found


async def test_a_replayed_run_goes_on_where_it_was_lost(container: WorkerContainer) -> None:
    given = {"name": "a", "steps": 2, "seconds": 0.3}
    run = await create(container, await thread(container), input=given)
    await give_up(container, begun=True)
    before = await row(container, run)
    assert (before["status"], before["thread_status"], before["last_node"]) == ("error", "error", "step")
    (listed, *_) = await container.replays.list(ANONYMOUS)
    assert (listed.run_id, listed.last_node, listed.leases) == (run.run_id, "step", 2)

    assert await container.replays.replay(ANONYMOUS, run.run_id)
    waiting = await row(container, run)
    assert (waiting["status"], waiting["thread_status"], waiting["attempt"]) == ("pending", "busy", 0)
    assert waiting["last_error"] == before["last_error"]
    assert not await container.replays.replay(ANONYMOUS, run.run_id), "it waits already"

    after = await ended(container, run)
    assert (after["status"], after["thread_status"], after["output"]["log"]) == ("success", "idle", ["a1", "a2"])
    assert [lease["owner"].partition("-")[0] for lease in after["lease_history"]] == ["dies", "sweep", "worker"]
    assert (after["attempt"], after["handoffs"]) == (1, 2)
    with pytest.raises(ConflictError, match="ended in success"):
        await container.replays.replay(ANONYMOUS, run.run_id)


async def test_a_replayed_run_has_all_its_attempts_and_may_be_given_up_again(container: WorkerContainer) -> None:
    run = await create(container, await thread(container))
    for _ in range(3):
        await give_up(container)
        assert await container.replays.replay(ANONYMOUS, run.run_id)
    assert (await ended(container, run))["output"]["log"] == ["a1", "a2"]


async def test_its_stream_begins_anew(container: WorkerContainer) -> None:
    run = await create(container, await thread(container), stream_resumable=True)
    await give_up(container)
    await container.replays.replay(ANONYMOUS, run.run_id)
    joining = asyncio.create_task(_joined(container, run))
    waiting = asyncio.create_task(_waited(container, run))
    done, _ = await asyncio.wait([joining, waiting], timeout=0.5)
    assert not done, "the end that it had before ends nobody"
    await ended(container, run)
    assert (await waiting)["log"] == ["a1", "a2"]
    values = [json.loads(event.data) for event in await joining if event.name == "values"]
    assert values[-1]["log"] == ["a1", "a2"]


async def test_nobody_can_take_it_before_its_old_stream_is_gone(
    container: WorkerContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await create(container, await thread(container), stream_resumable=True)
    await give_up(container)
    assert container.event_log is not None
    expire, seen = container.event_log.expire, []

    async def looked(run_id: uuid.UUID, seconds: float) -> None:
        seen.append(await QueueRepository(container.database).claim(owner="quick", limit=1, lease=30))
        await expire(run_id, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(container.event_log, "expire", looked)
        await container.replays.replay(ANONYMOUS, run.run_id)
    assert seen == [[]]
    await ended(container, run)


async def _waited(container: WorkerContainer, run: Run) -> Any:
    pieces = await container.streams.join(ANONYMOUS, run.thread_id, run.run_id)
    return json.loads(b"".join([piece async for piece in pieces]))


async def _joined(container: WorkerContainer, run: Run) -> list[Event]:
    batches = (await container.streams.join_stream(ANONYMOUS, run.thread_id, run.run_id)).batches
    return [event async for batch in batches for event in batch]


async def test_of_many_calls_at_once_one_replays_it(container: WorkerContainer) -> None:
    run = await create(container, await thread(container))
    await give_up(container)
    answers = await asyncio.gather(*(container.replays.replay(ANONYMOUS, run.run_id) for _ in range(10)))
    assert sum(answers) == 1
    assert (await ended(container, run))["status"] == "success"


async def test_a_stateless_run_can_be_replayed_while_its_thread_is_there(container: WorkerContainer) -> None:
    run = await create(container, None)
    await give_up(container)
    assert (await row(container, run))["purge_at"] is not None
    await container.replays.replay(ANONYMOUS, run.run_id)
    after = await ended(container, run)
    assert after["output"]["log"] == ["a1", "a2"]
    assert after["purge_at"] is not None


async def test_runs_that_wait_behind_it_keep_their_places(container: WorkerContainer) -> None:
    thread_id = await thread(container)
    run = await create(container, thread_id)
    await give_up(container)
    behind = await create(container, thread_id, input={"name": "b", "steps": 1, "seconds": 0}, after_seconds=0)
    await container.replays.replay(ANONYMOUS, run.run_id)
    assert (await ended(container, behind))["channel_values"]["log"] == ["a1", "a2", "b1"]


REFUSED = ["unknown", "pending", "success", "cancelled", "another run", "one that is replayed", "a write", "running"]


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused(container: WorkerContainer, what: str) -> None:
    thread_id = await thread(container)
    run = await create(container, thread_id)
    reason = ""
    match what:
        case "unknown":
            with pytest.raises(NotFoundError):
                await container.replays.replay(ANONYMOUS, uuid.uuid4())
        case "pending":
            reason = "it is pending"
        case "success":
            await ended(container, run)
            reason = "ended in success"
        case "cancelled":
            await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "taken")
            reason = "ended in interrupted"
        case "another run":
            await give_up(container)
            await ended(container, await create(container, thread_id))
            reason = "another run"
        case "one that is replayed":
            await give_up(container)
            later = await create(container, thread_id)
            await give_up(container, begun=True)
            assert await container.replays.replay(ANONYMOUS, later.run_id)
            reason = "another run"
        case "running":
            await give_up(container)
            await create(container, thread_id)
            await QueueRepository(container.database).claim(owner="works", limit=1, lease=30)
            reason = "another run"
        case "a write":
            await give_up(container)
            async with container.database.connection() as connection:
                await connection.execute(
                    "UPDATE lgs.thread SET state_updated_at = clock_timestamp() WHERE thread_id = %s", (thread_id,)
                )
            reason = "state of its thread has been written"
    if reason:
        before = await row(container, run)
        with pytest.raises(ConflictError, match=reason):
            await container.replays.replay(ANONYMOUS, run.run_id)
        assert await row(container, run) == before
    await container.threads.delete(ANONYMOUS, thread_id)


async def test_each_end_has_a_webhook(container: WorkerContainer) -> None:
    run = await create(container, await thread(container), webhook="http://127.0.0.1:9/hook")
    await give_up(container)
    assert await _webhooks(container, run) == ["error"]
    await container.replays.replay(ANONYMOUS, run.run_id)
    assert await _webhooks(container, run) == [], "it tells of an end that is none"
    await give_up(container)
    assert await _webhooks(container, run) == ["error"]
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.outbox SET delivered_at = now() WHERE run_id = %s", (run.run_id,))
    await container.replays.replay(ANONYMOUS, run.run_id)
    assert await _webhooks(container, run) == ["error"], "somebody has read this one"
    await give_up(container)
    assert await _webhooks(container, run) == ["error", "error"]


async def _webhooks(container: WorkerContainer, run: Run) -> list[str]:
    async with container.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT payload ->> 'status' AS status FROM lgs.outbox WHERE run_id = %s ORDER BY created_at", (run.run_id,)
        )
        return [row["status"] for row in await cursor.fetchall()]


def command(container: WorkerContainer, *arguments: str) -> Result:
    settings = container.settings
    environ = {
        "DATABASE_URI": settings.database_uri,
        "REDIS_URI": settings.redis_uri,
        "REDIS_KEY_PREFIX": settings.redis_key_prefix,
    }
    return CliRunner().invoke(main, ["runs", *arguments], env=environ)


async def test_the_command(container: WorkerContainer) -> None:
    run = await create(container, await thread(container))
    await give_up(container)
    listed = await asyncio.to_thread(command, container, "list", "--limit", "1")
    assert listed.exit_code == 0, listed.output
    shown = json.loads(listed.stdout)
    assert (shown["run_id"], shown["graph_id"], shown["leases"]) == (str(run.run_id), "steps", 2)
    assert shown["error"].startswith("The run lost its worker 1 times")
    replayed = await asyncio.to_thread(command, container, "replay", str(run.run_id))
    assert replayed.stdout == f"{run.run_id} waits for a worker\n"
    again = await asyncio.to_thread(command, container, "replay", str(run.run_id))
    assert again.stdout == f"{run.run_id} is being replayed already\n"
    assert RunStatus((await ended(container, run))["status"]) is RunStatus.SUCCESS
    refused = await asyncio.to_thread(command, container, "replay", str(run.run_id))
    assert refused.exit_code == 1
    assert "ended in success" in refused.stderr
