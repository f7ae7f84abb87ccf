"""Which pages may call the API from a browser: those of ``CORS_ALLOW_ORIGINS``, and none with cookies (S20)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.errors import SettingsError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

NOWHERE = {"DATABASE_URI": "postgresql://nowhere/none"}
OURS, OTHER, THEIRS = "https://chat.example.com", "http://localhost:3000", "https://chat.example.com.evil.example"


@asynccontextmanager
async def client(origins: str | None) -> AsyncIterator[httpx.AsyncClient]:
    given = {} if origins is None else {"CORS_ALLOW_ORIGINS": origins}
    app = create_app(ApiContainer(Settings.from_env(NOWHERE | given)), resources=("system",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        yield http


@pytest.mark.parametrize(
    ("origins", "origin", "answer"),
    [
        (None, OURS, "*"),
        ("*", THEIRS, "*"),
        (OURS, OURS, OURS),
        (OURS, THEIRS, None),
        (OURS, OURS.upper(), None),
        (f"{OTHER}, {OURS}", OURS, OURS),
        (f"{OTHER}, {OURS}", OTHER, OTHER),
        (f"{OTHER}, {OURS}", "null", None),
    ],
)
async def test_a_page_of_another_origin_is_told_nothing(origins: str | None, origin: str, answer: str | None) -> None:
    async with client(origins) as http:
        for response in (
            await http.get("/no/such/path", headers={"origin": origin}),
            await http.options("/no/such/path", headers={"origin": origin, "access-control-request-method": "POST"}),
        ):
            assert response.headers.get("access-control-allow-origin") == answer
            assert "access-control-allow-credentials" not in response.headers
            if answer not in ("*", None):
                assert "origin" in response.headers["vary"].lower()
        assert response.is_success == (answer is not None)


@pytest.mark.parametrize("origins", ["chat.example.com", f"{OURS}/", f"{OURS}/path", f"{OURS},*.example.com"])
def test_what_no_browser_sends_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(SettingsError, match="CORS_ALLOW_ORIGINS"):
        Settings.from_env(NOWHERE | {"CORS_ALLOW_ORIGINS": origins})
