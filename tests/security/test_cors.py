"""Which pages may call the API from a browser: those of ``CORS_ALLOW_ORIGINS``, and none with cookies (S20).

The section ``http.cors`` of langgraph.json replaces the default, and may allow cookies to origins that it names. What the section may not
say is in ``tests/unit/test_http_section.py``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.http_settings import CorsSettings, HttpSettings
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import ProjectError, SettingsError
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

NOWHERE = {"DATABASE_URI": "postgresql://nowhere/none"}
OURS, OTHER, THEIRS = "https://chat.example.com", "http://localhost:3000", "https://chat.example.com.evil.example"


@asynccontextmanager
async def client(origins: str | None, cors: CorsSettings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    given = {} if origins is None else {"CORS_ALLOW_ORIGINS": origins}
    manifest = Manifest.of({}, http=HttpSettings(cors=cors))
    app = create_app(ApiContainer(Settings.from_env(NOWHERE | given), manifest=manifest), resources=("system",))
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


#: The section, the environment's origins, an origin, and what it is told: its name and whether it may send cookies.
SECTIONS = [
    ({"allow_origins": (OURS,), "allow_credentials": True}, None, OURS, OURS, True),
    ({"allow_origins": (OURS,), "allow_credentials": True}, None, THEIRS, None, False),
    ({"allow_origins": (OURS,), "allow_credentials": True}, None, "null", None, False),
    ({"allow_origins": (OURS,)}, None, OURS, OURS, False),
    ({"allow_origins": ("*",)}, None, THEIRS, "*", False),
    ({}, None, OURS, None, False),
    ({"allow_origin_regex": r"https://[a-z]+\.example\.com", "allow_credentials": True}, None, OURS, OURS, True),
    ({"allow_origin_regex": r"https://[a-z]+\.example\.com", "allow_credentials": True}, None, THEIRS, None, False),
    # the operator's origins replace the project's, whatever else the section says
    ({"allow_origins": ("*",)}, OURS, OURS, OURS, False),
    ({"allow_origins": ("*",)}, OURS, OTHER, None, False),
    ({"allow_origins": (OTHER,), "allow_credentials": True}, OURS, OURS, OURS, True),
    ({"allow_origins": (OTHER,), "allow_credentials": True}, OURS, OTHER, None, False),
    ({"allow_origin_regex": ".*example.*"}, OURS, THEIRS, None, False),
    # that of the default says nothing about origins
    ({"allow_origins": (OURS,)}, "*", OTHER, None, False),
]


@pytest.mark.parametrize(("section", "origins", "origin", "answer", "cookies"), SECTIONS)
async def test_the_section_says_which_pages_may_call_and_which_with_cookies(
    section: dict[str, Any], origins: str | None, origin: str, answer: str | None, cookies: bool
) -> None:
    preflight = {"origin": origin, "access-control-request-method": "GET"}
    async with client(origins, CorsSettings(**section)) as http:
        for response in (
            await http.get("/ok", headers={"origin": origin}),
            await http.get("/ok", headers={"origin": origin, "cookie": "session=1"}),
            await http.options("/ok", headers=preflight),
        ):
            told = response.headers
            assert told.get("access-control-allow-origin") == answer
            # Starlette says so to everybody; it means nothing to a page that is not named, nor beside `*`
            assert (told.get("access-control-allow-credentials") == "true" and answer is not None) == cookies
            assert not (answer == "*" and "access-control-allow-credentials" in told)


async def test_what_the_section_leaves_out_has_no_default_of_ours() -> None:
    async with client(None, CorsSettings(allow_origins=(OURS,), expose_headers=("x-mine",), max_age=7)) as http:
        answer = await http.get("/ok", headers={"origin": OURS})
        assert answer.headers["access-control-expose-headers"] == "x-mine"
        asked = {"origin": OURS, "access-control-request-method": "POST"}
        refused = await http.options("/ok", headers=asked)
        assert (refused.status_code, refused.headers["access-control-allow-methods"]) == (400, "GET")
        allowed = await http.options("/ok", headers={**asked, "access-control-request-method": "GET"})
        assert (allowed.status_code, allowed.headers["access-control-max-age"]) == (200, "7")


def test_the_environment_cannot_open_to_everybody_what_has_cookies() -> None:
    section = CorsSettings(allow_origins=(OURS,), allow_credentials=True)
    settings = Settings.from_env(NOWHERE | {"CORS_ALLOW_ORIGINS": f"{OURS},*"})
    with pytest.raises(ProjectError, match="CORS_ALLOW_ORIGINS"):
        create_app(ApiContainer(settings, manifest=Manifest.of({}, http=HttpSettings(cors=section))), ("system",))
