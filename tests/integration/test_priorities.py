"""The section ``priority`` of langgraph.json: when the handler is asked, what is kept of it, and whose runs it applies to."""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from worker_container import MakeContainer, working

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.domain.runs import Run, RunRequest
from langgraph_serverless.errors import NotFoundError, UnavailableError
from langgraph_serverless.execution.priorities import PriorityHandler
from langgraph_serverless.services import scheduler as scheduler_service
from langgraph_serverless.services.priorities import ASK, answer_event

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "priorities" / "langgraph.json"

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Priority API is in beta"),
    pytest.mark.usefixtures("clean_database"),
]


@pytest.fixture
async def container(worker_on: MakeContainer) -> WorkerContainer:
    return await worker_on(PROJECT)


@pytest.fixture
def asked(container: WorkerContainer) -> list[Any]:
    """What the handler has been told."""
    handler = container.registry.priority_handler
    found: list[Any] = sys.modules[handler.__module__].asked  # type: ignore[union-attr]
    found.clear()
    return found


async def rows(container: ApiContainer, query: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(
        container.settings.database_uri, row_factory=dict_row
    ) as connection:
        return await (await connection.execute(query)).fetchall()  # type: ignore[arg-type]


async def place(container: ApiContainer, run: Run) -> tuple[int, str | None]:
    (row,) = await rows(container, f"SELECT priority, concurrency_key FROM lgs.run WHERE run_id = '{run.run_id}'")
    return row["priority"], row["concurrency_key"]


def wants(**metadata: Any) -> RunRequest:
    return RunRequest(assistant_id="pause", metadata=metadata)


async def test_the_first_run_decides_for_its_thread(container: WorkerContainer, asked: list[Any]) -> None:
    thread = await container.threads.create(ANONYMOUS, metadata={"plan": "gold"})
    caller = Principal(identity="ada", permissions=["p"], user={"org": "acme"})
    first = await container.runs.create(caller, wants(priority=-3, fairness_group="acme"), thread_id=thread.thread_id)
    second = await container.runs.create(ANONYMOUS, wants(priority=5), thread_id=thread.thread_id)
    assert [await place(container, run) for run in (first, second)] == [(-3, "acme")] * 2
    (ctx,) = asked
    assert (ctx.thread_id, ctx.thread_metadata, ctx.graph_id) == (str(thread.thread_id), {"plan": "gold"}, "pause")
    assert (ctx.user.identity, ctx.user["org"], list(ctx.permissions)) == ("ada", "acme", ["p"])
    assert ctx.assistant_id == str(first.assistant_id)
    assert ctx.assistant_metadata == {"created_by": "system"}
    assert ctx.run_metadata == {"priority": -3, "fairness_group": "acme"}
    assert ctx.cron_id is None
    # the order is the queue's: what was made first is not what goes first
    other = await container.runs.create(ANONYMOUS, wants(priority=-4), thread_id=None)
    (claimed, *_) = await container.worker()._taker._queue.claim(owner="w", limit=1, lease=30)
    assert claimed.run.run_id == other.run_id


async def test_an_answer_of_none_is_kept_and_a_failure_is_not(container: WorkerContainer, asked: list[Any]) -> None:
    for handler, times in (("nothing", 1), ("fails", 2)):
        asked.clear()
        thread = await container.threads.create(ANONYMOUS)
        for _ in range(2):
            run = await container.runs.create(ANONYMOUS, wants(handler=handler), thread_id=thread.thread_id)
            assert await place(container, run) == (0, None)
        assert len(asked) == times
    # whoever comes after a failure may still be told
    run = await container.runs.create(ANONYMOUS, wants(fairness_group="late"), thread_id=thread.thread_id)
    assert await place(container, run) == (0, "late")
    assert len(await rows(container, "SELECT FROM lgs.thread_priority")) == 2


async def test_stateless_runs_and_threads_that_are_made(container: WorkerContainer, asked: list[Any]) -> None:
    batch = await container.runs.create_batch(ANONYMOUS, [wants(fairness_group=f"g{n}") for n in range(25)])
    assert [await place(container, run) for run in batch] == [(0, f"g{n}") for n in range(25)]
    assert {ctx.thread_id for ctx in asked} == {None}
    thread_id = uuid.uuid4()
    made = RunRequest(assistant_id="pause", if_not_exists="create", metadata={"priority": 1})
    assert await place(container, await container.runs.create(ANONYMOUS, made, thread_id=thread_id)) == (1, None)
    assert asked[-1].thread_id == str(thread_id)
    asked.clear()
    for request, on in ((wants(), uuid.uuid4()), (RunRequest(assistant_id=str(uuid.uuid4())), None)):
        with pytest.raises(NotFoundError):
            await container.runs.create(ANONYMOUS, request, thread_id=on)
    assert not asked


async def test_of_many_first_runs_at_once_one_decides(container: WorkerContainer, asked: list[Any]) -> None:
    thread = await container.threads.create(ANONYMOUS)
    runs = await asyncio.gather(
        *(
            container.runs.create(ANONYMOUS, wants(fairness_group=f"g{number}"), thread_id=thread.thread_id)
            for number in range(10)
        )
    )
    assert len({await place(container, run) for run in runs}) == 1
    # and it goes with its thread
    assert len(await rows(container, "SELECT FROM lgs.thread_priority")) == 1
    await container.threads.delete(ANONYMOUS, thread.thread_id)
    assert await rows(container, "SELECT FROM lgs.thread_priority") == []


async def test_runs_of_crons_are_asked_about_without_their_locks(container: WorkerContainer, asked: list[Any]) -> None:
    thread = await container.threads.create(ANONYMOUS)
    for on in (None, thread.thread_id):
        await container.crons.create(ANONYMOUS, {"assistant_id": "pause", "schedule": "0 9 * * *"}, thread_id=on)
    scheduler = SchedulerContainer(
        container.settings,
        manifest=container.catalog.manifest,
        ask_priority_handler=container.ask_priority_handler,
    )
    try:
        ticks = await asyncio.gather(
            *(scheduler.scheduler.tick(datetime.now(UTC) + timedelta(days=2)) for _ in range(3))
        )
    finally:
        await scheduler.aclose()
    assert sum(tick.crons_fired for tick in ticks) == 2
    found = await rows(container, "SELECT priority, concurrency_key, cron_id::text FROM lgs.run")
    assert [(row["priority"], row["concurrency_key"]) for row in found] == [(5, "crons")] * 2
    assert {ctx.cron_id for ctx in asked} == {row["cron_id"] for row in found}
    assert {ctx.thread_id for ctx in asked} == {None, str(thread.thread_id)}


async def test_a_tick_asks_a_handler_that_hangs_once(
    container: WorkerContainer, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a few crons would have all of its time, and the others would be late."""
    monkeypatch.setattr(scheduler_service, "HANGS_AFTER", 0.1)
    for _ in range(4):
        body = {"assistant_id": "pause", "schedule": "0 9 * * *", "metadata": {"handler": "hangs"}}
        await container.crons.create(ANONYMOUS, body, thread_id=None)
    handler = container.registry.priority_handler
    assert handler is not None
    scheduler = SchedulerContainer(
        container.settings,
        manifest=container.catalog.manifest,
        ask_priority_handler=PriorityHandler(handler, timeout=0.3),
    )
    try:
        report = await scheduler.scheduler.tick(datetime.now(UTC) + timedelta(days=2))
    finally:
        await scheduler.aclose()
    assert (report.crons_fired, report.crons_failed, len(asked)) == (4, 0, 1)
    assert await rows(container, "SELECT FROM lgs.thread_priority") == []


async def test_without_the_project_the_state_function_is_asked(container: WorkerContainer, asked: list[Any]) -> None:
    events: list[Any] = []
    wrong = [UnavailableError("throttled"), {"errorMessage": "another version"}, {"priorities": []}]
    answers: list[Any] = [None, *wrong]

    class StateFunction:
        async def call(self, event: Any) -> Any:
            events.append(event)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer or await answer_event(container.ask_priority_handler, event[ASK])

    api = ApiContainer(container.settings, manifest=container.catalog.manifest)
    api.__dict__["state_function"] = StateFunction()
    alone = ApiContainer(container.settings, manifest=container.catalog.manifest)
    try:
        batch = await api.runs.create_batch(ANONYMOUS, [wants(priority=n) for n in (1, 2, 3)])
        assert [await place(api, run) for run in batch] == [(1, None), (2, None), (3, None)]
        assert len(events) == 1  # for all of them
        # what goes wrong with it keeps no run from being made
        for _ in wrong:
            run = await api.runs.create(ANONYMOUS, wants(priority=4), thread_id=None)
            assert await place(api, run) == (0, None)
        run = await alone.runs.create(ANONYMOUS, wants(priority=4), thread_id=None)
        assert await place(alone, run) == (0, None)
    finally:
        await api.aclose()
        await alone.aclose()


async def test_a_worker_keeps_to_the_limits(worker_on: MakeContainer) -> None:
    container = await worker_on(PROJECT, n_jobs_per_worker=6, group_concurrency=2, poll_interval=0.5)
    requests = [
        RunRequest(assistant_id="pause", input={"seconds": 0.05}, metadata={"fairness_group": group})
        for group in ("a", "b") for _ in range(6)
    ]  # fmt: skip
    most: dict[str, int] = {}
    async with working(container), asyncio.timeout(60):
        runs = await container.runs.create_batch(ANONYMOUS, requests)
        left = len(runs)
        while left:
            found = await rows(container, "SELECT status, concurrency_key AS name FROM lgs.run")
            for name in ("a", "b"):
                running = sum(row["status"] == "running" and row["name"] == name for row in found)
                most[name] = max(most.get(name, 0), running)
            left = sum(row["status"] in ("pending", "running") for row in found)
            await asyncio.sleep(0.01)
    assert all(0 < running <= 2 for running in most.values()), most
