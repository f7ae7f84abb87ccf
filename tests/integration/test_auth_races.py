"""What becomes somebody else's while it is waited for is not changed: filters count under the lock, not only before it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.auth_filters import Filter, parse_filter
from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import CancelAction, RunRequest
from langgraph_serverless.errors import AccessError, ConflictError, NotFoundError
from langgraph_serverless.services.idempotency import Once
from langgraph_serverless.settings import Settings

PATIENCE = 20.0
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ALICE = Principal.of_user({"identity": "alice", "permissions": []})
GRAPH = GraphManifest(graph_id="echo", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
CRON = {"assistant_id": "echo", "schedule": "0 0 1 1 *"}
RUN = RunRequest(assistant_id="echo", input={})


async def own(caller: Principal, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
    if action in ("create", "create_run"):
        value.setdefault("metadata", {})["owner"] = caller.identity
    return parse_filter({"owner": caller.identity})


@pytest.fixture
async def container(settings: Settings) -> Any:
    container = ApiContainer(settings, manifest=Manifest.of({"echo": GRAPH}))
    vars(container)["authorize"] = own
    await container.assistants.ensure_defaults()
    yield container
    await container.aclose()


@pytest.fixture
async def hers(container: ApiContainer) -> Any:
    thread = await container.threads.create(ALICE)
    run = await container.runs.create(ALICE, RUN, thread_id=thread.thread_id)
    assistant = await container.assistants.create(ALICE, graph_id="echo")
    cron = await container.crons.create(ALICE, CRON, thread_id=None)
    yield SimpleNamespace(
        thread=thread.thread_id, run=run.run_id, assistant=assistant.assistant_id, cron=cron.cron_id, api=container
    )
    async with container.database.transaction() as connection:  # nobody executes it
        await connection.execute("DELETE FROM lgs.run WHERE thread_id = %s", (thread.thread_id,))
        await connection.execute("DELETE FROM lgs.thread WHERE thread_id = %s", (thread.thread_id,))
        await connection.execute("DELETE FROM lgs.cron WHERE cron_id = %s", (cron.cron_id,))


Change = Callable[[Any], Awaitable[Any]]
CHANGES: dict[str, tuple[str, Change]] = {
    "run": ("thread", lambda its: its.api.runs.create(ALICE, RUN, thread_id=its.thread)),
    "cancel": (
        "thread",
        lambda its: its.api.runs.cancel(ALICE, its.thread, [its.run], CancelAction.ROLLBACK, "a test"),
    ),
    "delete_run": ("thread", lambda its: its.api.runs.delete(ALICE, its.thread, its.run)),
    "update": ("thread", lambda its: its.api.threads.update(ALICE, its.thread, metadata={"a": 1}, ttl=None)),
    "delete": ("thread", lambda its: its.api.threads.delete(ALICE, its.thread)),
    "copy": ("thread", lambda its: its.api.threads.copy(ALICE, its.thread)),
    "thread_cron": ("thread", lambda its: its.api.crons.create(ALICE, CRON, thread_id=its.thread)),
    "update_cron": ("cron", lambda its: its.api.crons.update(ALICE, its.cron, {"enabled": False})),
    "delete_cron": ("cron", lambda its: its.api.crons.delete(ALICE, its.cron)),
    "update_assistant": ("assistant", lambda its: its.api.assistants.update(ALICE, its.assistant, {"name": "n"})),
    "latest": ("assistant", lambda its: its.api.assistants.set_latest(ALICE, its.assistant, 1)),
    "delete_assistant": ("assistant", lambda its: its.api.assistants.delete(ALICE, its.assistant)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_given_away_meanwhile_is_not_changed(hers: Any, database_uri: str, name: str) -> None:
    table, change = CHANGES[name]
    row: uuid.UUID = getattr(hers, table)
    named = {"table": sql.Identifier("lgs", table), "key": sql.Identifier(f"{table}_id")}
    give = sql.SQL('UPDATE {table} SET metadata = \'{{"owner": "bob"}}\' WHERE {key} = %s').format(**named)
    look = sql.SQL("SELECT t::text AS row FROM {table} t WHERE {key} = %s").format(**named)
    async with (
        await psycopg.AsyncConnection.connect(database_uri) as giving,
        await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as looking,
    ):
        await giving.execute(give, (row,))
        given = await (await giving.execute(look, (row,))).fetchone()
        changing = asyncio.ensure_future(change(hers))
        async with asyncio.timeout(PATIENCE):
            while not await (await looking.execute(WAITING)).fetchone():
                assert not changing.done(), changing
                await asyncio.sleep(0.01)
        await giving.commit()
        with pytest.raises((NotFoundError, ConflictError)):
            await asyncio.wait_for(changing, PATIENCE)
        assert await (await looking.execute(look, (row,))).fetchone() == given


@pytest.mark.parametrize("kind", ["threads", "assistants"])
async def test_handlers_may_use_the_only_connection(settings: Settings, kind: str) -> None:
    """No handler is asked while a connection is held: those that look something up here would wait for one another."""
    api = ApiContainer(settings.replace(pool_max_size=1, pool_timeout=2.0), manifest=Manifest.of({"echo": GRAPH}))
    may_read = True

    async def looks_up(_caller: Principal, _resource: str, action: str, _value: dict[str, Any]) -> Filter | None:
        await api.database.ping()
        if action == "read" and not may_read:
            raise AccessError
        return None

    vars(api)["authorize"] = looks_up
    taken = uuid.uuid4()

    async def make(*, once: bool = False) -> Any:
        key = IdempotencyKey(route="a test", key=uuid.uuid4().hex, fingerprint=bytes(32))
        keep: Any = Once(key=key, retention=60.0, answer=lambda _: Answer(status=200, headers={}, body=b"{}"))
        known = {"return_existing": True, "once": keep if once else None}
        if kind == "threads":
            return await api.threads.create(ALICE, thread_id=taken, **known)
        return await api.assistants.create(ALICE, assistant_id=taken, graph_id="echo", **known)

    try:
        may_read = False
        made = await make()  # one that she makes is hers
        with pytest.raises(AccessError):
            await make()
        may_read = True
        assert await make() == await make(once=True) == made
    finally:
        async with api.database.transaction() as connection:
            await connection.execute("DELETE FROM lgs.thread WHERE thread_id = %s", (taken,))
            await connection.execute("DELETE FROM lgs.assistant WHERE assistant_id = %s", (taken,))
        await api.aclose()
