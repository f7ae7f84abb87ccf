"""Calls of tools in their function: answered while they may, and nothing goes on that nobody waits for when its time is over."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from dev_server import ROOT, until
from streaming_function import Function, answer_of, bundle, rest_event
from workload import assert_invariants

from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project

#: Of an invocation; half of it is left when it breaks off.
TIMEOUT, MARGIN = 4.0, 2.0
PROJECT = ROOT / "tests" / "fixtures" / "projects" / "tools" / "langgraph.json"


@pytest.fixture
def function(cluster: Cluster, tmp_path: Path) -> Iterator[Function]:
    manifests: list[Any] = []
    # on a thread, as the tests' own event loop is running already
    builder = threading.Thread(
        target=lambda: manifests.append(asyncio.run(build_manifest(GraphRegistry.load(read_project(PROJECT)))))
    )
    builder.start()
    builder.join()
    root = bundle(tmp_path / "bundle", manifests[0].to_json())
    environ = {
        **cluster.environ,
        "LANGGRAPH_MANIFEST": "langgraph_manifest.json",
        "STREAM_DEADLINE_MARGIN_SECS": str(MARGIN),
        "STREAM_KEEPALIVE_SECS": "0.3",
    }
    handler = "langgraph_serverless_functions.mcp.handler.handler"
    function = Function(handler, root, environ, tmp_path, timeout=TIMEOUT)
    try:
        yield function
    finally:
        function.close()


def calling(seconds: float, **meta: Any) -> dict[str, Any]:
    params = {"name": "waits", "arguments": {"seconds": seconds}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    return rest_event("/mcp", "POST", body, headers)


@pytest.mark.parametrize("cluster", [PROJECT], indirect=True)
async def test_a_call_is_answered_in_time_or_its_run_is_cancelled(cluster: Cluster, function: Function) -> None:
    cluster.worker()
    async with cluster.client() as client:  # until the worker is there
        assert await client.runs.wait(None, "times", input={"word": "a", "count": 2}) == {"text": "aa"}

    answered = function.invoke(calling(0.5, progressToken="mine"))
    metadata, body = await asyncio.to_thread(answer_of, answered)
    assert metadata["headers"]["content-type"].startswith("text/event-stream")
    told = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    assert told[0]["params"] == {"progressToken": "mine", "progress": 1, "message": "first"}
    assert json.loads(told[-1]["result"]["content"][0]["text"]) == {"seconds": 0.5}
    assert answered.error is None

    cut = function.invoke(calling(600))
    await asyncio.to_thread(until, cut.done.is_set, "the invocation to end")
    assert cut.error is not None  # the client sees a broken answer, not half of one

    def left() -> list[Any]:
        return cluster.rows("SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')")

    await asyncio.to_thread(until, lambda: not left(), "the run to be cancelled")
    assert cluster.rows("SELECT status FROM lgs.run ORDER BY created_at DESC LIMIT 1") == [{"status": "interrupted"}]
    await assert_invariants(cluster.database_uri, worker=True)
