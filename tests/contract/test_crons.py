"""Crons over HTTP: `../contract/crons.md`, with the SDK and by hand. Firing is in `tests/integration/test_scheduler.py`."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from langgraph_serverless.domain.ids import default_assistant_id

GRAPH = "chat"
pytestmark = pytest.mark.usefixtures("clean_database")


@pytest.fixture
async def thread_id(clean_database: None, sdk: LangGraphClient) -> str:
    return (await sdk.threads.create())["thread_id"]


async def create(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await http.post("/runs/crons", json={"assistant_id": GRAPH, "schedule": "0 5 * * *", **body})
    assert response.status_code == 200, response.text
    cron: dict[str, Any] = response.json()
    return cron


async def refused(http: httpx.AsyncClient, **body: Any) -> tuple[int, str]:
    response = await http.post("/runs/crons", json={"assistant_id": GRAPH, "schedule": "0 5 * * *", **body})
    return response.status_code, response.json()["detail"].partition("\n")[0]


async def test_a_stateless_cron(sdk: LangGraphClient) -> None:
    before = datetime.now(UTC)
    cron: dict[str, Any] = await sdk.crons.create(  # type: ignore[assignment]
        GRAPH,
        schedule="0 5 * * *",
        input={"x": 1},
        metadata={"m": 1},
        config={"configurable": {"q": 1}},
    )
    assistant_id = str(default_assistant_id(GRAPH))
    assert uuid.UUID(cron["cron_id"]).version == 7
    assert cron == {
        "cron_id": cron["cron_id"],
        "assistant_id": assistant_id,
        "thread_id": None,
        "user_id": "",
        "end_time": None,
        "schedule": "0 5 * * *",
        "timezone": None,
        "payload": {
            "assistant_id": assistant_id,
            "schedule": "0 5 * * *",
            "input": {"x": 1},
            "metadata": {"m": 1},
            "config": {"configurable": {"q": 1, "cron_id": cron["cron_id"]}},
        },
        "next_run_date": cron["next_run_date"],
        "metadata": {"m": 1},
        "on_run_completed": "delete",
        "enabled": True,
        "created_at": cron["created_at"],
        "updated_at": cron["created_at"],
    }
    due = datetime.fromisoformat(cron["next_run_date"])
    assert cron["next_run_date"].endswith("T05:00:00+00:00")
    assert timedelta() < due - before <= timedelta(days=1, seconds=5)
    assert await sdk.http.get(f"/runs/crons/{cron['cron_id']}") == cron


async def test_a_thread_cron(sdk: LangGraphClient, thread_id: str) -> None:
    cron: dict[str, Any] = await sdk.crons.create_for_thread(  # type: ignore[assignment]
        thread_id, str(default_assistant_id(GRAPH)), schedule="@daily", timezone="Europe/Berlin", enabled=False
    )
    assert (cron["thread_id"], cron["on_run_completed"]) == (thread_id, None)
    assert (cron["timezone"], cron["enabled"]) == ("Europe/Berlin", False)
    assert datetime.fromisoformat(cron["next_run_date"]).hour in (22, 23)
    assert cron["payload"]["timezone"] == "Europe/Berlin"


async def test_a_thread_cron_needs_its_thread(sdk: LangGraphClient) -> None:
    missing = str(uuid.uuid4())
    with pytest.raises(NotFoundError, match=f"Thread with ID '{missing}' not found"):
        await sdk.crons.create_for_thread(missing, GRAPH, schedule="* * * * *")
    with pytest.raises(UnprocessableEntityError, match="Invalid thread ID: must be a UUID"):
        await sdk.crons.create_for_thread("nope", GRAPH, schedule="* * * * *")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"schedule": "bad"}, 422, "Invalid cron schedule: 'bad'. Reason: "),
        ({"schedule": "0 0 30 2 *"}, 422, "Invalid cron schedule: '0 0 30 2 *'. Reason: "),
        ({"schedule": 5}, 422, '5 is not of type "string"'),
        ({"timezone": "Mars/X"}, 422, "Invalid timezone: 'Mars/X'. "),
        ({"end_time": "garbage"}, 422, "Invalid end_time: 'garbage'. "),
        ({"assistant_id": "nope"}, 404, "Assistant 'nope' not found"),
        ({"assistant_id": str(uuid.UUID(int=5))}, 404, f"Assistant '{uuid.UUID(int=5)}' not found"),
        ({"on_run_completed": "bad"}, 422, '"bad" is not'),
        ({"multitask_strategy": "bad"}, 422, '"bad" is not'),
        ({"stream_mode": "bad"}, 422, '"bad" is not'),
        ({"durability": "bad"}, 422, '"bad" is not'),
        ({"metadata": 1}, 422, '1 is not of type "object"'),
        ({"webhook": ""}, 422, '"" is shorter than 1 character'),
        ({"config": {"configurable": {"a": 1}}, "context": {"b": 1}}, 400, "Cannot specify both"),
    ],
)
async def test_what_is_refused(http: httpx.AsyncClient, body: dict[str, Any], status: int, detail: str) -> None:
    found, text = await refused(http, **body)
    assert found == status
    assert text.startswith(detail)
    assert (await http.post("/runs/crons/count", json={})).json() == 0


@pytest.mark.parametrize("missing", ["schedule", "assistant_id"])
async def test_what_is_required(http: httpx.AsyncClient, missing: str) -> None:
    body = {"schedule": "* * * * *", "assistant_id": GRAPH}
    del body[missing]
    response = await http.post("/runs/crons", json=body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f'"{missing}" is a required property')


async def test_an_end_in_the_past_makes_a_finished_cron(http: httpx.AsyncClient) -> None:
    cron = await create(http, end_time="2020-01-01T00:00:00")
    assert cron["next_run_date"] is None
    assert cron["end_time"] == "2020-01-01T00:00:00+00:00"
    assert cron["payload"]["end_time"] == "2020-01-01T00:00:00"


async def test_a_missing_cron(http: httpx.AsyncClient) -> None:
    missing = uuid.uuid4()
    for method in ("GET", "DELETE"):
        response = await http.request(method, f"/runs/crons/{missing}")
        assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
    response = await http.patch(f"/runs/crons/{missing}", json={"enabled": False})
    assert (response.status_code, response.json()) == (404, {"detail": f"Cron '{missing}' not found"})
    for method in ("GET", "DELETE", "PATCH"):
        response = await http.request(method, "/runs/crons/nope", json={"enabled": False})
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid cron ID: must be a UUID"})
    assert (await http.get("/runs/crons")).status_code == 405


async def test_delete(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron = await create(http)
    response = await http.delete(f"/runs/crons/{cron['cron_id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).status_code == 404


async def test_patch_merges_the_metadata_and_replaces_the_rest(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron = await create(
        http, metadata={"a": 1, "b": 1}, input={"x": 1}, config={"configurable": {"q": 1}, "tags": ["t"]}
    )
    changed: dict[str, Any] = await sdk.crons.update(  # type: ignore[assignment]
        cron["cron_id"],
        metadata={"b": 2},
        input={"y": 2},
        config={"configurable": {"r": 2}},
        schedule="30 6 * * *",
        timezone="America/New_York",
        on_run_completed="keep",
    )
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert changed["payload"] == {
        **cron["payload"],
        "metadata": {"b": 2},
        "input": {"y": 2},
        "config": {"configurable": {"r": 2, "cron_id": cron["cron_id"]}},
        "schedule": "30 6 * * *",
        "timezone": "America/New_York",
        "on_run_completed": "keep",
    }
    assert (changed["schedule"], changed["on_run_completed"]) == ("30 6 * * *", "keep")
    assert datetime.fromisoformat(changed["next_run_date"]).strftime("%H:%M") in ("10:30", "11:30")
    assert changed["updated_at"] > cron["updated_at"]
    assert changed["created_at"] == cron["created_at"]
    assert await sdk.http.get(f"/runs/crons/{cron['cron_id']}") == changed


async def test_patch_ignores_what_is_fixed(http: httpx.AsyncClient) -> None:
    cron = await create(http)
    response = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"assistant_id": "other", "thread_id": "t"})
    assert response.status_code == 200
    assert response.json() == {**cron, "updated_at": response.json()["updated_at"]}


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_an_empty_patch_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    cron = await create(http)
    response = await http.patch(f"/runs/crons/{cron['cron_id']}", content=body)
    assert (response.status_code, response.json()) == (400, {"detail": "Request body cannot be empty"})


@pytest.mark.parametrize("body", [{"schedule": "bad"}, {"timezone": "Mars/X"}, {"end_time": "x"}, {"enabled": "no"}])
async def test_a_refused_patch_changes_nothing(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    cron = await create(http)
    assert (await http.patch(f"/runs/crons/{cron['cron_id']}", json=body)).status_code == 422
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).json() == cron


async def test_an_end_can_be_set_and_cleared(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    cron_id = (await create(http))["cron_id"]
    past = datetime(2020, 1, 1, tzinfo=UTC)
    ended: dict[str, Any] = await sdk.crons.update(cron_id, end_time=past)  # type: ignore[assignment]
    assert (ended["end_time"], ended["next_run_date"]) == (past.isoformat(), None)
    again: dict[str, Any] = await sdk.crons.update(cron_id, end_time=None)  # type: ignore[assignment]
    assert again["end_time"] is None
    assert again["next_run_date"] is not None


async def test_pausing_keeps_the_date(http: httpx.AsyncClient) -> None:
    cron = await create(http)
    paused = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": False})).json()
    assert (paused["enabled"], paused["next_run_date"]) == (False, cron["next_run_date"])
    assert paused["payload"]["enabled"] is False


async def test_search_and_count(sdk: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    first = await create(http, metadata={"k": 1, "kind": "x"}, schedule="0 7 * * *")
    second = await create(http, metadata={"k": 2, "kind": "x"}, schedule="0 6 * * *", enabled=False)
    other: dict[str, Any] = await sdk.crons.create_for_thread(thread_id, "nested", schedule="0 5 * * *")  # type: ignore[assignment]

    async def found(**body: Any) -> list[str]:
        return [cron["cron_id"] for cron in (await http.post("/runs/crons/search", json=body)).json()]

    ids = [cron["cron_id"] for cron in (first, second, other)]
    assert await found() == ids[::-1]
    assert await found(sort_by="cron_id", sort_order="asc") == ids
    assert await found(assistant_id=str(default_assistant_id("nested"))) == [ids[2]]
    assert await found(thread_id=thread_id) == [ids[2]]
    assert await found(enabled=False) == [ids[1]]
    assert await found(metadata={"kind": "x"}) == [ids[1], ids[0]]
    assert await found(metadata={"k": 1}) == [ids[0]]
    response = await http.post("/runs/crons/search", json={"limit": 2, "offset": 0})
    assert [cron["cron_id"] for cron in response.json()] == ids[:0:-1]
    assert (response.headers["x-pagination-total"], response.headers["x-pagination-next"]) == ("3", "2")
    assert response.json()[0] == other
    selected = await sdk.crons.search(select=["cron_id", "schedule"], limit=1)
    assert selected == [{"cron_id": ids[2], "schedule": "0 5 * * *"}]
    assert await sdk.crons.count() == 3
    assert await sdk.crons.count(thread_id=thread_id) == 1
    assert await sdk.crons.count(assistant_id=str(default_assistant_id(GRAPH)), metadata={"k": 2}) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"assistant_id": GRAPH},
        {"select": ["now"]},
        {"sort_by": "schedule"},
        {"sort_order": "up"},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"metadata": []},
    ],
)
async def test_searches_that_are_refused(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await http.post("/runs/crons/search", json=body)).status_code == 422
