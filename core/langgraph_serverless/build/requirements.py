"""What the user's project asks to be installed: requirements, lock files, and packages of its own.

A local dependency that can be built (``[build-system]`` in its pyproject.toml, or a ``setup.py``) is built into a wheel and
installed, as the official command line does; so a ``src`` layout, data files and dynamic dependencies come out as their
author wants them. One that cannot is importable from its folder, which is part of the bundle anyway.

A requirements.txt may name its own folder or another one (``-e .``, ``./lib``), as whoever develops there wants it: its own is built
anyway, others are installed as they are, since nothing in a bundle can be edited.

Lock files: a ``uv.lock`` is exported with its hashes if uv is there. Requirements with hashes are kept apart, since pip wants
hashes for everything or for nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langgraph_serverless.build.installer import build_wheel
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig

LOCK_EXPORT = (
    "export --frozen --no-dev --no-emit-project --no-emit-workspace --no-emit-local --no-annotate --no-header --quiet"
)
#: A line of a requirements file that names a place: whether to edit it there, the place, extras, and a marker.
_PLACE = re.compile(r"(-e|--editable)?[ =]*([^\s\[;#]+)(\[[^\]]*\])?(.*)")
_FOLDERS = ("-e", "--editable", ".")
_FILE = re.compile(r"(-r|--requirement|-c|--constraint)[ =]*([^\s#]+)")


@dataclass(kw_only=True)
class Requirements:
    """Arguments for an installer."""

    #: requirements, files of them (``-r``, path) and wheels
    wanted: list[str] = field(default_factory=list)
    #: files of requirements that all have hashes
    locked: list[Path] = field(default_factory=list)


def project_requirements(project: ProjectConfig, scratch: Path, say: Callable[[str], None]) -> Requirements:
    """What ``dependencies`` of langgraph.json come to; wheels and exported locks are written to ``scratch``."""
    found = Requirements(wanted=[entry for entry in project.dependencies if not entry.startswith((".", "/"))])
    for number, folder in enumerate(project.local_dependencies):
        place = scratch / str(number)
        place.mkdir(parents=True)
        _lock(folder, place, found, say)
        extras = ""
        if (requirements := folder / "requirements.txt").is_file():
            if "--hash=" in requirements.read_text(encoding="utf-8"):
                found.locked.append(requirements)
            else:
                requirements, extras = _without_own_folder(requirements, place)
                found.wanted += ["-r", str(requirements)]
        found.wanted += _package(folder, place, extras, say)
    return found


def names_folders(requirements: Path) -> bool:
    """Whether a requirements file has to do with folders beside it."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return any(line.strip().startswith(_FOLDERS) for line in lines)


def _without_own_folder(requirements: Path, place: Path) -> tuple[Path, str]:
    """The file, or a copy of it that names other folders only and nothing to be edited; and the extras of its own folder."""
    folder, lines, extras = requirements.parent.resolve(), [], ""
    wanted = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    for line in wanted:
        place_named = _PLACE.fullmatch(line) if line.startswith(_FOLDERS) else None
        if (file := _FILE.match(line)) is not None:
            lines.append(f"{file[1]} {folder / file[2]}")
        elif place_named is None:
            lines.append(line)
        elif ":" in place_named[2]:  # of a repository, say
            lines.append("".join(part or "" for part in place_named.groups()[1:]))
        elif (elsewhere := (folder / place_named[2]).resolve()) != folder:
            lines.append(f"{elsewhere}{place_named[3] or ''}{place_named[4]}")
        else:
            extras = place_named[3] or extras
    if not names_folders(requirements):
        return requirements, ""
    copy = place / "requirements.txt"
    copy.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return copy, extras


def _lock(folder: Path, place: Path, found: Requirements, say: Callable[[str], None]) -> None:
    if not (folder / "uv.lock").is_file():
        return
    uv = shutil.which("uv")
    if uv is None:
        say(
            f"{folder / 'uv.lock'} is not used, as there is no uv on the PATH: versions are what the project's ranges allow."
        )
        return
    exported = place / "uv-lock.txt"
    command = [uv, *LOCK_EXPORT.split(), "--output-file", str(exported)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ProjectError(f"{folder / 'uv.lock'} cannot be exported: {done.stderr.strip()}")
    if "--hash=" in exported.read_text(encoding="utf-8"):
        found.locked.append(exported)


def _package(folder: Path, place: Path, extras: str, say: Callable[[str], None]) -> list[str]:
    pyproject = _read(folder / "pyproject.toml")
    if "build-system" not in pyproject and not (folder / "setup.py").is_file():
        # importable from its folder; what it declares is all there is to install
        return [str(requirement) for requirement in pyproject.get("project", {}).get("dependencies", [])]
    try:
        return [f"{build_wheel(folder, place / 'wheel')}{extras}"]
    except ProjectError as error:
        project = pyproject.get("project", {})
        if (folder / "src").is_dir() or "dependencies" in project.get("dynamic", []):
            raise
        # many projects are run from their folder and never installed, so that nobody has seen this fail
        say(f"{error} It is imported from its folder instead.")
        return [str(requirement) for requirement in project.get("dependencies", [])]


def _read(pyproject: Path) -> dict[str, Any]:
    if not pyproject.is_file():
        return {}
    try:
        return tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{pyproject} cannot be read: {error}.") from error
