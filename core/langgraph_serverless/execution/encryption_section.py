"""The section ``encryption`` of langgraph.json, checked: where the project's ``langgraph_sdk.Encryption`` is.

The object itself is looked at when it is loaded (``encryption/handlers.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import parse_target


def read_encryption(section: Mapping[str, Any] | None, root: Path, config_path: Path) -> str | None:
    """``./file.py:name``; None without the section.

    Raises:
        ProjectError: with the sentence to show. An empty section is one that somebody relies on.
    """
    if section is None:
        return None
    key, target = f"{config_path}: encryption.path", section.get("path")
    if not isinstance(target, str):
        raise ProjectError(f"{key} must be './file.py:name' of a langgraph_sdk.Encryption.")
    parse_target(root, target, key=key)
    return target
