"""The key ``env`` of langgraph.json: a map of variables, or the path of a dotenv file inside the project.

``read_env`` promises the variables themselves, or a one-sentence ``ProjectError`` that shows none of their values. Never touches
``os.environ``: the caller decides when the variables apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import resolve_inside


def read_env(raw: Mapping[str, Any], config_path: Path) -> dict[str, str]:
    """Name to value."""
    key, value = f"{config_path}: env", raw.get("env")
    if value is None or value == "":
        return {}
    if isinstance(value, dict):
        for name, item in value.items():
            # bool is an int to Python, but neither "True" nor "true" is what everybody would expect of it
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                raise ProjectError(f"{key}.{name} must be a string.")
        return {name: str(item) for name, item in value.items()}
    if not isinstance(value, str):
        raise ProjectError(f"{key} must be a map of variables or the path of a dotenv file.")
    path = resolve_inside(config_path.parent, value, key=key)
    if not path.is_file():
        raise ProjectError(f"{key}: the file {path} does not exist.")
    # Imported here: API functions read a project's sections without carrying python-dotenv.
    from dotenv import dotenv_values  # noqa: PLC0415

    try:
        return {name: item for name, item in dotenv_values(path).items() if item is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{key}: the file {path} cannot be read: {error}.") from error
