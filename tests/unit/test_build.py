"""Bundles: what is in them, what is left out, and that the project loads from there as it did at home."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from langgraph_serverless.build.bundle import build_bundles
from langgraph_serverless.build.dependencies import BuildTarget, project_requirements
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import read_project

GRAPH = """
from typing_extensions import TypedDict
from langgraph.graph import StateGraph
from functions.answers import ANSWER
from shared_rules import RULE

class State(TypedDict):
    text: str

graph = StateGraph(State).add_node("answer", lambda state: {"text": ANSWER + RULE}).set_entry_point("answer")
"""

LOAD = """
import asyncio, json, os, sys
from pathlib import Path
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
import langgraph_serverless

async def main():
    registry = GraphRegistry.load(read_project(Path("project/langgraph.json")))
    async with registry.graph("echo", access_context="threads.create_run") as graph:
        print(json.dumps([await graph.ainvoke({"text": ""}), langgraph_serverless.__file__]))

asyncio.run(main())
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that owns a package called "functions", uses a folder beside it, and has what must not be shipped."""
    files = {
        "app/langgraph.json": json.dumps(
            {
                "graphs": {"echo": {"path": "./agent/graph.py:graph", "description": "Echoes."}},
                "dependencies": [".", "../rules", "tenacity"],
                "env": ".env",
            }
        ),
        "app/.env": "GREETING=hello\n",
        "app/agent/graph.py": GRAPH,
        "app/functions/__init__.py": "",
        "app/functions/answers.py": "ANSWER = 'yes'\n",
        "app/requirements.txt": "orjson\n",
        "app/pyproject.toml": "[project]\nname = 'app'\nversion = '1'\ndependencies = ['pydantic>=2']\n",
        "app/.git/HEAD": "ref",
        "app/node_modules/left/pad.js": "",
        "app/my-environment/pyvenv.cfg": "",
        "app/my-environment/lib/site.py": "",
        "app/broken.py": "def (:\n",
        "rules/shared_rules.py": "RULE = '!'\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "app" / "langgraph.json"


def build(config: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Builds as the command does, in a process of its own: loading a project changes the import system."""
    command = [sys.executable, "-c", "from langgraph_serverless.cli.main import main; main()", "build"]
    options = ["--config", str(config), "--output", str(output), "--without-dependencies"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=120)


def test_a_bundle_holds_the_project_the_handlers_and_the_manifest(project: Path, tmp_path: Path) -> None:
    done = build(project, project.parent / "out")  # inside the project, as the default output is
    assert done.returncode == 0, done.stderr
    assert "keep secrets out of it" in done.stdout
    for bundle in (project.parent / "out" / "api", project.parent / "out" / "worker"):
        assert (bundle / "langgraph_serverless_functions" / "threads" / "handler.py").is_file()
        assert (bundle / "langgraph_serverless" / "settings.py").is_file()
        assert os.access(bundle / "langgraph_serverless_functions" / "stream" / "streaming_runtime", os.X_OK)
        assert (bundle / "libraries" / "0" / "rules" / "shared_rules.py").is_file()
        manifest = json.loads((bundle / "langgraph_manifest.json").read_text())
        assert manifest["graphs"]["echo"]["description"] == "Echoes."
        copied = {path.name for path in (bundle / "project").iterdir()} - {"__pycache__"}
        assert copied == {"agent", "functions", "langgraph.json", "requirements.txt", "pyproject.toml", "broken.py"}
        config = json.loads((bundle / "project" / "langgraph.json").read_text())
        assert config["env"] == {"GREETING": "hello"}
        assert config["dependencies"] == [".", "../libraries/0/rules", "tenacity"]


def test_a_bundle_is_compiled_for_archives_that_keep_no_time_stamps(project: Path, tmp_path: Path) -> None:
    assert build(project, tmp_path / "out").returncode == 0
    compiled = list((tmp_path / "out" / "api" / "project" / "agent" / "__pycache__").glob("graph.*.pyc"))
    assert len(compiled) == 1
    flags = int.from_bytes(compiled[0].read_bytes()[4:8], "little")
    assert flags == 0b01  # by hash, and the hash is not checked


def test_the_graph_loads_from_the_bundle_alone(project: Path, tmp_path: Path) -> None:
    assert build(project, tmp_path / "out").returncode == 0
    project.parent.rename(tmp_path / "gone")
    (tmp_path / "rules").rename(tmp_path / "gone-too")
    bundle = tmp_path / "out" / "worker"
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=bundle,
        env={"PYTHONPATH": str(bundle)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert loaded.returncode == 0, loaded.stderr
    values, package = json.loads(loaded.stdout)
    assert values == {"text": "yes!"}
    assert Path(package).is_relative_to(bundle)


def test_building_again_replaces_a_bundle_and_nothing_else(project: Path, tmp_path: Path) -> None:
    assert build(project, tmp_path / "out").returncode == 0
    stale = tmp_path / "out" / "api" / "stale.py"
    stale.touch()
    assert build(project, tmp_path / "out").returncode == 0
    assert not stale.exists()

    precious = tmp_path / "mine" / "api" / "precious.py"
    precious.parent.mkdir(parents=True)
    precious.touch()
    refused = build(project, tmp_path / "mine")
    assert refused.returncode != 0
    assert "is not a bundle" in refused.stderr
    assert precious.exists()


def test_a_project_that_cannot_be_read_leaves_the_last_bundle(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="does not exist"):
        build_bundles(tmp_path / "langgraph.json", tmp_path / "out", target=BuildTarget())
    assert not (tmp_path / "out").exists()


def test_what_the_project_asks_pip_for(project: Path) -> None:
    requirements = project_requirements(read_project(project))
    assert requirements == ["tenacity", "-r", str(project.parent / "requirements.txt"), "pydantic>=2"]


def test_pip_looks_for_wheels_of_another_kind_of_machine() -> None:
    foreign = BuildTarget(python="3.12" if BuildTarget().python != "3.12" else "3.13", architecture="arm64")
    options = foreign.pip_options()
    assert options[-2:] == ["--only-binary", ":all:"]
    assert "manylinux_2_28_aarch64" in options
    assert BuildTarget().pip_options() == [] or not BuildTarget().is_host
