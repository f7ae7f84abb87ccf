"""Many more requests and streams than an API has connections to Postgres (R11): each succeeds or is refused in time, nobody waits
for somebody who waits, and no connection is left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import orjson
import pytest
from cluster import Cluster, served
from dev_server import PATIENCE, until
from figures import Figures, percentile

REQUESTS, STREAMS, TOKENS = 200, 50, 15
#: How long a request waits for a connection; and when it must have been answered, where one core serves it beside others (seconds).
WAIT, AT_MOST = 4.0, 25.0
BACKENDS = """SELECT state, count(*) AS count FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY state"""

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize("connections", [1, 2])
async def test_more_requests_than_connections(cluster: Cluster, connections: int, figures: Figures) -> None:
    # the cluster's own API, of which nobody asks anything
    others = _backends(cluster).total()
    worker = cluster.worker(N_JOBS_PER_WORKER=f"{STREAMS + 10}", LANGGRAPH_POSTGRES_POOL_MAX_SIZE="5")
    settings = cluster.settings(pool_max_size=connections, pool_min_size=1, pool_timeout=WAIT)
    limits = httpx.Limits(max_connections=None)
    statuses: Counter[int] = Counter()
    took: list[float] = []
    with served(settings) as url:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as http:
            thread_id = (await http.post("/threads", json={})).json()["thread_id"]
            begun = [asyncio.Event() for _ in range(STREAMS)]
            streams = [asyncio.create_task(_stream(http, event)) for event in begun]
            await asyncio.wait_for(asyncio.gather(*(event.wait() for event in begun)), PATIENCE)

            async def ask(number: int) -> None:
                method, path, body = _request(number, thread_id)
                began = time.monotonic()
                answer = await http.request(method, path, json=body)
                took.append(time.monotonic() - began)
                statuses[answer.status_code] += 1
                assert answer.is_success or (answer.status_code == 503 and answer.headers["retry-after"]), (
                    f"{path}: {answer.status_code} {answer.text}"
                )

            await asyncio.gather(*map(ask, range(REQUESTS)))
            seen = await asyncio.gather(*streams)
            worker.kill()
            until(lambda: _backends(cluster).total() <= others + connections, "only the API's connections")
            assert set(_backends(cluster)) <= {"idle"}, "somebody has left a transaction open"
    until(lambda: _backends(cluster).total() <= others, "no connection to be left")
    figures(
        f"R11 pool={connections}",
        requests=REQUESTS,
        streams=STREAMS,
        ok=statuses[200] + statuses[204],
        refused=statuses[503],
        slowest=max(took),
        p95=percentile(took, 95),
        leaked=_backends(cluster).total() - others,
    )
    assert statuses[200]
    assert max(took) < AT_MOST
    assert seen == [list(range(TOKENS))] * STREAMS


def _backends(cluster: Cluster) -> Counter[str]:
    return Counter({row["state"]: row["count"] for row in cluster.rows(BACKENDS)})


def _request(number: int, thread_id: str) -> tuple[str, str, Any]:
    run = {"assistant_id": "steps", "input": {}, "after_seconds": 3600}
    return [
        ("GET", f"/threads/{thread_id}", None),
        ("POST", "/threads/search", {"limit": 10}),
        ("POST", "/threads", {}),
        ("POST", "/runs", run),
        ("POST", "/runs/batch", [run, run]),
        ("PUT", "/store/items", {"namespace": ["a"], "key": f"{number}", "value": {}}),
        ("POST", "/assistants/search", {}),
        ("GET", f"/threads/{thread_id}/runs", None),
    ][number % 8]


async def _stream(http: httpx.AsyncClient, begun: asyncio.Event) -> list[int]:
    """The tokens of a slow run, as a client gets them; a refused one tries again, as the answer asks for."""
    body = {
        "assistant_id": "tokens",
        "input": {"steps": TOKENS, "seconds": 0.3},
        "stream_mode": ["custom"],
        "on_completion": "keep",
    }
    while True:
        async with http.stream("POST", "/runs/stream", json=body) as answer:
            if answer.status_code == 503:
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            assert answer.status_code == 200
            seen = []
            async for line in answer.aiter_lines():
                if line.startswith('data: {"token"'):
                    seen.append(orjson.loads(line[6:])["token"])
                    begun.set()
            return seen
