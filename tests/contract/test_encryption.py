"""Encryption at rest: whatever is said through the API is readable for clients and for graphs, and nowhere where it is stored.

API and worker run in this process, on a database and a prefix of their own, with handlers that use a real cipher (``projects/sealed``). Rows
and keys are looked at behind their back: every column of every table, and every value in Redis.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner
from collector import Collector, collecting
from figures import Figures
from langgraph_sdk.client import LangGraphClient
from psycopg import sql
from redis import Redis
from worker_container import working
from workload import assert_invariants

from langgraph_serverless.cli.main import main
from langgraph_serverless.containers.reencryption import reencrypt
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.auth_settings import AuthSettings
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.encryption.cipher import ProjectCipher
from langgraph_serverless.errors import EncryptionError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

PROJECT = Path(__file__).parents[1] / "fixtures" / "projects" / "sealed" / "langgraph.json"
CANARY = "canary-said-7f3a"
PATIENCE = 30.0
#: Delayed runs may begin.
DUE = "UPDATE lgs.run SET available_at = now() WHERE status = 'pending'"


@dataclass
class Site:
    """A deployment, and what is behind it."""

    settings: Settings
    registry: GraphRegistry
    manifest: Manifest
    uri: str
    redis: Redis
    collector: Collector
    app: Any
    sdk: LangGraphClient
    http: httpx.AsyncClient
    worker: WorkerContainer
    #: The project's module.
    project: Any

    def stored(self) -> Iterator[tuple[str, str]]:
        """Where, and what is there: every value of every table and of every key, as text and as hexadecimal digits."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema IN ('lgs', 'public') AND table_type = 'BASE TABLE'"
            ).fetchall()
            for schema, table in tables:
                for row in connection.execute(
                    sql.SQL("SELECT to_jsonb(t)::text FROM {}.{} AS t").format(*map(sql.Identifier, (schema, table)))
                ):
                    yield f"{schema}.{table}", row[0]
        prefix = self.settings.redis_key_prefix
        for key in self.redis.scan_iter(f"{prefix}*"):
            kind = self.redis.type(key)
            read: dict[bytes, Callable[[], Any]] = {
                b"stream": lambda key=key: self.redis.xrange(key),
                b"hash": lambda key=key: self.redis.hgetall(key),
                b"list": lambda key=key: self.redis.lrange(key, 0, -1),
                b"set": lambda key=key: self.redis.smembers(key),
                b"zset": lambda key=key: self.redis.zrange(key, 0, -1),
                b"string": lambda key=key: self.redis.get(key),
            }
            yield f"redis {key!r}", str(read[kind]())

    async def assistant(self, graph_id: str) -> str:
        (found,) = await self.sdk.assistants.search(graph_id=graph_id)
        return found["assistant_id"]

    def hits(self, *texts: str) -> list[tuple[str, str]]:
        """Where one of these is stored, however it is written."""
        wanted = {form for text in texts for each in (text, text.upper()) for form in forms(each)}
        return [(where, what[:300]) for where, what in self.stored() if any(form in what for form in wanted)]

    @asynccontextmanager
    async def key(self, name: str) -> AsyncIterator[None]:
        """The handlers encrypt with this key meanwhile."""
        before = os.environ.get("SEALED_KEY")
        os.environ["SEALED_KEY"] = name
        try:
            yield
        finally:
            del os.environ["SEALED_KEY"]
            if before is not None:
                os.environ["SEALED_KEY"] = before

    @asynccontextmanager
    async def broken(self, *what: str) -> AsyncIterator[None]:
        self.project.broken.update(what)
        try:
            yield
        finally:
            self.project.broken.clear()


def forms(text: str) -> Iterator[str]:
    yield text
    yield text.encode().hex()
    for shift in range(3):  # Base64 of something that it is a part of
        whole = base64.b64encode(b"\0" * shift + text.encode()).decode()
        yield whole[4 if shift else 0 : -4].rstrip("=")


@asynccontextmanager
async def serving(container: StateContainer) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    app = create_app(container)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=PATIENCE) as client:
        try:
            yield app, client
        finally:
            await container.aclose()


@pytest.fixture(scope="module")
async def site(settings: Settings, databases: Any) -> AsyncIterator[Site]:
    uri = databases.create()
    registry = GraphRegistry.load(read_project(PROJECT))
    manifest = await build_manifest(registry)
    own = settings.replace(
        database_uri=uri,
        redis_key_prefix=f"sealed-{uuid.uuid4().hex[:8]}",
        webhook_allowed_hosts=("127.0.0.1",),
        poll_interval=0.3,
        heartbeat_interval=0.2,
        cron_least_interval=0,
    )
    async with AsyncExitStack() as stack:
        collector = stack.enter_context(collecting())
        worker = WorkerContainer(own, registry=registry, manifest=manifest)
        stack.push_async_callback(worker.aclose)
        await worker.assistants.ensure_defaults()
        api = StateContainer(own, registry=registry, manifest=manifest)
        app, client = await stack.enter_async_context(serving(api))
        await stack.enter_async_context(working(worker))
        yield Site(
            settings=own,
            registry=registry,
            manifest=manifest,
            uri=uri,
            redis=Redis.from_url(own.redis_uri),
            collector=collector,
            app=app,
            sdk=LangGraphClient(client),
            http=client,
            worker=worker,
            project=sys.modules["langgraph_project_encryption"],
        )
    # they look at rows that are encrypted, as sweeps and deletions do
    await assert_invariants(uri)
    databases.drop(uri)


async def until(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := await look()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)
    return found


async def asked(site: Site, text: str, graph: str = "asks") -> str:
    """A thread on which a run has said this."""
    thread = await site.sdk.threads.create(metadata={"owner": "u1", "note": text})
    await site.sdk.runs.wait(thread["thread_id"], graph, input={"text": text}, raise_error=False)
    return thread["thread_id"]


def in_header(context: dict[str, Any]) -> dict[str, str]:
    return {"x-encryption-context": base64.b64encode(json.dumps(context).encode()).decode()}


async def test_what_is_said_is_readable_for_clients_and_nowhere_else(site: Site, figures: Figures) -> None:
    sdk, http = site.sdk, site.http
    said = {"text": CANARY}
    thread = await sdk.threads.create(metadata={"owner": "u1", "note": CANARY, "deep": {"er": [CANARY]}})
    thread_id = thread["thread_id"]
    assert thread["metadata"] == {"owner": "u1", "note": CANARY, "deep": {"er": [CANARY]}}
    thread = await sdk.threads.update(thread_id, metadata={"added": f"{CANARY}-2"})
    assert thread["metadata"]["note"] == CANARY
    assert thread["metadata"]["added"] == f"{CANARY}-2"
    assistant = await sdk.assistants.create(
        "talks",
        config={"configurable": {"tone": CANARY}, "tags": [CANARY]},
        metadata={"owner": "u1", "about": CANARY},
    )
    assert assistant["config"]["configurable"]["tone"] == CANARY
    await sdk.assistants.update(assistant["assistant_id"], metadata={"more": CANARY})
    versions = await sdk.assistants.get_versions(assistant["assistant_id"])
    assert [version["metadata"]["about"] for version in versions] == [CANARY, CANARY]
    # runs of all kinds
    hook = f"{site.collector.url}/hook"
    events = [
        event
        async for event in sdk.runs.stream(
            thread_id,
            assistant["assistant_id"],
            input=said,
            metadata={"owner": "u1", "about": CANARY},
            config={"configurable": {"tone": CANARY, "mood": CANARY}},
            stream_mode=["values", "updates", "custom", "debug", "checkpoints", "tasks", "events"],
            stream_resumable=True,
            webhook=hook,
        )
    ]
    assert {"values", "custom", "debug"} <= {event.event for event in events}
    assert any(event.data == {"custom": CANARY} for event in events)
    runs = await sdk.runs.list(thread_id)
    assert runs[0]["metadata"]["about"] == CANARY
    assert runs[0]["kwargs"]["input"] == said
    joined = [event async for event in sdk.runs.join_stream(thread_id, runs[0]["run_id"], last_event_id="-1")]
    assert [event.data for event in joined if event.event == "custom"] == [{"custom": CANARY}]
    answer = await sdk.runs.wait(thread_id, "talks", input=said, durability="sync")
    assert answer["said"].count(CANARY) == 2
    failed = await sdk.runs.wait(thread_id, "fails", input=said, raise_error=False)
    assert CANARY in failed["__error__"]["message"]
    thread = await sdk.threads.get(thread_id)
    assert thread["values"]["text"] == CANARY
    asks = await asked(site, CANARY)
    state = await sdk.threads.get_state(asks)
    assert state["tasks"][0]["interrupts"][0]["value"] == {"question": CANARY}
    assert (await sdk.threads.get(asks))["interrupts"]
    answer = await sdk.runs.wait(asks, "asks", command={"resume": CANARY})
    assert answer["said"] == [CANARY]
    await sdk.threads.update_state(asks, {"text": CANARY, "said": [CANARY], "number": 9}, as_node="ask")
    state = await sdk.threads.get_state(asks)
    assert state["values"] == {"text": CANARY, "said": [CANARY, CANARY], "number": 9}
    history = await sdk.threads.get_history(asks, metadata={"source": "update"})
    assert [each["values"]["text"] for each in history] == [CANARY]
    copied = await sdk.threads.copy(asks)
    assert (await sdk.threads.get_state(copied["thread_id"]))["values"]["said"] == [CANARY, CANARY]
    begin = {"id": 1, "method": "run.start", "params": {"assistant_id": "talks", "input": said}}
    assert (await http.post(f"/threads/{copied['thread_id']}/commands", json=begin)).status_code == 200

    async def idle() -> bool:
        return (await sdk.threads.get(copied["thread_id"]))["status"] == "idle"

    await until(idle, "the command's run")
    # what is searched by is plain, what is encrypted is not found, and what is found is readable
    found = await http.post(
        "/threads/search",
        json={"metadata": {"owner": "u1"}, "extract": {"note": "metadata.deep.er[-1]", "none": "values.nothing[3]"}},
    )
    mine = next(each for each in found.json() if each["thread_id"] == thread_id)
    assert mine["extracted"] == {"note": CANARY, "none": None}
    assert mine["metadata"]["note"] == CANARY
    only = await http.post("/threads/search", json={"select": ["thread_id"], "extract": {"x": "metadata.note"}})
    assert {frozenset(each) for each in only.json()} == {frozenset({"thread_id", "extracted"})}
    assert await sdk.threads.count(metadata={"note": CANARY}) == 0
    # the store, from both sides
    item = await sdk.store.get_item(["memories", "of"], "last")
    assert item["value"] == {"text": CANARY, "owner": "u1"}
    await sdk.store.put_item(["mine"], "k", {"text": CANARY, "owner": "u2"})
    items = await sdk.store.search_items(["mine"], filter={"owner": "u2"})
    assert [each["value"]["text"] for each in items["items"]] == [CANARY]
    # crons, with what their runs need
    cron = await sdk.crons.create(
        "talks", schedule="* * * * *", input=said, metadata={"owner": "u1", "about": CANARY}, webhook=hook
    )
    (listed,) = await sdk.crons.search()
    assert listed["payload"]["input"] == said
    assert listed["metadata"]["about"] == CANARY
    await fire(site, cron["cron_id"])
    await sdk.crons.create("talks", schedule="0 0 1 1 *", input=said, metadata={"about": CANARY})
    # a webhook that nobody takes, so that its body stays
    await sdk.runs.wait(thread_id, "talks", input=said, webhook="http://127.0.0.1:9/nobody")
    # the other protocols, which keep what they are told where everything else is
    message = {"role": "user", "parts": [{"kind": "text", "text": CANARY}], "messageId": "m1", "kind": "message"}
    pushed = {"url": f"{site.collector.url}/push", "token": CANARY}
    task = await rpc(
        http,
        f"/a2a/{await site.assistant('chats')}",
        "message/send",
        {"message": message, "configuration": {"blocking": True, "pushNotificationConfig": pushed}},
    )
    assert CANARY in json.dumps(task["artifacts"])
    tool = await rpc(http, "/mcp/", "tools/call", {"name": "talks", "arguments": {"text": CANARY}})
    assert CANARY in json.dumps(tool)
    # keys of requests
    once = {"Idempotency-Key": uuid.uuid4().hex}
    first = await http.post("/threads", json={"metadata": {"note": CANARY}}, headers=once)
    again = await http.post("/threads", json={"metadata": {"note": CANARY}}, headers=once)
    assert first.json() == again.json()
    assert first.json()["metadata"]["note"] == CANARY

    async def told() -> bool:
        return len(site.collector.bodies) >= 3

    await until(told, "webhooks")
    for body in site.collector.bodies:
        assert CANARY in body.decode()
        if "kwargs" in (sent := json.loads(body)):
            assert sent["values"] is None or sent["values"]["text"] == CANARY  # the cron's thread is gone
            assert sent["kwargs"]["input"] == said
            assert sent["status"] == "success"
    hits = site.hits(CANARY)
    assert not hits, "\n".join(map(str, hits))
    places = {where for where, _ in site.stored()}
    for table in ("thread", "run", "assistant", "assistant_version", "cron", "outbox", "idempotency", "a2a_push"):
        assert f"lgs.{table}" in places
    assert {"public.checkpoints", "public.checkpoint_blobs", "public.checkpoint_writes", "public.store"} <= places
    assert any(where.startswith("redis") for where in places)
    assert any(where == "lgs.outbox" and "__encrypted__" in what for where, what in site.stored())
    figures("S encryption", places=len(places), values=sum(1 for _ in site.stored()), hits=len(hits))


async def rpc(http: httpx.AsyncClient, path: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    response = await http.post(
        path,
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        headers={"accept": "application/json, text/event-stream"},
    )
    assert response.is_success, response.text
    answer: dict[str, Any] = response.json()
    assert "result" in answer, answer
    return answer["result"]


def scheduler_of(site: Site) -> SchedulerContainer:
    scheduler = SchedulerContainer(site.settings, manifest=site.manifest)
    scheduler.__dict__["project"] = site.registry.project
    return scheduler


async def fire(site: Site, cron_id: str) -> None:
    """Have the cron's run made by a scheduler, and executed."""
    scheduler = scheduler_of(site)
    with psycopg.connect(site.uri, autocommit=True) as connection:
        connection.execute("UPDATE lgs.cron SET next_run_date = now() WHERE cron_id = %s", (cron_id,))
    try:
        report = await scheduler.scheduler.tick()
    finally:
        await scheduler.aclose()
    assert report.crons_fired == 1
    await site.sdk.crons.delete(cron_id)
    with psycopg.connect(site.uri, autocommit=True) as connection:

        async def ended() -> Any:
            return connection.execute(
                "SELECT 1 FROM lgs.run WHERE cron_id = %s AND status = 'success'", (cron_id,)
            ).fetchone()

        await until(ended, "the cron's run")


async def test_keys_may_change(site: Site) -> None:
    """What one key has written is read while another one writes, also within one document and one thread."""
    thread_id = await asked(site, CANARY)
    async with site.key("b"):
        thread = await site.sdk.threads.update(thread_id, metadata={"later": f"{CANARY}-b"})
        assert thread["metadata"]["note"] == CANARY
        assert thread["metadata"]["later"] == f"{CANARY}-b"
        assert (await site.sdk.threads.get_state(thread_id))["values"]["text"] == CANARY
        answer = await site.sdk.runs.wait(thread_id, "asks", command={"resume": "with b"})
        assert answer["said"] == ["with b"]
        assert len(await site.sdk.threads.get_history(thread_id)) >= 3
    assert (await site.sdk.threads.get(thread_id))["metadata"]["later"] == f"{CANARY}-b"
    assert not site.hits(CANARY)


async def test_the_context_of_whoever_writes_is_kept_with_what_he_writes(site: Site) -> None:
    """Two tenants' contexts in one document: Postgres merges it, and each value is decrypted with its own. The cipher would refuse others."""
    site.project.seen.clear()
    one, two = in_header({"tenant": "one"}), in_header({"tenant": "two"})
    made = await site.http.post("/threads", json={"metadata": {"a": CANARY, "b": CANARY}}, headers=one)
    path = f"/threads/{made.json()['thread_id']}"
    await site.http.patch(path, json={"metadata": {"b": "of two", "c": CANARY}}, headers=two)
    assert (await site.http.get(path)).json()["metadata"] == {"a": CANARY, "b": "of two", "c": CANARY}
    run = {"assistant_id": "asks", "input": {"text": CANARY}}
    assert (await site.http.post(f"{path}/runs/wait", json=run, headers=one)).is_success
    assert (await site.http.get(f"{path}/state")).json()["values"]["text"] == CANARY
    checkpoints = [
        metadata for what, model, _, metadata in site.project.seen if (what, model) == ("encrypt", "checkpoint")
    ]
    assert checkpoints
    # the worker encrypts for whoever made the run, with what the context handler has added
    assert all(metadata == {"tenant": "one", "region": "eu"} for metadata in checkpoints)
    long = base64.b64encode(b'{"tenant": "%s"}' % (b"x" * 1024)).decode()
    assert (await site.http.get(path, headers={"x-encryption-context": long})).status_code == 422
    wrong = await site.http.get(path, headers={"x-encryption-context": "{}"})
    assert (wrong.status_code, wrong.json()) == (
        422,
        {"detail": "The header X-Encryption-Context must be a JSON object in Base64."},
    )


async def test_what_is_known_of_a_user_is_encrypted_too(site: Site, databases: Any) -> None:
    """It goes with runs, with crons and what these make, and with checkpoints. The context may be made of it."""
    own = replace(
        site, uri=databases.create(), manifest=replace(site.manifest, auth=AuthSettings(path="./auth.py:auth"))
    )
    own.settings = own.settings.replace(database_uri=own.uri, redis_key_prefix=f"users-{uuid.uuid4().hex[:8]}")
    container = StateContainer(own.settings, registry=own.registry, manifest=own.manifest)
    worker = WorkerContainer(own.settings, registry=own.registry, manifest=own.manifest)
    site.project.seen.clear()
    try:
        async with serving(container) as (_, client), working(worker):
            client.headers["authorization"] = "one"
            own.sdk, own.http = LangGraphClient(client), client
            await container.assistants.ensure_defaults()
            thread_id = await asked(own, CANARY)
            await own.sdk.threads.update_state(thread_id, {"said": [CANARY]}, as_node="ask")
            (run,) = await own.sdk.runs.list(thread_id)
            assert run["kwargs"]["config"]["configurable"]["langgraph_auth_user"]["email"] == "canary-of-a-user"
            cron = await own.sdk.crons.create("talks", schedule="* * * * *", input={"text": CANARY})
            assert "lgs.cron_creator" in {where for where, _ in own.stored()}
            hits = own.hits("canary-of-a-user", CANARY)
            await fire(own, cron["cron_id"])
            hits += own.hits("canary-of-a-user", CANARY)
        assert not hits, "\n".join(map(str, hits))
        assert {metadata["tenant"] for what, *_, metadata in site.project.seen if what == "encrypt"} == {"one"}
    finally:
        await worker.aclose()
    databases.drop(own.uri)


async def test_nobody_can_pass_something_off_as_encrypted(site: Site) -> None:
    like = {"__encrypted__": "sealed:AAAA", "__encryption_context__": {"model": "x", "field": "y", "metadata": {}}}
    made = await site.http.post("/threads", json={"metadata": {"owner": like, "kind": {**like}, "x": like}})
    assert made.json()["metadata"] == {"owner": like, "kind": like, "x": like}
    read = await site.http.get(f"/threads/{made.json()['thread_id']}")
    assert read.json()["metadata"] == {"owner": like, "kind": like, "x": like}
    refused = await site.http.post("/threads", json={"metadata": like})
    assert refused.status_code == 422
    assert "keeps for itself" in refused.json()["detail"]


@pytest.mark.parametrize("what", ["drop", "add", "encrypt"])
async def test_a_handler_that_does_not_keep_to_its_part_is_refused(
    site: Site, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.broken(what):
        response = await site.http.post("/threads", json={"metadata": {"note": CANARY, "more": CANARY}})
    assert response.status_code == 500
    detail = response.json()["detail"]
    expected = {
        "drop": "of the thread's metadata it has added 0 and dropped 1",
        "add": "of the thread's metadata it has added 1 and dropped 0",
        "encrypt": "handler encrypt.json has failed (RuntimeError)",
    }
    assert expected[what] in detail
    for text in (detail, caplog.text):
        assert "canary" not in text
        assert "aaaaaaaa" not in text


async def test_a_state_that_cannot_be_told_of_is_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the request says so: else its client would write it again."""
    thread_id = await asked(site, CANARY)
    seal = ProjectCipher.seal_blob

    async def seal_no_events(self: ProjectCipher, model: str, field: str, data: bytes) -> bytes:
        if field == "events":
            raise EncryptionError("no events")
        return await seal(self, model, field, data)

    monkeypatch.setattr(ProjectCipher, "seal_blob", seal_no_events)
    await site.sdk.threads.update_state(thread_id, {"said": ["again"]}, as_node="ask")
    assert "again" in (await site.sdk.threads.get_state(thread_id))["values"]["said"]


async def test_what_cannot_be_decrypted_is_said_and_stays_as_it_is(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    thread_id = await asked(site, CANARY)
    with psycopg.connect(site.uri, autocommit=True) as connection:

        def rows() -> Any:
            query = "SELECT channel, version, md5(blob) FROM checkpoint_blobs WHERE thread_id = %s ORDER BY 1, 2"
            kept = connection.execute(
                "SELECT channel_values, interrupts FROM lgs.thread WHERE thread_id = %s", (thread_id,)
            )
            return connection.execute(query, (thread_id,)).fetchall(), kept.fetchall()

        before = rows()
        cron = await site.sdk.crons.create("talks", schedule="* * * * *", input={"text": CANARY})
        # begin while nothing can be read: the worker that claims them ends them
        for each in (thread_id, str(uuid.uuid4())):
            await site.sdk.runs.create(
                each,
                "talks",
                input={"text": CANARY},
                after_seconds=3600,
                if_not_exists="create",
                multitask_strategy="enqueue",
            )
        async with site.broken("decrypt"):
            connection.execute(DUE)
            response = await site.http.get(f"/threads/{thread_id}")
            assert (response.status_code, "decrypt.json has failed" in response.text) == (500, True)
            assert (await site.http.get(f"/threads/{thread_id}/state")).status_code == 500

            async def over() -> Any:
                waiting = connection.execute("SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')").fetchone()
                return waiting is None

            await until(over, "the runs' ends")
            scheduler = scheduler_of(site)
            connection.execute("UPDATE lgs.cron SET next_run_date = now() WHERE cron_id = %s", (cron["cron_id"],))
            connection.execute("UPDATE lgs.outbox SET available_at = now() WHERE delivered_at IS NULL")
            try:
                report = await scheduler.scheduler.tick()
            finally:
                await scheduler.aclose()
            # the other crons and webhooks have their turn
            assert (report.failures, report.crons_fired, report.crons_failed) == (0, 0, 1)
        await site.sdk.crons.delete(cron["cron_id"])
        errors = connection.execute("SELECT error FROM lgs.run WHERE error ->> 'error' = 'EncryptionError'").fetchall()
        assert len(errors) == 2
        assert all("cannot be executed" in error["message"] for (error,) in errors)
        assert rows() == before
    assert (await site.sdk.threads.get_state(thread_id))["values"]["text"] == CANARY
    assert "canary" not in "\n".join(record.getMessage() for record in caplog.records if record.name != "httpx")
    assert "canary-of-a-handler" not in caplog.text


async def test_an_outcome_that_cannot_be_encrypted_ends_the_run(site: Site) -> None:
    thread = await site.sdk.threads.create()
    async with site.broken():
        run = await site.sdk.runs.create(thread["thread_id"], "asks", input={"text": CANARY}, after_seconds=3600)
        site.project.broken.add("encrypt")
        with psycopg.connect(site.uri, autocommit=True) as connection:
            connection.execute(DUE)

        async def over() -> Any:
            return (await site.sdk.runs.get(thread["thread_id"], run["run_id"]))["status"] == "error"

        await until(over, "the run's end")
    found = await site.sdk.threads.get(thread["thread_id"])
    assert found["status"] == "error"
    assert not site.hits(CANARY)


async def test_what_was_stored_before_encryption_stays_readable(site: Site, databases: Any) -> None:
    """And what is merged into it is encrypted."""
    plain = StateContainer(site.settings, registry=site.registry, manifest=site.manifest)
    plain.__dict__["cipher"] = None
    before = f"{CANARY}-before"
    async with serving(plain) as (_, client):
        sdk = LangGraphClient(client)
        thread = await sdk.threads.create(metadata={"note": before}, graph_id="asks")
        thread_id = thread["thread_id"]
        await sdk.threads.update_state(thread_id, {"text": before, "said": [before]}, as_node="ask")
        await sdk.store.put_item(["before"], "k", {"text": before})
    assert site.hits(before)
    thread = await site.sdk.threads.update(thread_id, metadata={"after": CANARY})
    assert thread["metadata"]["note"] == before
    assert (await site.sdk.threads.get_state(thread_id))["values"] == {"text": before, "said": [before]}
    assert (await site.sdk.store.get_item(["before"], "k"))["value"] == {"text": before}
    await site.sdk.runs.wait(thread_id, "talks", input={"number": 1}, raise_error=False)
    assert (await site.sdk.threads.get_state(thread_id))["values"]["text"] == before
    assert all(before in what or CANARY not in what for where, what in site.hits(CANARY))


@asynccontextmanager
async def with_aes(site: Site, key: bytes, *old: bytes) -> AsyncIterator[tuple[LangGraphClient, httpx.AsyncClient]]:
    """The same project without handlers, and a key in the environment."""
    settings = site.settings.replace(
        aes_key=key, aes_old_keys=old, redis_key_prefix=f"aes-{uuid.uuid4().hex[:8]}", poll_interval=0.1
    )
    manifest = replace(site.manifest, encryption=None)
    worker = WorkerContainer(settings, registry=site.registry, manifest=manifest)
    api = StateContainer(settings, registry=site.registry, manifest=manifest)
    try:
        async with serving(api) as (_, client), working(worker):
            yield LangGraphClient(client), client
    finally:
        await worker.aclose()


async def test_a_key_in_the_environment_encrypts_checkpoints(databases: Any, site: Site) -> None:
    own = replace(site, uri=databases.create())
    own.settings = own.settings.replace(database_uri=own.uri)
    secret = f"{CANARY}-aes"
    first, second = os.urandom(32), os.urandom(16)
    async with with_aes(own, first) as (sdk, _):
        await own_defaults(own)
        thread = await sdk.threads.create()
        thread_id = thread["thread_id"]
        await sdk.runs.wait(thread_id, "talks", input={"text": secret})
        assert (await sdk.threads.get_state(thread_id))["values"]["text"] == secret
        await sdk.threads.update_state(thread_id, {"said": [secret]}, as_node="again")
        places = {where for where, _ in own.hits(secret)}
        assert "lgs.run" in places  # documents are not encrypted by it
        assert not {place for place in places if place.startswith("public.checkpoint")}
    async with with_aes(own, second) as (sdk, http):
        response = await http.get(f"/threads/{thread_id}/state")
        assert response.status_code == 500
        assert "was encrypted with another key (fingerprint " in response.json()["detail"]
        answer = await sdk.runs.wait(thread_id, "talks", input={"text": secret}, raise_error=False)
        assert answer["__error__"]["error"] == "EncryptionError"
        assert (await sdk.threads.get(thread_id))["values"]["text"] == secret
    async with with_aes(own, second, first) as (sdk, _):
        answer = await sdk.runs.wait(thread_id, "talks", input={"text": "later"})
        assert answer["text"] == "later"
        assert answer["said"][:2] == [secret, {"deep": secret}]
    databases.drop(own.uri)


async def own_defaults(site: Site) -> None:
    seeding = StateContainer(site.settings, registry=site.registry, manifest=replace(site.manifest, encryption=None))
    try:
        await seeding.assistants.ensure_defaults()
    finally:
        await seeding.aclose()


def command(site: Site, *words: str) -> str:
    """What a command says; it has an event loop of its own."""
    environ = {"DATABASE_URI": site.uri, "REDIS_URI": site.settings.redis_uri}
    result = CliRunner().invoke(main, [*words, "--config", str(PROJECT)], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


async def test_everything_can_be_encrypted_anew(site: Site, databases: Any) -> None:
    """What another key or nobody has encrypted is found and replaced, and nobody notices."""
    own = replace(site, uri=databases.create())
    own.settings = own.settings.replace(database_uri=own.uri, redis_key_prefix=f"anew-{uuid.uuid4().hex[:8]}")
    thread_ids = []
    for sealed in (False, True):
        container = StateContainer(own.settings, registry=site.registry, manifest=site.manifest)
        if not sealed:
            container.__dict__["cipher"] = None
        async with serving(container) as (_, client):
            sdk = LangGraphClient(client)
            await container.assistants.ensure_defaults()
            await sdk.assistants.create("talks", metadata={"about": CANARY}, context={"tone": CANARY})
            thread = await sdk.threads.create(metadata={"note": CANARY, "owner": "u1"}, graph_id="asks")
            thread_ids.append(thread["thread_id"])
            values = {"text": CANARY, "said": [CANARY]}
            await sdk.threads.update_state(thread["thread_id"], values, as_node="ask")
            await sdk.runs.create(thread["thread_id"], "asks", input={"text": CANARY})
            await sdk.store.put_item(["a"], str(sealed), {"text": CANARY})
            await sdk.crons.create("talks", schedule="0 0 1 1 *", input={"text": CANARY})
    assert own.hits(CANARY)
    async with site.key("b"):
        first = await reencrypt(site.registry.project, own.settings, everything=False)
        said = await asyncio.to_thread(command, own, "reencrypt")
        assert "0 of 2 threads encrypted anew" in said
        assert "The handlers of its encryption are complete." in await asyncio.to_thread(command, own, "doctor")
        assert all(where.startswith("redis") for where, _ in own.hits(CANARY))  # for ten minutes
        assert first.failed == 0
        assert all(table.renewed for table in first.tables.values() if table.looked_at), first
        assert sum(table.looked_at > 0 for table in first.tables.values()) == 8
        again = await reencrypt(site.registry.project, own.settings, everything=False)
        assert sum(table.renewed for table in again.tables.values()) == 0
        complete = await reencrypt(site.registry.project, own.settings, everything=True)
        assert complete.tables["threads"].renewed == 2
        site.project.KEYS["gone"] = site.project.KEYS.pop("a")  # nothing needs it any more
        try:
            container = StateContainer(own.settings, registry=site.registry, manifest=site.manifest)
            async with serving(container) as (_, client):
                sdk = LangGraphClient(client)
                for thread_id in thread_ids:
                    assert (await sdk.threads.get(thread_id))["metadata"]["note"] == CANARY
                    assert (await sdk.threads.get_state(thread_id))["values"] == {"text": CANARY, "said": [CANARY]}
                    assert (await sdk.runs.list(thread_id))[0]["kwargs"]["input"] == {"text": CANARY}
                assert {item["value"]["text"] for item in (await sdk.store.search_items(["a"]))["items"]} == {CANARY}
                assert len(await sdk.assistants.search(graph_id="talks")) == 3
        finally:
            site.project.KEYS["a"] = site.project.KEYS.pop("gone")
    databases.drop(own.uri)
