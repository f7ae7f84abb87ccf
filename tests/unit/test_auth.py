"""Parts of auth by themselves: users, filters, handlers, what they leave, the section of langgraph.json, the cache."""

from __future__ import annotations

import copy
import pickle
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph_sdk import Auth

from langgraph_serverless.auth.authentication import Authenticator
from langgraph_serverless.auth.authorization import HandlerAuthorizer
from langgraph_serverless.auth.handlers import PARAMETERS, read_handlers, refusal, sendable
from langgraph_serverless.domain.auth_filters import FilterError, both, parse_filter, visible
from langgraph_serverless.domain.auth_settings import AuthCache
from langgraph_serverless.domain.handler_values import changed, changed_labels, changed_metadata, changed_number
from langgraph_serverless.domain.principal import ANONYMOUS, STUDIO, Principal
from langgraph_serverless.domain.users import User, user_document
from langgraph_serverless.errors import AccessError, BadRequestError, HandlerResultError, ProjectError
from langgraph_serverless.execution.auth_section import read_auth

KEY = "langgraph.json: auth.path"
PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "tenants"


# -- users -----------------------------------------------------------------------------------------------------------


def test_a_user_has_attributes_and_items() -> None:
    user = User(user_document({"identity": "u", "org": "acme", "permissions": "read", 7: uuid.UUID(int=1)}))
    assert (user.identity, user.display_name, user.is_authenticated, user.permissions) == ("u", "u", True, ["read"])
    assert user.org == user["org"] == user.get("org") == "acme"
    assert user["7"] == str(uuid.UUID(int=1))
    assert (user.get("none"), "org" in user, "none" in user) == (None, True, False)
    assert dict(user) == user.to_json() == user.model_dump()
    with pytest.raises(AttributeError):
        _ = user.none
    with pytest.raises(KeyError):
        _ = user["none"]
    assert copy.deepcopy(user) == user
    assert pickle.loads(pickle.dumps(user)) == user
    assert "acme" not in repr(user)


class _Model:
    identity = "m"
    secret = "s"

    def model_dump(self) -> dict[str, Any]:
        return {"identity": "m", "more": 1}


@pytest.mark.parametrize(
    ("returned", "more"),
    [
        ("u", {}),
        ({"identity": "u", "x": 1}, {"x": 1}),
        (SimpleNamespace(identity="u", x=1, _y=2), {"x": 1}),
        (SimpleNamespace(identity="u", permissions=["p"]), {"permissions": ["p"]}),
        (_Model(), {"identity": "m", "display_name": "m", "more": 1}),
        (User({"identity": "u", "x": [1]}), {"x": [1]}),
    ],
)
def test_what_may_be_a_user(returned: Any, more: dict[str, Any]) -> None:
    assert user_document(returned) == {
        "identity": "u",
        "display_name": "u",
        "is_authenticated": True,
        "permissions": [],
        **more,
    }


@pytest.mark.parametrize("returned", [None, {}, {"identity": ""}, {"identity": 7}, {"identity": None}, "", 7, object()])
def test_what_is_no_user(returned: Any) -> None:
    with pytest.raises(BadRequestError, match="Expected a BaseUser instance with required property: identity"):
        user_document(returned)


def test_a_caller_acts_later_as_the_same() -> None:
    caller = Principal.of_user(user_document({"identity": "u", "permissions": ["p"], "org": "acme"}), tenant="t")
    assert Principal.from_json(caller.to_json()) == caller
    assert Principal.from_json(ANONYMOUS.to_json()) == ANONYMOUS
    assert Principal.from_json(STUDIO.to_json()).is_studio
    assert not Principal.from_json({**caller.to_json(), "trusted": True}).trusted


# -- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        {"owner": {"$gt": 1}},
        {"owner": {"$eq": 1, "$ne": 2}},
        {"owner": {"plain": 1, "$eq": 2}},
        {"$not": []},
        {"$or": {"a": 1}},
        {"$or": ["a"]},
        {"$and": [{"a": {"$in": [1]}}]},
        {7: 1},
        {"owner": object()},
        {"owner": float("nan")},
        {"owner": {"$contains": [{}]}},
        {"owner": b"bytes"},
    ],
)
def test_what_is_no_filter_shows_nothing(raw: Any) -> None:
    with pytest.raises(FilterError):
        parse_filter(raw)


def test_filters_nested_too_deeply() -> None:
    raw: dict[str, Any] = {"a": 1}
    for _ in range(1000):
        raw = {"$or": [raw]}
    with pytest.raises(FilterError):
        parse_filter(raw)


def test_filters_together() -> None:
    owner, team = parse_filter({"owner": "a"}), parse_filter({"team": {"$contains": "x"}})
    assert both(None, None) is None
    assert both(owner, None) is both(None, owner) is owner
    either = both(owner, team)
    assert visible({"owner": "a", "team": ["x"]}, either)
    assert not visible({"owner": "a"}, either)
    assert not visible({"team": ["x"]}, either)
    assert visible({}, None)
    assert parse_filter({}) is None


# -- handlers --------------------------------------------------------------------------------------------------------


def make_auth() -> Auth:
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str) -> str:
        return authorization

    return auth


def test_only_the_best_handler_is_asked() -> None:
    auth = make_auth()

    async def handler(ctx: Any, value: Any) -> None: ...

    def named(name: str) -> Any:
        async def handler(ctx: Any, value: Any) -> None: ...

        handler.__name__ = name
        return handler

    auth.on(named("everything"))
    auth.on.threads(named("threads"))
    auth.on.threads.create(named("threads.create"))
    auth.on(actions="search")(named("search"))
    handlers = read_handlers(auth, key=KEY)

    def asked(resource: str, action: str) -> str:
        found = handlers.for_action(resource, action)
        assert found is not None
        return found.__name__

    assert asked("threads", "create") == "threads.create"
    assert asked("threads", "read") == "threads"
    assert asked("threads", "search") == "threads"
    assert asked("assistants", "search") == "search"
    assert asked("store", "put") == "everything"
    assert read_handlers(make_auth(), key=KEY).for_action("threads", "read") is None


def test_an_object_that_could_only_fail_later() -> None:
    with pytest.raises(ProjectError, match=r"it must be a langgraph_sdk\.Auth"):
        read_handlers(object(), key=KEY)
    with pytest.raises(ProjectError, match="has no authentication"):
        read_handlers(Auth(), key=KEY)
    auth = Auth()

    @auth.authenticate
    async def authenticate(token: str) -> str:
        return token

    with pytest.raises(ProjectError, match="has a parameter 'token'; it can have authorization, body"):
        read_handlers(auth, key=KEY)


def test_parameters_by_name() -> None:
    def wanted(function: Any) -> frozenset[str]:
        auth = Auth()
        auth._authenticate_handler = function
        return read_handlers(auth, key=KEY).wanted

    assert wanted(lambda: "u") == frozenset()
    assert wanted(lambda path, token=None: "u") == {"path"}
    assert wanted(lambda *, headers: "u") == {"headers"}
    assert wanted(lambda **everything: "u") == PARAMETERS


def test_what_a_handler_raises_on_purpose() -> None:
    refused = refusal(Auth.exceptions.HTTPException(status_code=429, detail="slowly", headers={"retry-after": "9"}))
    assert refused is not None
    assert (refused.status, refused.detail, refused.headers) == (429, "slowly", {"retry-after": "9"})
    assert refusal(ValueError("x")) is None
    assert refusal(Auth.exceptions.HTTPException(status_code=302, detail="elsewhere")) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nb"},
        {"x": "a\nb"},
        {"x\r\ny": "a"},
        {"x y": "a"},
        {"": "a"},
        {"x": "\0"},
        {"x": "é"},
        {"x": 7},
        {7: "x"},
        {"Content-Length": "0"},
        {"transfer-encoding": "chunked"},
        "no mapping",
        None,
    ],
)
def test_headers_that_are_not_sent(headers: Any) -> None:
    assert sendable(headers) == {}


async def test_a_handler_that_leaves_the_context() -> None:
    auth, seen = make_auth(), []

    @auth.on
    async def handler(ctx: Any, value: Any) -> bool:
        seen.append(ctx)
        return True

    authorize = HandlerAuthorizer(read_handlers(auth, key=KEY))
    native = SimpleNamespace(identity="u", display_name="U", is_authenticated=True, permissions=["p"])
    caller = Principal.of_user(user_document(native), native=native)
    assert await authorize(caller, "threads", "read", {}) is None
    assert await authorize(STUDIO, "store", "put", {}) is None
    own, studio = seen
    assert own.user is native
    assert (own.resource, own.action, own.permissions) == ("threads", "read", ["p"])
    assert isinstance(studio.user, Auth.types.StudioUser)


@pytest.mark.parametrize("result", [[1], "yes", 1, 0, b"", object()])
async def test_what_a_handler_may_not_return(result: Any) -> None:
    auth = make_auth()

    @auth.on
    async def handler(ctx: Any, value: Any) -> Any:
        return result

    with pytest.raises(HandlerResultError, match="Expected filter dict, None, or boolean"):
        await HandlerAuthorizer(read_handlers(auth, key=KEY))(ANONYMOUS, "threads", "read", {})


def test_what_handlers_leave() -> None:
    assert changed_metadata({}) == changed_metadata({"metadata": None}) == {}
    assert changed_metadata({"metadata": {"a": 1}}) == {"a": 1}
    assert changed({"name": "n"}, "name", str) == "n"
    assert changed_labels({"namespace": ["a", "b"]}, "namespace") == ("a", "b")
    assert changed_labels({"namespace": None}, "namespace") == ()
    assert changed_number({}, "limit", 3) == 3
    for mistaken in (lambda: changed_metadata({"metadata": []}), lambda: changed({"name": 1}, "name", str)):
        with pytest.raises(HandlerResultError):
            mistaken()
    for labels in ("ab", [1], {"a": 1}):
        with pytest.raises(HandlerResultError):
            changed_labels({"namespace": labels}, "namespace")
    for number in (-1, True, "3", None, 1.5):
        with pytest.raises(HandlerResultError):
            changed_number({"limit": number}, "limit", 3)


# -- the section and the cache ---------------------------------------------------------------------------------------


def section(**more: Any) -> Any:
    return read_auth({"path": "./auth.py:auth", **more}, PROJECT, PROJECT / "langgraph.json")


def test_the_section() -> None:
    assert read_auth(None, Path("/project"), Path("langgraph.json")) is None
    assert section().cache is None
    cache = section(cache={"cache_keys": ["Authorization"]}).cache
    assert cache == AuthCache(headers=("authorization",), ttl_seconds=60.0, max_size=1000)
    assert section(disable_studio_auth=True).disable_studio_auth


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": 7},
        {"path": "../auth.py:auth"},
        {"disable_studio_auth": "yes"},
        {"openapi": []},
        {"cache": []},
        {"cache": {}},
        {"cache": {"cache_keys": []}},
        {"cache": {"cache_keys": [1]}},
        {"cache": {"cache_keys": ["a"], "ttl_seconds": 0}},
        {"cache": {"cache_keys": ["a"], "ttl_seconds": 1e9}},
        {"cache": {"cache_keys": ["a"], "ttl_seconds": True}},
        {"cache": {"cache_keys": ["a"], "max_size": 0}},
    ],
)
def test_a_section_that_means_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProjectError, match=rf"langgraph\.json: auth\.{next(iter(wrong))}") as refused:
        section(**wrong)
    assert "does not exist" not in str(refused.value)


async def test_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    auth = Auth()

    @auth.authenticate
    async def authenticate(authorization: str | None) -> str:
        asked.append(authorization or "")
        if authorization == "bad":
            raise Auth.exceptions.HTTPException()
        return authorization or "nobody"

    cache = AuthCache(headers=("authorization",), ttl_seconds=60.0, max_size=2)
    who = Authenticator(read_handlers(auth, key=KEY), cache=cache)

    async def call(token: str | None) -> str:
        headers = [] if token is None else [(b"authorization", token.encode())]
        scope: Any = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        return (await who(scope, None, None)).identity  # type: ignore[arg-type]

    assert [await call("a"), await call("a"), await call("b")] == ["a", "a", "b"]
    assert asked == ["a", "b"]
    assert await call("c") == "c"  # the oldest of three goes
    assert await call("b") == "b"
    assert await call("a") == "a"
    assert asked == ["a", "b", "c", "a"]
    for _ in range(2):
        assert await call(None) == "nobody"  # depends on nothing that is there
        with pytest.raises(AccessError):
            await call("bad")
    assert asked[4:] == ["", "bad", "", "bad"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert await call("a") == "a"
    assert asked[-1] == "a"


async def test_the_cache_knows_all_values_of_a_header() -> None:
    """Handlers that are given ``headers`` see the last one of a name: under the first alone, its user would be kept for others."""
    auth = Auth()

    @auth.authenticate
    async def authenticate(headers: dict[bytes, bytes]) -> str:
        return headers[b"x-user"].decode()

    who = Authenticator(
        read_handlers(auth, key=KEY), cache=AuthCache(headers=("x-user",), ttl_seconds=60.0, max_size=9)
    )

    async def call(*names: bytes) -> str:
        headers = [(b"x-user", name) for name in names]
        scope: Any = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
        return (await who(scope, None, None)).identity  # type: ignore[arg-type]

    assert [await call(b"alice", b"mallory"), await call(b"alice"), await call(b"mallory", b"alice")] == [
        "mallory",
        "alice",
        "alice",
    ]


# -- the guide -------------------------------------------------------------------------------------------------------


async def test_the_guides_example_does_what_it_says() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "auth.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(guide.partition("```python\n")[2].partition("```")[0], names)
    authorize = HandlerAuthorizer(read_handlers(names["auth"], key=KEY))
    alice = Principal.of_user(user_document(await names["authenticate"]("Bearer token-of-alice")))
    value: dict[str, Any] = {"metadata": {"mine": 1}}
    allowed = await authorize(alice, "threads", "create", value)
    assert value == {"metadata": {"mine": 1, "owner": "alice"}}
    assert visible({"owner": "alice"}, allowed)
    assert not visible({"owner": "bob"}, allowed)
    for action in ("read", "search"):
        defaults = await authorize(alice, "assistants", action, {})
        assert visible({"created_by": "system"}, defaults)
    assert not visible({"created_by": "system"}, await authorize(alice, "assistants", "update", {}))
    value = {"namespace": None}
    assert await authorize(alice, "store", "list_namespaces", value) is None
    assert value == {"namespace": ("alice",)}
