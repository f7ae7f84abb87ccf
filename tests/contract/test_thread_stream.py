"""The stream of a thread as ``contract/streaming.md`` says, over real HTTP: its runs one after the other, resumable at any event.

A stand-in executes the runs, so that a test says what is appended when.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis
from served import served
from thread_reader import ThreadReader, reading

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.events import Event, end_marker
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import ClaimedRun, RunRequest, RunStatus
from langgraph_serverless.domain.thread_events import ThreadEvent, in_microseconds
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.execution.state_document import state_document
from langgraph_serverless.persistence import thread_runs
from langgraph_serverless.services import following, thread_rows
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.thread_streams import ThreadStreamService
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.hub import EventHub
from langgraph_serverless.streaming.keys import events_key

pytestmark = pytest.mark.usefixtures("clean_database")

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "states" / "langgraph.json"
PATIENCE = 20.0
KEEPALIVE = 0.3

Worker = Any  # StandInWorker of conftest.py, which cannot be imported from here


class Api(ApiContainer):
    """Serves what these tests need."""

    resources = frozenset({"threads", "runs", "stream"})


@pytest.fixture(scope="module")
def ours(settings: Settings, container: ApiContainer) -> Api:
    """Behind the addresses; its services may be looked at, and are used on the server's loop."""
    return Api(replace(settings, stream_keepalive=KEEPALIVE), manifest=container.catalog.manifest)


@pytest.fixture(scope="module")
def address(ours: Api) -> Iterator[str]:
    with served(ours) as address:
        yield address


@pytest.fixture(scope="module", params=["", "redis://127.0.0.1:1"], ids=["none", "away"])
def address_without_redis(request: pytest.FixtureRequest, settings: Settings, container: ApiContainer) -> Iterator[str]:
    changed = replace(settings, stream_keepalive=KEEPALIVE, redis_uri=request.param)
    with served(Api(changed, manifest=container.catalog.manifest)) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=address, timeout=PATIENCE, limits=httpx.Limits(max_connections=None)
    ) as client:
        yield client


async def new_thread(client: httpx.AsyncClient) -> str:
    thread_id: str = (await client.post("/threads", json={})).json()["thread_id"]
    return thread_id


async def create(client: httpx.AsyncClient, thread_id: str, **body: Any) -> str:
    answer = await client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "chat", **body})
    assert answer.status_code == 200, answer.text
    run_id: str = answer.json()["run_id"]
    return run_id


def metadata(run: ClaimedRun, attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return "metadata", {"run_id": str(run.run.run_id), "attempt": attempt}


def run_done(run: Any) -> tuple[str, dict[str, Any]]:
    return "metadata", {"status": "run_done", "run_id": run_id_of(run)}


def run_id_of(run: Any) -> str:
    return run if isinstance(run, str) else str(run.run.run_id)


async def executed(client: httpx.AsyncClient, worker: Worker, thread_id: str, *values: Any, **body: Any) -> str:
    """A run from its beginning to its end."""
    run_id = await create(client, thread_id, **body)
    run = await worker.claim()
    await worker.emit(run, metadata(run), *(("values", value) for value in values))
    await worker.finish(run, {"last": True})
    return run_id


def all_of(run_id: str, *values: Any) -> list[tuple[str, Any]]:
    return [
        ("metadata", {"run_id": run_id, "attempt": 1}),
        *(("values", value) for value in values),
        run_done(run_id),
    ]


async def flush(worker: Worker) -> None:
    """What FLUSHALL does to this deployment."""
    prefix = worker._settings.redis_key_prefix
    for key in [key async for key in worker.redis.scan_iter(match=f"{prefix}:*")]:
        await worker.redis.delete(key)  # one by one, as in a cluster


# -- what is on it


async def test_runs_come_one_after_the_other(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        first = await executed(client, worker, thread_id, 1, 2)
        second = await executed(client, worker, thread_id, 3)
        await reader.until_done(first, second)
    assert reader.events == [*all_of(first, 1, 2), *all_of(second, 3)]
    assert reader.ids == sorted(set(reader.ids))
    headers = reader.response.headers if reader.response else {}
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")


async def test_the_end_of_a_run_comes_before_the_next_one_that_has_begun(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        await create(client, thread_id)
        await create(client, thread_id)
        first = await worker.claim()
        await worker.emit(first, metadata(first), ("values", 1))
        error = {"error": "MyErr", "message": "An internal error occurred"}
        await worker.settle(first, {"__error__": error}, status=RunStatus.ERROR, error=error, thread_status="error")
        second = await worker.claim()
        await worker.emit(second, metadata(second), ("values", 2))
        await asyncio.sleep(0.01)  # ids have the time in milliseconds
        closing = [Event("error", b'{"error":"MyErr","message":"An internal error occurred"}')]
        await worker.log.append(first.lease, [*closing, end_marker(status="error", output=None)])
        await worker.finish(second, None)
        await reader.until_done(first.run.run_id, second.run.run_id)
    expected = [metadata(first), ("values", 1), ("error", error), run_done(first)]
    assert reader.events == [*expected, metadata(second), ("values", 2), run_done(second)]
    assert reader.ids == sorted(set(reader.ids))
    # all of them are the logs' own, which are in this order too
    begun = await worker.redis.xrange(events_key(worker._settings.redis_key_prefix, second.run.run_id), count=1)
    assert begun[0][0].decode() == reader.frames[len(expected)][2]


async def test_an_end_that_never_comes_is_made_up_for_as_soon_as_the_next_run_begins(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        await create(client, thread_id)
        await create(client, thread_id)
        first = await worker.claim()
        await worker.emit(first, metadata(first))
        await worker.settle(first, {"a": 1})
        second = await worker.claim()
        await worker.emit(second, metadata(second))
        await worker.finish(second, None)
        await reader.until_done(first.run.run_id, second.run.run_id)
    expected = [metadata(first), ("values", {"a": 1}), run_done(first), metadata(second), run_done(second)]
    assert reader.events == expected
    assert reader.ids == sorted(set(reader.ids))


async def test_ends_that_never_came_hold_up_nobody_who_comes_later(
    container: ApiContainer, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has been followed by another one is looked up at once, and not when its log has been silent for long."""
    monkeypatch.setattr(following, "GRACE", 0.1)
    thread_id = await new_thread(client)
    runs = []
    for _ in range(2):
        await create(client, thread_id)
        runs.append(await worker.claim())
        await worker.emit(runs[-1], metadata(runs[-1]), ("values", 1))
        await worker.settle(runs[-1], {"a": 1})
    await executed(client, worker, thread_id)
    patient = replace(container.settings, stream_keepalive=0.75 * PATIENCE)  # for each of them would be too long
    hub = EventHub(worker.redis, patient.redis_key_prefix, keepalive=patient.stream_keepalive)
    index = container.thread_index
    assert index is not None
    threads = ThreadStreamService(hub, index, container.database, container.runs, patient)
    try:
        for after in ("0-1", None):
            found: list[ThreadEvent] = []
            async with asyncio.timeout(PATIENCE), aclosing(threads.follow(uuid.UUID(thread_id), after)) as batches:
                while sum(each.event.is_end for each in found) < (3 if after else 2):
                    found += await anext(batches)
            ended = [each.run.run_id for each in found if each.run is not None and each.event.is_end]
            assert ended[:2] == [run.run.run_id for run in runs]
            # whoever goes on after one of them does not begin anew
            assert not any(each.event.id.startswith("0-") for each in found)
    finally:
        await hub.aclose()


async def test_modes(client: httpx.AsyncClient, worker: Worker, container: ApiContainer) -> None:
    thread_id = await new_thread(client)
    wanted: dict[str, list[tuple[str, str]]] = {
        "default": [],
        "run_modes": [("stream_modes", "run_modes")],
        "lifecycle": [("stream_modes", "lifecycle")],
        "both": [("stream_modes", "lifecycle"), ("stream_modes", "run_modes")],
        "updates": [("stream_modes", "state_update")],
        "some": [("stream_modes", "lifecycle,state_update")],
        "all": [("stream_modes", "run_modes,lifecycle"), ("stream_modes", "state_update")],
        "sdk": [("stream_mode", "lifecycle")],
    }
    async with AsyncExitStack() as stack:
        readers: dict[str, ThreadReader] = {}
        for name, query in wanted.items():
            path = f"{thread_id}/stream?" + "&".join(f"{key}={value}" for key, value in query)
            reader = readers[name] = ThreadReader()
            response = await stack.enter_async_context(client.stream("GET", f"/threads/{path}"))
            task = asyncio.create_task(reader.read(response))
            stack.callback(task.cancel)
        run_id = await executed(client, worker, thread_id, 1)
        await readers["default"].until_done(run_id)
        made = (await client.get(f"/threads/{thread_id}")).json()["created_at"]
        assert container.thread_index is not None
        update = {"state": {"values": {"x": 1}}, "thread_id": thread_id}
        await container.thread_index.state_updated(
            uuid.UUID(thread_id), stamp_of(made), b'{"state":{"values":{"x":1}},"thread_id":"%s"}' % thread_id.encode()
        )
        second = await executed(client, worker, thread_id, 2)
        for name, reader in readers.items():
            if name == "updates":
                await reader.until(lambda reader: reader.events)
            else:
                await reader.until_done(run_id, second)
    everything = [*all_of(run_id, 1), *all_of(second, 2)]
    lifecycle = [event for event in everything if event[0] == "metadata"]
    told = ("state_update", update)
    for name in ("default", "run_modes", "both"):
        assert readers[name].events == everything
    assert readers["lifecycle"].events == readers["sdk"].events == lifecycle
    assert readers["updates"].events == [told]
    assert readers["some"].events == [*lifecycle[:2], told, *lifecycle[2:]]
    assert readers["all"].events == [*all_of(run_id, 1), told, *all_of(second, 2)]
    assert all(reader.ids == sorted(set(reader.ids)) for reader in readers.values())


def stamp_of(made: str) -> int:
    return in_microseconds(datetime.fromisoformat(made))


@pytest.mark.parametrize(
    ("query", "after", "detail"),
    [
        ("stream_modes=zzz", None, "Invalid stream mode: zzz"),
        ("stream_modes=lifecycle,zzz,yyy", None, "Invalid stream mode: zzz"),
        ("stream_modes=lifecycle,,", None, "Invalid stream mode: "),
        ("stream_modes=%20lifecycle", None, "Invalid stream mode:  lifecycle"),
        ("stream_mode=values", None, "Invalid stream mode: values"),
        ("", "garbage", "Invalid last-event-id: must be a valid Redis stream ID"),
        ("", "-1", "Invalid last-event-id: must be a valid Redis stream ID"),
        ("", "1-2-3", "Invalid last-event-id: must be a valid Redis stream ID"),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, query: str, after: str | None, detail: str) -> None:
    headers = {} if after is None else {"Last-Event-ID": after}
    answer = await client.get(f"/threads/{uuid.uuid4()}/stream?{query}", headers=headers)
    assert (answer.status_code, answer.json()) == (422, {"detail": detail})


async def test_a_thread_id_must_be_one(client: httpx.AsyncClient) -> None:
    answer = await client.get("/threads/nope/stream")
    assert (answer.status_code, answer.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})


@pytest.mark.parametrize("after", [None, "0", "0-0", "5", "99999999999999-0", "18446744073709551616-0"])
async def test_a_thread_that_is_not_there_is_silent_until_it_is(
    client: httpx.AsyncClient, worker: Worker, after: str | None
) -> None:
    thread_id = str(uuid.uuid4())
    async with reading(client, thread_id, after=after) as reader:
        await reader.until(lambda reader: reader.heartbeats >= 2)
        assert reader.frames == []
        run_id = await executed(client, worker, thread_id, 1, if_not_exists="create")
        await reader.until_done(run_id)
    assert reader.events == all_of(run_id, 1)


async def test_the_sdk_follows_a_thread(address: str, client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    found: list[tuple[str, Any]] = []
    stream = await LangGraphClient(client).threads.join_stream(thread_id, stream_mode=["run_modes", "state_update"])

    async def read() -> None:
        async with aclosing(stream) as parts:  # type: ignore[type-var]
            async for part in parts:
                found.append((part.event, part.data))
                if part.data.get("status") == "run_done":
                    return

    task = asyncio.create_task(read())
    # the SDK does not say when it listens
    while not task.done():
        await executed(client, worker, thread_id, {"n": 1})
        await asyncio.wait([task], timeout=0.2)
    await task
    assert [name for name, _ in found] == ["metadata", "values", "metadata"]


# -- coming back


async def test_every_event_is_a_place_to_go_on_after(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        runs = [
            await executed(client, worker, thread_id, 1, 2, stream_resumable=True),
            await executed(client, worker, thread_id, 3, 4),
            await executed(client, worker, thread_id, 5, 6, stream_resumable=True),
        ]
        # one of which nothing but its end is there, in the midst of another
        await create(client, thread_id)
        running = await worker.claim()
        await worker.emit(running, metadata(running), ("values", 7))
        given_up = await create(client, thread_id)
        await client.post(f"/threads/{thread_id}/runs/{given_up}/cancel")
        await asyncio.sleep(0.01)
        await worker.emit(running, ("values", 8))
        await worker.finish(running, None)
        await reader.until_done(*runs, running.run.run_id, given_up)
        whole = reader.frames
        async with AsyncExitStack() as stack:
            again = [
                await stack.enter_async_context(reading(client, thread_id, after=event_id)) for _, _, event_id in whole
            ]
            last = await executed(client, worker, thread_id, 9)
            await reader.until(lambda reader: last in reader.done)
            whole = reader.frames
            for at, other in enumerate(again):
                await other.until(lambda other: last in other.done)
                assert other.frames == whole[at + 1 :], f"after {whole[at]}"
    assert reader.ids == sorted(set(reader.ids))
    assert len(again) == 17


async def test_from_the_start_means_of_resumable_runs(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    first = await executed(client, worker, thread_id, 1, stream_resumable=True)
    await executed(client, worker, thread_id, 2)
    third = await executed(client, worker, thread_id, 3, stream_resumable=True)
    run_id = await create(client, thread_id)
    live = await worker.claim()
    await worker.emit(live, metadata(live), ("values", 4))
    async with reading(client, thread_id, after="0-0") as reader, reading(client, thread_id) as other:
        await reader.until_done(first, third)
        await worker.emit(live, ("values", 5))
        await worker.finish(live, None)
        await reader.until_done(first, third, run_id)
        await other.until_done(run_id)
    rest = [("values", 5), run_done(run_id)]
    assert reader.events == [*all_of(first, 1), *all_of(third, 3), *rest]
    assert other.events == rest


async def test_a_state_update_is_a_place_to_go_on_after_too(
    client: httpx.AsyncClient, worker: Worker, container: ApiContainer
) -> None:
    thread_id = await new_thread(client)
    made = stamp_of((await client.get(f"/threads/{thread_id}")).json()["created_at"])
    assert container.thread_index is not None
    modes = {"stream_modes": ["run_modes", "state_update"]}
    async with reading(client, thread_id, **modes) as reader:
        await executed(client, worker, thread_id, 1)
        for number in (1, 2):
            await container.thread_index.state_updated(uuid.UUID(thread_id), made, b'{"state":%d}' % number)
        last = await executed(client, worker, thread_id, 2)
        await reader.until(lambda reader: last in reader.done)
    for at, (_, _, event_id) in enumerate(reader.frames[:-1]):
        async with reading(client, thread_id, after=event_id, **modes) as again:
            await again.until(lambda again: last in again.done)
            assert again.frames == reader.frames[at + 1 :]
    async with reading(client, thread_id, after="0-0", **modes) as again:
        await again.until(lambda again: again.heartbeats)
        assert again.frames == []  # as the official server: not what was written before


# -- runs that do not simply end


async def test_a_run_that_nobody_has_executed_ends_too(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        cancelled = await create(client, thread_id)
        assert (await client.post(f"/threads/{thread_id}/runs/{cancelled}/cancel")).status_code == 202
        deleted = await create(client, thread_id)
        assert (await client.delete(f"/threads/{thread_id}/runs/{deleted}")).status_code == 204
        rolled_back = await create(client, thread_id)
        made = await create(client, thread_id, multitask_strategy="rollback")
        await reader.until_done(cancelled, deleted, rolled_back)
        run = await worker.claim()
        assert str(run.run.run_id) == made
        await worker.emit(run, metadata(run))
        await worker.finish(run, None)
        await reader.until_done(cancelled, deleted, rolled_back, made)
    assert reader.ids == sorted(set(reader.ids))


async def test_a_run_that_is_given_up_ends(
    client: httpx.AsyncClient, worker: Worker, container: ApiContainer, database: psycopg.AsyncConnection[Any]
) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        run_id = await create(client, thread_id)
        following = await create(client, thread_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run), ("values", 1))
        await database.execute(
            "UPDATE lgs.run SET lease_expires_at = now() - interval '1 s' WHERE run_id = %s", (run_id,)
        )
        await QueueService(container.database, container.settings.replace(max_attempts=1), container.event_log).sweep()
        await reader.until_done(run_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await worker.finish(run, None)
        await reader.until_done(run_id, following)
    assert [name for name, _ in reader.events] == ["metadata", "values", "error", "metadata", "metadata", "metadata"]
    assert reader.ids == sorted(set(reader.ids))


async def test_a_run_that_is_deleted_while_it_runs_ends(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        first = await create(client, thread_id)
        second = await create(client, thread_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await client.delete(f"/threads/{thread_id}/runs/{first}")
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await worker.finish(run, None)
        await reader.until_done(first, second)


async def test_a_thread_that_is_deleted_and_made_anew_shows_nothing_of_before(
    client: httpx.AsyncClient, worker: Worker
) -> None:
    thread_id = await new_thread(client)
    first = await executed(client, worker, thread_id, "secret", stream_resumable=True)
    async with reading(client, thread_id) as reader:
        await create(client, thread_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await reader.until(lambda reader: reader.frames)
        await client.delete(f"/threads/{thread_id}")
        await reader.until_done(run.run.run_id)
        async with reading(client, thread_id, after="0-0") as nothing:
            await nothing.until(lambda nothing: nothing.heartbeats)
            assert nothing.frames == []
            assert (await client.post("/threads", json={"thread_id": thread_id})).status_code == 200
            async with reading(client, thread_id, after="0-0") as anew:
                await anew.until(lambda anew: anew.heartbeats)
                last = await executed(client, worker, thread_id, "mine")
                for each in (anew, nothing):
                    await each.until_done(last)
                    assert each.events == all_of(last, "mine")
        await reader.until_done(run.run.run_id, last)
    assert first not in reader.done


async def test_a_run_whose_worker_died_before_it_announced_it(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        run_id = await create(client, thread_id)
        run = await worker.claim()
        await worker.log.append(replace(run.lease, origin=None), [Event("values", b"1")])
        lease = replace(run.lease, token=uuid.uuid4(), epoch=run.lease.epoch + 1)
        await worker.emit(replace(run, lease=lease), metadata(run, 2))
        await reader.until(lambda reader: len(reader.frames) == 2)
        await worker.settle(run, {"a": 1})
        await worker.log.append(lease, [end_marker(status="success", output={"a": 1})])
        await reader.until_done(run_id)
    assert reader.events == [("values", 1), metadata(run, 2), ("values", {"a": 1}), run_done(run_id)]


async def test_what_was_written_by_hand_is_told_and_counts_if_it_cannot_be(
    client: httpx.AsyncClient, worker: Worker, settings: Settings
) -> None:
    thread_id = (await client.post("/threads", json={"metadata": {"graph_id": "log"}})).json()["thread_id"]
    for redis_uri in (settings.redis_uri, "redis://127.0.0.1:1"):
        container = StateContainer(
            settings.replace(redis_uri=redis_uri), registry=GraphRegistry.load(read_project(PROJECT))
        )
        async with reading(client, thread_id, stream_modes="state_update") as reader:
            try:
                await container.state.update(ANONYMOUS, uuid.UUID(thread_id), values={"log": ["x"]}, as_node="a")
                state = state_document(await container.state.get(ANONYMOUS, uuid.UUID(thread_id)))
            finally:
                await container.aclose()
            if redis_uri == settings.redis_uri:
                await reader.until(lambda reader: reader.frames)
                assert reader.events == [("state_update", {"state": state, "thread_id": thread_id})]


async def test_a_run_of_nobodys_thread_and_a_copy(client: httpx.AsyncClient, worker: Worker) -> None:
    """A stateless run's thread can be followed while it is there; a copy has events of its own."""
    run_id = (await client.post("/runs", json={"assistant_id": "chat"})).json()["run_id"]
    run = await worker.claim()
    async with reading(client, run.run.thread_id, after="0-0") as reader:
        await worker.emit(run, metadata(run))
        await worker.finish(run, None)
        await reader.until_done(run_id)
    thread_id = await new_thread(client)
    first = await executed(client, worker, thread_id, 1, stream_resumable=True)
    copy = (await client.post(f"/threads/{thread_id}/copy")).json()["thread_id"]
    async with reading(client, copy, after="0-0") as reader:
        second = await executed(client, worker, copy, 2)
        await reader.until_done(second)
    async with reading(client, thread_id, after="0-0") as reader:
        await reader.until_done(first)


async def test_a_run_that_is_put_back_into_the_queue_begins_again(client: httpx.AsyncClient, worker: Worker) -> None:
    """As ``replay`` does with one that was given up: the old log goes, the same run gets a new one."""
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        run_id = await create(client, thread_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run))
        await worker.close(run)
        await reader.until_done(run_id)
        await worker.log.expire(run.lease.run_id, 0)
        lease = replace(run.lease, token=uuid.uuid4(), epoch=run.lease.epoch + 1)
        await worker.emit(replace(run, lease=lease), metadata(run, 2))
        await worker.settle(run, None)
        await worker.log.append(lease, [end_marker(status="success", output=None)])
        await reader.until_done(run_id, run_id)
    assert metadata(run, 2) in reader.events


# -- Redis that forgets, or is not there


async def test_a_lost_redis_is_survived(client: httpx.AsyncClient, worker: Worker) -> None:
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        first = await executed(client, worker, thread_id, 1)
        await reader.until_done(first)
        second = await create(client, thread_id)
        run = await worker.claim()
        await worker.emit(run, metadata(run), ("values", 2))
        await reader.until(lambda reader: len(reader.frames) == 5)
        await flush(worker)
        async with reading(client, thread_id) as late:
            await worker.emit(run, ("values", 3))
            await worker.finish(run, {"whole": True})
            for each in (reader, late):
                await each.until(lambda each: second in each.done)
                # what was missed is made up for by the state
                assert each.events[-3:] == [("values", 3), ("values", {"whole": True}), run_done(second)]
            await flush(worker)
            third = await executed(client, worker, thread_id, 4)
            for each in (reader, late):
                await each.until(lambda each: third in each.done)
                assert each.events[-3:] == all_of(third, 4)
    assert reader.done == [first, second, third]
    assert reader.ids == sorted(set(reader.ids))


async def test_without_redis_the_rows_are_told(
    address_without_redis: str, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_rows, "PATIENCE", 0.0)
    thread_id = await new_thread(client)
    async with (
        httpx.AsyncClient(base_url=address_without_redis, timeout=PATIENCE) as other,
        reading(other, thread_id) as reader,
        reading(other, uuid.uuid4()) as silent,
    ):
        await reader.until(lambda reader: reader.heartbeats)
        first = await executed(client, worker, thread_id)
        await reader.until_done(first)
        run_id = await create(client, thread_id)
        run = await worker.claim()
        await worker.settle(run, {"a": 1})
        await reader.until_done(first, run_id)
        cancelled = await create(client, thread_id)
        await client.post(f"/threads/{thread_id}/runs/{cancelled}/cancel")
        await reader.until_done(first, run_id, cancelled)
        await silent.until(lambda silent: silent.heartbeats >= 2)
        assert silent.frames == []
    at = reader.events.index(("values", {"a": 1}))
    assert reader.events[at - 1 : at + 2] == [metadata(run), ("values", {"a": 1}), run_done(run_id)]
    assert reader.ids == sorted(set(reader.ids))


async def test_without_redis_a_reader_stays_for_any_number_of_runs(
    address_without_redis: str, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have ended since it came do not hide the others."""
    monkeypatch.setattr(thread_runs, "MOST", 2)
    monkeypatch.setattr(thread_rows, "PATIENCE", 0.0)
    thread_id = await new_thread(client)
    async with (
        httpx.AsyncClient(base_url=address_without_redis, timeout=PATIENCE) as other,
        reading(other, thread_id) as reader,
    ):
        await reader.until(lambda reader: reader.heartbeats)
        runs = [await executed(client, worker, thread_id) for _ in range(4)]
        await reader.until_done(*runs)
    assert len(reader.events) == 3 * len(runs)


async def test_what_was_told_of_rows_counts_although_the_database_fails_then(
    container: ApiContainer, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = await new_thread(client)
    runs = RunService.result
    rows = thread_rows.ThreadRows(container.database, container.runs, uuid.UUID(thread_id))
    await rows.first_look()
    first, second = [await executed(client, worker, thread_id) for _ in range(2)]

    async def result(service: RunService, run_id: uuid.UUID) -> Any:
        if str(run_id) == second:
            raise UnavailableError("The database is away.")
        return await runs(service, run_id)

    with monkeypatch.context() as patch:
        patch.setattr(RunService, "result", result)
        told = list(await rows.changes())
        with pytest.raises(UnavailableError):
            await rows.changes()
    told += await rows.changes()
    told += await rows.changes()
    assert [str(each.run.run_id) for each in told if each.run is not None and each.event.is_end] == [first, second]
    assert len(told) == 6


async def test_a_run_that_was_never_announced_is_found_in_the_rows(
    client: httpx.AsyncClient, worker: Worker, ours: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun and ended while Redis was away, and its worker did not live to say so."""
    monkeypatch.setattr(thread_rows, "PATIENCE", 0.0)
    thread_id = await new_thread(client)
    async with reading(client, thread_id) as reader:
        await reader.until(lambda reader: reader.heartbeats)
        hub = ours.event_hub
        assert hub is not None
        run_id = await create(client, thread_id)
        monkeypatch.setattr(hub, "_fetches", False)
        run = await worker.claim()
        await worker.settle(run, {"a": 1})
        await reader.until_done(run_id)
    assert reader.events == [metadata(run), ("values", {"a": 1}), run_done(run_id)]


# -- numbers, and what it costs


async def followed(container: ApiContainer, thread_id: str, after: str | None, ends: int) -> list[ThreadEvent]:
    """Everything up to this many end markers."""
    found: list[ThreadEvent] = []
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(container.thread_streams.follow(uuid.UUID(thread_id), after)) as batches,
    ):
        async for batch in batches:
            found.extend(batch)
            if sum(each.event.is_end for each in found) >= ends:
                return found
    raise AssertionError("a thread's stream has ended")


def sequence(events: list[ThreadEvent]) -> list[int]:
    """The sequence numbers of the thread protocol: strictly increasing, or clients would take events for old ones."""
    found = [
        each.run.base + (1 if each.run.protocol else 16) * each.event.number + 1
        for each in events
        if each.run is not None and each.event.number >= 0
    ]
    assert found == sorted(set(found))
    assert all(number < 2**53 for number in found)
    return found


async def test_sequence_numbers_are_dense_and_survive_a_lost_redis(
    client: httpx.AsyncClient, worker: Worker, container: ApiContainer
) -> None:
    thread_id = str(uuid.uuid4())
    await executed(client, worker, thread_id, 1, if_not_exists="create", stream_resumable=True)
    await executed(client, worker, thread_id, 2, 3, stream_resumable=True)
    protocol = RunRequest(assistant_id="chat", stream_resumable=True, protocol=True)
    for _ in range(2):
        await container.runs.create(ANONYMOUS, protocol, thread_id=uuid.UUID(thread_id))
        run = await worker.claim()
        await worker.emit(run, metadata(run), ("values", 4))
        await worker.finish(run, None)
    events = await followed(container, thread_id, "0-0", 4)
    assert [each.event.number for each in events] == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 0, 1, 2]
    assert sequence(events) == [
        *(1, 17, 33),
        *(49, 65, 81, 97),
        *(113, 114, 115, 116, 117, 118),
    ]
    # the same for whoever comes later, and in the midst of a run
    assert await followed(container, thread_id, events[4].event.id, 3) == events[5:]
    await flush(worker)
    await executed(client, worker, thread_id, 5, stream_resumable=True)
    later = await followed(container, thread_id, "0-0", 1)
    sequence([*events, *later])
    await executed(client, worker, thread_id, 6, stream_resumable=True)
    numbers = sequence([*events, *await followed(container, thread_id, "0-0", 2)])
    assert numbers[-3] - numbers[-4] == 16  # dense again
    # the log is lost in the midst of a run, whose worker knows where its numbers began
    await create(client, thread_id, stream_resumable=True)
    run = await worker.claim()
    await worker.emit(run, metadata(run), ("values", 7))
    before = await followed_until(container, thread_id, run, 2)
    await flush(worker)
    await worker.emit(run, ("values", 8))
    await worker.finish(run, None)
    after = await followed(container, thread_id, "0-0", 1)
    assert after[0].run == before[0].run
    sequence([*before, *after])
    await executed(client, worker, thread_id, 9, stream_resumable=True)
    dense = sequence(await followed(container, thread_id, "0-0", 2))
    assert dense[-3] - dense[-4] == 16


async def followed_until(container: ApiContainer, thread_id: str, run: ClaimedRun, count: int) -> list[ThreadEvent]:
    """This many events of a run that goes on."""
    found: list[ThreadEvent] = []
    async with (
        asyncio.timeout(PATIENCE),
        aclosing(container.thread_streams.follow(uuid.UUID(thread_id), "0-0")) as batches,
    ):
        async for batch in batches:
            found += [each for each in batch if each.run is not None and each.run.run_id == run.run.run_id]
            if len(found) >= count:
                return found
    raise AssertionError("a thread's stream has ended")


async def test_numbers_go_on_behind_a_run_that_the_rows_have_told(
    container: ApiContainer, client: httpx.AsyncClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers lose Redis, workers do not: who had larger numbers meanwhile would take the next run's for old ones."""
    monkeypatch.setattr(thread_rows, "PATIENCE", 0.0)
    settings = replace(container.settings, stream_keepalive=KEEPALIVE)
    hub = EventHub(worker.redis, settings.redis_key_prefix, keepalive=KEEPALIVE)
    threads = ThreadStreamService(hub, container.thread_index, container.database, container.runs, settings)
    thread_id = await new_thread(client)
    first = await executed(client, worker, thread_id, 1)
    found: list[ThreadEvent] = []
    try:
        async with asyncio.timeout(PATIENCE), aclosing(threads.follow(uuid.UUID(thread_id), "0-1")) as batches:

            async def until_ended(*runs: str) -> None:
                while [str(each.run.run_id) for each in found if each.run and each.event.is_end] != list(runs):
                    found.extend(await anext(batches))

            await until_ended(first)
            with monkeypatch.context() as patch:
                patch.setattr(EventHub, "connected", False)
                patch.setattr(hub, "_wake", lambda readers: None)
                second = await executed(client, worker, thread_id, 2)
                await until_ended(first, second)
            third = await executed(client, worker, thread_id, 3)
            await until_ended(first, second, third)
    finally:
        await hub.aclose()
    sequence(found)


async def test_a_run_that_never_began_does_not_disturb_the_numbers(
    client: httpx.AsyncClient, worker: Worker, container: ApiContainer
) -> None:
    thread_id = str(uuid.uuid4())
    await create(client, thread_id, if_not_exists="create", stream_resumable=True)
    run = await worker.claim()
    await worker.emit(run, metadata(run))
    waiting = await create(client, thread_id, stream_resumable=True)
    await client.post(f"/threads/{thread_id}/runs/{waiting}/cancel")
    await worker.emit(run, ("values", 1))
    await worker.finish(run, None)
    await executed(client, worker, thread_id, 2, stream_resumable=True)
    events = await followed(container, thread_id, "0-0", 3)
    assert sequence(events)[:3] == [1, 17, 33]
    assert [each.run and str(each.run.run_id) for each in events][3] == waiting


async def test_what_a_thread_leaves_in_redis_has_an_end(
    client: httpx.AsyncClient, worker: Worker, container: ApiContainer
) -> None:
    thread_id = await new_thread(client)
    made = stamp_of((await client.get(f"/threads/{thread_id}")).json()["created_at"])
    await executed(client, worker, thread_id, 1)
    assert container.thread_index is not None
    index = container.thread_index
    for number in range(30):
        await index.state_updated(uuid.UUID(thread_id), made, b'"%b"' % (b"x" * 400_000) + b"%d" % number)
    prefix = f"{container.settings.redis_key_prefix}:thread:{{{thread_id}}}"
    redis: Redis = worker.redis
    # an eighth longer, so that it need not be said anew with each entry
    longest = (container.settings.stream_retention + container.settings.run_timeout) * 1000 * 9 / 8
    keys = [key async for key in redis.scan_iter(match=f"{prefix}:*")]
    assert sorted(keys) == [f"{prefix}:counter".encode(), f"{prefix}:runs".encode()]
    for key in keys:
        assert 0 < await redis.pttl(key) <= longest
    entries = await redis.xrange(f"{prefix}:runs")
    assert len([entry for entry in entries if entry[1][b"n"] == b"state_update"]) == 10
    assert await redis.memory_usage(f"{prefix}:runs") < 2 * 4 * 2**20


async def test_idle_streams_of_threads_hold_no_connection(client: httpx.AsyncClient, worker: Worker, ours: Api) -> None:
    count = 200
    threads = [await new_thread(client) for _ in range(4)]
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(reading(client, threads[number % len(threads)])) for number in range(count)
        ]
        for reader in readers:
            await reader.until(lambda reader: reader.heartbeats)
        pool = await ours.database.pool()
        assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]
        assert ours.redis is not None
        connections = ours.redis.connection_pool
        assert len(connections._in_use_connections) + len(connections._available_connections) < count / 4
        run_id = await executed(client, worker, threads[0], 1)
        for number, reader in enumerate(readers):
            if number % len(threads) == 0:
                await reader.until_done(run_id)
            else:
                assert reader.frames == []
