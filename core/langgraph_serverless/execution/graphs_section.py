"""The section ``graphs`` of langgraph.json, checked.

``read_graphs`` promises at least one graph, each with a URL-safe id and a target that names a Python file under the project root or
a module, or a one-sentence ``ProjectError`` that names the file and the key. Never imports a graph; that is ``loader.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.targets import parse_target

#: characters that need no escaping in a URL's path
_URL_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """One entry of ``graphs``."""

    graph_id: str
    #: ``./file.py:name`` or ``package.module:name``
    target: str
    #: becomes the description of the graph's default assistant
    description: str | None = None


def read_graphs(raw: Mapping[str, Any], config_path: Path) -> dict[str, GraphSpec]:
    """Graph id to graph, in the order of the file."""
    entries = raw.get("graphs")
    if entries is None:
        raise ProjectError(f"{config_path}: the key 'graphs' is missing.")
    if not isinstance(entries, dict):
        raise ProjectError(f"{config_path}: 'graphs' must map graph ids to './file.py:name'.")
    if not entries:
        raise ProjectError(f"{config_path}: 'graphs' is empty; name at least one graph.")
    return {graph_id: _graph(graph_id, entry, config_path) for graph_id, entry in entries.items()}


def _graph(graph_id: str, entry: object, config_path: Path) -> GraphSpec:
    key = f"{config_path}: graphs.{graph_id}"
    if not _URL_SAFE.fullmatch(graph_id):
        raise ProjectError(
            f"{config_path}: the graph id '{graph_id}' must be URL-safe: letters, digits, '-', '_', '.' and '~'."
        )
    target, description = entry, None
    if isinstance(entry, dict):
        target, description = entry.get("path"), entry.get("description")
        if description is not None and not isinstance(description, str):
            raise ProjectError(f"{key}.description must be a string.")
    if not isinstance(target, str):
        raise ProjectError(f"{key} must be './file.py:name' or an object with a 'path' of that form.")
    parse_target(config_path.parent, target, key=key)
    return GraphSpec(graph_id=graph_id, target=target, description=description)
