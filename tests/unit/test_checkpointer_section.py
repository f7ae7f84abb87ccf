"""The section ``checkpointer`` of langgraph.json: a default time to live, and what is refused or unknown by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.domain.threads import Ttl, TtlStrategy
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project


def read(folder: Path, checkpointer: Any) -> ProjectConfig:
    (folder / "agent.py").write_text("graph = None")
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, "checkpointer": checkpointer}))
    return read_project(path)


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        ({"default_ttl": 43200}, Ttl(strategy=TtlStrategy.DELETE, minutes=43200)),
        (
            {"strategy": "keep_latest", "default_ttl": 0.5, "sweep_interval_minutes": 5, "sweep_limit": 1000},
            Ttl(strategy=TtlStrategy.KEEP_LATEST, minutes=0.5),
        ),
        ({"strategy": "delete"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_default_time_to_live(tmp_path: Path, ttl: Any, expected: Ttl | None) -> None:
    config = read(tmp_path, {"ttl": ttl})
    assert config.thread_ttl == expected
    assert (config.inactive_keys, config.unknown_keys) == ((), ())


@pytest.mark.parametrize(
    ("ttl", "key"),
    [
        ([], "checkpointer.ttl must"),
        ({"strategy": "archive"}, "checkpointer.ttl.strategy"),
        ({"default_ttl": 0}, "checkpointer.ttl.default_ttl"),
        ({"default_ttl": "60"}, "checkpointer.ttl.default_ttl"),
        ({"default_ttl": True}, "checkpointer.ttl.default_ttl"),
        ({"default_ttl": 1e300}, "checkpointer.ttl.default_ttl"),
        ({"sweep_limit": -1}, "checkpointer.ttl.sweep_limit"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, ttl: Any, key: str) -> None:
    with pytest.raises(ProjectError, match=key):
        read(tmp_path, {"ttl": ttl})


def test_what_nobody_knows_is_named(tmp_path: Path) -> None:
    config = read(tmp_path, {"serde": {"pickle": False}, "surprise": 1, "ttl": {"default": 5}})
    assert config.unknown_keys == ("checkpointer.surprise", "checkpointer.serde.pickle", "checkpointer.ttl.default")


def test_a_saver_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"checkpointer\.path is not supported: a saver of your own could not"):
        read(tmp_path, {"path": "./agent.py:graph"})
