"""Every use case asks the project's authorisation before it does anything (S1): one that is forgotten fails here.

All services are taken from the package, with every public method that takes a caller. Each is called with an authoriser that says no,
and with parts that may not even be looked at: the refusal must come first. A method that is new needs arguments in ``ARGUMENTS``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from langgraph_serverless import services
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_filters import Subscription
from langgraph_serverless.domain.runs import CancelAction, RunRequest
from langgraph_serverless.domain.store import StoreSettings
from langgraph_serverless.errors import AccessError
from langgraph_serverless.persistence.crons import CronFilter
from langgraph_serverless.services.assistants import AssistantService
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.crons import CronService
from langgraph_serverless.services.own_store import OwnStoreService
from langgraph_serverless.services.protocol_commands import ProtocolCommandService
from langgraph_serverless.services.protocol_streams import ProtocolStreamService
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.state import StateService
from langgraph_serverless.services.state_queries import QueriesHere
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.services.streams import StreamService
from langgraph_serverless.services.thread_streams import ThreadStreamService
from langgraph_serverless.services.threads import ThreadService
from langgraph_serverless.settings import Settings

ID = uuid.UUID("0b8d1f6e-0000-4000-8000-000000000001")
CALLER = Principal.of_user({"identity": "mallory", "permissions": []})
GRAPH = GraphManifest(graph_id="echo", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
CATALOG = GraphCatalog(Manifest.of({"echo": GRAPH}))
SETTINGS = Settings.from_env({"DATABASE_URI": "postgres://nobody@localhost/none"})
REQUEST = RunRequest(assistant_id="echo", input={})

#: Not asked, and why.
EXEMPT = {
    "ReplayService": "an operator's command; no route leads there",
    "PriorityService": "asked by those who make runs, with what has been permitted",
    "QueriesInFunction": "the function that it asks has the service that asks",
    "StateQueries": "a Protocol",
    "McpService": "made of the use cases of assistants, runs and streams",
    "A2ATasks": "made of the use cases of assistants, threads and runs",
    "A2AService": "made of the use cases of assistants, threads and runs",
    "A2APushService": "made of the use cases of A2A and threads",
    "RunService.create_permitted": "takes the permit",
    "RunMaker": "takes the permit",
    "QuickRuns": "takes the permit",
}


class Untouchable:
    """A part that nobody may look at before the refusal."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used before anybody was asked")


async def deny(caller: Principal, resource: str, action: str, value: dict[str, Any]) -> None:
    assert caller is CALLER
    raise AccessError(f"no {resource}.{action}")


nothing: Any = Untouchable()
runs = RunService(nothing, CATALOG, nothing, SETTINGS, authorize=deny)
thread_streams = ThreadStreamService(nothing, nothing, nothing, runs, SETTINGS, authorize=deny)
states = StateService(nothing, nothing, nothing, nothing, authorize=deny)
SERVICES: tuple[Any, ...] = (
    runs,
    thread_streams,
    states,
    ThreadService(nothing, nothing, authorize=deny),
    AssistantService(nothing, CATALOG, nothing, authorize=deny),
    CronService(nothing, CATALOG, authorize=deny),
    StoreService(nothing, StoreSettings(), authorize=deny),
    OwnStoreService.instead_of(StoreService(nothing, StoreSettings(), authorize=deny), nothing),
    StreamService(nothing, runs, SETTINGS),
    ProtocolCommandService(nothing, runs, nothing, nothing, authorize=deny),
    ProtocolStreamService(thread_streams, SETTINGS),
    QueriesHere(states),
)
THREAD, RUN, ASSISTANT = {"thread_id": ID}, {"thread_id": ID, "run_id": ID}, {"assistant_id": ID}
ITEM = {"namespace": ("a",), "key": "k"}
SEARCH: Mapping[str, Any] = {"metadata": {}, "values": {}, "status": None}
STATE = {"thread_id": ID, "namespace": (), "keys": None}
CANCEL = {"action": CancelAction.INTERRUPT, "reason": "r"}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "RunService.create": {"request": REQUEST, "thread_id": ID},
    "RunService.permit": {"request": REQUEST, "thread_id": None},
    "RunService.create_within": {"connection": nothing, "request": REQUEST, "thread_id": None},
    "RunService.create_batch": {"requests": [REQUEST]},
    "RunService.get": RUN,
    "RunService.find": RUN,
    "RunService.readable": RUN,
    "RunService.list": {**THREAD, "limit": 1, "offset": 0, "status": None},
    "RunService.delete": RUN,
    "RunService.cancel": {**THREAD, "run_ids": [ID], **CANCEL},
    "RunService.cancel_by_status": {"status": "all", **CANCEL},
    "ThreadStreamService.readable": THREAD,
    "ThreadStreamService.stream": THREAD,
    "StateService.get": THREAD,
    "StateService.history": THREAD,
    "StateService.update": THREAD,
    "StateService.apply_supersteps": {**THREAD, "supersteps": []},
    "ThreadService.create": {},
    "ThreadService.get": THREAD,
    "ThreadService.update": {**THREAD, "metadata": {}, "ttl": None},
    "ThreadService.delete": THREAD,
    "ThreadService.prune": {"thread_ids": [ID]},
    "ThreadService.copy": THREAD,
    "ThreadService.search": {**SEARCH, "ids": None},
    "ThreadService.count": SEARCH,
    "ThreadService.storage": THREAD,
    "AssistantService.create": {"graph_id": "echo"},
    "AssistantService.get": ASSISTANT,
    "AssistantService.update": {**ASSISTANT, "changes": {"name": "n"}},
    "AssistantService.delete": ASSISTANT,
    "AssistantService.search": {"metadata": {}, "graph_id": None, "name": None},
    "AssistantService.count": {"metadata": {}, "graph_id": None, "name": None},
    "AssistantService.list_versions": {**ASSISTANT, "metadata": {}, "limit": 1, "offset": 0},
    "AssistantService.set_latest": {**ASSISTANT, "version": 1},
    "AssistantService.graph": {"assistant": str(ID), "xray": False},
    "AssistantService.schemas": ASSISTANT,
    "AssistantService.subgraphs": {**ASSISTANT, "namespace": None, "recurse": False},
    "CronService.create": {"payload": {"assistant_id": "echo", "schedule": "0 0 * * *"}, "thread_id": None},
    "CronService.get": {"cron_id": ID},
    "CronService.update": {"cron_id": ID, "changes": {"enabled": False}},
    "CronService.delete": {"cron_id": ID},
    "CronService.search": {"wanted": CronFilter()},
    "CronService.count": {"wanted": CronFilter()},
    "StoreService.put": {**ITEM, "value": {}},
    "StoreService.get": ITEM,
    "StoreService.delete": ITEM,
    "StoreService.search": {"namespace": ("a",)},
    "StoreService.list_namespaces": {},
    "StreamService.join_stream": RUN,
    "StreamService.join": RUN,
    "ProtocolCommandService.start": {**THREAD, "request": REQUEST},
    "ProtocolCommandService.respond": {**THREAD, "interrupt_ids": ["a"], "request": REQUEST},
    "ProtocolCommandService.fork": {**THREAD, "checkpoint_id": ID, "request": REQUEST},
    "ProtocolStreamService.session": THREAD,
    "ProtocolStreamService.stream": {**THREAD, "wanted": Subscription(channels=frozenset({"values"}))},
    "QueriesHere.get": STATE,
    "QueriesHere.list_checkpoints": {"thread_id": ID, "namespace": (), "limit": 1, "before": None},
}


def _use_cases() -> Iterator[tuple[str, type[Any], Callable[..., Any]]]:
    for module in pkgutil.iter_modules(services.__path__):
        found = importlib.import_module(f"{services.__name__}.{module.name}")
        for _, kind in inspect.getmembers(found, inspect.isclass):
            if kind.__module__ != found.__name__:
                continue
            for name, method in inspect.getmembers(kind, inspect.isfunction):
                if not name.startswith("_") and "caller" in inspect.signature(method).parameters:
                    yield f"{kind.__name__}.{name}", kind, method


def _needed() -> list[str]:
    found = []
    for name, kind, _ in _use_cases():
        if not {name, kind.__name__} & EXEMPT.keys():
            found.append(name)
    return found


def _inherited(name: str) -> str:
    """Of a store of the project's own the same use cases."""
    return name.replace("OwnStoreService.", "StoreService.")


@pytest.mark.parametrize("name", _needed())
async def test_nothing_is_done_before_somebody_is_asked(name: str) -> None:
    if name == "StreamService.cancel_abandoned":
        return  # says that it was refused, see below
    service = next(each for each in SERVICES if type(each).__name__ == name.partition(".")[0])
    assert _inherited(name) in ARGUMENTS, f"{name} is new: say here what it is called with, and see that it asks"
    arguments = dict(ARGUMENTS[_inherited(name)])
    method = getattr(service, name.partition(".")[2])
    positional = [arguments.pop("connection")] if "connection" in arguments else []
    with pytest.raises(AccessError, match="no "):
        await method(*positional, CALLER, **arguments)


async def test_whoever_leaves_a_run_cancels_it_only_if_he_may(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        await StreamService(nothing, runs, SETTINGS).cancel_abandoned(CALLER, ID, ID)
    assert "may not cancel it" in caplog.text


def test_what_is_exempt_is_there() -> None:
    there = {part for name, kind, _ in _use_cases() for part in (name, kind.__name__)}
    assert set(EXEMPT) - there == set()
    assert not set(ARGUMENTS) - {name for name, _, _ in _use_cases()}


def test_a_forgotten_use_case_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgotten(self: Any, caller: Principal) -> None: ...

    monkeypatch.setattr(ThreadService, "forgotten", forgotten, raising=False)
    assert "ThreadService.forgotten" in _needed()
    assert "ThreadService.forgotten" not in ARGUMENTS
