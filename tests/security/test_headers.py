"""What answers tell browsers, and the one page: nothing is loaded that has not been looked at before.

The hashes of the page's files, for a newer version::

    npm pack swagger-ui-dist@VERSION && tar xzf swagger-ui-dist-VERSION.tgz
    openssl dgst -sha384 -binary package/swagger-ui-bundle.js | base64 -w0
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

NOWHERE = {"DATABASE_URI": "postgresql://me:hunter2@127.0.0.1:1/x", "DATABASE_POOL_TIMEOUT_SECS": "0.1"}


async def own(request: Request) -> JSONResponse:
    return JSONResponse({}, headers={"cache-control": "public, max-age=60"})


async def broken(request: Request) -> JSONResponse:
    raise RuntimeError("hunter2")


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        ApiContainer(Settings.from_env(NOWHERE), manifest=Manifest(graphs={}, hash="none")),
        resources=("system", "threads"),
    )
    app.add_route("/own", own)
    app.add_route("/broken", broken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ok", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/ok", 405),
        ("GET", "/threads/%00", 422),
        ("GET", "/threads/no-id", 422),
        ("GET", "/threads/00000000-0000-4000-8000-000000000000", 503),
    ],
)
async def test_every_answer_is_what_its_type_says_and_is_kept_by_nobody(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "server" not in response.headers
    assert "hunter2" not in response.text


async def test_errors_and_preflights_too(http: httpx.AsyncClient) -> None:
    response = await http.get("/broken")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert response.headers["x-content-type-options"] == "nosniff"
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert (await http.options("/threads", headers=asked)).headers["x-content-type-options"] == "nosniff"


async def test_what_an_answer_says_itself_stays(http: httpx.AsyncClient) -> None:
    response = await http.get("/own")
    assert response.headers.get_list("cache-control") == ["public, max-age=60"]
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_the_page_loads_only_what_is_pinned(http: httpx.AsyncClient) -> None:
    response = await http.get("/docs")
    page, policy = response.text, response.headers["content-security-policy"]
    tags = re.findall(r"<(?:script|link)[^>]*>", page)
    elsewhere = [tag for tag in tags if "://" in tag]
    assert len(elsewhere) == 2
    for tag in elsewhere:
        assert re.search(r"@\d+\.\d+\.\d+/", tag), tag
        assert re.search(r'integrity="sha384-[A-Za-z0-9+/]{64}" crossorigin="anonymous"', tag), tag
    (inline,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'" in policy
    rules: dict[str, Any] = {name: words for name, *words in (rule.split() for rule in policy.split("; "))}
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == ["'none'"]
    assert "'unsafe-inline'" not in rules["script-src"]
    assert rules["connect-src"] == ["'self'"]
    assert response.headers["x-frame-options"] == "DENY"
    assert "//" not in page.replace("https://cdn.jsdelivr.net", "").replace("<!", "")
