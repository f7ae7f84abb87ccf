"""Building the manifest: every graph of a project, described once, so that API functions need neither it nor langgraph.

Promises: the same project, described with the same versions, gives the same manifest and the same hash. A factory that cannot
build its graph without a config (it may need a key that only a run has) is described as empty, with a warning, and does not stop
the start-up.
``AssistantGraphs`` describes what a factory makes of one assistant's config.

Relies on ``loader.py``, ``introspection.py``, ``checkpoint_types.py`` and ``project_files.py``. The manifest itself is made without
a database: factories see ``assistants.read`` and an in-memory store.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

from langgraph.store.base import BaseStore

from langgraph_serverless import __version__
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.errors import BadRequestError, ProjectError
from langgraph_serverless.execution.checkpoint_types import CheckpointTypes
from langgraph_serverless.execution.introspection import (
    SCHEMA_NAMES,
    graph_drawing,
    graph_schemas,
    graph_subgraphs,
)
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project_files import hash_project

logger = logging.getLogger(__name__)

#: from this depth on, a drawing shows all levels
MAX_DEPTH = 10


#: whose versions may change what is said about a graph, and what its checkpoints look like
MADE_WITH = ("langgraph", "langgraph-checkpoint", "langchain-core")


async def build_manifest(registry: GraphRegistry, *, files: bool = False) -> Manifest:
    """Describe every graph of `registry`; with `files`, what is deployed is also told from every other state of the project."""
    types = CheckpointTypes()
    graphs = {graph_id: await _describe(registry, graph_id, types) for graph_id in registry.graph_ids}
    project = registry.project
    return Manifest.of(
        graphs,
        project_hash=hash_project(project) if files else "",
        made_with={"langgraph-serverless": __version__, **{name: version(name) for name in MADE_WITH}},
        types=types.types,
        untyped=types.untyped,
        store=project.store_settings,
        thread_ttl=project.thread_ttl,
        webhooks=project.webhook_rules,
        priority=project.priority is not None,
        encryption=project.encryption,
        auth=project.auth,
        http=project.http,
    )


class AssistantGraphs:
    """The graphs of factories as single assistants have them: a ``GraphDescriber`` (``domain/ports.py``)."""

    def __init__(self, registry: GraphRegistry, store: Callable[[], Awaitable[BaseStore]]) -> None:
        self._registry = registry
        self._store = store

    async def __call__(self, graph_id: str, config: Mapping[str, Any]) -> GraphManifest:
        store = await self._store()
        try:
            return await _described(self._registry, graph_id, config=config, store=store)
        # The user's factory, with values that a client has chosen.
        except Exception as error:
            raise BadRequestError(str(error) or type(error).__name__) from error


async def _describe(registry: GraphRegistry, graph_id: str, types: CheckpointTypes) -> GraphManifest:
    try:
        return await _described(registry, graph_id, types=types)
    except ProjectError:
        raise  # the factory makes something that is no graph: that is no matter of config
    # The user's factory, and langgraph walking the user's graph: either can raise anything.
    except Exception as error:
        logger.warning("graph %s cannot be described without a run: %s: %s", graph_id, type(error).__name__, error)
    types.cannot_tell(graph_id)
    return _manifest(registry, graph_id, schemas=dict.fromkeys(SCHEMA_NAMES), drawings={}, subgraphs={})


async def _described(
    registry: GraphRegistry,
    graph_id: str,
    *,
    config: Mapping[str, Any] | None = None,
    store: BaseStore | None = None,
    types: CheckpointTypes | None = None,
) -> GraphManifest:
    async with registry.graph(graph_id, access_context="assistants.read", config=config, store=store) as graph:
        if types is not None:
            await types.add(graph, graph_id)
        return _manifest(
            registry,
            graph_id,
            name=graph.name,
            schemas=await graph_schemas(graph, graph_id),
            subgraphs=await graph_subgraphs(graph, None, True),
            drawings=await _drawings(graph),
        )


def _manifest(registry: GraphRegistry, graph_id: str, **described: Any) -> GraphManifest:
    return GraphManifest(
        graph_id=graph_id,
        description=registry.descriptions[graph_id],
        is_factory=registry.is_factory(graph_id),
        **described,
    )


async def _drawings(graph: Any) -> dict[str, Any]:
    drawings = {"false": await graph_drawing(graph, False), "true": await graph_drawing(graph, True)}
    for depth in range(1, MAX_DEPTH):
        drawing = await graph_drawing(graph, depth)
        if drawing == drawings["true"]:
            break
        drawings[str(depth)] = drawing
    return drawings
