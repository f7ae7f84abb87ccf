"""Bundles: what is in them, what is left out, and that the project loads from there as it did at home."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from langgraph_serverless import __version__
from langgraph_serverless.build.bundle import _make_room, build_bundles
from langgraph_serverless.build.sources import deployment_folder, handlers_folder
from langgraph_serverless.build.target import PYTHONS, BuildTarget, host_architecture, host_python
from langgraph_serverless.cli.build import chosen_target
from langgraph_serverless.deploy.stack_folder import make_stack_folder
from langgraph_serverless.errors import ProjectError

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
        import functions.answers, shared_rules
        found = [module.__file__ for module in (functions.answers, langgraph_serverless, shared_rules)]
        print(json.dumps([await graph.ainvoke({"text": ""}), found]))

asyncio.run(main())
"""

WHEEL = ("-m", "hatchling", "build", "--target", "wheel", "--directory")
AGAIN = """
from pathlib import Path
from langgraph_serverless.cli.main import main
from langgraph_serverless.deploy.stack_folder import make_stack_folder
main(["build", "--output", "out", "--without-dependencies"], standalone_mode=False)
main(["deploy", "--output", "out", "--skip-build", "--dry-run"], standalone_mode=False)
make_stack_folder(Path("out"))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
        "app/secretive.py": "",
        "rules/shared_rules.py": "RULE = '!'\n",
    }
    folder = tmp_path_factory.mktemp("home")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "app" / "secretive.py").chmod(0o600)
    return folder / "app" / "langgraph.json"


@pytest.fixture(scope="module")
def built(project: Path) -> Path:
    """Its bundles, inside the project, as the default output is."""
    done = build(project, project.parent / "out")
    assert done.returncode == 0, done.stderr
    assert "keep secrets out of it" in done.stdout
    return project.parent / "out"


def build(config: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Builds as the command does, in a process of its own: loading a project changes the import system."""
    command = "from langgraph_serverless.cli.main import main; main()"
    return run("-c", command, "build", "--config", str(config), "--output", str(output), "--without-dependencies")


def run(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_a_bundle_holds_the_project_the_handlers_and_the_manifest(built: Path) -> None:
    for bundle in (built / "api", built / "worker"):
        assert (bundle / "langgraph_serverless_functions" / "threads" / "handler.py").is_file()
        assert (bundle / "langgraph_serverless" / "settings.py").is_file()
        assert not (bundle / "langgraph_serverless" / "cli").exists()
        assert os.access(bundle / "langgraph_serverless_functions" / "stream" / "streaming_runtime", os.X_OK)
        assert (bundle / "libraries" / "0" / "rules" / "shared_rules.py").is_file()
        assert (bundle / "project" / "secretive.py").stat().st_mode & 0o777 == 0o644  # functions run as another user
        manifest = json.loads((bundle / "langgraph_manifest.json").read_text())
        assert manifest["graphs"]["echo"]["description"] == "Echoes."
        copied = {path.name for path in (bundle / "project").iterdir()} - {"__pycache__"}
        assert copied == {
            "agent",
            "functions",
            "langgraph.json",
            "requirements.txt",
            "pyproject.toml",
            "broken.py",
            "secretive.py",
        }
        config = json.loads((bundle / "project" / "langgraph.json").read_text())
        assert config["env"] == {"GREETING": "hello"}
        assert config["dependencies"] == [".", "../libraries/0/rules", "tenacity"]


def test_a_bundle_is_compiled_for_archives_that_keep_no_time_stamps(built: Path) -> None:
    compiled = list((built / "api" / "project" / "agent" / "__pycache__").glob("graph.*.pyc"))
    assert len(compiled) == 1
    flags = int.from_bytes(compiled[0].read_bytes()[4:8], "little")
    assert flags == 0b01  # by hash, and the hash is not checked
    assert b"/var/task/project/agent/graph.py" in compiled[0].read_bytes()


def test_what_was_built_is_recorded(built: Path) -> None:
    record = json.loads((built / "build.json").read_text())
    assert record["version"] == __version__
    assert (record["python"], record["architecture"]) == (host_python(), "arm64")
    assert record["graphs"] == ["echo"]
    assert record["compiled"] is True
    assert record["dependencies"] is False
    for name, bundle in record["bundles"].items():
        files = [path for path in (built / name).rglob("*") if path.is_file()]
        assert bundle["files"] == len(files)
        assert bundle["unpacked_bytes"] == sum(path.stat().st_size for path in files)
        archive = built / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in files:
                zipped.write(path, path.relative_to(built / name))
        assert bundle["zipped_bytes"] == pytest.approx(archive.stat().st_size, rel=0.01)
        archive.unlink()


def test_the_graph_loads_from_the_bundle_alone(built: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "task"
    shutil.copytree(built / "worker", bundle)
    loaded = run("-c", LOAD, cwd=bundle, env={"PYTHONPATH": str(bundle)})
    assert loaded.returncode == 0, loaded.stderr
    values, files = json.loads(loaded.stdout)
    assert values == {"text": "yes!"}
    assert all(Path(file).is_relative_to(bundle) for file in files)


def test_an_installed_wheel_builds_the_same_again_and_deploys_it(built: Path, project: Path, tmp_path: Path) -> None:
    """No checkout is needed, a second build gives the same bytes, and it replaces the bundles only."""
    before = {path: path.read_bytes() for path in sorted(built.rglob("*")) if path.is_file()}
    stale, mine = built / "api" / "stale.py", built / "mine.txt"
    stale.touch()
    mine.touch()
    site = tmp_path / "site"
    made = run(*WHEEL, str(tmp_path), cwd=deployment_folder())
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # bundles without dependencies are for LocalStack
    environ = {**os.environ, "PYTHONPATH": str(site), "AWS_ENDPOINT_URL": "http://localhost:4566"}
    done = run("-c", AGAIN, cwd=project.parent, env=environ)
    assert done.returncode == 0, done.stderr
    assert mine.exists()
    mine.unlink()
    written = built / "stack"
    after = {path: path.read_bytes() for path in sorted(built.rglob("*")) if path.is_file()}
    assert {path: text for path, text in after.items() if written not in path.parents} == before

    # what a deployment is given: from the wheel, and the same as from the checkout
    assert f"--config-file {site}/langgraph_serverless/build/deployment/samconfig.toml" in done.stdout
    make_stack_folder(tmp_path)
    assert contents(written) == contents(tmp_path / "stack")
    shutil.rmtree(written)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_not_a_bundle_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "mine" / "api" / "precious.py"
    precious.parent.mkdir(parents=True)
    precious.touch()
    with pytest.raises(ProjectError, match="is not a bundle"):
        _make_room(tmp_path / "mine" / "api")
    assert precious.exists()


def test_a_project_that_cannot_be_read_leaves_the_last_bundle(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="does not exist"):
        build_bundles(tmp_path / "langgraph.json", tmp_path / "out", target=BuildTarget())
    assert not (tmp_path / "out").exists()


def test_the_target_is_arm_and_a_python_that_lambda_has() -> None:
    assert BuildTarget().architecture == "arm64"
    assert BuildTarget().python in PYTHONS
    assert chosen_target(None, None, dependencies=False).python == host_python()  # runs beside this environment
    assert chosen_target("3.12", "host").architecture == host_architecture()


def test_wheels_fit_the_c_library_of_lambda() -> None:
    platforms = BuildTarget(architecture="arm64").wheel_platforms()
    assert platforms[0] == "manylinux_2_34_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert "manylinux_2_35_aarch64" not in platforms


def test_the_image_holds_either_bundle() -> None:
    instructions = [
        line.split(maxsplit=1)
        for line in (deployment_folder() / "infra" / "Dockerfile").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert instructions[:2] == [
        ["ARG", "PYTHON_VERSION=3.13"],
        ["FROM", "public.ecr.aws/lambda/python:${PYTHON_VERSION} AS runtime"],
    ]
    for stage, handler in (("api", "system"), ("worker", "worker")):
        at = instructions.index(["FROM", f"runtime AS {stage}"])
        command = f'["langgraph_serverless_functions.{handler}.handler.handler"]'
        assert instructions[at + 1 : at + 3] == [["COPY", f"{stage}/ ${{LAMBDA_TASK_ROOT}}/"], ["CMD", command]]
        assert (handlers_folder() / handler / "handler.py").is_file()
