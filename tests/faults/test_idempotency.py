"""``kill -9`` of the server around requests with an ``Idempotency-Key``: all of a request or nothing of it, and never twice."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from api_process import api_process
from cluster import PROJECT, Cluster
from dev_server import SHORT_LEASES, DevServer, free_port, until
from workload import assert_invariants

pytestmark = pytest.mark.timeout(90)

PATIENCE = 30.0


@pytest.fixture(scope="module")
def server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    folder = tmp_path_factory.mktemp("idempotency")
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"once-{free_port()}",
        "JOURNAL": str(folder / "journal"),
        **SHORT_LEASES,
    }
    server = DevServer(PROJECT, folder / "data", environ)
    try:
        yield server.start()
    finally:
        server.close()
        databases.drop(uri)


async def insist(client: httpx.AsyncClient, path: str, body: Any, key: str) -> httpx.Response:
    """What a client does: send it again, with its key, until there is a whole answer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                answer = await client.post(path, json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code != 503:
                return answer


def keys(server: DevServer) -> int:
    found: int = server.rows("SELECT count(*) AS count FROM lgs.idempotency")[0]["count"]
    return found


async def test_killed_between_claim_and_answer_and_in_the_midst_of_many(server: DevServer) -> None:
    thread_id, before = uuid.uuid4(), keys(server)
    waiting = (
        "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def left(count: int) -> bool:
        found: int = server.rows(waiting)[0]["count"]
        return found == count

    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        with psycopg.connect(server.database_uri) as other:
            # the same id, not committed: the request waits here, with its key claimed, and its repeat waits for the key
            other.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
            body, headers = {"thread_id": str(thread_id)}, {"Idempotency-Key": "between"}
            sent = [asyncio.create_task(client.post("/threads", json=body, headers=headers)) for _ in "12"]
            await asyncio.to_thread(until, lambda: left(2), "both requests to wait")
            await asyncio.to_thread(server.kill_server)
            lost = await asyncio.gather(*sent, return_exceptions=True)
            assert all(isinstance(each, httpx.TransportError) for each in lost)
            other.rollback()
        await asyncio.to_thread(until, lambda: left(0), "Postgres to notice")
        assert keys(server) == before
        assert server.rows("SELECT 1 FROM lgs.thread WHERE thread_id = %s", (thread_id,)) == []
        first = await insist(client, "/threads", body, "between")
        assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
        await storm(server)
        again = await insist(client, "/threads", body, "between")
        assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")


async def storm(server: DevServer) -> None:
    """Many requests, each sent twice, and the server killed in their midst: each is carried out once."""
    before = keys(server)
    plain = [("/threads", {"metadata": {"made": f"{n}"}}) for n in range(40)]
    plain += [
        ("/runs", {"assistant_id": "steps", "metadata": {"made": f"{n}"}, "after_seconds": 600}) for n in range(40)
    ]
    steps = {"assistant_id": "steps", "input": {"name": "s", "steps": 3, "seconds": 0.3}, "stream_mode": "custom"}
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=limits) as client:

        async def twice(number: int, path: str, body: Any) -> list[httpx.Response]:
            return [await insist(client, path, body, f"storm-{number}") for _ in "12"]

        following = [
            asyncio.create_task(insist(client, path, steps, "followed")) for path in ("/runs/wait", "/runs/stream")
        ]
        made = "SELECT count(*) AS count FROM lgs.run WHERE metadata->>'made' IS NULL"
        await asyncio.to_thread(until, lambda: server.rows(made)[0]["count"] == 2, "both followed runs")
        creating = [asyncio.create_task(twice(n, *request)) for n, request in enumerate(plain)]
        await asyncio.to_thread(until, lambda: keys(server) >= before + 22, "some requests", every=0.001)
        await asyncio.to_thread(server.kill_server)
        assert keys(server) < before + len(plain), "too late for a test"
        answers = await asyncio.gather(*creating)
        waited, streamed = await asyncio.gather(*following)

    for first, second in answers:
        assert (first.status_code, second.status_code) == (200, 200), (first.text, second.text)
        assert first.content == second.content
        assert second.headers["idempotency-replayed"] == "true"
    for table in ("lgs.thread", "lgs.run"):
        rows = server.rows(f"SELECT metadata->>'made' AS made FROM {table} WHERE metadata->>'made' IS NOT NULL")
        # a stateless run's thread has the run's metadata
        assert Counter(row["made"] for row in rows) == Counter(
            [f"{n}" for n in range(40)] * (2 if "thread" in table else 1)
        )
    assert keys(server) == before + len(plain) + 2
    # the run was the same all along: it went on with another worker, and who asked again got its output and its first event
    assert waited.json()["log"] == ["s1", "s2", "s3"]
    assert waited.headers["idempotency-replayed"] == streamed.headers["idempotency-replayed"] == "true"
    told = [line for line in streamed.text.splitlines() if line.startswith('data: {"step')]
    assert list(dict.fromkeys(told)) == [f'data: {{"step":{n}}}' for n in (1, 2, 3)]
    assert server.rows(made)[0]["count"] == 2
    await assert_invariants(server.database_uri)


async def test_a_repeat_carries_out_what_its_first_sender_died_with(cluster: Cluster) -> None:
    """Two API processes: one has claimed the keys and is killed, the repeats wait for them at the other."""
    ids = {"thread": uuid.uuid4(), "assistant": uuid.uuid4(), "busy": uuid.uuid4()}
    run = {"assistant_id": "steps", "after_seconds": 600}
    requests = {
        "thread": ("/threads", {"thread_id": str(ids["thread"])}),
        "assistant": ("/assistants", {"graph_id": "steps", "assistant_id": str(ids["assistant"])}),
        "run": (f"/threads/{ids['busy']}/runs", run),
        "wait": (f"/threads/{ids['busy']}/runs/wait", run),
    }
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def wait_there(count: int) -> bool:
        return len(cluster.rows(waiting)) == count

    async with httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE) as there:
        (await there.post("/threads", json={"thread_id": str(ids["busy"])})).raise_for_status()
        with psycopg.connect(cluster.database_uri) as other, api_process(cluster) as (url, process):
            # what each request has to wait for after it has claimed its key
            other.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (ids["thread"],))
            other.execute(
                "INSERT INTO lgs.assistant (assistant_id, graph_id, version, name) VALUES (%s, 'steps', 1, '')",
                (ids["assistant"],),
            )
            other.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (ids["busy"],))
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as here:

                def send(client: httpx.AsyncClient, key: str) -> asyncio.Task[httpx.Response]:
                    path, body = requests[key]
                    return asyncio.create_task(
                        client.send(
                            client.build_request("POST", path, json=body, headers={"Idempotency-Key": key}), stream=True
                        )
                    )

                first = [send(here, key) for key in requests]
                await asyncio.to_thread(until, lambda: wait_there(4), "the first senders to have claimed their keys")
                repeats = {key: send(there, key) for key in requests}
                await asyncio.to_thread(until, lambda: wait_there(8), "the repeats to wait for them")
                process.kill()
                lost = await asyncio.gather(*first, return_exceptions=True)
                assert all(isinstance(each, httpx.TransportError) for each in lost)
            other.rollback()
        answers = {key: await repeat for key, repeat in repeats.items()}
        for key, answer in answers.items():
            assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False), key
            await answer.aclose()
    for table, condition, count in (
        ("thread", "true", 2),
        ("assistant", f"assistant_id = '{ids['assistant']}'", 1),
        ("run", "true", 2),
        ("idempotency", "true", 4),
    ):
        assert len(cluster.rows(f"SELECT 1 FROM lgs.{table} WHERE {condition}")) == count, table
    await assert_invariants(cluster.database_uri)
