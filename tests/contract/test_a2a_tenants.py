"""The Agent-to-Agent protocol where everything is closed: users with tokens, rows of tenants, data encrypted.

What somebody else's is does not exist, whichever id of it a call names; and all goes on working for whoever it belongs to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from agents import PATIENCE, Receiver, ask, call, error, frames, message, path_of, receiver, result
from dev_server import ROOT, DevServer, free_port
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

PROJECTS = ROOT / "tests" / "fixtures" / "projects"
NOWHERE = -32001


@pytest.fixture(scope="module")
def server(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    folder = tmp_path_factory.mktemp("closed")
    project = folder / "project"
    shutil.copytree(PROJECTS / "tenants", project, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECTS / "sealed" / "encryption.py", project)
    config = json.loads((project / "langgraph.json").read_text())
    config["encryption"] = {"path": "./encryption.py:encryption"}
    (project / "langgraph.json").write_text(json.dumps(config))
    uri = databases.create()
    environ = {
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"closed-{free_port()}",
        "SCHEDULER_INTERVAL_SECS": "0.5",
        "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
        "TENANT_FROM": "org",
        "ROW_LEVEL_SECURITY": "true",
    }
    made = DevServer(project / "langgraph.json", folder / "data", environ)
    try:
        yield made.start()
    finally:
        made.close()
        databases.drop(uri)


@pytest.fixture
async def people(server: DevServer) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Alice; Bob, of the same tenant; Eve, of another; one who may do nothing, and one who may only look."""
    tokens = {
        "alice": "alice@acme",
        "bob": "bob@acme",
        "eve": "eve@other",
        "denied": "denied@acme",
        "reader": "reader@acme",
    }
    clients = {
        name: httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, headers={"authorization": f"Bearer {token}"})
        for name, token in tokens.items()
    }
    yield clients
    for client in clients.values():
        await client.aclose()


@pytest.fixture
def notified() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


async def test_nobody_without_a_token(server: DevServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get(path_of("echo"))).status_code == 401
        assert (await client.get("/.well-known/agent-card.json")).status_code == 401
        assert (await client.post(path_of("echo"), json=call("tasks/get", {"id": "x"}))).status_code == 401


async def test_the_card_says_how_to_authenticate(people: dict[str, httpx.AsyncClient]) -> None:
    card = (await people["alice"].get(path_of("echo"))).json()
    assert card["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert card["security"] == [{"token": []}]


async def test_what_is_somebody_elses_does_not_exist(people: dict[str, httpx.AsyncClient], notified: Receiver) -> None:
    alice = people["alice"]
    task = await result(alice, "ask", "message/send", {"message": message("book")})
    assert task["status"]["state"] == "input-required"
    config = {"taskId": task["id"], "id": "mine", "url": notified.url, "token": "canary-of-alice"}
    await result(alice, "ask", "CreateTaskPushNotificationConfig", config)
    named = {"id": task["id"]}
    of_task = {"taskId": task["id"], "id": "mine", "url": notified.url}
    calls = [
        ("tasks/get", named),
        ("GetTask", named),
        ("tasks/cancel", named),
        ("tasks/resubscribe", named),
        ("SubscribeToTask", named),
        ("message/send", {"message": message("Rome", taskId=task["id"])}),
        ("message/stream", {"message": message("Rome", taskId=task["id"])}),
        ("SendMessage", {"message": message("Rome", taskId=task["id"], contextId=task["contextId"])}),
        ("CreateTaskPushNotificationConfig", of_task),
        ("GetTaskPushNotificationConfig", of_task),
        ("ListTaskPushNotificationConfigs", of_task),
        ("DeleteTaskPushNotificationConfig", of_task),
    ]
    for other in ("bob", "eve"):
        for method, params in calls:
            code, text = await error(people[other], "ask", method, params)
            assert code == NOWHERE, (other, method, text)
            assert text == f"Task not found: {task['id']}"
        for params in ({}, {"contextId": task["contextId"]}):
            assert (await result(people[other], "ask", "ListTasks", params))["tasks"] == []
        # the context is hers too
        inside = {"message": message("hello", contextId=task["contextId"])}
        code, text = await error(people[other], "ask", "message/send", inside)
        assert code == -32602
        assert text.startswith("Failed to create run:")
    # nothing of it has come of that
    assert (await result(alice, "ask", "tasks/get", named))["status"]["state"] == "input-required"
    assert len((await alice.get(f"/threads/{task['contextId']}/runs")).json()) == 1
    (kept,) = (await result(alice, "ask", "ListTaskPushNotificationConfigs", of_task))["configs"]
    assert kept["token"] == "canary-of-alice"
    assert [each["id"] for each in (await result(alice, "ask", "ListTasks", {}))["tasks"]] == [task["id"]]

    first, *_, end = await frames(alice, "ask", "message/stream", {"message": message("Rome", taskId=task["id"])})
    assert (first["id"], end["status"]["state"]) == (task["id"], "completed")
    headers, body = notified.at_least(1)[0]
    assert headers["x-a2a-notification-token"] == "canary-of-alice"
    assert body["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert len(notified.received) == 1


async def test_what_is_said_is_encrypted(people: dict[str, httpx.AsyncClient], server: DevServer) -> None:
    sent = message("canary-of-what-was-said")
    config = {"url": "http://127.0.0.1:9/never", "token": "canary-of-a-token", "id": "c"}
    params = {"message": sent, "configuration": {"pushNotificationConfig": config}}
    task = await result(people["alice"], "echo", "message/send", params)
    assert [part["text"] for each in task["history"] for part in each["parts"]] == [
        sent["parts"][0]["text"],
        "I heard you",
    ]
    for table in ("run", "thread", "a2a_push", "a2a_turn", "outbox"):
        rows = json.dumps(server.rows(f"SELECT row_to_json(t)::text AS row FROM lgs.{table} t"))
        assert "canary" not in rows, table


async def test_who_may_do_nothing(people: dict[str, httpx.AsyncClient]) -> None:
    answer = await people["denied"].post(path_of("echo"), json=call("message/send", {"message": message("x")}))
    assert answer.status_code == 403
    assert (await people["denied"].get(path_of("echo"))).status_code == 403


async def test_who_may_only_look(people: dict[str, httpx.AsyncClient]) -> None:
    task = await result(people["alice"], "ask", "message/send", {"message": message("book")})
    seen = await result(people["reader"], "ask", "tasks/get", {"id": task["id"]})
    assert seen["status"]["state"] == "input-required"
    of_task = {"taskId": task["id"], "id": "mine", "url": "http://127.0.0.1:9/never"}
    for method, params in (
        ("tasks/cancel", {"id": task["id"]}),
        ("CreateTaskPushNotificationConfig", of_task),
        ("DeleteTaskPushNotificationConfig", of_task),
    ):
        code, _ = await error(people["reader"], "ask", method, params)
        assert code == NOWHERE, method
    assert (await result(people["alice"], "ask", "tasks/get", {"id": task["id"]}))["status"][
        "state"
    ] == "input-required"


async def test_nothing_is_left_behind(server: DevServer, people: dict[str, httpx.AsyncClient]) -> None:
    assert (await ask(people["eve"], "echo", "ListTasks", {}))["result"]["totalSize"] == 0
    await assert_invariants(server.database_uri, worker=True)
