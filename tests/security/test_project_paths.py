"""No path of langgraph.json leads out of the project (S13), whatever it is written in, and nothing outside is read or imported.

Beside the project there are files that would say so: modules that write a file when they are imported, and secrets.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from figures import Figures

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project

#: ``{outside}`` is the folder that the project is in.
OUTSIDE = {
    "a file beside": "../outside.py",
    "dots in the midst": "./sub/../../outside.py",
    "dots behind a folder that is not there": "./nowhere/../../outside.py",
    "many dots": "../" * 30 + "{outside}/outside.py",
    "absolute": "{outside}/outside.py",
    "absolute with dots": "{outside}/project/../outside.py",
    "two slashes": "/{outside}/outside.py",
    "a link to a file": "./link.py",
    "a link to a folder": "./linked/outside.py",
    "a link through a link": "./twice/outside.py",
    "a link to itself": "./loop.py",
    "home": "~/outside.py",
    "somebody's home": "~root/outside.py",
    "a URL": "file://{outside}/outside.py",
    "a URL of two slashes": "file:{outside}/outside.py",
    "percent": "%2e%2e/outside.py",
    "percent and a slash": "..%2foutside.py",
    "backslashes": "..\\outside.py",
    "NUL": "./agent.py\0/../../outside.py",
    "NUL at the end": "../outside.py\0",
    "a line break": "../outside.py\n",
    "a variable": "$HOME/outside.py",
    "three dots": ".../outside.py",
    "too long": "./" + "a" * 300 + ".py",
    "a device": "/dev/stdin",
    "this process": "/proc/self/cwd/outside.py",
}
#: Every key that names a file and an object in it.
TARGETS = (
    *("graphs.a", "graphs.a.path", "auth.path", "encryption.path", "priority.path", "http.app"),
    *("store.index.embed", "store.path", "checkpointer.path"),
)
#: Every key that names a file alone.
FILES = ("env", "pip_config_file", "ui.card")
MODULES = ("../outside", "..outside", "outside.", ".outside", "out side", "a/b", "os;outside", "__import__('outside')")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder where nothing may be read, which is also everybody's home."""
    (tmp_path / "outside.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w')\ngraph = None\nSECRET='canary-of-a-file'\n"
    )
    (tmp_path / "__init__.py").write_text("")
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "agent.py").write_text("graph = None\n")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    (root / "linked").symlink_to(tmp_path)
    (root / "twice").symlink_to(root / "linked")
    (root / "loop.py").symlink_to(root / "loop.py")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return root


def write(root: Path, path: str, value: Any) -> Path:
    document: dict[str, Any] = {"graphs": {"agent": "./agent.py:graph"}}
    place = document
    *above, name = path.split(".")
    for part in above:
        place = place.setdefault(part, {})
    place[name] = value
    if path == "store.index.embed":
        place["dims"] = 8
    config = root / "langgraph.json"
    config.write_text(json.dumps(document))
    return config


def refused(root: Path, path: str, value: str | list[str]) -> None:
    where = str(root.parent)
    entry = (
        value.replace("{outside}", where)
        if isinstance(value, str)
        else [each.replace("{outside}", where) for each in value]
    )
    config = write(root, path, entry)
    with pytest.raises(ProjectError) as caught:
        GraphRegistry.load(read_project(config))
    said = str(caught.value)
    assert path.removesuffix(".path") in said, said
    assert "canary-of-a-file" not in said
    assert not (root.parent / "imported").exists()


@pytest.mark.parametrize("written", OUTSIDE.values(), ids=OUTSIDE)
def test_no_target_is_outside(project: Path, written: str) -> None:
    for path in TARGETS:
        refused(project, path, f"{written}:graph")


@pytest.mark.parametrize("written", OUTSIDE.values(), ids=OUTSIDE)
def test_no_file_is_outside(project: Path, written: str) -> None:
    for path in FILES:
        if path != "env" and not leads_out(written):
            continue  # no server opens it, so that it may be missing
        refused(project, path, written)


def leads_out(written: str) -> bool:
    """Not the name of a strange file inside the project."""
    return not written.startswith(("~", "file:", "%", "..%", "$", "...", "NUL", "./loop"))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_a_path(project: Path, module: str) -> None:
    for path in TARGETS:
        refused(project, path, f"{module}:graph")


@pytest.mark.parametrize(
    "entry",
    [
        "/",
        "/etc",
        "{outside}",
        "../" * 30 + "etc",
        "~",
        "~/outside",
        "file://{outside}",
        "outside @ file://{outside}",
        "outside @ FILE:{outside}",
        "-r {outside}/requirements.txt",
        "--index-url=https://evil.example",
        "-e ..",
        " --pre",
        "./nowhere",
        "./agent.py",
        "./\0",
        "requests\n--pre",
        "tool @ git+https://user:canary-of-a-file@example.com/tool.git",
        "tool @ git+https://canary-of-a-file@example.com/tool.git",
    ],
)
def test_no_dependency_is_anywhere_else_or_an_option(project: Path, entry: str) -> None:
    refused(project, "dependencies", [entry])


def test_a_linked_dependency_must_share_a_folder_with_the_project(project: Path) -> None:
    (project / "etc").symlink_to("/etc")
    refused(project, "dependencies", ["./etc"])


def test_what_lies_inside_is_taken(project: Path, figures: Figures) -> None:
    for written in ("./agent.py", "agent.py", "sub/../agent.py".replace("sub/../", "./"), f"{project}/agent.py"):
        assert (
            read_project(write(project, "graphs.a", f"{written}:graph")).graphs["a"].target.endswith("agent.py:graph")
        )
    os.link(project / "agent.py", project / "sub" / "again.py")
    read_project(write(project, "graphs.a", "./sub/again.py:graph"))
    figures("S13", ways=len(OUTSIDE), keys=len(TARGETS) + len(FILES), modules=len(MODULES), dependencies=20, let_out=0)
