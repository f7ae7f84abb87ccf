"""``Idempotency-Key``: a request is carried out once, however often and from how many connections it is sent (R17).

Runs are executed by a stand-in (``worker``); kills and restarts of real servers are in ``faults/test_idempotency.py``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.domain.threads import Thread
from langgraph_serverless.errors import ConflictError
from langgraph_serverless.services.idempotency import AnsweredBeforeError, Once
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

Database = psycopg.AsyncConnection[Any]
Worker = Any  # StandInWorker of conftest.py, which cannot be imported from here

KEYS = 2
#: Requests with one key at once, for these kinds; fewer for the others, which go the same ways.
PARALLEL, FEWER = 50, 12
MOST = ("thread", "assistant", "run")
#: Kind -> path, body, what it makes, how many.
CREATES: Mapping[str, tuple[str, Any, str, int]] = {
    "thread": ("/threads", {"metadata": {"a": 1}}, "lgs.thread", 1),
    "copy": ("/threads/{thread_id}/copy", None, "lgs.thread", 1),
    "assistant": ("/assistants", {"graph_id": "chat"}, "lgs.assistant", 1),
    "run": ("/threads/{thread_id}/runs", {"assistant_id": "chat"}, "lgs.run", 1),
    "stateless run": ("/runs", {"assistant_id": "chat"}, "lgs.run", 1),
    "batch": ("/runs/batch", [{"assistant_id": "chat"}] * 2, "lgs.run", 2),
    "cron": ("/runs/crons", {"assistant_id": "chat", "schedule": "0 0 1 1 *"}, "lgs.cron", 1),
    "thread cron": (
        "/threads/{thread_id}/runs/crons",
        {"assistant_id": "chat", "schedule": "0 0 1 1 *"},
        "lgs.cron",
        1,
    ),
}


def keyed(key: str = "k") -> dict[str, str]:
    return {"Idempotency-Key": key}


def is_repeat(response: httpx.Response) -> bool:
    return response.headers.get("idempotency-replayed") == "true"


async def count(database: Database, table: str) -> int:
    statement: Any = f"SELECT count(*) AS count FROM {table}"
    row = await (await database.execute(statement)).fetchone()
    assert row is not None
    found: int = row["count"]
    return found


@pytest.mark.parametrize("kind", CREATES)
async def test_many_at_once_make_one_each(served_over_http: Any, database: Database, kind: str) -> None:
    path, body, table, made = CREATES[kind]
    sent = KEYS * (PARALLEL if kind in MOST else FEWER)
    async with served_over_http.client() as client:
        thread = (await client.post("/threads", json={})).json()
        path = path.format(thread_id=thread["thread_id"])
        before = await count(database, table)

        async def send(key: str) -> tuple[str, httpx.Response]:
            return key, await client.post(path, content=body and orjson.dumps(body), headers=keyed(key))

        answers = await asyncio.gather(*(send(f"key-{n % KEYS}") for n in range(sent)))
    assert await count(database, table) == before + made * KEYS
    assert await count(database, "lgs.idempotency") == KEYS
    for key in {key for key, _ in answers}:
        mine = [answer for of, answer in answers if of == key]
        assert {answer.status_code for answer in mine} == {200}, mine[0].text
        assert len({answer.content for answer in mine}) == 1
        assert len({answer.headers.get("content-location") for answer in mine}) == 1
        assert [is_repeat(answer) for answer in mine].count(False) == 1
    assert len({answer.content for _, answer in answers}) == KEYS


async def test_a_repeat_gets_the_first_answer_whatever_has_happened_since(http: httpx.AsyncClient) -> None:
    first = await http.post("/threads", json={}, headers=keyed())
    path = f"/threads/{first.json()['thread_id']}"
    run = await http.post(f"{path}/runs", json={"assistant_id": "chat"}, headers=keyed())
    await http.patch(path, json={"metadata": {"changed": True}})
    again = await http.post(f"{path}/runs", json={"assistant_id": "chat"}, headers=keyed())
    assert (again.content, again.headers["content-location"]) == (run.content, run.headers["content-location"])
    assert (is_repeat(run), is_repeat(again)) == (False, True)
    await http.delete(path)
    again = await http.post("/threads", json={}, headers=keyed())
    assert (again.status_code, again.content) == (200, first.content)
    assert (await http.get(path)).status_code == 404


async def test_the_sdk_sends_keys(sdk: LangGraphClient) -> None:
    """As the guide to clients has it."""
    threads = [await sdk.threads.create(headers=keyed()) for _ in "12"]
    assert threads[0] == threads[1]
    assistants = [await sdk.assistants.create("chat", headers=keyed()) for _ in "12"]
    assert assistants[0] == assistants[1]
    runs = [await sdk.runs.create(threads[0]["thread_id"], "chat", headers=keyed()) for _ in "12"]
    assert runs[0] == runs[1]
    crons = [await sdk.crons.create("chat", schedule="0 0 1 1 *", headers=keyed()) for _ in "12"]
    assert crons[0] == crons[1]


async def test_another_request_under_the_same_key_is_refused(http: httpx.AsyncClient, database: Database) -> None:
    one, two = [(await http.post("/threads", json={})).json()["thread_id"] for _ in "12"]
    body = {"assistant_id": "chat"}
    assert (await http.post(f"/threads/{one}/runs", json=body, headers=keyed())).status_code == 200
    for path, other in ((f"/threads/{one}/runs", {**body, "input": 1}), (f"/threads/{two}/runs", body)):
        refused = await http.post(path, json=other, headers=keyed())
        assert refused.status_code == 409
        assert refused.json()["detail"].startswith("The Idempotency-Key 'k' has been used for another request")
    assert await count(database, "lgs.run") == 1
    # another route has keys of its own
    assert not is_repeat(await http.post("/runs", json=body, headers=keyed()))
    assert await count(database, "lgs.run") == 2


@pytest.mark.parametrize("key", [b"", b"k" * 256, b"a b", b"caf\xc3\xa9", b"a\tb"])
async def test_a_key_has_limits(http: httpx.AsyncClient, database: Database, key: bytes) -> None:
    refused = await http.post("/threads", json={}, headers=[(b"Idempotency-Key", key)])
    assert refused.status_code == 422
    assert "'Idempotency-Key' must be 1 to 255 visible ASCII characters" in refused.json()["detail"]
    assert await count(database, "lgs.thread") == 0


async def test_what_a_key_may_be_and_what_it_cannot_be_for(http: httpx.AsyncClient, database: Database) -> None:
    longest = "~!" + "k" * 253
    assert (await http.post("/threads", json={}, headers=keyed(longest))).status_code == 200
    assert is_repeat(await http.post("/threads", json={}, headers=keyed(longest)))
    twice = await http.post("/threads", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert (twice.status_code, twice.json()["detail"]) == (422, "'Idempotency-Key' is given more than once")
    body = {"supersteps": [{"updates": [{"values": {}, "as_node": "agent"}]}]}
    refused = await http.post("/threads", json=body, headers=keyed())
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("'supersteps' cannot be combined with 'Idempotency-Key'")
    assert await count(database, "lgs.thread") == 1


async def test_a_request_that_fails_leaves_its_key_unused(http: httpx.AsyncClient, database: Database) -> None:
    thread_id, assistant_id = str(uuid.uuid4()), str(uuid.uuid4())
    run = f"/threads/{thread_id}/runs", {"assistant_id": "chat"}
    thread = "/threads", {"thread_id": thread_id}
    assistant = "/assistants", {"graph_id": "chat", "assistant_id": assistant_id}
    cron = f"/threads/{thread_id}/runs/crons", {"assistant_id": "chat", "schedule": "0 0 1 1 *"}
    copy = f"/threads/{thread_id}/copy", None

    async def send(request: tuple[str, Any], **headers: Any) -> int:
        path, body = request
        return (await http.post(path, content=body and orjson.dumps(body), **headers)).status_code

    assert [await send(request, headers=keyed()) for request in (run, cron, copy)] == [404, 404, 409]
    assert [await send(request) for request in (thread, assistant)] == [200, 200]
    assert [await send(request, headers=keyed()) for request in (thread, assistant)] == [409, 409]
    assert await count(database, "lgs.idempotency") == 0
    assert [await send(request, headers=keyed()) for request in (run, cron, copy)] == [200, 200, 200]
    await http.delete(f"/threads/{thread_id}")
    await http.delete(f"/assistants/{assistant_id}")
    assert [await send(request, headers=keyed()) for request in (thread, assistant)] == [200, 200]


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_repeated_wait_waits_for_the_same_run(
    http: httpx.AsyncClient, database: Database, worker: Worker, stateless: bool
) -> None:
    thread = (await http.post("/threads", json={})).json()
    path = "/runs/wait" if stateless else f"/threads/{thread['thread_id']}/runs/wait"

    async def send() -> httpx.Response:
        return await http.post(path, json={"assistant_id": "chat"}, headers=keyed())

    waiting = [asyncio.create_task(send()) for _ in range(5)]
    run = await worker.claim()
    waiting.append(asyncio.create_task(send()))
    await worker.finish(run, {"answer": 42})
    answers = [*await asyncio.gather(*waiting), await send()]
    assert [answer.json() for answer in answers] == [{"answer": 42}] * 7
    assert len({(answer.headers["content-location"], answer.headers["location"]) for answer in answers}) == 1
    assert [is_repeat(answer) for answer in answers].count(False) == 1
    assert await count(database, "lgs.run") == 1


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_repeated_stream_is_that_of_the_same_run_from_its_first_event(
    http: httpx.AsyncClient, database: Database, worker: Worker, stateless: bool
) -> None:
    thread = (await http.post("/threads", json={})).json()
    path = "/runs/stream" if stateless else f"/threads/{thread['thread_id']}/runs/stream"
    body = {"assistant_id": "chat", "stream_mode": "custom", "stream_resumable": True}

    async def send() -> httpx.Response:
        return await http.post(path, json=body, headers=keyed())

    streaming = [asyncio.create_task(send())]
    run = await worker.claim()
    await worker.emit(run, ("metadata", {"run_id": str(run.lease.run_id)}), ("custom", 1))
    streaming += [asyncio.create_task(send()) for _ in range(3)]
    await worker.emit(run, ("custom", 2))
    await worker.finish(run, {"answer": 42})
    answers = [*await asyncio.gather(*streaming), await send()]
    told = [[line for line in answer.text.splitlines() if line and line[0] != ":"] for answer in answers]
    assert [line for line in told[0] if line.startswith("data")][1:] == ["data: 1", "data: 2"]
    assert all(each == told[0] for each in told)
    assert len({(answer.headers["content-location"], answer.headers["location"]) for answer in answers}) == 1
    assert [is_repeat(answer) for answer in answers] == [False, *[True] * 4]
    assert await count(database, "lgs.run") == 1


async def test_keys_are_forgotten_when_their_time_is_over(
    http: httpx.AsyncClient, database: Database, settings: Settings, container: ApiContainer
) -> None:
    first = await http.post("/threads", json={}, headers=keyed())
    await http.post("/threads", json={}, headers=keyed("other"))
    over = "UPDATE lgs.idempotency SET expires_at = now() - interval '1 s' WHERE expires_at > now() + interval '23 h'"
    await database.execute(over)
    # also when nobody has swept: the key is free, for another request too
    second = await http.post("/threads", json={"metadata": {"b": 2}}, headers=keyed())
    assert (second.status_code, is_repeat(second)) == (200, False)
    assert second.json()["thread_id"] != first.json()["thread_id"]
    assert is_repeat(await http.post("/threads", json={"metadata": {"b": 2}}, headers=keyed()))
    scheduler = SchedulerContainer(settings, manifest=container.catalog.manifest)
    try:
        assert (await scheduler.scheduler.tick()).keys_swept == 1
    finally:
        await scheduler.aclose()
    assert await count(database, "lgs.idempotency") == 1


def once(key: str, answer: Callable[[Thread], Answer]) -> Once[Thread]:
    name = IdempotencyKey(route="POST /threads", key=key, fingerprint=b"\0" * 32)
    return Once(key=name, retention=60, answer=answer)


async def test_callers_have_keys_of_their_own_and_a_failed_answer_leaves_nothing(
    container: ApiContainer, database: Database
) -> None:
    def answered(thread: Thread) -> Answer:
        return Answer(status=200, headers={"x": "y"}, body=str(thread.thread_id).encode())

    def broken(_: Thread) -> Answer:
        raise ConflictError("on purpose")

    with pytest.raises(ConflictError, match="on purpose"):
        await container.threads.create(ANONYMOUS, once=once("k", broken))
    assert (await count(database, "lgs.thread"), await count(database, "lgs.idempotency")) == (0, 0)
    made = await container.threads.create(ANONYMOUS, once=once("k", answered))
    await container.threads.create(Principal(identity="ada"), once=once("k", answered))
    with pytest.raises(AnsweredBeforeError) as before:
        await container.threads.create(ANONYMOUS, once=once("k", answered))
    assert before.value.answer == answered(made)
    assert await count(database, "lgs.thread") == 2
