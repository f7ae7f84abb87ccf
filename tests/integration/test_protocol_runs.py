"""Protocol runs through a real worker: what is in their logs, also when they are handed on, crash, ask, fail or are cancelled."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, Run, RunRequest

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "going_on" / "langgraph.json"
QUICK = {"heartbeat_interval": 0.1, "lease_duration": PATIENCE, "poll_interval": 0.2, "sweep_interval": 0.2}
UUIDS = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
async def container(worker_on: MakeContainer, journal: Path) -> WorkerContainer:
    return await worker_on(PROJECT, **QUICK)


async def new_thread(container: WorkerContainer) -> uuid.UUID:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    return thread_id


def asked_for(graph: str, *drains: str, **more: Any) -> RunRequest:
    more = {"input": {"log": [], "drains": drains}, "protocol": True, "stream_subgraphs": True, **more}
    return RunRequest(assistant_id=graph, **more)


async def carried_out(container: WorkerContainer, request: RunRequest, thread_id: uuid.UUID) -> tuple[Run, Any]:
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
    async with asyncio.timeout(PATIENCE):
        while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
            await asyncio.sleep(0.01)
    return run, result


async def entries(container: WorkerContainer, run: Run) -> list[Event]:
    """All that is in a run's log, but its end."""
    found: list[Event] = []
    assert container.event_hub is not None
    async with asyncio.timeout(PATIENCE), aclosing(container.event_hub.read(run.run_id, "0-0")) as batches:
        async for event in (event async for batch in batches for event in batch):
            if event.is_end:
                return found
            found.append(event)
    raise AssertionError("no end marker")


def read(events: Sequence[Event]) -> list[tuple[str, Any]]:
    """The records: name and data, without what is different each time."""
    said = []
    for event in events:
        if event.name in ("metadata", "error"):
            continue
        method, *namespace = event.name.split("|")
        assert event.data.startswith(b'{"type":"event","method":"%s","params":{' % method.encode())
        record = json.loads(event.data)
        assert set(record) == {"type", "method", "params"}
        params = record["params"]
        assert set(params) - {"node"} == {"namespace", "timestamp", "data"}
        assert params["namespace"] == namespace
        said.append((UUIDS.sub("", event.name), json.loads(UUIDS.sub("", json.dumps(params["data"])))))
    return said


def brief(record: tuple[str, Any]) -> str:
    name, data = record
    if name.startswith("tasks"):
        data = [data["name"], "result" in data]
    elif name.startswith(("values", "updates")):
        data = data.get("log")
    elif name.startswith("checkpoints"):
        data.pop("parent_id", None)  # with durability "exit" only what is saved has a parent
    return f"{name} {data}"


async def handoffs(container: WorkerContainer, run: Run) -> int:
    async with container.database.connection() as connection:
        cursor = await connection.execute("SELECT handoffs FROM lgs.run WHERE run_id = %s", (run.run_id,))
        row = await cursor.fetchone()
    assert row is not None
    return int(row["handoffs"])


async def test_a_hand_off_leaves_no_seam(container: WorkerContainer) -> None:
    """Nothing is sent twice, and nothing is missing: also of subgraphs, and of those that had only just begun."""

    async def records(graph: str, *drains: str, durability: Durability) -> Counter[str]:
        thread_id = await new_thread(container)
        await carried_out(container, asked_for(graph, durability=durability), thread_id)
        run, result = await carried_out(container, asked_for(graph, *drains, durability=durability), thread_id)
        assert result.status == "success"
        assert await handoffs(container, run) == len(drains)
        log = await entries(container, run)
        assert [event.name for event in log].count("metadata") == 1
        return Counter(brief(record) for record in read(log))

    async def case(durability: Durability, graph: str, drains: tuple[str, ...]) -> None:
        plain, seen = [await records(graph, *at, durability=durability) for at in ((), drains)]
        assert any(name.startswith("lifecycle|") for name in plain)
        assert seen == plain, (graph, drains, durability, seen - plain, plain - seen)

    async with working(container):
        for graph, drains in (
            ("within", ("s1",)),
            ("within", ("s2", "m2")),
            ("fanned", ("n2",)),
            ("fanned", ("side",)),
        ):
            await asyncio.gather(*(case(durability, graph, drains) for durability in Durability))
