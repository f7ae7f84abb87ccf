"""Crons over HTTP: `../contract/crons.md`, with the SDK and by hand. Firing is in `tests/integration/test_scheduler.py`."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
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


async def test_no_client_says_for_whom_its_runs_encrypt(http: httpx.AsyncClient) -> None:
    """Where encryption is on and nothing else says so, the key in the payload would be believed."""
    cron = await create(http, encryption_context={"tenant": "another"})
    assert "encryption_context" not in cron["payload"]
    changes = {"encryption_context": {"tenant": "another"}, "input": {"x": 1}}
    changed = await http.patch(f"/runs/crons/{cron['cron_id']}", json=changes)
    assert changed.json()["payload"]["input"] == {"x": 1}
    assert "encryption_context" not in changed.json()["payload"]


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
        (
            {"schedule": "* * * * * *"},
            422,
            "Invalid cron schedule: '* * * * * *'. Reason: it fires more than once in 5 s",
        ),
        ({"schedule": "1," * 25_000 + "1 * * * *"}, 422, "Invalid cron schedule: '1,1,1,"),
        ({"schedule": "* " * 25_000}, 422, "Invalid cron schedule: '* * "),
        ({"timezone": "E" * 50_000}, 422, "Invalid timezone: 'EEE"),
        ({"end_time": "9999-12-31T23:59:59Z"}, 422, "Invalid end_time: '9999-12-31T23:59:59Z'. Must be in the years"),
        ({"end_time": "2" * 50_000}, 422, "Invalid end_time: '222"),
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
        ({"webhook": "http://127.0.0.1:9/hook"}, 422, "Webhook host blocked: loopback IP range"),
        ({"webhook": "http://127.0.0.1/"}, 422, "Webhook host blocked: loopback IP range"),
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
    # it was sent, so the payload shows it
    payload = {**cron["payload"], "thread_id": "t"}
    assert response.json() == {**cron, "payload": payload, "updated_at": response.json()["updated_at"]}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [(b"{}", 400, "Request body cannot be empty"), (b"", 422, "Invalid JSON in request body")],
)
async def test_an_empty_patch_is_refused(http: httpx.AsyncClient, body: bytes, status: int, detail: str) -> None:
    cron = await create(http)
    response = await http.patch(f"/runs/crons/{cron['cron_id']}", content=body)
    assert (response.status_code, response.json()) == (status, {"detail": detail})


@pytest.mark.parametrize(
    "body",
    [
        {"schedule": "bad"},
        {"schedule": "0 0 30 2 *"},
        {"schedule": "* * * * * *"},
        {"schedule": "1," * 25_000 + "1 * * * *"},
        {"timezone": "Mars/X"},
        {"timezone": "E" * 50_000},
        {"end_time": "x"},
        {"end_time": "9999-12-31T23:59:59Z"},
        {"enabled": "no"},
        {"webhook": "http://127.0.0.1:9/hook"},
    ],
)
async def test_a_refused_patch_changes_nothing(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    cron = await create(http)
    assert (await http.patch(f"/runs/crons/{cron['cron_id']}", json=body)).status_code == 422
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).json() == cron


async def test_a_far_end(http: httpx.AsyncClient) -> None:
    cron = await create(http, end_time="9998-12-30T23:59:59+14:00", schedule="* * * * * */5")
    assert cron["end_time"] == "9998-12-30T09:59:59+00:00"
    found = await http.post("/runs/crons/search", json={"sort_by": "end_time"})
    assert found.json() == [cron]


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


ZONE = ZoneInfo("Asia/Kolkata")
FAR = datetime(2090, 1, 1, tzinfo=UTC)
COMMON: dict[str, Any] = {
    "input": {"x": 1},
    "metadata": {"m": 1},
    "config": {"tags": ["t"], "recursion_limit": 9},
    "context": {"k": 1},
    "interrupt_before": ["a"],
    "interrupt_after": "*",
    "webhook": "https://8.8.8.8/hook",
    "enabled": False,
    "stream_mode": ["values", "custom"],
    "stream_subgraphs": True,
    "stream_resumable": True,
    "durability": "sync",
}


async def test_every_argument_of_the_sdk(sdk: LangGraphClient, http: httpx.AsyncClient, thread_id: str) -> None:
    assistant_id = str(default_assistant_id(GRAPH))
    extra: dict[str, Any] = {"headers": {"x-mine": "1"}, "params": {"any": "thing"}}
    more: dict[str, Any] = {"end_time": FAR, "timezone": ZONE, "multitask_strategy": "reject"}
    shown = {"end_time": FAR.isoformat(), "timezone": "Asia/Kolkata", "multitask_strategy": "reject"}
    made: list[dict[str, Any]] = [
        await sdk.crons.create(GRAPH, schedule="0 5 * * *", on_run_completed="keep", **COMMON, **more, **extra),
        await sdk.crons.create_for_thread(thread_id, GRAPH, schedule="0 5 * * *", **COMMON, **more, **extra),
    ]  # type: ignore[list-item]
    for cron, own in zip(made, ({"on_run_completed": "keep"}, {}), strict=True):
        config = {**COMMON["config"], "configurable": {"cron_id": cron["cron_id"]}}
        sent = {"assistant_id": assistant_id, "schedule": "0 5 * * *", **COMMON, **shown, **own, "config": config}
        assert cron["payload"] == sent
        assert cron["next_run_date"].endswith("T23:30:00+00:00")
        assert (cron["end_time"], cron["timezone"], cron["enabled"]) == (FAR.isoformat(), "Asia/Kolkata", False)
        assert cron["metadata"] == {"m": 1}
    assert [cron["on_run_completed"] for cron in made] == ["keep", None]

    changes = {**COMMON, "input": {"y": 2}, "metadata": {"n": 2}, "enabled": True, "durability": "exit"}
    changed: dict[str, Any] = await sdk.crons.update(  # type: ignore[assignment]
        made[0]["cron_id"],
        schedule="0 6 * * *",
        end_time=None,
        timezone=UTC,
        on_run_completed="delete",
        **changes,
        **extra,
    )
    assert changed["next_run_date"].endswith("T06:00:00+00:00")
    assert (changed["timezone"], changed["end_time"], changed["on_run_completed"]) == ("UTC", None, "delete")
    assert (changed["enabled"], changed["metadata"]) == (True, {"m": 1, "n": 2})
    assert changed["payload"] == {
        **made[0]["payload"],
        **changes,
        "config": {**COMMON["config"], "configurable": {"cron_id": changed["cron_id"]}},
        "schedule": "0 6 * * *",
        "end_time": None,
        "timezone": "UTC",
        "on_run_completed": "delete",
    }

    found = await sdk.crons.search(
        assistant_id=assistant_id,
        thread_id=thread_id,
        enabled=False,
        metadata={"m": 1},
        limit=5,
        offset=0,
        sort_by="next_run_date",
        sort_order="asc",
        select=["cron_id"],
        **extra,
    )
    assert found == [{"cron_id": made[1]["cron_id"]}]
    assert await sdk.crons.count(assistant_id=assistant_id, thread_id=thread_id, metadata={"m": 1}, **extra) == 1
    for cron in made:
        await sdk.crons.delete(cron["cron_id"], **extra)
    assert await sdk.crons.count() == 0


NOT_NULL = sorted({*COMMON, "schedule", "timezone", "on_run_completed"} - {"input"})


async def test_null_is_no_value(http: httpx.AsyncClient) -> None:
    """Only ``end_time`` may be null, in a change: it takes the end away."""
    cron = await create(http, end_time=FAR.isoformat())
    for field in (*NOT_NULL, "end_time"):
        status, text = await refused(http, **{field: None})
        assert (status, text.startswith("null is not ")) == (422, True)
        response = await http.patch(f"/runs/crons/{cron['cron_id']}", json={field: None})
        assert response.status_code == (200 if field == "end_time" else 422)
    stored = (await http.get(f"/runs/crons/{cron['cron_id']}")).json()
    assert {**stored, "updated_at": 0} == {
        **cron,
        "end_time": None,
        "payload": {**cron["payload"], "end_time": None},
        "updated_at": 0,
    }


async def test_searches_sort_by_every_field(
    http: httpx.AsyncClient, database: psycopg.AsyncConnection[Any], thread_id: str
) -> None:
    """Whoever has no date or thread comes at one end, and pages do not lose it."""
    await create(http, metadata={"n": 1}, schedule="0 7 * * *")
    await create(http, metadata={"n": 2}, end_time="2090-01-01T00:00:00Z", assistant_id="nested")
    await create(http, metadata={"n": 3}, end_time="2020-01-01T00:00:00Z")
    body = {"assistant_id": GRAPH, "schedule": "0 6 * * *", "metadata": {"n": 4}}
    assert (await http.post(f"/threads/{thread_id}/runs/crons", json=body)).status_code == 200
    for field in ("cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"):
        for order in ("asc", "desc"):
            query = {"sort_by": field, "sort_order": order}
            response = await http.post("/runs/crons/search", json=query)
            whole = response.json()
            values = [cron[field] for cron in whole if cron[field] is not None]
            assert values == sorted(values, reverse=order == "desc")
            pages = [
                (await http.post("/runs/crons/search", json={**query, "limit": 1, "offset": offset})).json()
                for offset in range(4)
            ]
            assert [cron for page in pages for cron in page] == whole
    everything = await http.post("/runs/crons/search", json={"select": [], "limit": 1})
    assert set(everything.json()[0]) == set(whole[0])


async def test_the_payload_is_the_body_as_it_was_sent(http: httpx.AsyncClient) -> None:
    cron = await create(http, mine={"x": [1, None]}, thread_id="t")
    assert (cron["payload"]["mine"], cron["payload"]["thread_id"], cron["thread_id"]) == ({"x": [1, None]}, "t", None)
    changed = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"other": 1})).json()
    assert changed["payload"] == {**cron["payload"], "other": 1}
