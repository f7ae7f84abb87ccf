"""A node that blocks the event loop while the answer to a claim is on its way: the lease may be over before anybody sees it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import ClaimedRun, RunRequest, RunStatus
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.persistence.queue_rows import Look

PROJECT = Path(__file__).parent / "project" / "langgraph.json"
LEASE = 1.0
QUICK = {"heartbeat_interval": 0.2, "lease_duration": LEASE, "poll_interval": 0.1, "sweep_interval": 60.0}


@pytest.fixture
async def container(worker_on: MakeContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WorkerContainer:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return await worker_on(PROJECT, **QUICK)


@pytest.mark.parametrize("blocked", [LEASE * 0.6, LEASE * 1.2])
async def test_such_a_run_does_not_begin_under_that_lease(
    container: WorkerContainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocked: float
) -> None:
    claims: list[ClaimedRun] = []
    look = QueueRepository.look

    async def late(self: QueueRepository, **arguments: Any) -> Look:
        found = await look(self, **arguments)
        if found.runs and not claims:
            time.sleep(blocked)
        claims.extend(found.runs)
        return found

    monkeypatch.setattr(QueueRepository, "look", late)
    given = RunRequest(assistant_id="steps", input={"name": "l", "steps": 1, "seconds": 0})
    run = await container.runs.create(ANONYMOUS, given, thread_id=None)
    worker = container.worker()
    working = asyncio.create_task(worker.work())
    async with asyncio.timeout(10):
        while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
            await asyncio.sleep(0.02)
    worker.stop()
    report = await working
    assert result.status is RunStatus.SUCCESS
    assert len(claims) == 2
    assert report.succeeded == 1
    # given back, unless a sweep has been faster; and as nothing was begun, it is no attempt
    assert (report.handed_off, report.lost, claims[1].attempt) in ((1, 0, 1), (0, 1, 2))
    assert len((tmp_path / "journal").read_text().splitlines()) == 1
