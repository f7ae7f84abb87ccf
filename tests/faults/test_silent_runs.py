"""Runs that say nothing for long, behind a proxy that cuts connections over which nothing passes: whoever waits for them, joins them
or streams them is kept alive, in time for the proxy, and gets an answer that the SDKs can read.

The times are short; what counts is that a run is silent for several times as long as the proxy is patient. In the full form the API's
connections to the database hang meanwhile, as when a network drops everything, and come back.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from api_process import api_process
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import Figures, sizes
from javascript import FOLDER
from langgraph_sdk import get_client
from psycopg.conninfo import conninfo_to_dict
from tcp_proxy import TcpProxy
from wire import through
from workload import assert_invariants

#: A run that is waited for in JavaScript; its output is printed.
WAIT = """
import { Client } from "@langchain/langgraph-sdk";
const [url, input] = process.argv.slice(1);
const client = new Client({ apiUrl: url, apiKey: null, callerOptions: { maxRetries: 0 } });
console.log(JSON.stringify(await client.runs.wait(null, "steps", { input: JSON.parse(input) })));
"""


def _in_javascript(url: str, given: dict[str, Any]) -> Any:
    ended = subprocess.run(
        ["node", "--input-type=module", "-e", WAIT, url, json.dumps(given)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


class Waits:
    """Clients of one kind each, all for runs with one silent node."""

    def __init__(self, cluster: Cluster, url: str, client: httpx.AsyncClient, silence: float) -> None:
        self._cluster, self._url, self._client = cluster, url, client
        self._body = {"assistant_id": "steps", "input": {"name": "s", "steps": 1, "seconds": silence}}
        self.silence = silence

    async def thread(self) -> str:
        thread_id: str = (await self._client.post("/threads", json={})).json()["thread_id"]
        return thread_id

    async def run(self, **changes: Any) -> str:
        made = await self._client.post(f"/threads/{await self.thread()}/runs", json={**self._body, **changes})
        run = made.raise_for_status().json()
        return f"/threads/{run['thread_id']}/runs/{run['run_id']}"

    async def text(self, method: str, path: str, *, json: Any = None) -> tuple[float, float, bytes]:
        """When the head of the answer came, the longest silence, and the answer."""
        loop = asyncio.get_running_loop()
        began = before = loop.time()
        longest, found = 0.0, b""
        async with self._client.stream(method, path, json=json) as answer:
            assert answer.status_code == 200, await answer.aread()
            head = loop.time() - began
            async for piece in answer.aiter_raw():
                found += piece
                before, longest = loop.time(), max(longest, loop.time() - before)
        return head, longest, found

    async def of_every_kind(self) -> dict[str, tuple[float, float, bytes]]:
        join, stateless_join, stream = [await self.run() for _ in range(3)]
        kinds = {
            "wait": self.text("POST", f"/threads/{await self.thread()}/runs/wait", json=self._body),
            "stateless wait": self.text("POST", "/runs/wait", json=self._body),
            "join": self.text("GET", f"{join}/join"),
            "stateless join": self.text("GET", f"/runs/{stateless_join.rpartition('/')[2]}/join"),
            "stream": self.text("GET", f"{stream}/stream"),
            # it wants a name when it wakes up
            "failing": self.text(
                "POST", "/runs/wait", json={**self._body, "input": {"steps": 1, "seconds": self.silence}}
            ),
        }
        return dict(zip(kinds, await asyncio.gather(*kinds.values()), strict=True))

    async def in_python(self) -> Any:
        async with get_client(url=self._url, api_key=None) as sdk:
            return await sdk.runs.wait(await self.thread(), **self._body)

    async def in_javascript(self) -> Any:
        return await asyncio.to_thread(_in_javascript, self._url, self._body["input"])


@sizes(timeout=300, silence=(2.8, 40.0), patience=(1.3, 6.0), keepalive=(0.2, 1.0), away=(0.0, 20.0))
@pytest.mark.usefixtures("node")
async def test_whoever_waits_for_a_silent_run_is_kept_alive(cluster: Cluster, size: Any, figures: Figures) -> None:
    lease = {"LEASE_DURATION_SECS": "20", "HEARTBEAT_INTERVAL_SECS": "2"}
    worker = cluster.worker(**lease)
    place = conninfo_to_dict(cluster.database_uri)
    async with TcpProxy.to(str(place["host"]), int(place["port"])) as database:
        behind = {**lease, "STREAM_KEEPALIVE_SECS": str(size.keepalive)}
        uri = through(cluster.database_uri, database.port)
        async with (
            _served(cluster, DATABASE_URI=uri, **behind) as url,
            TcpProxy.to("127.0.0.1", urlsplit(url).port or 0) as proxy,
        ):
            proxy.idle = size.patience
            outside = f"http://127.0.0.1:{proxy.port}"
            limits = httpx.Limits(max_keepalive_connections=0)
            async with (
                httpx.AsyncClient(base_url=outside, timeout=10 * PATIENCE, limits=limits) as client,
                httpx.AsyncClient(base_url=url, timeout=PATIENCE) as inside,
            ):
                waits = Waits(cluster, outside, client, size.silence)
                cancelled = await waits.run(input={"name": "s", "steps": 1, "seconds": 600})
                answers = asyncio.gather(waits.of_every_kind(), waits.in_python(), waits.in_javascript())
                await asyncio.to_thread(until, lambda: _begun(cluster) == 9, "all to be silent")
                # a worker that does not hear of the cancel for a while
                worker.pause()
                cancelling = asyncio.create_task(waits.text("POST", f"{cancelled}/cancel?wait=1"))
                await asyncio.sleep(1.5 * size.patience)
                worker.wake()
                if size.away:
                    database.flowing.clear()
                    await asyncio.sleep(size.away)
                    database.flowing.set()
                texts, python, javascript = await answers
                texts["cancel"] = await cancelling
                assert proxy.idle_cuts == 0
                assert (await inside.get("/ok")).status_code == 200
    assert python["log"] == javascript["log"] == ["s1"]
    for kind, (head, longest, text) in texts.items():
        assert head < size.patience, f"{kind}: the head of the answer comes at once"
        assert longest < size.patience, kind
        if kind == "stream":
            assert text.count(b": heartbeat\r\n\r\n") > 2
            continue
        assert text[:3] == b"\n\n\n", kind
        answer = json.loads(text)
        if kind == "failing":
            assert answer == {"__error__": {"error": "KeyError", "message": "'name'"}}
        else:
            assert answer.get("log", []) == ([] if kind == "cancel" else ["s1"]), kind
    longest = max(longest for _, longest, _ in texts.values())
    figures("silent runs", silence=size.silence, patience=size.patience, longest_pause=longest, cuts=proxy.idle_cuts)
    await assert_invariants(cluster.database_uri)


@asynccontextmanager
async def _served(cluster: Cluster, **environ: str) -> AsyncIterator[str]:
    """An API process whose database is reached through this event loop."""
    serving = api_process(cluster, **environ)
    url, _ = await asyncio.to_thread(serving.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(serving.__exit__, None, None, None)


def _begun(cluster: Cluster) -> int:
    return len(cluster.journal.read_text().splitlines()) if cluster.journal.exists() else 0
