"""The API as clients see it: the official SDK and a plain HTTP client, each over ASGI in this process and over real HTTP.

``sdk`` and ``http`` give every test both ways. The graphs are a manifest made by hand, as nothing here executes one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from langgraph_sdk.client import LangGraphClient

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.events import Event, end_marker
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.runs import ClaimedRun, RunOutcome, RunStatus
from langgraph_serverless.http.app import RESOURCES, create_app
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.log import RedisEventLog

PATIENCE = 20.0


def drawing(*nodes: str) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
            *({"id": node, "type": "runnable", "data": {"name": node}} for node in nodes),
            {"id": "__end__"},
        ],
        "edges": [{"source": "__start__", "target": nodes[0]}, {"source": nodes[-1], "target": "__end__"}],
    }


def schemas(title: str) -> dict[str, Any]:
    state = {"title": title, "type": "object", "properties": {"log": {"type": "array", "default": None}}}
    return {
        "input_schema": state,
        "output_schema": state,
        "state_schema": state,
        "config_schema": {},
        "context_schema": None,
    }


def graph(graph_id: str, **more: Any) -> GraphManifest:
    given: dict[str, Any] = {
        "graph_id": graph_id,
        "description": None,
        "is_factory": False,
        "schemas": schemas(f"{graph_id}_state"),
        "drawings": {"false": drawing("agent"), "true": drawing("agent")},
        "subgraphs": {},
    }
    return GraphManifest(**given | more)


MANIFEST = Manifest.of(
    {
        "chat": graph("chat", description="Talks"),
        "nested": graph(
            "nested",
            drawings={
                "false": drawing("child"),
                "true": drawing("child:inner", "child:grandchild:deep"),
                "1": drawing("child:inner", "child:grandchild"),
                "2": drawing("child:inner", "child:grandchild:deep"),
            },
            subgraphs={"child": schemas("LangGraphState"), "child|grandchild": schemas("LangGraphState")},
        ),
        "undrawable": graph("undrawable", drawings={}),
    }
)


@dataclass(frozen=True)
class Served:
    """How to reach a server."""

    way: str
    url: str
    app: FastAPI

    def client(self) -> httpx.AsyncClient:
        # the last resort's 500 is an answer here, as it is over HTTP
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False) if self.way == "asgi" else None
        return httpx.AsyncClient(transport=transport, base_url=self.url, timeout=PATIENCE)


def available_resources(container: ApiContainer) -> list[str]:
    """The container's resources whose routers are there."""
    package = "langgraph_serverless.http.routers"
    return [
        resource
        for resource in RESOURCES
        if resource in container.resources and importlib.util.find_spec(f"{package}.{resource}")
    ]


def make_app(container: ApiContainer) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await container.aclose()

    return create_app(container, available_resources(container), lifespan=lifespan)


@pytest.fixture(scope="session")
async def container(settings: Settings) -> AsyncIterator[ApiContainer]:
    """The container behind the ASGI way; the services in it may be called directly."""
    container = ApiContainer(settings.replace(cron_least_interval=5), manifest=MANIFEST)
    yield container
    await container.aclose()


@pytest.fixture(scope="session")
def served_over_http(settings: Settings) -> Iterator[Served]:
    """Uvicorn on a thread and an event loop of its own."""
    app = make_app(ApiContainer(settings.replace(cron_least_interval=5), manifest=MANIFEST))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, name="uvicorn", daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert thread.is_alive(), "the server has ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served("http", f"http://127.0.0.1:{port}", app)
    server.should_exit = True
    thread.join(PATIENCE)


@pytest.fixture(params=["asgi", "http"])
def served(request: pytest.FixtureRequest, container: ApiContainer) -> Served:
    if request.param == "asgi":
        return Served("asgi", "http://server", make_app(container))
    served: Served = request.getfixturevalue("served_over_http")
    return served


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client, for what the SDK does not show."""
    async with served.client() as client:
        yield client


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[LangGraphClient]:
    """The official SDK."""
    async with served.client() as client:
        yield LangGraphClient(client)


@pytest.fixture
async def clean_database(clean_database: None, container: ApiContainer) -> None:
    """An empty database with the default assistants."""
    await container.assistants.ensure_defaults()


@pytest.fixture
async def database(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection of the test's own, to arrange what no request can and to look behind the API."""
    async with await psycopg.AsyncConnection.connect(
        database_uri, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        yield connection


class StandInWorker:
    """Executes runs by hand: claims, appends to the event log and settles as the worker does, without a graph."""

    def __init__(self, container: ApiContainer) -> None:
        self._settings = container.settings
        self._queue = QueueRepository(container.database)
        self.redis = container.redis
        assert self.redis is not None
        self.log = RedisEventLog(self.redis, self._settings.redis_key_prefix, self._settings)

    async def claim(self) -> ClaimedRun:
        """The next run, as soon as there is one."""
        async with asyncio.timeout(PATIENCE):
            while not (claimed := await self._queue.claim(owner="stand-in", limit=1, lease=600)):
                await asyncio.sleep(0.01)
        return claimed[0]

    async def emit(self, run: ClaimedRun, *events: tuple[str, Any]) -> None:
        await self.log.append(run.lease, [Event(name, orjson.dumps(data)) for name, data in events])

    async def settle(self, run: ClaimedRun, output: Any = None, *, values: Any = None, **outcome: Any) -> None:
        """The transaction at the end, without the end marker."""
        left = RunOutcome(
            **{"status": RunStatus.SUCCESS, "output": output, "values": values, "write_values": True} | outcome
        )
        error = left.error
        await self._queue.settle(
            run.lease,
            run.run.thread_id,
            left,
            thread_error=error,
            temporary_retention=self._settings.temporary_retention,
        )

    async def close(self, run: ClaimedRun, output: Any = None, status: str = "success") -> None:
        await self.log.append(run.lease, [end_marker(status=status, output=output)])

    async def finish(self, run: ClaimedRun, output: Any = None, *, values: Any = None, **outcome: Any) -> None:
        await self.settle(run, output, values=values, **outcome)
        await self.close(run, output)

    async def lose_log(self, run: ClaimedRun) -> None:
        """What FLUSHALL does to a run."""
        key = f"{self._settings.redis_key_prefix}:run:{{{run.lease.run_id}}}"
        await self.redis.delete(f"{key}:events", f"{key}:fence")


@pytest.fixture
def worker(container: ApiContainer) -> StandInWorker:
    return StandInWorker(container)
