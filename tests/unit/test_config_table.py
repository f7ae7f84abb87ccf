"""The table of langgraph.json's keys against what reads the file: the schema for editors and the server never disagree.

Each key of a file that has them all is given each of many values; the schema and ``read_project`` judge, and their verdicts are
compared. A key that the reader warns about counts as refused, since the schema allows none that nobody knows.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langgraph_serverless.cli.main import main
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.config_keys import ANY, Effect
from langgraph_serverless.execution.config_table import TABLE
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.other_variables import OTHER_VARIABLES
from langgraph_serverless.settings import Settings

ROOT = Path(__file__).parent.parent.parent
VALIDATOR = jsonschema_rs.validator_for(TABLE.schema())

FULL: dict[str, Any] = {
    "$schema": "./langgraph.schema.json",
    "graphs": {"agent": "./agent.py:graph", "other": {"path": "./agent.py:graph", "description": "The other."}},
    "dependencies": [".", "./lib", "requests>=2", "tool @ git+https://example.com/tool.git"],
    "env": {"A": "1", "B": 2},
    "python_version": "3.12",
    "node_version": "20",
    "api_version": "0.8",
    "base_image": "python:3.12",
    "image_distro": "debian",
    "pip_config_file": "./pip.conf",
    "pip_installer": "auto",
    "keep_pkg_tools": ["pip"],
    "dockerfile_lines": ["RUN true"],
    "store": {
        "index": {"dims": 8, "embed": "./agent.py:embed", "fields": ["$"]},
        "ttl": {"default_ttl": 1.5, "refresh_on_read": True, "sweep_interval_minutes": 5},
        "path": None,
    },
    "checkpointer": {
        "ttl": {"strategy": "delete", "default_ttl": 5, "sweep_interval_minutes": 5, "sweep_limit": 100},
        "serde": {
            "allowed_msgpack_modules": [["a.b", "C"]],
            "allowed_json_modules": [["a", "b", "C"]],
            "pickle_fallback": False,
        },
        "path": None,
    },
    "auth": {
        "path": "./agent.py:auth",
        "disable_studio_auth": True,
        "openapi": {"security": []},
        "cache": {"cache_keys": ["authorization"], "ttl_seconds": 5, "max_size": 5},
    },
    "encryption": {"path": "./agent.py:encryption"},
    "priority": {"path": "./agent.py:priority"},
    "http": {
        "app": "./agent.py:app",
        "mount_prefix": "/api",
        **{
            f"disable_{group}": True
            for group in ("assistants", "threads", "runs", "store", "mcp", "a2a", "meta", "ui", "webhooks")
        },
        "cors": {
            "allow_origins": ["https://a.example"],
            "allow_methods": ["GET"],
            "allow_headers": ["x-a"],
            "expose_headers": ["x-b"],
            "allow_credentials": True,
            "allow_origin_regex": "https://b[.]example",
            "max_age": 5,
        },
        "configurable_headers": {"includes": ["x-*"], "excludes": ["x-y"], "include": ["z"], "exclude": ["w"]},
        "logging-headers": {"includes": ["x-*"], "excludes": ["x-y"], "include": ["z"], "exclude": ["w"]},
        "middleware_order": "auth_first",
        "enable_custom_route_auth": True,
    },
    "webhooks": {
        "env_prefix": "LG_",
        "headers": {"x-a": "b"},
        "url": {
            "require_https": True,
            "allowed_domains": ["a.example"],
            "allowed_ports": [443],
            "max_url_length": 100,
            "disable_loopback": True,
        },
    },
    "ui": {"card": "./card.tsx"},
    "ui_config": {"shared": []},
}
JUNK: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        1.5,
        1e12,
        "",
        "x",
        " ",
        "20",
        "3.10",
        "./missing",
        [],
        [1],
        ["x"],
        [[1]],
        [["a", "b"]],
    ),
    *({}, {"x": 1}, {"x": "y"}, {"path": 1}),
]
#: In both, but not one after the other: the file would have both spellings, or a project and its dependencies.
ELSEWHERE = {"http.configurable-headers", "http.logging_headers", "source"}


def places(value: Any, parts: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield (*parts, name)
            yield from places(item, (*parts, name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name in ("agent.py", "pip.conf"):
        (root / name).write_text("")
    (root / "lib").mkdir()
    return root


def accepted(folder: Path, document: Any) -> bool:
    """By the server, without a warning about a key."""
    path = folder / "langgraph.json"
    path.write_text(json.dumps(document))
    try:
        return not read_project(path).unknown_keys
    except ProjectError:
        return False


def changed(document: Mapping[str, Any], parts: tuple[str, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(dict(document))
    place = made
    for part in parts[:-1]:
        place = place[part]
    place[parts[-1]] = value
    return made


def test_the_schema_is_one() -> None:
    jsonschema_rs.meta.validate(TABLE.schema())


def test_a_file_with_every_key_is_taken_by_both(folder: Path) -> None:
    VALIDATOR.validate(FULL)
    assert accepted(folder, FULL)
    said = {key.path for _, key in TABLE.present(FULL) if key is not None} | ELSEWHERE
    missing = {key.path for key in TABLE.keys if not any(key.path.startswith(place) for place in said)}
    assert missing == set()


@pytest.mark.parametrize("parts", list(places(FULL)), ids=".".join)
def test_both_judge_every_value_of_every_key_alike(folder: Path, parts: tuple[str, ...]) -> None:
    differences = []
    for value in JUNK:
        document = changed(FULL, parts, value)
        by_schema, by_server = VALIDATOR.is_valid(document), accepted(folder, document)
        if by_schema != by_server:
            differences.append((value, "schema" if by_schema else "server"))
    assert [found for found in differences if not excused(".".join(parts), *found)] == []


def excused(path: str, value: Any, taken_by: str) -> bool:
    """Where a schema cannot know: whether the dotenv file is there."""
    return taken_by == "schema" and path == "env" and isinstance(value, str)


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "uv"},
        {"kind": "uv", "root": "."},
        {"kind": "uv", "root": ".."},
        {"kind": "pip"},
        {},
        None,
        "uv",
        {"kind": "uv", "package": "a"},
        {"kind": "uv", "package": None},
    ],
)
def test_a_project_of_uv(folder: Path, source: Any) -> None:
    document = {"graphs": FULL["graphs"], "source": source}
    assert VALIDATOR.is_valid(document) == accepted(folder, document)
    if isinstance(source, dict) and accepted(folder, document):
        assert read_project(folder / "langgraph.json").local_dependencies == (folder,)


@pytest.mark.parametrize(
    "more", [{}, {"index": None, "ttl": None}, {"index": FULL["store"]["index"]}, {"ttl": {}}, {"path": 1}]
)
def test_a_store_of_its_own(folder: Path, more: Any) -> None:
    document = {"graphs": FULL["graphs"], "store": {"path": "./agent.py:store", **more}}
    assert VALIDATOR.is_valid(document) == accepted(folder, document) == all(value is None for value in more.values())


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sections_left_out_and_keys_that_nobody_knows(folder: Path, data: st.DataObject) -> None:
    document = copy.deepcopy(FULL)
    for parts in data.draw(st.lists(st.sampled_from(list(places(FULL))), max_size=6)):
        place: Any = document
        for part in parts[:-1]:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            if data.draw(st.booleans()):
                place.pop(parts[-1], None)
            else:
                place[data.draw(st.sampled_from([*"abc", "pathh", "index", "ttl"]))] = data.draw(
                    st.sampled_from([1, None, "x"])
                )
    assert VALIDATOR.is_valid(document) == accepted(folder, document), document


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("dependancies", "dependencies"),
        ("store.idnex", "store.index"),
        ("http.cors.allow_origin", "http.cors.allow_origins"),
        ("dims", "store.index.dims"),
        ("checkpointer.pickle_fallback", "checkpointer.serde.pickle_fallback"),
        ("zebra", None),
    ],
)
def test_the_nearest_known_key(path: str, near: str | None) -> None:
    assert TABLE.nearest(path) == near


def test_unknown_keys_are_found_at_every_level(folder: Path) -> None:
    """And nowhere where names are the project's own."""
    document = copy.deepcopy(FULL)
    expected = set()
    sections = {key.parts[:-1] for key in TABLE.keys if ANY not in key.path} | {("graphs", "other")}
    for parts in sections - {("source",), ("http", "configurable-headers"), ("http", "logging_headers")}:
        place: Any = document
        for part in parts:
            place = place[part]
        place["zebra"] = 1
        expected.add(".".join((*parts, "zebra")))
    for names in (document["auth"]["openapi"], document["ui_config"]):
        names["mine"] = 1
    document["env"]["mine"] = document["webhooks"]["headers"]["mine"] = "1"
    (folder / "langgraph.json").write_text(json.dumps(document))
    assert set(read_project(folder / "langgraph.json").unknown_keys) == expected


def test_every_sentence_is_one_and_refusals_are_refused(folder: Path) -> None:
    for key in TABLE.keys:
        assert key.does, key.path
        if key.effect is Effect.REFUSED:
            assert key.value == {"type": "null"}, key.path


#: Of the official documentation.
VARIABLES = """
    DATABASE_URI POSTGRES_URI POSTGRES_URI_CUSTOM REDIS_URI REDIS_URI_CUSTOM REDIS_CLUSTER REDIS_KEY_PREFIX N_JOBS_PER_WORKER
    BG_JOB_TIMEOUT_SECS BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS BG_JOB_ISOLATED_LOOPS RESUMABLE_STREAM_TTL_SECONDS
    LANGGRAPH_POSTGRES_POOL_MAX_SIZE LANGGRAPH_AUTH_TYPE LANGGRAPH_AES_KEY LANGGRAPH_WEBHOOKS MOUNT_PREFIX LANGSMITH_TRACING
    LANGSMITH_API_KEY LANGSMITH_PROJECT LANGSMITH_ENDPOINT LANGSMITH_RUNS_ENDPOINTS LANGCHAIN_TRACING_SAMPLING_RATE LOG_LEVEL
    LOG_JSON LOG_COLOR DD_API_KEY LANGGRAPH_CLOUD_LICENSE_KEY
"""


def test_every_official_variable_is_read_or_has_a_reason_why_not() -> None:
    ours = {name for field in fields(Settings) for name in field.metadata["names"]}
    tracer = {name for name in VARIABLES.split() if name.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    assert set(VARIABLES.split()) - ours - tracer == set(OTHER_VARIABLES)
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert {name for name in tracer | set(OTHER_VARIABLES) if f"`{name}`" not in page} == set()


def test_the_command_prints_the_schema() -> None:
    printed = CliRunner().invoke(main, ["schema"]).output
    assert json.loads(printed) == TABLE.schema()
    assert printed == (ROOT / "docs" / "reference" / "langgraph.schema.json").read_text(encoding="utf-8")
