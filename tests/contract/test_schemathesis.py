"""Requests made up from our own OpenAPI document, against the dev command with Postgres, Valkey and a worker.

For every operation, schemathesis makes requests that fit the document and requests that break it in one place, on ids that
exist. No answer is a 500; each has a documented status, content type, headers and a body that fits its schema. The requests
are the same on every run; the slow form makes many more.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
from dev_server import DevServer
from hypothesis import HealthCheck, Phase, given, settings

from langgraph_serverless.http.openapi_texts import ERRORS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS, load_all_checks

load_all_checks()

#: What an answer must keep to. Left out: whether bad input is refused, which is lenient on purpose (unknown fields pass,
#: query parameters are read as text), and tests/security looks at closely.
KEPT = tuple(
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
)
#: Longest a request may take (seconds): those that wait for a run wait for one that ends at once.
PATIENCE = 20
#: Streams that never end by themselves, so no answer of theirs is ever complete; they have tests of their own.
ENDLESS = frozenset({"stream_thread", "stream_thread_events"})
#: A graph that ends at once, whatever it is given.
GRAPH = "line"


@pytest.fixture(scope="module")
def document(hostile_server: DevServer) -> Any:
    raw = httpx.get(f"{hostile_server.url}/openapi.json").json()
    return schemathesis.openapi.from_dict(raw)


@pytest.fixture(scope="module")
def client(hostile_server: DevServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hostile_server.url, timeout=PATIENCE) as client:
        yield client


def made(client: httpx.Client, operation: Any) -> dict[str, str]:
    """Path parameters that exist, as far as the operation has them."""
    wanted = {parameter.name for parameter in operation.path_parameters}
    ids: dict[str, str] = {}
    if "thread_id" in wanted or "run_id" in wanted:
        thread_id = client.post("/threads", json={}).json()["thread_id"]
        run = {"assistant_id": GRAPH, "input": {"log": ["in"]}}
        awaited = client.post(f"/threads/{thread_id}/runs/wait", json=run)
        ids = {
            "thread_id": thread_id,
            "run_id": awaited.headers["content-location"].rpartition("/")[2],
            "checkpoint_id": client.get(f"/threads/{thread_id}/state").json()["checkpoint_id"],
        }
    if "assistant_id" in wanted:
        ids["assistant_id"] = client.post("/assistants", json={"graph_id": "nested"}).json()["assistant_id"]
    if "cron_id" in wanted:
        cron = {"assistant_id": GRAPH, "schedule": "0 5 1 1 *"}
        ids["cron_id"] = client.post("/runs/crons", json=cron).json()["cron_id"]
    if "namespace" in wanted:
        ids["namespace"] = "child"
    return {name: value for name, value in ids.items() if name in wanted}


def tamed(body: Any) -> Any:
    """A body whose run exists and ends soon: made-up ones would all be refused, or waited for for years."""
    if isinstance(body, list):
        return [tamed(item) for item in body]
    if isinstance(body, dict):
        assistant = body.get("assistant_id")
        if isinstance(assistant, str) and "graph_id" not in body and len(assistant) != 36:
            body["assistant_id"] = GRAPH
        if isinstance(body.get("after_seconds"), (int, float)) and body["after_seconds"] <= 1e9:
            body["after_seconds"] = min(body["after_seconds"], 0)
        if isinstance(body.get("schedule"), str) and len(body["schedule"]) % 2:
            body["schedule"] = "0 5 * * *"
        if isinstance(body.get("graph_id"), str) and len(body["graph_id"]) % 2:
            body["graph_id"] = GRAPH
    return body


def exercise(document: Any, client: httpx.Client, name: str, examples: int) -> None:
    operation = document.find_operation_by_id(name)
    session = requests.Session()
    ids = made(client, operation)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
            continue
        fixed = ids if mode is GenerationMode.POSITIVE or operation.body or operation.query else None

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode, path_parameters=fixed or None))
        def send(case: Any) -> None:
            case.body = tamed(case.body)
            response = case.call(base_url=str(client.base_url), session=session, timeout=PATIENCE)
            case.validate_response(response, checks=KEPT)

        with session:
            send()


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - ENDLESS))
def test_an_operation_answers_as_documented(document: Any, client: httpx.Client, name: str) -> None:
    exercise(document, client, name, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(ERRORS.keys() - ENDLESS))
def test_an_operation_answers_as_documented_to_many_requests(document: Any, client: httpx.Client, name: str) -> None:
    exercise(document, client, name, 300)


def test_every_operation_is_tried(document: Any) -> None:
    operations = {result.ok().definition.raw["operationId"] for result in document.get_all_operations()}
    assert operations == set(ERRORS), json.dumps(sorted(operations ^ set(ERRORS)))
