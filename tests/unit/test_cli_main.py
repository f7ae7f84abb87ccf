"""The command line itself: quick help, one sentence for what can be expected to go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from langgraph_serverless import __version__
from langgraph_serverless.cli.main import main

PROJECT = """
from typing_extensions import TypedDict
from langgraph.graph import StateGraph
class State(TypedDict):
    topic: str
graph = StateGraph(State).add_node("node", lambda state: state).set_entry_point("node").compile()
"""


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from langgraph_serverless.cli.main import main; main(['--help'], standalone_mode=False)\n"
        "heavy = {'langgraph', 'langchain_core', 'fastapi', 'psycopg', 'redis', 'uvicorn', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("dev", "migrate", "manifest"):
        assert f"\n  {command} " in done.stdout
    assert "..." not in done.stdout.partition("Commands:")[2], "a command's line is cut off"


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"langgraph-serverless {__version__}\n"


@pytest.mark.parametrize("command", ["dev", "manifest"])
def test_a_missing_config_is_one_sentence(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(main, [command, "--config", str(tmp_path / "langgraph.json")])
    assert result.exit_code == 1
    assert result.stderr == f"Error: The configuration file {tmp_path.resolve()}/langgraph.json does not exist.\n"


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["manifest", "--debug", "--config", str(tmp_path / "langgraph.json")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("does not exist.\n")


def test_migrate_without_a_database_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("DATABASE_", "POSTGRES_")):
            monkeypatch.delenv(name)
    result = CliRunner().invoke(main, ["migrate"])
    assert result.exit_code == 1
    assert result.stderr == "Error: DATABASE_URI is not set\n"


def test_a_manifest_describes_every_graph(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(PROJECT)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"one": "./graph.py:graph"}}')
    output = tmp_path / "new" / "manifest.json"
    result = CliRunner().invoke(main, ["manifest", "-c", str(tmp_path / "langgraph.json"), "-o", str(output)])
    assert result.exit_code == 0, result.stderr
    described = json.loads(output.read_text())
    assert described["graphs"]["one"]["schemas"]["input_schema"]["properties"]["topic"]["type"] == "string"
