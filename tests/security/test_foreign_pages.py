"""S20 where CORS knows nothing: browsers open WebSockets and send simple requests for any page, with the user's cookies."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from langgraph_serverless.domain.http_settings import CorsSettings
from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.http.authentication import Authentication
from langgraph_serverless.http.middleware import Cors, cors_options
from langgraph_serverless.settings import Settings

OURS, THEIRS, HOST = "https://chat.example.com", "https://evil.example", "api.example.com"
NAMED = {"CORS_ALLOW_ORIGINS": OURS}
COOKIES = CorsSettings(allow_origins=(OURS,), allow_credentials=True)
BASIC = b"Basic YTpi"


async def comes_with(
    kind: str,
    origin: str | None,
    environ: dict[str, str],
    section: CorsSettings | None = None,
    *,
    own: dict[str, Any] | None = None,
) -> set[str] | None:
    """The credentials with which a request reaches the project's authentication; None if it does not."""
    settings = Settings.from_env({"DATABASE_URI": "postgresql://nowhere", **environ})
    reached: list[Scope] = []
    sent: list[Message] = []

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> Principal:
        reached.append(scope)
        return ANONYMOUS

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["headers"] == reached[0]["headers"]

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", HOST.encode()), (b"cookie", b"session=1"), (b"authorization", BASIC), (b"x-api-key", b"key")]
    headers += [(b"origin", origin.encode())] if origin is not None else []
    scope: dict[str, Any] = {"type": kind, "method": "POST", "path": "/threads/x/stream/events", "headers": headers}
    inner = Authentication(app, authenticate)  # type: ignore[arg-type]
    await Cors(inner, cors_options(settings, section, own=own))(scope, receive, send)
    if not reached:
        assert [(message["type"], message["code"]) for message in sent] == [("websocket.close", 4403)]
        return None
    return {name.decode() for name, _ in reached[0]["headers"]} & {"cookie", "authorization", "x-api-key"}


EVERYTHING = {"cookie", "authorization", "x-api-key"}


@pytest.mark.parametrize(
    ("origin", "environ", "section", "expected"),
    [
        # not from a browser, and from a page of the server's own
        (None, {}, None, EVERYTHING),
        (None, NAMED, None, EVERYTHING),
        (f"https://{HOST}", {}, None, EVERYTHING),
        (f"https://{HOST}", NAMED, None, EVERYTHING),
        # any origin, and none with what the browser sends by itself
        (OURS, {}, None, {"x-api-key"}),
        (THEIRS, {}, None, {"x-api-key"}),
        ("null", {}, None, {"x-api-key"}),
        # named ones only
        (OURS, NAMED, None, {"x-api-key"}),
        (THEIRS, NAMED, None, None),
        ("null", NAMED, None, None),
        (f"{OURS}.evil.example", NAMED, None, None),
        # and those with cookies
        (OURS, {}, COOKIES, EVERYTHING),
        (THEIRS, {}, COOKIES, None),
    ],
)
async def test_a_page_of_another_origin(
    origin: str | None, environ: dict[str, str], section: CorsSettings | None, expected: set[str] | None
) -> None:
    assert await comes_with("websocket", origin, environ, section) == expected
    # a simple request is answered, to nobody, and not for the user
    assert await comes_with("http", origin, environ, section) == (expected or {"x-api-key"})


async def test_where_the_projects_own_application_says_who_may_call() -> None:
    own = {"allow_origins": (OURS,), "allow_origin_regex": None, "allow_credentials": True}
    for kind in ("http", "websocket"):
        assert await comes_with(kind, OURS, {}, own=own) == EVERYTHING
        assert await comes_with(kind, OURS, {}, own=own | {"allow_credentials": False}) == {"x-api-key"}
    assert await comes_with("http", THEIRS, {}, own=own) == {"x-api-key"}
    assert await comes_with("websocket", THEIRS, {}, own=own) is None
