"""Errors, as ``contract/errors.md`` says: shapes, statuses, and what hostile or broken requests get."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings


@pytest.mark.parametrize("content", [b"", b"{", b"nope", b"\xff", b'{"metadata": NaN}', b'{"a": "\\ud800"}'])
async def test_broken_json(http: httpx.AsyncClient, content: bytes) -> None:
    for path in ("/threads", "/threads/search", "/assistants", "/assistants/count"):
        response = await http.post(path, content=content)
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid JSON in request body"})


async def test_nesting_has_a_limit(http: httpx.AsyncClient) -> None:
    def body(levels: int) -> bytes:
        return b'{"metadata":' * levels + b"{}" + b"}" * levels

    assert (await http.post("/threads", content=body(190))).status_code == 200
    found = await http.post("/threads/search", json={"select": ["metadata"], "limit": 1})
    assert found.status_code == 200
    for levels in (201, 900, 100_000):
        response = await http.post("/threads", content=body(levels))
        assert response.status_code == 422
        assert response.json()["detail"].startswith("Invalid JSON in request body")


async def test_one_error_in_three_blocks(http: httpx.AsyncClient) -> None:
    response = await http.post("/threads", json={"if_exists": "bad", "metadata": 1, "ttl": 1, "unknown": 1})
    assert response.status_code == 422
    assert response.json() == {
        "detail": '1 is not of type "object"\n\nFailed validating "type" in schema["properties"]["metadata"]'
        '\n\nOn instance["metadata"]:\n    1'
    }
    response = await http.post("/threads", json={"if_exists": "bad"})
    assert response.json() == {
        "detail": '"bad" is not one of "raise" or "do_nothing"\n\n'
        'Failed validating "enum" in schema["properties"]["if_exists"]\n\n'
        'On instance["if_exists"]:\n    "bad"'
    }
    response = await http.post("/assistants", json={})
    assert response.json() == {
        "detail": '"graph_id" is a required property\n\nFailed validating "required" in schema\n\nOn instance:\n    {}'
    }


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"configurable": "abc"}, '["configurable"]'),
        ({"configurable": [["a", 1]]}, '["configurable"]'),
        ({"configurable": {"checkpoint_ns": 5}}, '["configurable"]["checkpoint_ns"]'),
        ({"configurable": {"checkpoint_map": "abc"}}, '["configurable"]["checkpoint_map"]'),
        ({"recursion_limit": "abc"}, '["recursion_limit"]'),
        ({"tags": "abc"}, '["tags"]'),
    ],
)
async def test_configs_are_read_alike_everywhere(http: httpx.AsyncClient, config: dict[str, Any], field: str) -> None:
    for path, body in (
        ("/assistants", {"graph_id": "steps"}),
        ("/runs", {"assistant_id": "steps"}),
        ("/runs/crons", {"assistant_id": "steps", "schedule": "* * * * *"}),
    ):
        response = await http.post(path, json={**body, "config": config})
        assert response.status_code == 422, path
        assert f'On instance["config"]{field}:' in response.json()["detail"]


async def test_a_long_value_is_not_sent_back_whole(http: httpx.AsyncClient) -> None:
    response = await http.post("/threads", json={"if_exists": "x" * 100_000})
    assert response.status_code == 422
    assert len(response.content) < 1000
    response = await http.post("/assistants", json={"graph_id": "x" * 100_000})
    assert response.status_code == 404
    assert len(response.content) < 3000


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    container = ApiContainer(settings, manifest=Manifest.of({}))
    scope = {"type": "http", "method": "POST", "path": "/threads", "raw_path": b"/threads", "query_string": b""}
    messages = iter([{"type": "http.request", "body": b'{"meta', "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await create_app(container)({**scope, "headers": [(b"content-length", b"20")]}, receive, send)
    finally:
        await container.aclose()
    assert not sent
    assert "Unexpected error" not in caplog.text


@pytest.mark.parametrize("field", ["checkpoint_id", "checkpoint_ns", "checkpoint_map"])
async def test_the_checkpoint_of_a_run_is_checked(http: httpx.AsyncClient, field: str) -> None:
    response = await http.post("/runs", json={"assistant_id": "chat", "checkpoint": {field: 5}})
    assert response.status_code == 422
    assert f'On instance["checkpoint"]["{field}"]:' in response.json()["detail"]
    # LangGraph takes a namespace's checkpoint id out of the map
    response = await http.post("/runs", json={"assistant_id": "chat", "checkpoint": {"checkpoint_map": {"": {}}}})
    assert response.status_code == 422
    assert 'On instance["checkpoint"]["checkpoint_map"][""]:' in response.json()["detail"]


async def test_what_postgres_cannot_store_is_the_clients_error(http: httpx.AsyncClient, sdk: LangGraphClient) -> None:
    made = await sdk.assistants.create("chat")
    for method, path, body in (
        ("POST", "/assistants", {"graph_id": "chat", "name": "nul\x00"}),
        ("PATCH", f"/assistants/{made['assistant_id']}", {"description": "nul\x00"}),
        ("POST", "/assistants/search", {"name": "nul\x00"}),
        ("POST", "/threads/search", {"extract": {"a": "values.nul\x00"}}),
    ):
        response = await http.request(method, path, json=body)
        assert response.status_code == 422, (path, response.text)
        assert isinstance(response.json()["detail"], str)


async def test_nul_characters_in_documents_are_dropped(sdk: LangGraphClient) -> None:
    made = await sdk.threads.create(metadata={"a": "x\x00y", "back\\u0000slash": "\\\x00"})
    assert made["metadata"] == {"a": "xy", "back\\u0000slash": "\\"}
    await sdk.threads.delete(made["thread_id"])


async def test_numbers_at_the_edges(http: httpx.AsyncClient, sdk: LangGraphClient) -> None:
    made = await sdk.threads.create(metadata={"big": 2**63, "small": -(2**63), "float": 1e308})
    assert made["metadata"] == {"big": 2**63, "small": -(2**63), "float": 1e308}
    response = await http.post("/threads", content=b'{"metadata": {"huge": 123456789012345678901234567890}}')
    assert response.status_code == 200
    response = await http.post("/threads/search", json={"offset": 2**53})
    assert (response.status_code, response.json()) == (200, [])
    response = await http.post("/threads/search", json={"offset": 2**63})
    assert response.status_code == 422


async def test_unknown_paths_and_methods(http: httpx.AsyncClient) -> None:
    response = await http.get("/nope")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
    response = await http.put("/threads")
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert response.headers["allow"] == "POST"
    response = await http.get("/info/", follow_redirects=False)
    assert response.status_code == 307
    assert httpx.URL(response.headers["location"]).path == "/info"


async def test_large_bodies_are_refused(http: httpx.AsyncClient, settings: Settings) -> None:
    response = await http.post("/threads", content=b" " * (settings.max_body_bytes + 1))
    text = f"The request body is larger than {settings.max_body_bytes} bytes"
    assert (response.status_code, response.json()) == (413, {"detail": text})

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(settings.max_body_bytes // 2**20 + 1):
            yield b" " * 2**20

    response = await http.post("/threads", content=chunks())
    assert (response.status_code, response.json()) == (413, {"detail": text})


class Broken:
    """Services that fail."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.fixture
async def broken(settings: Settings, container: ApiContainer) -> AsyncIterator[httpx.AsyncClient]:
    """An app whose thread service raises ``app.state.container.threads.error``."""

    class BrokenContainer(ApiContainer):
        threads = Broken(RuntimeError("secret"))  # type: ignore[assignment]

    app = create_app(BrokenContainer(settings, manifest=Manifest.of({})), ["threads"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        yield client


async def test_what_nobody_expected_is_500_without_details(
    broken: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "langgraph_serverless.http"):
        response = await broken.get(
            f"/threads/{uuid.uuid4()}", headers={"x-request-id": "mine", "origin": "http://ui.example"}
        )
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["access-control-allow-origin"] == "*"
    unexpected, request = caplog.records
    assert unexpected.exc_info is not None
    assert "secret" in caplog.text
    assert (request.request_id, request.status, request.method) == ("mine", 500, "GET")  # type: ignore[attr-defined]


async def test_an_unreachable_database_is_503_with_retry_after(
    broken: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = broken._transport.app.state.container  # type: ignore[attr-defined]
    monkeypatch.setattr(container.threads, "error", UnavailableError("The database is out of reach"))
    response = await broken.get(f"/threads/{uuid.uuid4()}")
    assert (response.status_code, response.json()) == (503, {"detail": "The database is out of reach"})
    assert response.headers["retry-after"] == "1"


async def test_a_database_that_is_not_there_is_503(settings: Settings, tmp_path: Any) -> None:
    nowhere = settings.replace(database_uri=f"postgresql://nobody@/x?host={tmp_path}", pool_timeout=0.3)
    container = ApiContainer(nowhere, manifest=Manifest.of({}))
    app = create_app(container, ["threads", "system"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        assert (await client.get("/ok")).status_code == 200
        response = await client.get(f"/threads/{uuid.uuid4()}")
        assert response.status_code == 503
        assert "retry-after" in response.headers
    await container.aclose()
