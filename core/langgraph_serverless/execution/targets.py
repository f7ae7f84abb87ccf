"""Import specs of ``langgraph.json``: ``./file.py:name`` and ``package.module:name``.

Promises: a parsed ``Target`` names either a Python file that exists under the project root or a dotted module, and an
attribute; everything else is a one-sentence ``ProjectError`` that names the key it came from. Symbolic links are
followed before the check, so a link cannot lead out of the project.

Relies on: the file system only. Never imports the target; that is ``modules.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from langgraph_serverless.errors import ProjectError

JAVASCRIPT_SUFFIXES = frozenset({".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"})
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an object of the user's project is found. Exactly one of ``file`` and ``module`` is set."""

    #: the value as written in ``langgraph.json``
    spec: str
    #: the key it came from, for messages: ``graphs.agent``
    key: str
    #: absolute path of the Python file
    file: Path | None
    #: dotted module name
    module: str | None
    #: name of the object inside the module
    attribute: str


def resolve_inside(root: Path, value: str, *, key: str) -> Path:
    """The absolute path of `value`, which must lie under `root` and be written without ``..``."""
    if ".." in value.replace("\\", "/").split("/"):
        raise ProjectError(f"{key}: '{value}' contains '..', paths must stay inside the project folder {root}.")
    try:
        path = (root / value).resolve()
        path.exists()  # raises for a name that is too long, which resolve does not
    except (ValueError, OSError, RuntimeError) as error:  # null byte, loop of links
        raise ProjectError(f"{key}: {value!r} is not a usable path ({error}).") from error
    if not path.is_relative_to(root.resolve()):
        raise ProjectError(f"{key}: '{value}' lies outside the project folder {root}.")
    return path


def parse_target(root: Path, spec: str, *, key: str) -> Target:
    """Split `spec` and check it as far as that is possible without importing anything."""
    location, colon, attribute = spec.rpartition(":")
    if not colon or not location or not attribute:
        raise ProjectError(f"{key}: '{spec}' needs the form './file.py:name' or 'package.module:name'.")
    if Path(location).suffix.lower() in JAVASCRIPT_SUFFIXES:
        raise ProjectError(f"{key}: '{spec}' is a JavaScript graph; this server runs Python graphs only.")
    if not attribute.isidentifier():
        raise ProjectError(f"{key}: '{attribute}' in '{spec}' is not a Python name.")
    if not is_path(location):
        if not _DOTTED_NAME.fullmatch(location):
            raise ProjectError(f"{key}: '{location}' in '{spec}' is neither a file path nor a module name.")
        return Target(spec=spec, key=key, file=None, module=location, attribute=attribute)

    file = resolve_inside(root, location, key=key)
    if file.suffix != ".py":
        raise ProjectError(f"{key}: '{location}' is not a Python file; its name must end in '.py'.")
    if not file.is_file():
        raise ProjectError(f"{key}: the file {file} does not exist.")
    return Target(spec=spec, key=key, file=file, module=None, attribute=attribute)


def is_path(location: str) -> bool:
    """Whether it is meant as a file rather than a module."""
    return "/" in location or "\\" in location or location.startswith((".", "~")) or location.endswith(".py")
