"""``Idempotency-Key``: a request is carried out once, however often and from how many connections it is sent (R17).

Runs are executed by a stand-in (``worker``); kills and restarts of real servers are in ``faults/test_idempotency.py``.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from figures import Figures, sizes
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

#: Keys that are used at the same time.
WAVE = 2
#: Requests with one key at once, for these kinds; fewer for the others, which go the same ways.
PARALLEL, FEWER = 50, 12
MOST = ("thread", "assistant", "run", "cron")
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
@sizes(timeout=1800, keys=(2, 200))
async def test_many_at_once_make_one_each(
    served_over_http: Any, database: Database, kind: str, size: Any, seed: int, figures: Figures
) -> None:
    """Among those with one key there is one with another body: it is refused, or all others are if it came first."""
    path, body, table, made = CREATES[kind]
    chance = random.Random(seed)
    parallel = PARALLEL if kind in MOST else FEWER
    requests, strangers = 0, 0
    async with served_over_http.client() as client:
        thread = (await client.post("/threads", json={})).json()
        path = path.format(thread_id=thread["thread_id"])
        before, content = await count(database, table), orjson.dumps(body) if body else b""

        async def send(key: str, sent: bytes) -> tuple[str, bytes, httpx.Response]:
            return key, sent, await client.post(path, content=sent, headers=keyed(key))

        for wave in range(0, size.keys, WAVE):
            keys = [f"key-{number}" for number in range(wave, wave + WAVE)]
            wanted = [(key, content) for key in keys for _ in range(parallel)]
            wanted += [(key, content + b" ") for key in keys if body]
            chance.shuffle(wanted)
            answers = await asyncio.gather(*(send(*each) for each in wanted))
            requests += len(answers)
            for key in keys:
                mine = [(sent, answer) for of, sent, answer in answers if of == key]
                first = next(sent for sent, answer in mine if answer.status_code == 200)
                same = [answer for sent, answer in mine if sent == first]
                other = [answer for sent, answer in mine if sent != first]
                assert {answer.status_code for answer in same} == {200}, same[0].text
                assert {answer.status_code for answer in other} <= {409}
                assert len({(answer.content, answer.headers.get("content-location")) for answer in same}) == 1
                assert [is_repeat(answer) for answer in same].count(False) == 1
                strangers += first != content
            assert len({answer.content for _, _, answer in answers if answer.status_code == 200}) == WAVE
    rows = await count(database, table) - before
    assert rows == made * size.keys
    assert await count(database, "lgs.idempotency") == size.keys
    if size.full or kind in MOST:
        figures(f"R17 {kind}", keys=size.keys, requests=requests, rows=rows, the_other_came_first=strangers, seed=seed)


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


@pytest.mark.parametrize("kind", ["wait", "stream"])
@pytest.mark.parametrize("stateless", [False, True])
async def test_a_repeat_of_which_nothing_is_kept_is_told_so(
    http: httpx.AsyncClient, database: Database, worker: Worker, kind: str, stateless: bool
) -> None:
    """Not an empty answer, and no second run."""
    thread = (await http.post("/threads", json={})).json()
    path = f"/runs/{kind}" if stateless else f"/threads/{thread['thread_id']}/runs/{kind}"

    async def send() -> httpx.Response:
        return await http.post(path, json={"assistant_id": "chat"}, headers=keyed())

    waiting = asyncio.create_task(send())
    run = await worker.claim()
    await worker.finish(run, {"answer": 42})
    assert (await waiting).status_code == 200
    assert is_repeat(await send())
    # a stateless run's thread goes when its time is over, another one when somebody deletes it
    await database.execute("DELETE FROM lgs.thread WHERE thread_id = %s", (run.run.thread_id,))
    again = await send()
    assert again.status_code == 410
    assert f"carried out before, as run {run.run.run_id}" in again.json()["detail"]
    assert await count(database, "lgs.run") == 0


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
