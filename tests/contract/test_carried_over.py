"""Streams that are going to be broken off, as on Lambda (``STREAM_CARRY_OVER``): whoever comes back has missed nothing.

What differs from the wire elsewhere, and nothing else: ids on every event, joins that go on after one whether the run is
resumable or not, a position in the first heartbeat, and a ``Location`` that repeats what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from served import served

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

PATIENCE = 20.0
Worker = Any  # StandInWorker of conftest.py, which cannot be imported from here


@pytest.fixture(scope="module")
def address(settings: Settings, container: ApiContainer) -> Iterator[str]:
    changed = replace(settings, stream_keepalive=0.2, stream_carry_over=True)
    mine = ApiContainer(changed, manifest=container.catalog.manifest)

    with served(mine, ("threads", "runs", "stream")) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        yield client


class Client:
    """Reads as an SDK does: remembers the last id and where to come back to."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.events: list[Any] = []
        self.last_id: str | None = None
        self.location = ""

    async def read(self, method: str, path: str, until: int | None, **arguments: Any) -> None:
        """Until there are so many events, or to the end; ``0``: until there is an id."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        name = ""
        async with (
            asyncio.timeout(PATIENCE),
            self._http.stream(method, path, headers=headers, **arguments) as response,
        ):
            self.location = response.headers["location"]
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((name, orjson.loads(line.removeprefix("data: "))))
                elif line.startswith("id: "):
                    self.last_id = line.removeprefix("id: ")
                elif not line and until is not None and self.last_id and len(self.events) >= until:
                    return

    async def come_back(self, until: int | None = None) -> None:
        await self.read("GET", self.location, until)


def metadata(run: ClaimedRun) -> tuple[str, dict[str, Any]]:
    return "metadata", {"run_id": str(run.run.run_id), "attempt": 1}


@pytest.mark.parametrize("path", ["/threads/{}/runs/stream", "/runs/stream"])
async def test_a_stream_goes_on_wherever_it_was_cut(client: httpx.AsyncClient, worker: Worker, path: str) -> None:
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    reader = Client(client)
    await reader.read("POST", path.format(thread_id), 0, json={"assistant_id": "chat"})
    assert (reader.events, reader.last_id) == ([], "0-0"), "the first heartbeat says where it was"
    run = await worker.claim()
    await worker.emit(run, metadata(run), ("values", 1))
    await reader.come_back(2)
    await worker.emit(run, ("values", 2))
    await reader.come_back(3)
    await worker.emit(run, ("values", 3))
    await worker.finish(run, None)
    await reader.come_back()
    assert reader.events == [metadata(run), ("values", 1), ("values", 2), ("values", 3)]
    await reader.come_back()
    assert len(reader.events) == 4, "it was over"


async def test_a_join_is_taken_up_as_it_was_asked_for(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    made = (await client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat"})).json()
    run = await worker.claim()
    await worker.emit(run, metadata(run), ("values", "before"))
    path = f"/threads/{thread_id}/runs/{made['run_id']}/stream"
    reader = Client(client)
    await reader.read("GET", f"{path}?stream_mode=updates&stream_mode=custom&cancel_on_disconnect=true", 0)
    assert reader.events == []
    assert reader.location == f"{path}?cancel_on_disconnect=true&stream_mode=custom%2Cupdates"
    reader.location = reader.location.replace("cancel_on_disconnect=true&", "")  # as this client leaves in order
    await worker.emit(run, ("values", "unwanted"), ("updates", 1))
    await worker.finish(run, None)
    await reader.come_back()
    assert reader.events == [("updates", 1)]


async def test_what_nobody_wants_to_see_is_filled_with_heartbeats(client: httpx.AsyncClient, worker: Worker) -> None:
    made = (await client.post("/runs", json={"assistant_id": "chat"})).json()
    run = await worker.claim()
    reader = Client(client)
    reading = asyncio.create_task(reader.read("GET", f"/runs/{made['run_id']}/stream?stream_mode=updates", 0))
    while not reading.done():
        await worker.emit(run, ("custom", "never silent"))
        await asyncio.sleep(0.01)
    await reading
    await worker.finish(run, None)
    assert reader.events == []


async def test_waits_are_taken_up_too(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "chat", "on_disconnect": "continue"}
    async with client.stream("POST", f"/threads/{thread_id}/runs/wait", json=body) as response:
        location = response.headers["location"]
        run = await worker.claim()
    assert location == f"/threads/{thread_id}/runs/{run.run.run_id}/join"
    await worker.finish(run, {"a": 1}, values={"a": 1})
    assert (await client.get(location)).json() == {"a": 1}
