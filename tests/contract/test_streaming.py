"""Streams, waits and joins as ``contract/streaming.md`` and ``contract/runs.md`` say, over real HTTP.

A stand-in executes the runs: events and outcomes are the test's, so that every one of them is known to the byte.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from served import served
from tcp_proxy import TcpProxy

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import ClaimedRun, RunStatus
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.services import streams
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

PATIENCE = 20.0
KEEPALIVE = 0.3
MISSING = {"error": "HTTPException", "message": "404: Run not found"}

Worker = Any  # StandInWorker of conftest.py, which cannot be imported from here


class Api(ApiContainer):
    """Serves what these tests need."""

    resources = frozenset({"threads", "runs", "stream"})


@pytest.fixture(scope="module")
def address(settings: Settings, container: ApiContainer) -> Iterator[str]:
    with served(Api(replace(settings, stream_keepalive=KEEPALIVE), manifest=container.catalog.manifest)) as address:
        yield address


@pytest.fixture(scope="module")
def address_without_redis(settings: Settings, container: ApiContainer) -> Iterator[str]:
    changed = replace(settings, stream_keepalive=KEEPALIVE, redis_uri="")
    with served(Api(changed, manifest=container.catalog.manifest)) as address:
        yield address


@pytest.fixture(scope="module")
def address_with_redis_away(settings: Settings, container: ApiContainer) -> Iterator[str]:
    changed = replace(settings, stream_keepalive=KEEPALIVE, redis_uri="redis://127.0.0.1:1")
    with served(Api(changed, manifest=container.catalog.manifest)) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def sdk(client: httpx.AsyncClient) -> LangGraphClient:
    return LangGraphClient(client)


class Stream:
    """A response of server-sent events, read as bytes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.text = b""
        self._chunks = response.aiter_raw()

    async def rest(self) -> bytes:
        """Everything up to the end."""
        async with asyncio.timeout(PATIENCE):
            async for chunk in self._chunks:
                self.text += chunk
        return self.text

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.text:
                self.text += await anext(self._chunks)

    @property
    def frames(self) -> list[tuple[str, Any, str | None]]:
        found = []
        for frame in self.text.split(b"\r\n\r\n"):
            lines = frame.decode().split("\r\n")
            if not frame or frame.startswith(b":"):
                continue
            assert lines[0].startswith("event: ")
            assert lines[1].startswith("data: ")
            event_id = lines[2].removeprefix("id: ") if len(lines) > 2 else None
            found.append((lines[0].removeprefix("event: "), orjson.loads(lines[1].removeprefix("data: ")), event_id))
        return found

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(name, data) for name, data, _ in self.frames]


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, method: str, path: str, **arguments: Any) -> AsyncIterator[Stream]:
    async with client.stream(method, path, **arguments) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


async def new_thread(client: httpx.AsyncClient) -> str:
    thread_id: str = (await client.post("/threads", json={})).json()["thread_id"]
    return thread_id


async def start(client: httpx.AsyncClient, worker: Worker, **body: Any) -> tuple[str, ClaimedRun]:
    """A run that a worker has; the path of the run."""
    thread_id = await new_thread(client)
    answer = await client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat", **body})
    assert answer.status_code == 200, answer.text
    return f"/threads/{thread_id}/runs/{answer.json()['run_id']}", await worker.claim()


def metadata(run: ClaimedRun) -> tuple[str, dict[str, Any]]:
    return "metadata", {"run_id": str(run.run.run_id), "attempt": 1}


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def status_of(client: httpx.AsyncClient, path: str) -> str:
    status: str = (await client.get(path)).json()["status"]
    return status


# -- a run's own stream


@pytest.mark.parametrize("resumable", [False, True])
async def test_a_streamed_run_byte_for_byte(client: httpx.AsyncClient, worker: Worker, resumable: bool) -> None:
    thread_id = await new_thread(client)
    body = {"assistant_id": "chat", "stream_resumable": resumable}
    async with streaming(client, "POST", f"/threads/{thread_id}/runs/stream", json=body) as stream:
        run = await worker.claim()
        path = f"/threads/{thread_id}/runs/{run.run.run_id}"
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["content-location"] == path
        assert headers["location"] == f"{path}/stream"
        assert "content-length" not in headers
        await worker.emit(run, metadata(run))
        await stream.until(b"metadata")
        await worker.emit(run, ("values", {"a": 1}), ("updates|child:1", {"b": "ü"}))
        await worker.finish(run, {"a": 1})
        text = await stream.rest()
    assert [(name, data) for name, data, _ in stream.frames] == [
        metadata(run),
        ("values", {"a": 1}),
        ("updates|child:1", {"b": "ü"}),
    ]
    assert all((event_id is not None) is resumable for _, _, event_id in stream.frames)
    if not resumable:
        first = b'event: metadata\r\ndata: {"run_id":"%s","attempt":1}\r\n\r\n' % str(run.run.run_id).encode()
        assert text == (
            first + b'event: values\r\ndata: {"a":1}\r\n\r\nevent: updates|child:1\r\ndata: {"b":"\xc3\xbc"}\r\n\r\n'
        )


async def test_a_stateless_stream_is_located_without_a_thread(client: httpx.AsyncClient, worker: Worker) -> None:
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        assert stream.response.headers["content-location"] == f"/runs/{run.run.run_id}"
        assert stream.response.headers["location"] == f"/runs/{run.run.run_id}/stream"
        await worker.emit(run, metadata(run))
        await worker.finish(run, {})
        await stream.rest()
    assert stream.events == [metadata(run)]


async def test_an_event_is_sent_when_it_is_there(client: httpx.AsyncClient, worker: Worker) -> None:
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        for number in range(20):
            await worker.emit(run, ("custom", number))
            await stream.until(b"data: %d\r\n" % number)  # would time out if it were held back
        await worker.finish(run, None)
        await stream.rest()


async def test_silence_is_filled_with_heartbeats(client: httpx.AsyncClient, worker: Worker) -> None:
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        await stream.until(b": heartbeat\r\n\r\n: heartbeat\r\n\r\n")
        await worker.emit(run, metadata(run))
        await worker.finish(run, None)
        await stream.rest()
    assert stream.events == [metadata(run)]


async def test_the_sdk_streams(sdk: LangGraphClient, worker: Worker) -> None:
    found = []

    async def read() -> None:
        async for part in sdk.runs.stream(None, "chat", input={"x": 1}):
            found.append((part.event, part.data))  # noqa: PERF401 - seen while the stream goes on

    reading = asyncio.create_task(read())
    run = await worker.claim()
    await worker.emit(run, metadata(run), ("values", {"x": 1}))
    await worker.finish(run, {"x": 1})
    await reading
    assert found == [metadata(run), ("values", {"x": 1})]


# -- waiting


async def test_wait_answers_the_output_after_newlines(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with streaming(client, "POST", f"/threads/{thread_id}/runs/wait", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        path = f"/threads/{thread_id}/runs/{run.run.run_id}"
        assert stream.response.headers["content-type"] == "application/json"
        assert stream.response.headers["content-location"] == path
        assert stream.response.headers["location"] == f"{path}/join"
        await stream.until(b"\n\n")
        await worker.emit(run, metadata(run), ("values", {"a": 1}))
        await worker.finish(run, {"a": 1, "text": 'quote " and ,"output":'})
        text = await stream.rest()
    assert set(text.split(b"{", 1)[0]) == {ord("\n")}
    assert orjson.loads(text) == {"a": 1, "text": 'quote " and ,"output":'}


async def test_a_stateless_wait_is_located_on_its_thread(client: httpx.AsyncClient, worker: Worker) -> None:
    async with streaming(client, "POST", "/runs/wait", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        path = f"/threads/{run.run.thread_id}/runs/{run.run.run_id}"
        assert stream.response.headers["content-location"] == path
        assert stream.response.headers["location"] == f"{path}/join"
        await worker.finish(run, {"done": True})
        assert orjson.loads(await stream.rest()) == {"done": True}
    # its thread is hidden now, but a client that lost the connection can still fetch the answer
    assert (await client.get(f"{path}/join")).json() == {"done": True}


async def test_the_sdk_waits_and_raises(sdk: LangGraphClient, worker: Worker) -> None:
    waiting = asyncio.create_task(sdk.runs.wait(None, "chat"))
    await worker.finish(await worker.claim(), {"n": 1})
    assert await waiting == {"n": 1}
    waiting = asyncio.create_task(sdk.runs.wait(None, "chat"))
    error = {"error": "MyErr", "message": "An internal error occurred"}
    await worker.finish(
        await worker.claim(), {"__error__": error}, status=RunStatus.ERROR, error=error, thread_status="error"
    )
    with pytest.raises(Exception, match="MyErr"):
        await waiting


# -- joining


async def test_join_of_a_live_run_answers_its_output(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker)
    async with streaming(client, "GET", f"{path}/join") as stream:
        assert stream.response.headers["location"] == f"{path}/join"
        assert stream.response.headers["content-location"] == path
        await worker.finish(run, {"mine": 1}, values={"threads": 1})
        assert orjson.loads(await stream.rest()) == {"mine": 1}


async def test_join_of_a_finished_run_answers_the_current_values(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker)
    await worker.finish(run, {"mine": 1}, values={"threads": 1})
    assert (await client.get(f"{path}/join")).json() == {"threads": 1}


async def test_join_of_a_missing_run(client: httpx.AsyncClient) -> None:
    path = f"/threads/{await new_thread(client)}/runs/{uuid.uuid4()}"
    answer = await client.get(f"{path}/join")
    assert (answer.status_code, answer.json()) == (200, {"__error__": MISSING})
    async with streaming(client, "GET", f"{path}/stream") as stream:
        assert await stream.rest() == b"event: error\r\ndata: %b\r\n\r\n" % orjson.dumps(MISSING)


async def test_join_stream_of_a_live_run_begins_now(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker)
    await worker.emit(run, metadata(run), ("values", 1))
    async with streaming(client, "GET", f"{path}/stream") as stream:
        assert stream.response.headers["location"] == f"{path}/stream"
        await stream.until(b": heartbeat")
        await worker.emit(run, ("values", 2))
        await worker.finish(run, None)
        await stream.rest()
    assert stream.frames == [("values", 2, None)]


@pytest.mark.parametrize("word", ["-1", "0", "0-0", "00-0"])
async def test_a_resumable_run_is_replayed_live_and_finished(
    client: httpx.AsyncClient, worker: Worker, word: str
) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    await worker.emit(run, metadata(run), ("values", 1))
    async with streaming(client, "GET", f"{path}/stream", headers={"Last-Event-ID": word}) as live:
        await live.until(b"data: 1\r\n")
        await worker.emit(run, ("values", 2))
        await worker.finish(run, None)
        await live.rest()
    async with streaming(client, "GET", f"{path}/stream", headers={"Last-Event-ID": word}) as finished:
        await finished.rest()
    assert live.events == [metadata(run), ("values", 1), ("values", 2)]
    assert finished.frames == live.frames
    ids = [tuple(map(int, event_id.split("-"))) for _, _, event_id in live.frames if event_id]
    assert len(ids) == 3
    assert ids == sorted(set(ids))


async def test_resumed_after_each_event_there_is_no_gap_and_no_repeat(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    await worker.emit(run, metadata(run), *(("custom", number) for number in range(20)))
    await worker.finish(run, None)
    everything = await replay(client, path, "0-0")
    assert len(everything) == 21
    for cut, (_, _, event_id) in enumerate(everything, start=1):
        assert await replay(client, path, event_id or "") == everything[cut:]


async def replay(client: httpx.AsyncClient, path: str, last: str) -> list[tuple[str, Any, str | None]]:
    async with streaming(client, "GET", f"{path}/stream", headers={"Last-Event-ID": last}) as stream:
        await stream.rest()
    return stream.frames


async def test_who_is_cut_off_before_the_first_event_misses_nothing(
    address: str, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeats before it have an id to come back with, which the SDK takes though it shows no event for it."""
    monkeypatch.setattr("langgraph_sdk._async.http._reconnect_delay", lambda *_, **__: 0.01)
    thread_id = await new_thread(client)
    host, _, port = address.removeprefix("http://").partition(":")
    async with TcpProxy.to(host, int(port)) as proxy, get_client(url=f"http://{host}:{proxy.port}") as sdk:

        def rule(data: bytes, from_client: bool, _connection: int) -> int | None:
            if from_client or proxy.cuts or b": heartbeat\r\nid: 0-0\r\n\r\n" not in data:
                return None
            proxy.flowing.clear()  # nobody comes back for now
            return len(data)

        proxy.rule = rule
        stream = sdk.runs.stream(thread_id, "chat", stream_mode=["values"], stream_resumable=True)
        reading = asyncio.create_task(collect(stream))
        run = await worker.claim()
        async with asyncio.timeout(PATIENCE):
            while not proxy.cuts:
                await asyncio.sleep(0.01)
        await worker.emit(run, metadata(run), ("values", 1))
        await worker.finish(run, None)
        proxy.flowing.set()
        async with asyncio.timeout(PATIENCE):
            parts = await reading
    assert [(part.event, part.data) for part in parts] == [metadata(run), ("values", 1)]


async def collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in stream]


@pytest.mark.parametrize(
    ("resumable", "last"),
    [(True, None), (True, "garbage"), (True, "1-2-3"), (False, None), (False, "0-0"), (False, "garbage")],
)
async def test_finished_runs_that_give_an_empty_stream(
    client: httpx.AsyncClient, worker: Worker, resumable: bool, last: str | None
) -> None:
    path, run = await start(client, worker, stream_resumable=resumable)
    await worker.emit(run, metadata(run))
    await worker.finish(run, {"a": 1})
    headers = {"Last-Event-ID": last} if last else {}
    async with streaming(client, "GET", f"{path}/stream", headers=headers) as stream:
        assert await stream.rest() == b""


async def test_a_garbage_id_gives_an_empty_stream_of_a_live_run(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    async with streaming(client, "GET", f"{path}/stream", headers={"Last-Event-ID": "garbage"}) as stream:
        assert await stream.rest() == b""
    await worker.finish(run, None)


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (["updates"], ["updates", "updates|child:1"]),
        (["values,updates"], ["values", "updates", "updates|child:1"]),
        (["messages"], ["messages/partial", "messages"]),
        (["messages-tuple", "custom"], ["messages"]),
        (["unknown"], []),
    ],
)
async def test_join_stream_with_modes(
    client: httpx.AsyncClient, worker: Worker, modes: list[str], expected: list[str]
) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    names = ["values", "updates", "updates|child:1", "messages/partial", "messages"]
    await worker.emit(run, metadata(run), *((name, 1) for name in names))
    await worker.finish(run, None)
    async with streaming(
        client, "GET", f"{path}/stream", params={"stream_mode": modes}, headers={"Last-Event-ID": "-1"}
    ) as stream:
        await stream.rest()
    assert [name for name, _ in stream.events] == expected


async def test_the_sdk_joins(sdk: LangGraphClient, client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    _, _, thread_id, _, run_id = path.split("/")
    await worker.emit(run, metadata(run), ("values", {"n": 1}))
    await worker.finish(run, {"n": 1}, values={"n": 1})
    parts = [part async for part in sdk.runs.join_stream(thread_id, run_id, last_event_id="-1")]
    assert [part.event for part in parts] == ["metadata", "values"]
    assert parts[0].id
    assert await sdk.runs.join(thread_id, run_id) == {"n": 1}


async def test_a_finished_stateless_run_can_be_resumed(client: httpx.AsyncClient, worker: Worker) -> None:
    run_id = (await client.post("/runs", json={"assistant_id": "chat", "stream_resumable": True})).json()["run_id"]
    run = await worker.claim()
    await worker.emit(run, metadata(run), ("values", 1))
    await worker.finish(run, 1)
    frames = await replay(client, f"/runs/{run_id}", "-1")
    assert [name for name, _, _ in frames] == ["metadata", "values"]
    assert await replay(client, f"/runs/{run_id}", frames[0][2] or "") == frames[1:]


# -- cancelling and leaving


async def test_a_cancelled_run_just_ends_its_stream(client: httpx.AsyncClient) -> None:
    thread_id = await new_thread(client)
    async with streaming(client, "POST", f"/threads/{thread_id}/runs/stream", json={"assistant_id": "chat"}) as stream:
        path = stream.response.headers["content-location"]
        assert (await client.post(f"{path}/cancel")).status_code == 202
        await stream.rest()
    assert stream.events == []


async def test_cancel_with_wait_answers_when_the_run_has_stopped(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker)
    async with streaming(client, "POST", f"{path}/cancel", params={"wait": "true"}) as stream:
        await stream.until(b"\n")
        await worker.finish(run, {"a": 1}, status=RunStatus.INTERRUPTED)
        assert orjson.loads(await stream.rest()) == {}


@pytest.mark.parametrize("kind", ["stream", "wait"])
@pytest.mark.parametrize(("on_disconnect", "cancelled"), [("cancel", True), ("continue", False)])
async def test_a_client_that_goes_away(
    client: httpx.AsyncClient, worker: Worker, database: Any, kind: str, on_disconnect: str, cancelled: bool
) -> None:
    thread_id = await new_thread(client)
    body = {"assistant_id": "chat", "on_disconnect": on_disconnect}
    async with streaming(client, "POST", f"/threads/{thread_id}/runs/{kind}", json=body):
        run = await worker.claim()

    async def is_cancelled() -> bool:
        cursor = await database.execute("SELECT cancel_action FROM lgs.run WHERE run_id = %s", (run.run.run_id,))
        return (await cursor.fetchone())["cancel_action"] is not None

    if cancelled:
        await eventually(is_cancelled)
    await worker.finish(run, None)
    assert await is_cancelled() is cancelled


@pytest.mark.parametrize("on_thread", [True, False], ids=["thread", "stateless"])
async def test_a_joined_run_is_cancelled_if_asked_for(
    client: httpx.AsyncClient, worker: Worker, database: Any, on_thread: bool
) -> None:
    if on_thread:
        path, run = await start(client, worker)
    else:
        path = f"/runs/{(await client.post('/runs', json={'assistant_id': 'chat'})).json()['run_id']}"
        run = await worker.claim()
    async with streaming(client, "GET", f"{path}/stream", params={"cancel_on_disconnect": "true"}):
        pass

    async def is_cancelled() -> bool:
        cursor = await database.execute("SELECT cancel_action FROM lgs.run WHERE run_id = %s", (run.run.run_id,))
        return (await cursor.fetchone())["cancel_action"] is not None

    await eventually(is_cancelled)
    await worker.finish(run, None)


async def test_what_a_client_has_left_is_cancelled_once_the_database_is_back(
    client: httpx.AsyncClient,
    worker: Worker,
    container: ApiContainer,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, run = await start(client, worker)
    cancel, outages = container.runs.cancel, [UnavailableError("on purpose")] * 2

    async def away(*arguments: Any) -> Any:
        if outages:
            raise outages.pop()
        return await cancel(*arguments)

    monkeypatch.setattr(container.runs, "cancel", away)
    monkeypatch.setattr(streams, "ABANDONED_PAUSES", (0.01, 0.01))
    await container.streams.cancel_abandoned(ANONYMOUS, run.run.thread_id, run.run.run_id)
    cursor = await database.execute("SELECT cancel_reason FROM lgs.run WHERE run_id = %s", (run.run.run_id,))
    assert (await cursor.fetchone()) == {"cancel_reason": "the client disconnected"}
    await worker.finish(run, None, status=RunStatus.INTERRUPTED)
    outages.extend([UnavailableError("on purpose")] * 3)
    await container.streams.cancel_abandoned(ANONYMOUS, run.run.thread_id, run.run.run_id)
    assert not outages, "it is given up after a while"


# -- without the log


async def test_a_lost_log_ends_in_a_snapshot(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    path = f"/threads/{thread_id}/runs/stream"
    async with streaming(client, "POST", path, json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await stream.until(b"metadata")
        await worker.lose_log(run)
        await worker.settle(run, {"a": 2})
        await stream.rest()
    assert stream.events == [metadata(run), ("values", {"a": 2})]


async def test_a_log_that_was_lost_on_the_way_ends_in_the_state_as_well(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    """The run goes on after the loss and closes its stream, but what was lost may have been its last state."""
    thread_id = await new_thread(client)
    path = f"/threads/{thread_id}/runs/stream"
    async with streaming(client, "POST", path, json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await stream.until(b"metadata")
        await worker.lose_log(run)
        await worker.emit(run, ("custom", 1))
        await worker.finish(run, {"a": 2})
        await stream.rest()
    assert stream.events == [metadata(run), ("custom", 1), ("values", {"a": 2})]


async def test_a_lost_log_of_a_failed_run_ends_in_its_error(client: httpx.AsyncClient, worker: Worker) -> None:
    error = {"error": "MyErr", "message": "An internal error occurred"}
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        await worker.settle(run, {"__error__": error}, status=RunStatus.ERROR, error=error, thread_status="error")
        await stream.rest()
    assert stream.events == [("error", error)]


async def test_a_failed_run_whose_events_are_gone_still_says_that_it_failed(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    error = {"error": "MyErr", "message": "An internal error occurred"}
    path, run = await start(client, worker, stream_resumable=True)
    failed = {"status": RunStatus.ERROR, "error": error, "thread_status": "error", "values": {"so": "far"}}
    await worker.finish(run, {"__error__": error}, **failed)
    await worker.lose_log(run)
    assert await replay(client, path, "1-0") == [("values", {"so": "far"}, None), ("error", error, None)]


async def test_a_cancelled_run_whose_log_is_lost_ends_without_an_error(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    cancelled = {"error": "UserInterrupt", "message": "interrupt requested"}
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        await worker.settle(run, {"a": 1}, status=RunStatus.INTERRUPTED, error=cancelled)
        await stream.rest()
    assert stream.events == [("values", {"a": 1})]


async def test_a_wait_whose_log_is_lost_is_answered_from_the_row(client: httpx.AsyncClient, worker: Worker) -> None:
    waiting = asyncio.create_task(client.post("/runs/wait", json={"assistant_id": "chat"}))
    await worker.settle(await worker.claim(), {"a": 3})
    assert (await waiting).json() == {"a": 3}


async def test_a_run_that_is_deleted_meanwhile(client: httpx.AsyncClient, worker: Worker) -> None:
    path, _ = await start(client, worker)
    async with streaming(client, "GET", f"{path}/join") as stream:
        assert (await client.delete(path)).status_code == 204
        assert orjson.loads(await stream.rest()) is None
    assert (await client.get(f"{path}/join")).json() == {"__error__": MISSING}


async def test_an_expired_cursor_gives_the_current_state(client: httpx.AsyncClient, worker: Worker) -> None:
    path, run = await start(client, worker, stream_resumable=True)
    await worker.emit(run, metadata(run))
    await worker.finish(run, {"mine": 1}, values={"threads": 1})
    await worker.lose_log(run)
    assert await replay(client, path, "1-0") == [("values", {"threads": 1}, None)]


@pytest.mark.parametrize("query", ["", "?stream_mode=updates", "?stream_mode=custom,tasks"])
async def test_a_state_in_place_of_events_comes_whatever_modes_are_joined(
    client: httpx.AsyncClient, worker: Worker, query: str
) -> None:
    path, run = await start(client, worker, stream_mode=["updates", "custom"], stream_resumable=True)
    await worker.emit(run, metadata(run))
    live = asyncio.create_task(client.get(f"{path}/stream{query}", headers={"Last-Event-ID": "0"}))
    await worker.lose_log(run)
    await worker.emit(run, ("updates", 1))
    await worker.finish(run, {"mine": 1}, values={"threads": 1})
    assert 'event: values\r\ndata: {"mine":1}\r\n' in (await live).text
    await worker.lose_log(run)
    answer = await client.get(f"{path}/stream{query}", headers={"Last-Event-ID": "0"})
    assert answer.text == 'event: values\r\ndata: {"threads":1}\r\n\r\n'


@pytest.mark.parametrize("fixture", ["address_without_redis", "address_with_redis_away"])
async def test_without_redis_streams_and_waits_answer_from_the_row(
    request: pytest.FixtureRequest, worker: Worker, fixture: str
) -> None:
    async with httpx.AsyncClient(base_url=request.getfixturevalue(fixture), timeout=PATIENCE) as client:
        async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
            run = await worker.claim()
            await stream.until(b": heartbeat")
            await worker.settle(run, {"a": 1})
            await stream.rest()
        assert stream.events == [("values", {"a": 1})]
        waiting = asyncio.create_task(client.post("/runs/wait", json={"assistant_id": "chat"}))
        await worker.settle(await worker.claim(), {"a": 2})
        assert (await waiting).json() == {"a": 2}
        path, run = await start(client, worker, stream_resumable=True)
        await worker.settle(run, {"a": 3}, values={"a": 3})
        assert await replay(client, path, "0-0") == [("values", {"a": 3}, None)]
        assert (await client.get(f"{path}/join")).json() == {"a": 3}


# -- speed


async def test_thousands_of_events_per_second_in_one_stream(client: httpx.AsyncClient, worker: Worker) -> None:
    """A floor far under what a free machine does; the bench has the numbers."""
    count = 5000
    async with streaming(client, "POST", "/runs/stream", json={"assistant_id": "chat"}) as stream:
        run = await worker.claim()
        started = time.perf_counter()
        for first in range(0, count, 10):
            await worker.emit(run, *(("messages", [{"content": "tok"}, number]) for number in range(first, first + 10)))
        await worker.finish(run, None)
        await stream.rest()
        took = time.perf_counter() - started
    assert [data[1] for _, data in stream.events] == list(range(count))
    print(f"\n{count / took:.0f} events/s")
    assert count / took > 1000
