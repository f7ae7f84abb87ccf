"""What the functions of the background say to CloudWatch: one line of EMF for each invocation."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import orjson
import psycopg
import pytest

from langgraph_serverless.domain.manifest import Manifest

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "tests" / "faults" / "project" / "langgraph.json"


@pytest.fixture
def functions(
    database_uri: str, clean_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The environment of a deployment without Redis; the package's logger is given back."""
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(orjson.dumps(Manifest.of({}).to_json()))
    environ = {
        "DATABASE_URI": database_uri,
        "LAMBDA_TASK_ROOT": "/",
        "LANGGRAPH_CONFIG": str(PROJECT),
        "LANGGRAPH_MANIFEST": str(manifest),
        "WORKER_IDLE_GRACE_SECS": "0.1",
        "JOURNAL": str(tmp_path / "journal"),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for name in ("REDIS_URI", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("langgraph_serverless")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield environ
    logger.handlers[:], logger.level, logger.propagate = before


def invoked(name: str, capsys: pytest.CaptureFixture[str], event: dict[str, Any] | None = None) -> dict[str, Any]:
    """The metrics of one invocation, which runs where no event loop does."""
    path = ROOT / "functions" / name / "handler.py"
    spec = importlib.util.spec_from_file_location(f"tested_{name}_handler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = SimpleNamespace(
        function_name=name,
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:1:function:x",
        aws_request_id="1",
        get_remaining_time_in_millis=lambda: 900_000,
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            module.handler(event or {}, context)
        except BaseException as error:
            failures.append(error)
        finally:
            module.runtime.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert not failures, failures
    metrics: dict[str, Any] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("{") and "_aws" in (entry := json.loads(line)):
            metrics |= entry
    return metrics


async def test_a_tick_tells_what_it_did_and_how_the_deployment_is(
    functions: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with await psycopg.AsyncConnection.connect(functions["DATABASE_URI"], autocommit=True) as connection:
        await connection.execute(
            "WITH t AS (INSERT INTO lgs.thread (thread_id, status) VALUES (gen_random_uuid(), 'busy') RETURNING thread_id)"
            " INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, available_at)"
            " SELECT gen_random_uuid(), thread_id, gen_random_uuid(), 'steps', '{}', now() - interval '90 seconds' FROM t"
        )
        metrics = await asyncio.to_thread(invoked, "scheduler", capsys)
        await connection.execute("TRUNCATE lgs.thread CASCADE")
    assert "TickFailures" not in metrics  # what has not happened costs nothing
    assert (metrics["RunsPending"], metrics["RunsRunning"], metrics["SlotsAvailable"]) == ([1], [0], [10])
    assert 90 <= metrics["OldestPending"][0] < 200
    assert metrics["WebhookLag"] == metrics["CronLag"] == metrics["WebhooksDead"] == [0]


async def test_a_worker_tells_what_became_of_its_runs_and_how_long_they_took(
    functions: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with await psycopg.AsyncConnection.connect(functions["DATABASE_URI"], autocommit=True) as connection:
        for name, attempt in (("a", 0), ("b", 1)):
            ids = {"thread_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4())}
            await connection.execute(
                "WITH t AS (INSERT INTO lgs.thread (thread_id, status) VALUES (%(thread_id)s, 'busy'))"
                " INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, attempt, lease_history, kwargs)"
                " VALUES (%(run_id)s, %(thread_id)s, gen_random_uuid(), 'steps', %(attempt)s, %(history)s, %(kwargs)s)",
                {
                    **ids,
                    "attempt": attempt,
                    "history": json.dumps(_lost(attempt)),
                    "kwargs": json.dumps(_kwargs(name, ids)),
                },
            )
        metrics = await asyncio.to_thread(invoked, "worker", capsys)
    assert (metrics["RunsSucceeded"], metrics["RunsRepeated"]) == ([2], [1])
    assert len(metrics["RunSecondsSuccess"]) == 2
    # of the one that nobody had begun before
    assert 0 <= metrics["QueueWait"][0] < 60
    assert 0 < metrics["FirstEvent"][0] < 60
    assert len(metrics["QueueWait"]) == len(metrics["FirstEvent"]) == 1
    assert not metrics.keys() & {"RunsFailed", "WebhooksDelivered"}  # what has not happened costs nothing


async def test_a_worker_that_another_build_has_woken_says_so(
    functions: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a deployment; it works all the same."""
    own = Manifest.of({}).short_hash
    for event, mismatches in (({}, None), ({"build": own}, None), ({"build": "another"}, [1])):
        metrics = await asyncio.to_thread(invoked, "worker", capsys, event)
        assert metrics.get("BuildMismatches") == mismatches
        assert "RunsFailed" not in metrics


def _lost(times: int) -> list[dict[str, Any]]:
    entry = {"token": "00000000-0000-0000-0000-000000000001", "owner": "w", "at": "2026-01-01T00:00:00Z"}
    return [{**entry, "end": "expired", "kind": None}] * times


def _kwargs(name: str, ids: dict[str, str]) -> dict[str, Any]:
    return {
        "input": {"name": name, "steps": 1, "seconds": 0},
        "command": None,
        "config": {"configurable": ids, "metadata": {}},
        "context": {},
        "stream_mode": ["values"],
        "subgraphs": False,
        "durability": "sync",
        "resumable": False,
        "temporary": False,
    }
