"""The project's own authentication and authorisation, over HTTP, with the official SDK (``docs/guides/auth.md``).

Two servers in this process: ``tenants`` is the project whose users have tokens like ``alice@acme``; ``recorder`` is the same with an
``Auth`` that notes what it is asked and does what the header ``x-policy`` says. Whether every door is closed to other users, the walk
says (``tests/security/test_walk.py``); here is what the doors do.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dev_server import ROOT
from javascript import FOLDER
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from served import served
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.principal import SERVER
from langgraph_serverless.services import scheduler as scheduler_service
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.timeout(120)

PROJECTS = ROOT / "tests" / "fixtures" / "projects"
PATIENCE = 20.0
MISSING = str(uuid.UUID(int=7))


class Site:
    """A served project."""

    def __init__(self, url: str, settings: Settings, manifest: Manifest) -> None:
        self.url, self.settings, self.manifest = url, settings, manifest

    def http(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        known = {"authorization": token} if token is not None else {}
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, headers={**known, **headers})

    def sdk(self, token: str) -> LangGraphClient:
        return get_client(url=self.url, api_key=None, headers={"authorization": token})

    async def work(self) -> None:
        """Execute what is queued."""
        worker = WorkerContainer(self.settings)
        try:
            await worker.worker().work(remaining=lambda: 60.0, idle_grace=0.0)
        finally:
            await worker.aclose()


def _site(config: Path, databases: Any, redis_uri: str, **more: Any) -> Iterator[Site]:
    uri = databases.create()
    prefix = f"test-{uuid.uuid4().hex[:8]}"
    settings = Settings(
        database_uri=uri, redis_uri=redis_uri, redis_key_prefix=prefix, config_path=config, pool_max_size=10, **more
    )

    async def seed() -> None:
        container = StateContainer(settings)
        await container.assistants.ensure_defaults()
        await container.aclose()

    asyncio.run(seed())
    container = StateContainer(settings)
    with served(container, ws="websockets-sansio") as url:
        yield Site(url, settings, container.catalog.manifest)
    databases.drop(uri)


@pytest.fixture(scope="module")
def tenants(databases: Any, redis_uri: str) -> Iterator[Site]:
    yield from _site(PROJECTS / "tenants" / "langgraph.json", databases, redis_uri)


@pytest.fixture(scope="module")
def recorder(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = tmp_path_factory.mktemp("recorder") / "project"
    shutil.copytree(PROJECTS / "tenants", project, ignore=shutil.ignore_patterns("__pycache__", "auth.py"))
    shutil.copy(PROJECTS / "recorder" / "recorder.py", project)
    config = json.loads((project / "langgraph.json").read_text())
    config["auth"] = {
        "path": "./recorder.py:auth",
        "cache": {"cache_keys": ["x-cached"], "ttl_seconds": 60},
    }
    (project / "langgraph.json").write_text(json.dumps(config))
    yield from _site(project / "langgraph.json", databases, redis_uri, studio_auth=True)


@pytest.fixture
def heard(recorder: Site) -> Any:
    """The recorder's module, with nothing noted yet."""
    (module,) = (
        each for name, each in list(sys.modules.items()) if name.endswith("recorder") and hasattr(each, "calls")
    )
    module.given.clear()
    module.calls.clear()
    return module


def bearer(name: str) -> str:
    return f"Bearer {name}"


@pytest.fixture
async def alice(tenants: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with tenants.http(bearer("alice@acme")) as client:
        yield client


@pytest.fixture
async def bob(tenants: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with tenants.http(bearer("bob@acme")) as client:
        yield client


# -- who is calling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "status", "detail"),
    [
        (None, 401, "Unauthorized"),
        ("teapot", 418, "short and stout"),
        ("forbidden", 403, "not you"),
        ("alice", 401, "no such token: GET /threads/x"),
        ("nothing", 400, "Expected a BaseUser instance with required property: identity (str)."),
    ],
)
async def test_what_the_authentication_refuses(tenants: Site, token: str | None, status: int, detail: str) -> None:
    async with tenants.http(bearer(token) if token else None) as client:
        answer = await client.get("/threads/x")  # not even routed
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)
    assert answer.headers.get("x-kind") == ("teapot" if token == "teapot" else None)


@pytest.mark.parametrize("token", ["broken", "assertion"])
async def test_a_mistake_of_the_authentication_lets_nobody_in(tenants: Site, token: str) -> None:
    async with tenants.http(bearer(token)) as client:
        answer = await client.post("/threads/search", json={})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_a_header_that_would_end_the_header_is_left_out(tenants: Site) -> None:
    async with tenants.http(bearer("split")) as client:
        answer = await client.get("/threads/x")
    assert answer.status_code == 401
    assert answer.headers["x-good"] == "yes"
    assert not {"x-evil", "set-cookie"} & set(answer.headers)


async def test_what_is_public_and_what_is_not(tenants: Site) -> None:
    async with tenants.http() as client:
        for path in ("/ok", "/", "/info", "/metrics", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/no/such/path", "/store/items", "/mcp", "/threads/x/stream", "/ok/"):
            assert (await client.get(path)).status_code == 401, path
        preflight = {"origin": "https://ui.example", "access-control-request-method": "POST"}
        assert (await client.options("/threads", headers=preflight)).status_code in (200, 400)
        document = (await client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert document["security"] == [{"token": []}]


def test_a_websocket_without_a_caller_is_refused(tenants: Site) -> None:
    address = f"{tenants.url.replace('http', 'ws')}/threads/{MISSING}/stream/events"
    with pytest.raises(InvalidStatus) as refused, connect(address):
        pass
    assert refused.value.response.status_code == 401


async def test_a_websocket_that_a_handler_refuses_is_closed(tenants: Site) -> None:
    address = f"{tenants.url.replace('http', 'ws')}/threads/{MISSING}/stream/events"

    def closed() -> int:
        with connect(address, additional_headers={"authorization": bearer("denied@acme")}) as socket:
            with pytest.raises(ConnectionClosed):
                socket.recv(PATIENCE)
            return int(socket.close_code or 0)

    assert await asyncio.to_thread(closed) == 4403


async def test_what_the_authentication_is_given(recorder: Site, heard: Any) -> None:
    async with recorder.http("me", **{"x-some": "thing"}) as client:
        await client.get("/threads/x", params={"q": "1"})
    (given,) = heard.given
    headers = given.pop("headers")
    assert headers[b"x-some"] == b"thing"
    assert given == {
        "request": "Request",
        "path": "/threads/x",
        "method": "GET",
        "path_params": {},
        "query_params": {"q": "1"},
        "authorization": "me",
        "body": None,
        "scopes": [],
    }


async def test_the_answer_is_kept_for_what_it_depends_on(recorder: Site, heard: Any) -> None:
    key = uuid.uuid4().hex
    async with recorder.http("me") as client:
        for cached in (key, key, None, None, key + "x"):
            await client.get("/threads/x", headers={"x-cached": cached} if cached else {})
        assert len(heard.given) == 4
    async with recorder.http() as client:  # refusals are not kept
        for _ in range(2):
            assert (await client.get("/threads/x", headers={"x-cached": "nobody"})).status_code == 401
    assert len(heard.given) == 6


async def test_studio_comes_in_where_the_operator_says_so(recorder: Site, tenants: Site, heard: Any) -> None:
    studio = {"x-auth-scheme": "langsmith"}
    async with recorder.http(None, **studio) as client:
        answer = await client.post("/threads/search", json={})
    assert heard.given == []
    # the handlers are asked all the same, and this one expects other permissions
    assert (answer.status_code, answer.json()["detail"]) == (403, "Forbidden")
    async with tenants.http(None, **studio) as client:
        assert (await client.post("/threads/search", json={})).status_code == 401


@pytest.mark.parametrize(("token", "owner"), [("string", "string"), ("object", "object")])
async def test_users_as_strings_and_as_objects(tenants: Site, token: str, owner: str) -> None:
    if token == "string":  # has no org, which the handlers do not ask for
        owner = "string"
    async with tenants.http(bearer(token)) as client:
        assert (await client.post("/threads", json={})).json()["metadata"] == {"owner": owner}


# -- what they may do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "status", "detail"),
    [
        ("none", 200, None),
        ("true", 200, None),
        ("false", 403, "Forbidden"),
        ("assertion", 403, "not on a Sunday"),
        ("bare", 403, "Forbidden"),
        ("teapot", 418, "short and stout"),
        ("starlette", 409, "busy elsewhere"),
        (
            "list",
            500,
            "Auth handler returned invalid result. Expected filter dict, None, or boolean. Got <class 'list'> instead.",
        ),
        ("unknown", 500, "Auth handler returned a filter that cannot be used."),
        ("number", 500, "Auth handler left a int in 'metadata', which must be a dict."),
    ],
)
async def test_what_a_handler_says(recorder: Site, policy: str, status: int, detail: str | None) -> None:
    async with recorder.http("anna") as client:
        await client.post("/threads", json={})  # there is something to be seen
    async with recorder.http("anna", **{"x-policy": policy}) as client:
        for path in ("/threads/search", "/assistants/search"):
            answer = await client.post(path, json={})
            assert answer.status_code == status
            if detail is not None:
                assert answer.json() == {"detail": detail}
                assert answer.headers.get("x-kind") == ("teapot" if policy == "teapot" else None)


async def test_a_mistake_of_a_handler_shows_nothing(recorder: Site) -> None:
    async with recorder.http("anna", **{"x-policy": "mistake"}) as client:
        answer = await client.post("/threads/search", json={})
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        command = {"id": 1, "method": "run.start", "params": {"assistant_id": "echo", "input": {}}}
        answer = await client.post(f"/threads/{MISSING}/commands", json=command)
        assert "secret-of-the-directory" not in answer.text
    async with recorder.http("anna", **{"x-policy": "false"}) as client:
        answer = (await client.post(f"/threads/{MISSING}/commands", json=command)).json()
        assert (answer["error"], answer["message"]) == ("permission_denied", "403: Forbidden")


async def test_filters_with_every_operator(recorder: Site) -> None:
    ours = uuid.uuid4().hex
    metadata = {
        "mine": {"owner": ours},
        "shared": {"owner": "x", "shared": True},
        "team": {"owner": ours, "team": ["x", "y", "z"]},
        "other": {"owner": "x", "team": ["x"]},
    }
    ids: dict[str, str] = {}
    async with recorder.http(ours, **{"x-policy": "none"}) as client:
        for name, document in metadata.items():
            marked = {"metadata": {**document, "test": ours}}
            ids[name] = (await client.post("/threads", json=marked)).json()["thread_id"]
    expected = {
        "own": {"mine", "team"},
        "eq": {"mine", "team"},
        "or": {"mine", "team", "shared"},
        "and": {"team"},
        "contains": {"team"},
    }
    for policy, seen in expected.items():
        async with recorder.http(ours, **{"x-policy": policy}) as client:
            found = (await client.post("/threads/search", json={"metadata": {"test": ours}})).json()
            assert {each["thread_id"] for each in found} == {ids[name] for name in seen}, policy
            count = await client.post("/threads/count", json={"metadata": {"test": ours}})
            assert count.json() == len(seen)
            for name, thread_id in ids.items():
                answer = await client.get(f"/threads/{thread_id}")
                assert answer.status_code == (200 if name in seen else 404), (policy, name)


async def test_what_a_handler_changes_is_what_is_done(recorder: Site) -> None:
    async with recorder.http("carl", **{"x-policy": "stolen"}) as client:
        made = (await client.post("/threads", json={"metadata": {"mine": 1}})).json()
        assert made["metadata"] == {"owner": "nobody"}
        assistant = (await client.post("/assistants", json={"graph_id": "echo"})).json()
        assert assistant["metadata"] == {"owner": "nobody"}
    async with recorder.http("carl", **{"x-policy": "page"}) as client:
        assert len((await client.post("/threads/search", json={"limit": 10})).json()) == 1
    async with recorder.http("carl", **{"x-policy": "changing"}) as client:
        body = {"assistant_id": "echo", "input": {"said": "mine"}, "if_not_exists": "create"}
        run = (await client.post(f"/threads/{uuid.uuid4()}/runs", json=body)).json()
        assert run["kwargs"]["input"] == {"said": "what the handler says"}
        configurable = run["kwargs"]["config"]["configurable"]
        assert configurable["added"] == "by the handler"
        assert configurable["langgraph_auth_user_id"] == "carl"
        # with a context in place of configurable as well
        body = {"assistant_id": "echo", "context": {"a": 1}, "if_not_exists": "create"}
        run = (await client.post(f"/threads/{uuid.uuid4()}/runs", json=body)).json()
        assert run["kwargs"]["input"] == {"said": "what the handler says"}
    async with recorder.http("dora", **{"x-policy": "unstamped"}) as client:
        # nothing is stamped that no handler stamps, and then it is nobody's
        lost = (await client.post("/threads", json={})).json()["thread_id"]
        assert (await client.get(f"/threads/{lost}")).status_code == 404
        body = {"assistant_id": "echo", "input": {}, "if_not_exists": "create"}
        assert (await client.post(f"/threads/{uuid.uuid4()}/runs", json=body)).status_code == 200


# -- what handlers are asked -----------------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Ids are objects, and their values do not matter."""
    if isinstance(value, uuid.UUID):
        return "UUID"
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shown(each) for each in value]
    return value


THREAD = {"thread_id": "UUID"}
CREATE_RUN = {
    "thread_id": "UUID",
    "assistant_id": "UUID",
    "run_id": "UUID",
    "status": "pending",
    "metadata": {},
    "prevent_insert_if_inflight": False,
    "multitask_strategy": "enqueue",
    "if_not_exists": "reject",
    "after_seconds": 0.0,
}
STATELESS = {**CREATE_RUN, "thread_id": None, "if_not_exists": "create"}
CREATED_RUN, CREATED_STATELESS = ("threads.create_run", CREATE_RUN), ("threads.create_run", STATELESS)
READ, SEARCHED = ("threads.read", THREAD), {"metadata": {}, "values": {}, "status": None}
ASSISTANT = {"assistant_id": "UUID"}
INTERRUPT = {"thread_id": None, "action": "interrupt", "metadata": {"run_ids": None, "status": None}}
PLACE = {"namespace": ("a",), "key": "k"}
RUN = {"assistant_id": "echo", "input": {"said": "x"}}
CRON = {"assistant_id": "echo", "schedule": "0 0 1 1 *"}
CRON_SEARCH = {"assistant_id": None, "thread_id": None, "limit": 10, "offset": 0, "metadata": {}}


async def test_what_handlers_are_asked(recorder: Site, heard: Any) -> None:
    """The table of the official server, recorded. Where it asks the same twice, we ask once."""
    async with recorder.http("rita") as client:

        async def asked(method: str, path: str, body: Any = None, *, stored: int = 200) -> list[tuple[str, Any]]:
            heard.calls.clear()
            answer = await client.request(method, path, json=body)
            assert answer.status_code == stored, (method, path, answer.text)
            self.last = answer.json() if answer.content else None
            calls = [(name, shown(value)) for name, value in heard.calls]
            for _, value in calls:
                kwargs = value.pop("kwargs", None)
                if kwargs is not None:
                    assert kwargs["input"] == {"said": "x"}
                    configurable = kwargs["config"]["configurable"]
                    assert configurable["langgraph_auth_user"].identity == "rita"
                    assert configurable["langgraph_auth_user_id"] == "rita"
            return calls

        class self:
            last: Any

        assert await asked("POST", "/threads", {}) == [
            ("threads.create", {"thread_id": "UUID", "metadata": {}, "if_exists": "raise"})
        ]
        thread_id = self.last["thread_id"]
        thread = f"/threads/{thread_id}"
        for method, path, body in (
            ("GET", thread, None),
            ("GET", f"{thread}/state", None),
            ("GET", f"{thread}/history", None),
            ("POST", f"{thread}/history", {}),
            ("GET", f"{thread}/storage", None),
        ):
            assert await asked(method, path, body) == [READ], path
        assert await asked("PATCH", thread, {"metadata": {"a": 1}}) == [
            ("threads.update", {**THREAD, "metadata": {"a": 1}})
        ]
        page = {"limit": 10, "offset": 0}
        assert await asked("POST", "/threads/search", {}) == [("threads.search", {**SEARCHED, **page})]
        assert await asked("POST", "/threads/count", {}) == [("threads.search", {**SEARCHED, "limit": 0, "offset": 0})]
        assert await asked("POST", f"{thread}/copy") == [READ, ("threads.create", THREAD)]
        copy = f"/threads/{self.last['thread_id']}"

        assert await asked("POST", f"{thread}/runs", RUN) == [CREATED_RUN]
        run_id = self.last["run_id"]
        run = f"{thread}/runs/{run_id}"
        assert await asked("POST", "/runs", RUN) == [CREATED_STATELESS]
        stateless = f"/runs/{self.last['run_id']}"
        assert await asked("POST", "/runs/batch", [RUN, RUN]) == [CREATED_STATELESS, CREATED_STATELESS]
        assert await asked("GET", run) == [READ]
        assert await asked("GET", f"{thread}/runs") == [READ, ("threads.search", {**THREAD, "metadata": {}})]
        await recorder.work()
        as_text = ("threads.read", {"thread_id": thread_id})
        assert await asked("GET", f"{run}/join") == [as_text]
        heard.calls.clear()
        assert (await client.get(f"{run}/stream")).status_code == 200
        assert heard.calls == [as_text]
        heard.calls.clear()
        assert (await client.get(f"{stateless}/join")).status_code == 200
        ((name, value),) = heard.calls
        assert (name, uuid.UUID(value["thread_id"]).version) == ("threads.read", 7)
        cancel = (
            "threads.update",
            {**THREAD, "action": "interrupt", "metadata": {"run_ids": ["UUID"], "status": None}},
        )
        assert await asked("POST", f"{run}/cancel", stored=404) == [cancel]
        by_status = {**INTERRUPT, "metadata": {"run_ids": None, "status": "all"}}
        assert await asked("POST", "/runs/cancel", {"status": "all"}, stored=404) == [("threads.update", by_status)]
        state = {"values": {"said": "y"}}
        assert await asked("POST", f"{thread}/state", state) == [("threads.update", THREAD), READ]
        assert await asked("DELETE", run, stored=204) == [("threads.delete", {"run_id": "UUID", "thread_id": "UUID"})]

        content = {"graph_id": "echo", "config": {}, "context": None, "metadata": {}, "name": "Untitled"}
        created = {**ASSISTANT, **content, "if_exists": "raise"}
        assert await asked("POST", "/assistants", {"graph_id": "echo"}) == [("assistants.create", created)]
        own = self.last["assistant_id"]
        assistant = f"/assistants/{own}"
        for path in ("", "/graph", "/schemas", "/subgraphs"):
            assert await asked("GET", f"{assistant}{path}") == [("assistants.read", ASSISTANT)]
        assert await asked("POST", f"{assistant}/versions", {}) == [("assistants.read", ASSISTANT)]
        changed = {**ASSISTANT, "graph_id": None, "config": {}, "context": None, "metadata": {}, "name": "n"}
        assert await asked("PATCH", assistant, {"name": "n"}) == [("assistants.update", changed)]
        latest = [("assistants.update", {**ASSISTANT, "version": 1})]
        assert await asked("POST", f"{assistant}/latest", {"version": 1}) == latest
        wanted = {"graph_id": None, "metadata": {}}
        assert await asked("POST", "/assistants/search", {}) == [("assistants.search", {**wanted, **page})]
        assert await asked("POST", "/assistants/count", {}) == [
            ("assistants.search", {**wanted, "limit": 0, "offset": 0})
        ]
        # of an assistant that not every graph has
        assert await asked("POST", f"{copy}/runs", {**RUN, "assistant_id": own}) == [
            CREATED_RUN,
            ("assistants.read", ASSISTANT),
        ]
        await recorder.work()

        payload = {**CRON, "config": {"configurable": {"cron_id": "?"}}}
        cron = {
            "payload": payload,
            "schedule": CRON["schedule"],
            "cron_id": "UUID",
            "thread_id": None,
            "user_id": "rita",
            "end_time": None,
            "metadata": {},
        }
        calls = await asked("POST", "/runs/crons", CRON)
        payload["config"]["configurable"]["cron_id"] = self.last["cron_id"]  # type: ignore[index]
        assert calls == [("crons.create", cron)]
        calls = await asked("POST", f"{thread}/runs/crons", {**CRON, "assistant_id": own})
        assert [name for name, _ in calls] == ["crons.create", "threads.read", "assistants.read"]
        assert calls[1][1] == {**THREAD, "metadata": {"owner": "rita"}}
        mine = f"/runs/crons/{self.last['cron_id']}"
        assert await asked("GET", mine) == [("crons.read", {"cron_id": "UUID"})]
        change = {"schedule": None, "end_time": None, "enabled": False, "on_run_completed": None}
        change = {"cron_id": "UUID", **change, "payload": {"enabled": False}}
        assert await asked("PATCH", mine, {"enabled": False}) == [("crons.update", change)]
        assert await asked("POST", "/runs/crons/search", {}) == [("crons.search", CRON_SEARCH), ("threads.search", {})]
        counted = {**CRON_SEARCH, "limit": 0}
        assert await asked("POST", "/runs/crons/count", {}) == [("crons.search", counted), ("threads.search", {})]
        assert await asked("DELETE", mine, stored=204) == [("crons.delete", {"cron_id": "UUID"})]

        item = {"namespace": ["a"], "key": "k", "value": {"v": 1}}
        put = {**PLACE, "value": {"v": 1}, "index": None, "ttl": None}
        assert await asked("PUT", "/store/items", item, stored=204) == [("store.put", put)]
        got = [("store.get", {**PLACE, "refresh_ttl": None})]
        assert await asked("GET", "/store/items?namespace=a&key=k") == got
        assert self.last["namespace"] == ["rita", "a"]
        search = {"namespace": ("a",), "filter": None, **page, "query": None, "refresh_ttl": None}
        assert await asked("POST", "/store/items/search", {"namespace_prefix": ["a"]}) == [("store.search", search)]
        assert [each["key"] for each in self.last["items"]] == ["k"]
        names = {"namespace": None, "suffix": None, "max_depth": None, "limit": 100, "offset": 0}
        assert await asked("POST", "/store/namespaces", {}) == [("store.list_namespaces", names)]
        assert self.last["namespaces"] == [["rita", "a"]]
        assert await asked("DELETE", "/store/items", {"namespace": ["a"], "key": "k"}, stored=204) == [
            ("store.delete", PLACE)
        ]

        assert await asked("DELETE", assistant, stored=204) == [
            ("assistants.delete", ASSISTANT),
            ("threads.update", INTERRUPT),
        ]
        assert await asked("POST", "/threads/prune", {"thread_ids": [thread_id]}) == [
            ("threads.delete", {"thread_ids": [thread_id]})
        ]
        assert await asked("DELETE", copy, stored=204) == [("threads.delete", THREAD)]
        command = {"id": 1, "method": "state.get", "params": {"namespace": []}}
        assert await asked("POST", f"{thread}/commands", command) == [READ]
        command = {"id": 1, "method": "run.start", "params": RUN}
        ((name, value),) = await asked("POST", f"{thread}/commands", command)
        assert (name, value["if_not_exists"]) == ("threads.create_run", "create")


# -- users beside each other -----------------------------------------------------------------------------------------


async def test_two_users_with_the_sdk(tenants: Site) -> None:
    alice, bob = tenants.sdk(bearer("alice@acme")), tenants.sdk(bearer("bob@acme"))
    thread = await alice.threads.create()
    assert thread["metadata"]["owner"] == "alice"
    thread_id = thread["thread_id"]
    await alice.runs.create(thread_id, "echo", input={"said": "hello"})
    await tenants.work()
    assert (await alice.threads.get(thread_id))["values"]["said"] == "hello"
    for refused in (
        bob.threads.get(thread_id),
        bob.threads.update(thread_id, metadata={"owner": "bob"}),
        bob.threads.get_state(thread_id),
        bob.threads.get_history(thread_id),
        bob.threads.update_state(thread_id, {"said": "bob"}),
        bob.runs.create(thread_id, "echo", input={}),
        bob.runs.create(thread_id, "echo", input={}, if_not_exists="create"),
        bob.runs.list(thread_id),
        bob.crons.create_for_thread(thread_id, "echo", schedule="0 0 1 1 *"),
        bob.threads.delete(thread_id),
    ):
        with pytest.raises(NotFoundError):
            await refused
    assert thread_id not in {each["thread_id"] for each in await bob.threads.search(limit=1000)}
    assert [each["thread_id"] for each in await alice.threads.search(ids=[thread_id])] == [thread_id]
    # a run that has been made by him is his, and its thread too
    run = await bob.runs.create(None, "echo", input={})
    assert run["metadata"]["owner"] == "bob"
    with pytest.raises(NotFoundError):
        await alice.threads.get(run["thread_id"])
    await tenants.work()
    await alice.aclose()
    await bob.aclose()


async def test_pruning_passes_over_what_is_hidden(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    hers = (await alice.post("/threads", json={})).json()["thread_id"]
    his = (await bob.post("/threads", json={})).json()["thread_id"]
    for strategy in ("keep_latest", "delete"):
        body = {"thread_ids": [hers, his, MISSING], "strategy": strategy}
        assert (await bob.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    assert (await alice.get(f"/threads/{hers}")).status_code == 200
    assert (await bob.get(f"/threads/{his}")).status_code == 404


async def test_an_assistant_that_cannot_be_read_cannot_be_run(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    made = (await alice.post("/assistants", json={"graph_id": "echo"})).json()
    assert made["metadata"] == {"owner": "alice"}
    for assistant_id in (made["assistant_id"], MISSING):
        body = {"assistant_id": assistant_id, "input": {}}
        for path in ("/runs", "/runs/wait", "/runs/stream", "/runs/batch"):
            answer = await bob.post(path, json=[body] if path.endswith("batch") else body)
            assert (answer.status_code, answer.json()) == (404, {"detail": "Thread or assistant not found."})
        answer = await bob.post("/runs/crons", json={"assistant_id": assistant_id, "schedule": "0 0 1 1 *"})
        assert (answer.status_code, answer.json()["detail"]) == (404, f"Assistant '{assistant_id}' not found")
    # of his own accord nobody changes or deletes the ones that every graph has
    system = (
        await bob.post("/assistants/search", json={"metadata": {"created_by": "system"}, "graph_id": "echo"})
    ).json()
    default = f"/assistants/{system[0]['assistant_id']}"
    assert (await bob.get(default)).status_code == 200
    assert (await bob.patch(default, json={"name": "his"})).status_code == 404
    assert (await bob.delete(default)).status_code == 404


async def test_deleting_an_assistant_with_its_threads_leaves_those_of_others(recorder: Site, heard: Any) -> None:
    async with recorder.http("anna") as anna, recorder.http("ben", **{"x-policy": "none"}) as ben:
        made = (await anna.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
        run = {"assistant_id": made, "input": {}, "if_not_exists": "create"}
        hers, his = str(uuid.uuid4()), str(uuid.uuid4())
        assert (await anna.post(f"/threads/{hers}/runs", json=run)).status_code == 200
        assert (await ben.post(f"/threads/{his}/runs", json=run)).status_code == 200
        await recorder.work()
        assert (await anna.delete(f"/assistants/{made}?delete_threads=true")).status_code == 204
        assert (await anna.get(f"/threads/{hers}")).status_code == 404
        assert (await ben.get(f"/threads/{his}")).status_code == 200


async def test_an_id_that_somebody_has_is_taken(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    hers = (await alice.post("/threads", json={})).json()["thread_id"]
    for way in ("raise", "do_nothing"):
        answer = await bob.post("/threads", json={"thread_id": hers, "if_exists": way})
        assert (answer.status_code, answer.json()) == (409, {"detail": f"Thread with ID {hers} already exists"})
    again = await alice.post("/threads", json={"thread_id": hers, "if_exists": "do_nothing"})
    assert again.status_code == 200
    assistant = (await alice.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
    body = {"graph_id": "echo", "assistant_id": assistant, "if_exists": "do_nothing"}
    assert (await bob.post("/assistants", json=body)).status_code == 409
    assert (await alice.post("/assistants", json=body)).status_code == 200


async def test_an_answer_is_repeated_for_its_own_user_only(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = (await alice.post("/threads", json={}, headers=key)).json()
    assert (await alice.post("/threads", json={}, headers=key)).json() == first
    assert (await bob.post("/threads", json={}, headers=key)).json()["thread_id"] != first["thread_id"]


async def test_a_stream_of_a_thread_has_nothing_for_others(tenants: Site, alice: httpx.AsyncClient) -> None:
    """Bob listens before there is a thread; it becomes Alice's."""
    thread_id = str(uuid.uuid4())
    heard: dict[str, list[str]] = {"alice": [], "bob": []}
    joined = {name: asyncio.Event() for name in heard}

    async def listen(name: str) -> None:
        async with (
            tenants.http(bearer(f"{name}@acme")) as client,
            client.stream("GET", f"/threads/{thread_id}/stream") as answer,
        ):
            joined[name].set()
            async for line in answer.aiter_lines():
                heard[name].append(line)
                if "run_done" in line:
                    return

    listening = {name: asyncio.create_task(listen(name)) for name in heard}
    for event in joined.values():
        await asyncio.wait_for(event.wait(), PATIENCE)
    body = {"assistant_id": "echo", "input": {"said": "hers"}, "if_not_exists": "create"}
    assert (await alice.post(f"/threads/{thread_id}/runs", json=body)).status_code == 200
    await tenants.work()
    await asyncio.wait_for(listening["alice"], PATIENCE)
    assert any("hers" in line for line in heard["alice"])
    listening["bob"].cancel()
    await asyncio.gather(*listening.values(), return_exceptions=True)
    assert all(not line or line.startswith(":") for line in heard["bob"])


# -- who acts --------------------------------------------------------------------------------------------------------


async def test_the_graph_knows_its_user(tenants: Site) -> None:
    alice = tenants.sdk(bearer("alice@acme"))
    thread_id = (await alice.threads.create())["thread_id"]
    posed = {"user_id": "bob", "langgraph_auth_user_id": "bob", "langgraph_auth_user": {"identity": "bob"}}
    run = await alice.runs.create(thread_id, "who", input={}, config={"configurable": posed})
    assert run["kwargs"]["config"]["configurable"]["langgraph_auth_user"]["org"] == "acme"
    await tenants.work()
    assert (await alice.threads.get_state(thread_id))["values"]["found"] == {
        "identity": "alice",
        "item": "alice",
        "org": "acme",
        "org_attribute": "acme",
        "permissions": ["ordinary"],
        "display_name": "alice",
        "is_authenticated": True,
        "langgraph_auth_user_id": "alice",
        "user_id": "alice",
        "permissions_beside": ["ordinary"],
        "server_info": "alice",
    }
    metadata = (await alice.threads.get_history(thread_id))[0]["metadata"]
    assert (metadata["langgraph_auth_user_id"], metadata["user_id"]) == ("alice", "alice")
    await alice.aclose()


async def test_crons_act_as_their_creator(tenants: Site, alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    """A handler is asked when they fire, and what it stamps makes the thread its creator's."""
    body = {
        "assistant_id": "who",
        "schedule": "* * * * *",
        "input": {},
        "on_run_completed": "keep",
        "metadata": {"of": "the cron"},
    }
    cron = (await alice.post("/runs/crons", json=body)).json()
    assert cron["metadata"] == {"of": "the cron", "owner": "alice"}
    assert cron["user_id"] == "alice"
    assert (await bob.get(f"/runs/crons/{cron['cron_id']}")).status_code == 404
    assert (await bob.post("/runs/crons/search", json={})).json() == []
    await _tick(tenants)
    await tenants.work()
    (found,) = (await alice.post("/threads/search", json={"metadata": {"of": "the cron"}})).json()
    assert found["metadata"]["owner"] == "alice"
    assert found["values"]["found"]["org"] == "acme"
    assert found["values"]["found"]["identity"] == "alice"
    assert (await bob.get(f"/threads/{found['thread_id']}")).status_code == 404
    assert (await alice.delete(f"/runs/crons/{cron['cron_id']}")).status_code == 204


async def test_whoever_changes_a_cron_of_the_projects_own_code_answers_for_it(recorder: Site, heard: Any) -> None:
    container = StateContainer(recorder.settings)
    payload = {"assistant_id": "echo", "schedule": "* * * * *", "input": {}, "metadata": {"owner": "carol"}}
    try:
        cron = await container.crons.create(SERVER, payload, thread_id=None)
        async with recorder.http("carol") as client:
            changed = await client.patch(f"/runs/crons/{cron.cron_id}", json={"input": {"said": "hers"}})
        assert changed.status_code == 200
        heard.calls.clear()
        report = await _tick(recorder)
        await container.crons.delete(SERVER, cron.cron_id)
    finally:
        await container.aclose()
    assert (report.crons_fired, report.crons_failed) == (1, 0)
    assert "threads.create_run" in [name for name, _ in heard.calls]
    await recorder.work()


async def test_a_cron_whose_creator_may_no_longer_is_refused(
    recorder: Site, heard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with recorder.http("carol") as client:
        cron = (await client.post("/runs/crons", json={"assistant_id": "echo", "schedule": "* * * * *"})).json()
        decide = heard.auth._global_handlers[-1]
        heard.calls.clear()

        async def refuse(ctx: Any, value: dict[str, Any]) -> bool:
            heard.calls.append((f"{ctx.resource}.{ctx.action}", ctx.user.identity))
            return False

        heard.auth._global_handlers[-1] = refuse
        try:
            report = await _tick(recorder)
        finally:
            heard.auth._global_handlers[-1] = decide
        assert (report.crons_fired, report.crons_failed, report.failures) == (0, 1, 0)
        assert heard.calls == [("threads.create_run", "carol")]
        assert "cron refused: Forbidden" in caplog.text
        after = (await client.get(f"/runs/crons/{cron['cron_id']}")).json()
        assert after["next_run_date"] > cron["next_run_date"]  # it goes on with its next time
        await client.delete(f"/runs/crons/{cron['cron_id']}")


async def _tick(site: Site) -> Any:
    scheduler = SchedulerContainer(site.settings, manifest=site.manifest)
    try:
        return await scheduler.scheduler.tick(datetime.now(UTC) + timedelta(minutes=2))
    finally:
        await scheduler.aclose()


async def test_a_store_handler_that_returns_a_filter_is_told_so(
    recorder: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the official server, items are not filtered; here the log says it."""
    async with recorder.http("olga", **{"x-policy": "eq"}) as client:
        for _ in range(2):
            assert (await client.get("/store/items?namespace=a&key=none")).json() is None
    told = [record for record in caplog.records if getattr(record, "action", None) == "auth_filter"]
    assert len(told) == 1
    assert "store.get" in told[0].getMessage()


async def test_a_remote_graph_calls_with_its_users_headers(tenants: Site) -> None:
    """LangGraph's own client of a served graph."""
    headers = {"authorization": bearer("alice@acme")}
    client, sync_client = tenants.sdk(bearer("alice@acme")), get_sync_client(url=tenants.url, headers=headers)
    remote = RemoteGraph("echo", client=client, sync_client=sync_client)
    stranger = RemoteGraph("echo", url=tenants.url, headers={"authorization": bearer("bob@acme")})
    thread = await client.threads.create()
    config: Any = {"configurable": {"thread_id": thread["thread_id"]}}
    running = asyncio.create_task(remote.ainvoke({"said": "hello"}, config))
    try:
        async with asyncio.timeout(PATIENCE):
            while not running.done():
                await tenants.work()
        assert running.result()["said"] == "hello"
        assert (await remote.aget_state(config)).values["said"] == "hello"
        for refused in (stranger.aget_state(config), stranger.ainvoke({"said": "hello"}, config)):
            with pytest.raises(NotFoundError):
                await refused
    finally:
        sync_client.close()
        await client.aclose()
        await stranger._validate_client().aclose()
        stranger._validate_sync_client().close()


_JAVASCRIPT = """
import assert from "node:assert/strict";
const { Client } = await import("@langchain/langgraph-sdk");
const client = (token) => new Client({
  apiUrl: process.env.LANGGRAPH_URL, apiKey: null, callerOptions: { maxRetries: 0 },
  defaultHeaders: token ? { authorization: `Bearer ${token}` } : {},
});
const [alice, bob, nobody] = [client("alice@acme"), client("bob@acme"), client(null)];
const status = (number) => (error) => error.status === number || assert.fail(String(error));
const { thread_id: id, metadata } = await alice.threads.create();
assert.equal(metadata.owner, "alice");
assert.equal((await alice.threads.get(id)).thread_id, id);
await assert.rejects(bob.threads.get(id), status(404));
await assert.rejects(bob.runs.create(id, "echo", { input: {} }), status(404));
assert.equal((await bob.threads.search({ ids: [id] })).length, 0);
await assert.rejects(nobody.threads.search(), status(401));
await assert.rejects(client("teapot").threads.search(), status(418));
"""


@pytest.mark.usefixtures("node")
async def test_the_javascript_sdk_with_its_users_headers(tenants: Site) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "NODE"))}
    done = await asyncio.to_thread(
        subprocess.run,
        ["node", "--input-type=module", "-e", _JAVASCRIPT],
        cwd=FOLDER,
        env={**environ, "LANGGRAPH_URL": tenants.url},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_whoever_waits_reads(recorder: Site, heard: Any) -> None:
    async with recorder.http("wanda") as client:
        thread_id = (await client.post("/threads", json={})).json()["thread_id"]
        heard.calls.clear()
        waiting = asyncio.create_task(client.post(f"/threads/{thread_id}/runs/wait", json=RUN))
        async with asyncio.timeout(PATIENCE):
            while not waiting.done():
                await recorder.work()
        assert waiting.result().json()["said"] == "x"
        assert [name for name, _ in heard.calls] == ["threads.create_run", "threads.read"]


async def test_a_handler_that_hangs_keeps_no_other_cron_waiting(
    recorder: Site, heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_service, "HANDLER_PATIENCE", 0.2)
    body = {"assistant_id": "echo", "schedule": "* * * * *", "input": {}}
    async with recorder.http("hank") as hank, recorder.http("ida") as ida:
        hangs = (await hank.post("/runs/crons", json=body)).json()
        fires = (await ida.post("/runs/crons", json=body)).json()
        decide = heard.auth._global_handlers[-1]

        async def hang(ctx: Any, value: dict[str, Any]) -> Any:
            if ctx.user.identity == "hank":
                await asyncio.Event().wait()
            return await decide(ctx=ctx, value=value)

        monkeypatch.setattr(heard.auth, "_global_handlers", [hang])
        report = await _tick(recorder)
        assert (report.crons_fired, report.crons_failed, report.failures) == (1, 1, 0)
        # nobody has said no: it is tried again
        left = (await hank.get(f"/runs/crons/{hangs['cron_id']}")).json()
        assert left["next_run_date"] == hangs["next_run_date"]
        for client, cron in ((hank, hangs), (ida, fires)):
            assert (await client.delete(f"/runs/crons/{cron['cron_id']}")).status_code == 204
    await recorder.work()


async def test_crons_of_the_projects_own_code_are_nobodys(recorder: Site, heard: Any) -> None:
    """Made outside of a request, say when its application starts: no handler is asked, now or when they fire."""
    container = StateContainer(recorder.settings)
    payload = {"assistant_id": "echo", "schedule": "* * * * *", "input": {}}
    try:
        cron = await container.crons.create(SERVER, payload, thread_id=None)
        report = await _tick(recorder)
        await container.crons.delete(SERVER, cron.cron_id)
    finally:
        await container.aclose()
    assert (report.crons_fired, report.crons_failed) == (1, 0)
    assert heard.calls == []
    await recorder.work()
