"""Puts the two bundles together: ``api`` for the functions that never run a graph, ``worker`` for those that do.

::

    <output>/api, <output>/worker
        langgraph_serverless/             this package
        langgraph_serverless_functions/   the handlers; the name is unique, a user's project may own "functions"
        project/                          the user's project, langgraph.json on top
        libraries/                        its local dependencies from elsewhere
        langgraph_manifest.json           graphs described, for functions without langgraph
        ...                               dependencies, unless left out

Everything is compiled to byte code, which halves a cold start: a function cannot write ``.pyc`` files itself. Relies on
the project being importable here, since its graphs are loaded to describe them. Never touches a folder that it has not
made.
"""

from __future__ import annotations

import asyncio
import compileall
import json
import os
import py_compile
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless.build.dependencies import BuildTarget, install, project_requirements
from langgraph_serverless.build.project_copy import copy_project
from langgraph_serverless.build.sources import handlers_folder, package_folder, requirements_file
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project

BUNDLES = ("api", "worker")
HANDLERS_PACKAGE = "langgraph_serverless_functions"
MANIFEST_NAME = "langgraph_manifest.json"


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What has been built."""

    folders: tuple[Path, ...]
    graph_ids: tuple[str, ...]
    has_env: bool
    compiled: bool


def build_bundles(
    config_path: Path,
    output: Path,
    *,
    target: BuildTarget,
    with_dependencies: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> BuildReport:
    """Builds both bundles of the project at ``config_path`` into ``output``; ``say`` gets a line per step."""
    project = read_project(config_path)
    folders = tuple(output / name for name in BUNDLES)
    say(f"Describing the graphs of {project.config_path}")
    manifest = _manifest(project)
    for folder in folders:
        _make_room(folder)
    for folder in folders:
        say(f"Building {folder}")
        _fill(folder, project, manifest, output)
        if with_dependencies:
            say(f"Installing the dependencies of {folder}")
            install(folder, requirements_file(folder.name), project_requirements(project), target)
        if target.is_host:
            _compile(folder)
    return BuildReport(
        folders=folders, graph_ids=tuple(manifest["graphs"]), has_env=bool(project.env), compiled=target.is_host
    )


def _make_room(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
        raise ProjectError(f"{folder} exists and is not a bundle; move it away or choose another --output.")
    shutil.rmtree(folder)


def _manifest(project: ProjectConfig) -> dict[str, Any]:
    # imported here: they bring langgraph, which nothing but this step needs
    from langgraph_serverless.execution.loader import GraphRegistry  # noqa: PLC0415
    from langgraph_serverless.execution.manifest import build_manifest  # noqa: PLC0415

    project.apply_env(os.environ)
    return asyncio.run(build_manifest(GraphRegistry.load(project))).to_json()


def _fill(folder: Path, project: ProjectConfig, manifest: dict[str, Any], output: Path) -> None:
    folder.mkdir(parents=True)
    # written first: it is also what marks the folder as ours if a later step fails
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package_folder(), folder / "langgraph_serverless", ignore=no_caches)
    shutil.copytree(handlers_folder(), folder / HANDLERS_PACKAGE, ignore=no_caches)
    copy_project(project, folder, output)


def _compile(folder: Path) -> None:
    # unchecked: an archive keeps no time stamps to compare with. A file that does not compile says so when imported.
    compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
