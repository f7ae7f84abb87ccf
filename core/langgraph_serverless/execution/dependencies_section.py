"""The section ``dependencies`` of langgraph.json, checked.

Promises that what is said to be a folder is one. Unlike other paths it may lie beside the project ("../../libs/shared"), which is how
the official documentation lays out a monorepo. An absolute path outside the project is refused: it could not be packaged.
Requirements for pip are passed on as they are; ``build/requirements.py`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import resolve_inside


def read_dependencies(raw: Mapping[str, Any], config_path: Path) -> tuple[str, ...]:
    """The entries as they are written."""
    entries = raw.get("dependencies") or []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ProjectError(f"{config_path}: 'dependencies' must be a list of strings.")
    return tuple(entries)


def local_folders(entries: tuple[str, ...], config_path: Path) -> tuple[Path, ...]:
    """The folders among them: as in the official command line, those that begin with a dot."""
    root, key = config_path.parent, f"{config_path}: dependencies"
    folders = []
    for entry in entries:
        if entry.startswith("/"):
            folder = resolve_inside(root, entry, key=key)
        elif entry.startswith("."):
            try:
                folder = (root / entry).resolve()
            except (ValueError, OSError, RuntimeError) as error:
                raise ProjectError(f"{key}: {entry!r} is not a usable path ({error}).") from error
        else:
            continue
        if not folder.is_dir():
            raise ProjectError(f"{key}: the folder '{entry}' does not exist.")
        folders.append(folder)
    return tuple(folders)
