"""The keys of langgraph.json that are for builds: checked, so that a mistake is found before anything is built.

``check_build`` promises that each has its type and a meaning, or raises a one-sentence ``ProjectError``. What becomes of them is decided
where things are built (``build/dockerfile.py``); no server depends on them, which is why a project may have them although it is served
by something else than what they describe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import resolve_inside

_PYTHON = re.compile(r"3\.(1[1-9]|[2-9][0-9])")
_NODE = re.compile(r"[2-9][0-9]|[1-9][0-9]{2}")
_API = re.compile(r"(>?~=\s*)?[0-9]+(\.[0-9]+){0,2}(\.?(dev|rc)[0-9]+)?")
_IMAGE = re.compile(r"\S*")
DISTROS = ("debian", "wolfi", "bookworm")
INSTALLERS = ("auto", "pip", "uv")
_TOOLS = frozenset({"pip", "setuptools", "wheel"})


def check_build(raw: Mapping[str, Any], config_path: Path) -> None:
    """Look at every key that says how an image is built.

    Raises:
        ProjectError: with the sentence to show.
    """
    for name, form, says in (
        ("python_version", _PYTHON, "3.11 or later without a patch version, such as '3.12'"),
        ("node_version", _NODE, "a whole number from 20, such as '20'"),
        ("api_version", _API, "a version, such as '0.8' or '0.8.1'"),
        ("base_image", _IMAGE, "the name of an image"),
    ):
        value = raw.get(name)
        if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
            raise ProjectError(f"{config_path}: {name} must be {says}, in quotes.")
    for name, words in (("image_distro", DISTROS), ("pip_installer", INSTALLERS)):
        if raw.get(name) not in (None, *words):
            raise ProjectError(f"{config_path}: {name} must be one of {', '.join(words)}.")
    lines = raw.get("dockerfile_lines")
    if lines is not None and not _are_texts(lines):
        raise ProjectError(f"{config_path}: 'dockerfile_lines' must be a list of strings.")
    tools = raw.get("keep_pkg_tools")
    if not (tools is None or isinstance(tools, bool)) and not (_are_texts(tools) and _TOOLS.issuperset(tools)):
        raise ProjectError(
            f"{config_path}: keep_pkg_tools must be true, false, or a list of {', '.join(sorted(_TOOLS))}."
        )
    pip = raw.get("pip_config_file")
    if pip is not None:
        key = f"{config_path}: pip_config_file"
        if not isinstance(pip, str):
            raise ProjectError(f"{key} must be the path of a file.")
        resolve_inside(config_path.parent, pip, key=key)  # in an image it is not there any more


def check_ui(raw: Mapping[str, Any], config_path: Path) -> None:
    """Look at the sections of generative UI, which have no effect.

    Raises:
        ProjectError: with the sentence to show.
    """
    for name in ("ui", "ui_config"):
        section = raw.get(name)
        if section is not None and not isinstance(section, dict):
            raise ProjectError(f"{config_path}: '{name}' must be an object.")
    for name, file in (raw.get("ui") or {}).items():
        key = f"{config_path}: ui.{name}"
        if not isinstance(file, str):
            raise ProjectError(f"{key} must be the path of a file.")
        resolve_inside(config_path.parent, file, key=key)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
