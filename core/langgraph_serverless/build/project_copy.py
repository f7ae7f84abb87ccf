"""Copies the user's project into a bundle, so that it reads there as it does where it comes from.

The folder of ``langgraph.json`` becomes ``project/``. Dependencies that lie outside of it become
``libraries/<n>/<name>/`` (the name stays, since it may be the name of a package), and ``langgraph.json`` is written
anew to point there. Values of a dotenv file are written into it too: functions carry no dotenv reader, and the file
itself is left out, like everything else that only a developer's machine needs. Never copies a virtual environment.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.project_files import left_out


def copy_project(project: ProjectConfig, bundle: Path, output: Path) -> None:
    """Fills ``bundle/project`` and ``bundle/libraries``; ``output`` is never copied into itself."""
    ignore = _ignore(output.resolve())
    shutil.copytree(project.root, bundle / "project", ignore=ignore, ignore_dangling_symlinks=True)
    moved: dict[str, str] = {}
    for entry in project.dependencies:
        folder = (project.root / entry).resolve()
        if not entry.startswith(".") or folder.is_relative_to(project.root):
            continue
        place = f"libraries/{len(moved)}/{folder.name}"
        shutil.copytree(folder, bundle / place, ignore=ignore, ignore_dangling_symlinks=True)
        moved[entry] = f"../{place}"
    _write_config(project, bundle / "project" / "langgraph.json", moved)


def _write_config(project: ProjectConfig, path: Path, moved: dict[str, str]) -> None:
    config = json.loads(project.config_path.read_text(encoding="utf-8-sig"))
    if "dependencies" in config:
        config["dependencies"] = [moved.get(entry, entry) for entry in config["dependencies"]]
    if project.env:
        config["env"] = dict(project.env)
    else:
        config.pop("env", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _ignore(output: Path) -> Callable[[str, list[str]], set[str]]:
    def ignore(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if _left_out(Path(folder) / name, output)}

    return ignore


def _left_out(path: Path, output: Path) -> bool:
    return left_out(path) or (path.is_dir() and path.resolve() == output)
