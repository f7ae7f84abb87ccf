"""The sections ``dependencies`` and ``source`` of langgraph.json, checked.

Promises that what is said to be a folder is one. Unlike other paths it may lie beside the project ("../../libs/shared"), which is how
the official documentation lays out a monorepo. What could not be packaged (a folder anywhere else, a ``file:`` URL), what would be an
option of pip, and a URL with a password, which images and logs would keep, is refused and not shown. Requirements are passed on
as they are; ``build/requirements.py`` reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import resolve_inside

_PASSWORD = re.compile(r"://[^/\s@]*@")
#: Of ``git+ssh``, where a name without a password is usual.
_NAME_OF_SSH = re.compile(r"ssh://[^/\s@:]*@", re.IGNORECASE)
_FILE_URL = re.compile(r"file:", re.IGNORECASE)


def read_dependencies(raw: Mapping[str, Any], config_path: Path) -> tuple[str, ...]:
    """The entries as they are written; those of a uv project are what its folder says."""
    key, entries = f"{config_path}: dependencies", raw.get("dependencies")
    if entries is not None and (not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries)):
        raise ProjectError(f"{config_path}: 'dependencies' must be a list of strings.")
    for place, entry in enumerate(entries or ()):
        if not entry or entry[0] in "-~" or entry[0].isspace():
            raise ProjectError(f"{key}: {entry!r} is neither a folder of the project nor a requirement.")
        if any(ord(letter) < 32 for letter in entry):
            raise ProjectError(f"{key}: entry {place + 1} has a control character.")
        if _FILE_URL.search(entry):
            raise ProjectError(f"{key}: entry {place + 1} is a 'file:' URL; name the folder, as './library'.")
        if _PASSWORD.search(_NAME_OF_SSH.sub("", entry)):
            raise ProjectError(
                f"{key}: entry {place + 1} is a URL with a name or a password in it; give it to git or pip where you build."
            )
    return _of_source(raw, config_path) or tuple(entries or ())


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
            if os.path.commonpath([folder, root]) == folder.anchor:
                raise ProjectError(f"{key}: '{entry}' lies in no folder that the project is in as well.")
        else:
            continue
        if not folder.is_dir():
            raise ProjectError(f"{key}: the folder '{entry}' does not exist.")
        folders.append(folder)
    return tuple(folders)


def _of_source(raw: Mapping[str, Any], config_path: Path) -> tuple[str, ...]:
    key, source = f"{config_path}: source", raw.get("source")
    if source is None:
        return ()
    if not isinstance(source, dict) or source.get("kind") != "uv":
        raise ProjectError(f"{key} must be an object with the kind 'uv'.")
    if raw.get("dependencies"):
        raise ProjectError(f"{key} stands instead of 'dependencies'; remove one of the two.")
    if source.get("root") not in (None, ".", "./") or source.get("package") is not None:
        raise ProjectError(
            f"{key}: a uv workspace is not supported, only a project in the folder of langgraph.json; name the folders of its"
            " packages in 'dependencies' instead."
        )
    return (".",)
