"""Health, version, metrics, description and CORS, as ``contract/system.md`` says."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import exposition
import httpx
import pytest
from dev_server import DevServer
from langgraph_sdk.client import LangGraphClient

from langgraph_serverless import __version__
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.http.openapi_texts import TAGS
from langgraph_serverless.settings import Settings

ORIGIN = {"origin": "http://ui.example"}


@pytest.mark.parametrize("path", ["/ok", "/", "/ok?check_db=1"])
async def test_ok(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, response.json()) == (200, {"ok": True, "services": {}})


async def test_info(http: httpx.AsyncClient) -> None:
    info = (await http.get("/info")).json()
    assert info["version"] == __version__
    assert info["langgraph_py_version"] == version("langgraph")
    assert info["flags"]["assistants"] is True
    assert info["flags"]["crons"] is True
    assert info["host"]["kind"] == "self-hosted"


@pytest.mark.usefixtures("clean_database")
async def test_metrics_count_requests_by_route(http: httpx.AsyncClient) -> None:
    await http.get("/threads/not-an-id")
    await http.get("/threads/not-an-id-either")
    await http.get("/nowhere/at/all")
    metrics = (await http.get("/metrics", params={"format": "json"})).json()
    assert metrics["queue"] == {
        "n_pending": 0,
        "n_running": 0,
        "pending_runs_wait_time_max_secs": None,
        "pending_runs_wait_time_med_secs": None,
        "pending_unblocked_runs_wait_time_max_secs": None,
        "n_pending_over_limit": 0,
    }
    counts = {
        (item["method"], item["path"], item["status"]): item["count"] for item in metrics["api"]["http_requests_total"]
    }
    assert counts["GET", "/threads/{thread_id}", 422] >= 2
    assert counts["GET", "unmatched", 404] >= 1
    assert metrics["workers"] == {"max": 10, "active": 0, "available": 10}
    text = await http.get("/metrics")
    assert "\nlg_api_workers_available 10\n" in text.text
    assert text.headers["content-type"].startswith("text/plain")
    assert 'lg_api_http_requests_total{method="GET",path="/threads/{thread_id}",status="422"}' in text.text
    assert "\nlg_api_num_pending_runs 0\n" in text.text
    assert "lg_api_http_request_duration_seconds" in exposition.read(text.text)


@pytest.mark.usefixtures("clean_database")
async def test_metrics_measure_the_queue(http: httpx.AsyncClient, sdk: LangGraphClient, database: Any) -> None:
    thread = await sdk.threads.create()
    for seconds in (10, 30):
        await database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, available_at)"
            " VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'chat', '{}', now() - make_interval(secs => %s))",
            (thread["thread_id"], seconds),
        )
    await database.execute("UPDATE lgs.thread SET status = 'busy'")
    queue = (await http.get("/metrics", params={"format": "json"})).json()["queue"]
    assert (queue["n_pending"], queue["n_running"]) == (2, 0)
    assert 30 <= queue["pending_runs_wait_time_max_secs"] < 40
    assert 20 <= queue["pending_runs_wait_time_med_secs"] < 30
    await sdk.threads.delete(thread["thread_id"])


@pytest.mark.usefixtures("clean_database")
async def test_metrics_count_the_slots_of_workers(http: httpx.AsyncClient, sdk: LangGraphClient, database: Any) -> None:
    owners = [*["one"] * 3, *["two"] * 11, "lost"]
    for owner in owners:
        thread = await sdk.threads.create()
        await database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, attempt, lease_token, lease_owner,"
            " lease_expires_at) VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'chat', '{}', 'running', 1,"
            " gen_random_uuid(), %s, now() + make_interval(secs => %s))",
            (thread["thread_id"], owner, -5 if owner == "lost" else 20),
        )
    metrics = (await http.get("/metrics", params={"format": "json"})).json()
    assert metrics["workers"] == {"max": 20, "active": 14, "available": 6}
    assert metrics["leases"]["n_expired"] == 1
    await database.execute("TRUNCATE lgs.thread CASCADE")


async def test_health_names_what_is_down(settings: Settings, tmp_path: Path) -> None:
    no_postgres = {"database_uri": f"postgresql://nobody@/x?host={tmp_path}", "pool_timeout": 0.3}
    no_redis = {"redis_uri": f"unix://{tmp_path}/none.sock"}
    for down, status in ((no_redis, 200), (no_postgres, 500), (no_postgres | no_redis, 500)):
        container = ApiContainer(settings.replace(**down), manifest=Manifest.of({}))
        app = create_app(container, ["system"])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            assert (await client.get("/ok")).json() == {"ok": True, "services": {}}
            response = await client.get("/ok", params={"check_db": "1"})
        await container.aclose()
        body = response.json()
        assert (response.status_code, body["ok"]) == (status, status == 200)
        assert set(body["services"]) == {
            name for name, uri in (("postgres", "database_uri"), ("redis", "redis_uri")) if uri in down
        }
        assert str(tmp_path) not in response.text
        assert ("Postgres does not answer" in body.get("detail", "")) == (status == 500)


@pytest.mark.usefixtures("clean_database")
async def test_metrics_count_what_happened_to_leases_webhooks_and_crons(
    http: httpx.AsyncClient, sdk: LangGraphClient, database: Any
) -> None:
    thread = await sdk.threads.create()
    ends = [["handoff", "expired", None], ["expired", "expired", "expired"]]
    for kind, ending in zip((None, "bury"), ends, strict=True):
        history = [
            {"token": str(uuid.uuid4()), "owner": "w", "at": datetime.now(UTC).isoformat(), "end": end, "kind": None}
            for end in ending
        ]
        history[-1]["kind"] = kind
        handoffs = ending.count("handoff")
        await database.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, finished_at, attempt, handoffs,"
            " lease_history) VALUES (gen_random_uuid(), %s, gen_random_uuid(), 'chat', '{}', 'success', now(), %s, %s, %s)",
            (thread["thread_id"], 3 - handoffs, handoffs, json.dumps(history)),
        )
    for column, late in (("available_at", 90), ("dead_at", 5), ("delivered_at", 5)):
        await database.execute(
            f"INSERT INTO lgs.outbox (outbox_id, run_id, thread_id, url, payload, {column})"
            " VALUES (gen_random_uuid(), gen_random_uuid(), %s, 'https://example.com', '{}', now() - make_interval(secs => %s))",
            (thread["thread_id"], late),
        )
    await database.execute(
        "INSERT INTO lgs.cron (cron_id, assistant_id, schedule, payload, next_run_date)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), '* * * * *', '{}', now() - interval '2 minutes')"
    )
    metrics = (await http.get("/metrics", params={"format": "json"})).json()
    assert metrics["leases"] == {
        "n_expired": 0,
        "n_expiries_last_hour": 4,
        "n_handoffs_last_hour": 1,
        "n_repeats_last_hour": 2,
        "n_given_up_last_hour": 1,
    }
    assert (metrics["webhooks"]["n_undelivered"], metrics["webhooks"]["n_dead"]) == (1, 1)
    assert 90 <= metrics["webhooks"]["lag_max_secs"] < 100
    assert metrics["crons"]["n_overdue"] == 1
    assert 120 <= metrics["crons"]["lag_max_secs"] < 130
    text = (await http.get("/metrics")).text
    assert "\nlg_api_handoffs_last_hour 1\n" in text
    assert "\nlg_api_num_dead_webhooks 1\n" in text
    await database.execute("TRUNCATE lgs.cron, lgs.outbox, lgs.thread CASCADE")


async def test_the_description_shows_every_route_with_its_body(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(names) == sorted(set(names))
    assert {tag for operation in operations for tag in operation["tags"]} <= set(TAGS)
    assert {"create_thread", "search_assistants", "get_info"} <= set(names)
    create = document["paths"]["/threads"]["post"]
    assert create["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ThreadCreate"
    }
    missing = [
        reference
        for reference in _references(document)
        if reference.removeprefix("#/components/schemas/") not in document["components"]["schemas"]
    ]
    assert missing == []
    page = await http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [reference for item in node.values() for reference in _references(item)]
    if isinstance(node, list):
        return [reference for item in node for reference in _references(item)]
    return []


async def test_any_origin_may_read(http: httpx.AsyncClient) -> None:
    for path, status in (("/ok", 200), ("/threads/bad", 422), ("/nope", 404)):
        response = await http.get(path, headers=ORIGIN)
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == "*"
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert exposed == [
            *("x-pagination-total", "x-pagination-next", "content-location", "location"),
            "idempotency-replayed",
        ]
        assert response.headers["vary"] == "Origin"


async def test_preflight(http: httpx.AsyncClient) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-mine"}
    response = await http.options("/threads/search", headers=ORIGIN | asked)
    assert (response.status_code, response.text) == (200, "OK")
    headers = response.headers
    assert headers["access-control-allow-methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"
    assert headers["access-control-allow-headers"] == "content-type,x-mine"
    assert headers["access-control-max-age"] == "600"
    assert headers["access-control-allow-private-network"] == "true"
    assert headers["access-control-allow-origin"] == "*"


def test_a_server_with_a_worker_tells_what_that_has_done(examples_server: DevServer) -> None:
    """All of it in one answer that Prometheus can read."""
    with httpx.Client(base_url=examples_server.url, timeout=60) as client:
        before = exposition.read(client.get("/metrics").text)
        client.post("/runs/wait", json={"assistant_id": "minimal", "input": {"text": "hello"}}).raise_for_status()
        after = exposition.read(client.get("/metrics").text)
    counted = [
        each["lg_worker_runs_total"].samples["lg_worker_runs_total", (("outcome", "success"),)]
        for each in (before, after)
    ]
    assert counted[1] > counted[0]
    for name in ("queue_wait", "first_event", "run_duration"):
        samples = after[f"lg_worker_{name}_seconds"].samples
        assert sum(value for (sample, _), value in samples.items() if sample.endswith("_count")) >= 1
