"""The section ``http`` of langgraph.json: what is read, one sentence for each mistake, and which headers are meant (S9, S19, S20)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.domain.http_settings import CorsSettings, HeaderRules, HttpSettings, matches
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project


def project(root: Path, http: Any) -> ProjectConfig:
    (root / "agent.py").write_text("graph = None")
    (root / "app.py").write_text("app = None")
    (root / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, "http": http}))
    return read_project(root / "langgraph.json")


EVERYTHING = {
    "app": "./app.py:app",
    "mount_prefix": "/api/v1/",
    "middleware_order": "auth_first",
    "enable_custom_route_auth": True,
    "cors": {"allow_origins": ["https://chat.example.com"], "allow_credentials": True, "max_age": 5},
    "configurable_headers": {"includes": ["X-*"], "excludes": ["x-secret"]},
    "logging-headers": {"include": ["user-agent"], "exclude": []},
    **{f"disable_{group}": True for group in ("assistants", "threads", "runs", "store")},
    **{f"disable_{group}": True for group in ("mcp", "a2a", "meta", "ui", "webhooks")},
}


def test_everything_is_read_and_travels_in_the_manifest(tmp_path: Path) -> None:
    config = project(tmp_path, EVERYTHING)
    assert config.http == HttpSettings(
        app="./app.py:app",
        mount_prefix="/api/v1",
        disabled=frozenset({"assistants", "threads", "runs", "store", "mcp", "a2a", "meta", "ui"}),
        cors=CorsSettings(allow_origins=("https://chat.example.com",), allow_credentials=True, max_age=5),
        configurable_headers=HeaderRules(includes=("x-*",), excludes=("x-secret",)),
        logging_headers=HeaderRules(includes=("user-agent",)),
        auth_first=True,
        enable_custom_route_auth=True,
    )
    assert config.webhook_rules.disabled
    assert (config.unknown_keys, config.inactive_keys) == ((), ())
    assert HttpSettings.from_json(json.loads(json.dumps(config.http.to_json()))) == config.http
    assert HttpSettings.from_json(json.loads(json.dumps(HttpSettings().to_json()))) == HttpSettings()


def test_without_the_section_nothing_is_different(tmp_path: Path) -> None:
    assert project(tmp_path, {}).http == project(tmp_path, None).http == HttpSettings()


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"app": 1}, "http.app must be"),
        ({"app": "./none.py:app"}, "does not exist"),
        ({"app": "../app.py:app"}, "contains '..'"),
        ({"app": "./app.py"}, "needs the form"),
        ({"mount_prefix": "api"}, "must begin with a slash"),
        ({"mount_prefix": "/a//b"}, "must begin with a slash"),
        ({"mount_prefix": "/a/../b"}, "must begin with a slash"),
        ({"mount_prefix": "/a b"}, "must begin with a slash"),
        ({"mount_prefix": "/{x}"}, "must begin with a slash"),
        ({"mount_prefix": 1}, "must be a path"),
        ({"middleware_order": "last"}, "http.middleware_order must be"),
        ({"enable_custom_route_auth": "yes"}, "http.enable_custom_route_auth must be true or false"),
        ({"disable_runs": 1}, "http.disable_runs must be true or false"),
        ({"disable_webhooks": "no"}, "http.disable_webhooks must be true or false"),
        ({"configurable_headers": ["x-*"]}, "http.configurable_headers must be an object"),
        ({"configurable_headers": {"includes": "x-*"}}, "http.configurable_headers.includes must be a list"),
        ({"configurable-headers": {"include": ["a b"]}}, "http.configurable-headers.include: 'a b' is not the name"),
        ({"configurable-headers": {}, "configurable_headers": {}}, "mean the same"),
        ({"logging_headers": {"excludes": [1]}}, "http.logging_headers.excludes must be a list"),
        ({"cors": []}, "http.cors must be an object"),
        ({"cors": {"allow_origins": "*"}}, "http.cors.allow_origins must be a list"),
        ({"cors": {"allow_origins": ["https://a.example/"]}}, "is no origin"),
        ({"cors": {"allow_origins": ["a.example"]}}, "is no origin"),
        ({"cors": {"allow_methods": ["GET\r\nx: y"]}}, "cannot be in a header"),
        ({"cors": {"expose_headers": ["x y"]}}, "cannot be in a header"),
        ({"cors": {"allow_credentials": "true"}}, "http.cors.allow_credentials must be true or false"),
        ({"cors": {"max_age": "1"}}, "http.cors.max_age must be"),
        ({"cors": {"max_age": -1}}, "http.cors.max_age must be"),
        ({"cors": {"allow_origin_regex": "("}}, "is not a regular expression"),
        ({"cors": {"allow_origins": ["*"], "allow_credentials": True}}, "every page in the world"),
        ({"cors": {"allow_origin_regex": ".*", "allow_credentials": True}}, "every page in the world"),
        ({"cors": {"allow_origin_regex": "https?://.*", "allow_credentials": True}}, "every page in the world"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(tmp_path: Path, section: dict[str, Any], says: str) -> None:
    with pytest.raises(ProjectError) as caught:
        project(tmp_path, section)
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert str(tmp_path / "langgraph.json") in text


def test_keys_that_nobody_knows_are_named(tmp_path: Path) -> None:
    section = {"apps": 1, "cors": {"origins": []}, "configurable_headers": {"inclusive": []}}
    expected = ("http.apps", "http.configurable_headers.inclusive", "http.cors.origins")
    assert project(tmp_path, section).unknown_keys == expected


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("x-foo", "x-foo", True),
        ("x-foo", "x-foo-bar", False),
        ("x-*", "x-", True),
        ("x-*", "ax-", False),
        ("*", "", True),
        ("*-id", "x-id", True),
        ("*-id", "x-id-2", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "acb", False),
        ("a*b*bc", "abc", False),
        ("aba*aba", "aba", False),
        ("x-[ab]", "x-a", False),
        ("x.y", "x-y", False),
    ],
)
def test_patterns(pattern: str, name: str, meant: bool) -> None:
    assert matches(pattern, name) is meant


def test_a_pattern_cannot_be_slow() -> None:
    began = time.monotonic()
    assert not matches("*a" * 500 + "*b", "a" * 50_000)
    assert time.monotonic() - began < 1


def test_credentials_are_never_passed_on() -> None:
    rules = HeaderRules(includes=("*", "authorization", "x-api-key", "x-tenant-id", "x-service-key", "cookie"))
    names = ("Authorization", "X-API-Key", "x-tenant-id", "x-service-key", "cookie", "proxy-authorization", "X-Foo")
    found = rules.selected((name.encode(), b"1") for name in names)
    assert found == {"cookie": "1", "x-foo": "1"}
    # not by a wildcard
    assert HeaderRules(includes=("*",)).selected([(b"cookie", b"1")]) == {}


def test_an_exclusion_wins_and_the_last_value_counts() -> None:
    rules = HeaderRules(includes=("x-*",), excludes=("x-no-*",))
    assert rules.selected([(b"x-a", b"1"), (b"x-no-b", b"2"), (b"x-a", b"3"), (b"y", b"4")]) == {"x-a": "3"}
    assert HeaderRules(excludes=("x-no",)).selected([(b"x-a", b"1")]) == {}
