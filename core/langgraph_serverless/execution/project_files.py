"""Which files make up a project, and a hash over all of them: whether two deployments are of the same code.

Promises that the hash changes with the name or the content of any file that a bundle takes along (code, data, requirements), of local
dependencies outside of the project too, and with ``langgraph.json``; and that it stays the same on another machine or in another
folder. It does not cover the values of ``env`` (it is shown in logs, and they may be secrets; their names are covered), what pip installs,
and what ``EXCLUDED`` leaves out. Never imports anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from langgraph_serverless.execution.project import ProjectConfig

#: Names that are left out. Hidden ones hold tools' state and secrets: .git, .venv, .env, .data, .aws, editors' folders.
EXCLUDED = (".*", "__pycache__", "*.py[cod]", "*.egg-info", "node_modules", "venv")
#: A folder with this file in it is a bundle, and the file itself describes the project.
MANIFEST_NAME = "langgraph_manifest.json"


def hash_project(project: ProjectConfig) -> str:
    """SHA-256 in hex."""
    config = json.loads(project.config_path.read_text(encoding="utf-8-sig"))
    config["env"] = sorted(project.env)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    roots = [project.root, *(each for each in project.local_dependencies if not each.is_relative_to(project.root))]
    for number, root in enumerate(roots):
        for path in _files(root, set()):
            if path == project.config_path:
                continue
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{number}/{path.relative_to(root).as_posix()}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def left_out(path: Path) -> bool:
    """Whether nothing of this file or folder belongs to the project."""
    if any(fnmatch(path.name, pattern) for pattern in EXCLUDED):
        return True
    # a virtual environment, a bundle, and what a build has written its bundles into
    return any((path / name).is_file() for name in ("pyvenv.cfg", MANIFEST_NAME, f"api/{MANIFEST_NAME}"))


def _files(folder: Path, above: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return  # a link to a folder that it is in
    for path in sorted(folder.iterdir(), key=lambda each: each.name):
        if left_out(path) or path.name == MANIFEST_NAME:
            continue
        if path.is_dir():
            yield from _files(path, above | {real})
        elif path.is_file():
            yield path
