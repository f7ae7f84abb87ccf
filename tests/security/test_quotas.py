"""S16: what one tenant may pile up. What runs at once, and who is next, is in ``tests/faults/test_fairness.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.errors import QuotaError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

GRAPH = GraphManifest(graph_id="g", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
MOST = 3


@pytest.fixture
async def container(settings: Settings, databases: Any) -> AsyncIterator[ApiContainer]:
    uri = databases.create()
    limited = settings.replace(database_uri=uri, max_queued_runs=MOST)
    container = ApiContainer(limited, manifest=Manifest(graphs={"g": GRAPH}, hash="none"))
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()
    databases.drop(uri)


async def test_a_full_queue_refuses_and_says_why(container: ApiContainer) -> None:
    app = create_app(container, resources=("threads", "runs", "stream"))
    run = {"assistant_id": "g", "input": {}, "after_seconds": 1e6}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        made = [(await http.post("/runs", json=run)).json() for _ in range(MOST - 1)]
        # as many at once as there is room for, or none
        assert (await http.post("/runs/batch", json=[run, run])).status_code == 429
        made.append((await http.post(f"/threads/{thread_id}/runs", json=run)).json())
        for path in (f"/threads/{thread_id}/runs", f"/threads/{thread_id}/runs/wait", "/runs/stream", "/runs"):
            refused = await http.post(path, json=run)
            assert refused.status_code == 429, path
            assert refused.headers["retry-after"] == "5"
            assert "MAX_QUEUED_RUNS_PER_TENANT" in refused.json()["detail"]
        command = {"id": 1, "method": "run.start", "params": run}
        answer = (await http.post(f"/threads/{thread_id}/commands", json=command)).json()
        assert "MAX_QUEUED_RUNS_PER_TENANT" in answer["message"]
        # nothing is left of what was refused: no thread, no run
        assert (await http.post("/threads/count", json={})).json() == MOST
        assert len((await http.get(f"/threads/{thread_id}/runs")).json()) == 1
        cancelled = await http.post(f"/threads/{thread_id}/runs/{made[-1]['run_id']}/cancel", params={"wait": True})
        assert cancelled.status_code in (200, 202, 204)
        assert (await http.post("/runs", json=run)).status_code == 200


async def test_each_tenant_has_a_queue_of_its_own(container: ApiContainer) -> None:
    request = RunRequest(assistant_id="g", after_seconds=1e6)

    async def fill(tenant: str) -> int:
        caller = Principal(identity=tenant, tenant=tenant)
        for made in range(MOST + 1):
            try:
                await container.runs.create(caller, request, thread_id=None)
            except QuotaError:
                return made
        return MOST + 1

    assert await asyncio.gather(*map(fill, ("a", "b", "c"))) == [MOST] * 3
