"""Building the manifest: every graph of a project, described once, so that API functions need no langgraph.

Promises: the same project gives the same manifest and the same hash. A factory that cannot build its graph without a
config (it may need a key that only a run has) is described as empty, with a warning, and does not stop the start-up.

Relies on ``loader.py`` and ``introspection.py``. Never opens a database: factories see ``assistants.read`` and an
in-memory store.
"""

from __future__ import annotations

import logging
from typing import Any

from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.introspection import (
    SCHEMA_NAMES,
    graph_drawing,
    graph_schemas,
    graph_subgraphs,
)
from langgraph_serverless.execution.loader import GraphRegistry

logger = logging.getLogger(__name__)

#: from this depth on, a drawing shows all levels
MAX_DEPTH = 10


async def build_manifest(registry: GraphRegistry) -> Manifest:
    """Describe every graph of `registry`."""
    return Manifest.of({graph_id: await _describe(registry, graph_id) for graph_id in registry.graph_ids})


async def _describe(registry: GraphRegistry, graph_id: str) -> GraphManifest:
    schemas: dict[str, Any] = dict.fromkeys(SCHEMA_NAMES)
    drawings: dict[str, Any] = {}
    subgraphs: dict[str, Any] = {}
    try:
        async with registry.graph(graph_id, access_context="assistants.read") as graph:
            schemas = await graph_schemas(graph, graph_id)
            subgraphs = await graph_subgraphs(graph, None, True)
            drawings = await _drawings(graph)
    except ProjectError:
        raise  # the factory makes something that is no graph: that is no matter of config
    # The user's factory, and langgraph walking the user's graph: either can raise anything.
    except Exception as error:
        logger.warning("graph %s cannot be described without a run: %s: %s", graph_id, type(error).__name__, error)
    return GraphManifest(
        graph_id=graph_id,
        description=registry.descriptions[graph_id],
        is_factory=registry.is_factory(graph_id),
        schemas=schemas,
        drawings=drawings,
        subgraphs=subgraphs,
    )


async def _drawings(graph: Any) -> dict[str, Any]:
    drawings = {"false": await graph_drawing(graph, False), "true": await graph_drawing(graph, True)}
    for depth in range(1, MAX_DEPTH):
        drawing = await graph_drawing(graph, depth)
        if drawing == drawings["true"]:
            break
        drawings[str(depth)] = drawing
    return drawings
