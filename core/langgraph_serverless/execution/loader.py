"""The project's graphs, imported once and handed out for one use at a time.

``GraphRegistry.load`` promises that every entry of ``graphs`` is a compiled graph, a ``StateGraph`` (compiled here), an
``@entrypoint`` function or a factory, or raises a one-sentence ``ProjectError``. ``graph()`` yields a copy that carries
our checkpointer and store, so that concurrent runs share nothing but the user's own module state.

Relies on: ``modules.py`` for imports, ``factories.py`` for calling factories, ``Pregel.copy``. Never applies the
project's ``env``: that must happen before ``load``, since modules read the environment when they are imported.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from langgraph.cache.base import BaseCache
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.auth.types import BaseUser
from langgraph_sdk.runtime import AccessContext

from langgraph_serverless.errors import GraphNotFoundError, ProjectError
from langgraph_serverless.execution.checkpoint_types import CheckpointTypes
from langgraph_serverless.execution.config_table import TABLE
from langgraph_serverless.execution.embeddings import check_embedding
from langgraph_serverless.execution.factories import Factory, Use
from langgraph_serverless.execution.graphs_section import GraphSpec
from langgraph_serverless.execution.modules import load_object, prepare_imports
from langgraph_serverless.execution.own_store import OwnStore
from langgraph_serverless.execution.priorities import Handler, load_handler
from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.serde_classes import check_classes

logger = logging.getLogger(__name__)

#: the name that langgraph gives to a graph that was compiled without one
DEFAULT_NAME = "LangGraph"


class GraphRegistry:
    """Every graph of one project, by id."""

    def __init__(
        self,
        project: ProjectConfig,
        sources: Mapping[str, Pregel[Any, Any, Any, Any] | Factory],
        priority_handler: Handler | None = None,
    ) -> None:
        self.project = project
        #: of the section ``priority``
        self.priority_handler = priority_handler
        self._sources = dict(sources)

    @classmethod
    def load(cls, project: ProjectConfig) -> GraphRegistry:
        """Import every graph of the project.

        Raises:
            ProjectError: a graph cannot be loaded.
        """
        if project.inactive_keys:
            logger.warning("%s: no effect here: %s", project.config_path, ", ".join(project.inactive_keys))
        for path in project.unknown_keys:
            near = TABLE.nearest(path)
            hint = f"; did you mean '{near}'?" if near else ""
            logger.warning("%s: ignoring the unknown key '%s'%s", project.config_path, path, hint)
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        if project.python_version not in (None, running):
            about = "%s: python_version is %s, and this is Python %s"
            logger.warning(about, project.config_path, project.python_version, running)
        prepare_imports(project)
        check_embedding(project)
        handler = load_handler(project)
        sources = {graph_id: _source(project, spec) for graph_id, spec in project.graphs.items()}
        check_classes(project)
        OwnStore.of(project)
        return cls(project, sources, handler)

    @property
    def graph_ids(self) -> tuple[str, ...]:
        """In the order of ``langgraph.json``."""
        return tuple(self._sources)

    @property
    def descriptions(self) -> dict[str, str | None]:
        """Graph id to the description in ``langgraph.json``."""
        return {graph_id: self.project.graphs[graph_id].description for graph_id in self._sources}

    def is_factory(self, graph_id: str) -> bool:
        """Whether the graph is built anew for every use, and so may depend on its config."""
        return isinstance(self._source(graph_id), Factory)

    @asynccontextmanager
    async def graph(
        self,
        graph_id: str,
        *,
        access_context: AccessContext,
        config: Mapping[str, Any] | None = None,
        store: BaseStore | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        user: BaseUser | None = None,
        context: Any = None,
    ) -> AsyncIterator[Pregel[Any, Any, Any, Any]]:
        """The graph, ready for the use that `access_context` names, until the block ends."""
        source = self._source(graph_id)
        attached = {"checkpointer": checkpointer, "store": store}
        update = {name: value for name, value in attached.items() if value is not None}
        if isinstance(source, Pregel):
            yield _copy(source, graph_id, update)
            return
        user = user or ((config or {}).get("configurable") or {}).get("langgraph_auth_user")
        use = Use(access_context=access_context, config=config, store=store, user=user, context=context)
        async with source.open(use) as product:
            graph = _compiled(product, key=f"graphs.{graph_id}", what="the factory made")
            if graph._serde_allowlist is None:  # lost by with_config, and the manifest may have seen another graph
                types = CheckpointTypes()
                await types.add(graph, graph_id)
                graph._serde_allowlist = {(each.module, each.name) for each in types.types if each.kind != "class"}
            yield _copy(graph, graph_id, update)

    def _source(self, graph_id: str) -> Pregel[Any, Any, Any, Any] | Factory:
        try:
            return self._sources[graph_id]
        except KeyError:
            raise GraphNotFoundError(graph_id, self._sources) from None


def _source(project: ProjectConfig, spec: GraphSpec) -> Pregel[Any, Any, Any, Any] | Factory:
    key = f"{project.config_path}: graphs.{spec.graph_id}"
    loaded = load_object(project, spec.target, key=key)
    if callable(loaded) and not inspect.isclass(loaded) and not isinstance(loaded, Pregel | StateGraph):
        return Factory(loaded, key=key)
    return _compiled(loaded, key=key, what=f"'{spec.target}' is")


def _compiled(graph: object, *, key: str, what: str) -> Pregel[Any, Any, Any, Any]:
    if isinstance(graph, Pregel):
        return graph
    if isinstance(graph, StateGraph):
        try:
            return graph.compile()
        except Exception as error:
            raise ProjectError(f"{key}: the graph cannot be compiled: {type(error).__name__}: {error}") from error
    kind = f"the class {graph.__name__}" if inspect.isclass(graph) else f"an object of type {type(graph).__name__}"
    raise ProjectError(f"{key}: {what} {kind}, not a graph; it must be a StateGraph, a compiled graph or a factory.")


def _copy(graph: Pregel[Any, Any, Any, Any], graph_id: str, update: Mapping[str, Any]) -> Pregel[Any, Any, Any, Any]:
    name = graph_id if graph.name == DEFAULT_NAME else graph.name
    copied = graph.copy(update={**update, "name": name})
    copied._serde_allowlist = graph._serde_allowlist  # which a copy does not take along
    saver, kept = copied.checkpointer, copied.cache
    if kept is not None and kept.serde is BaseCache.serde and isinstance(saver, BaseCheckpointSaver):
        # or it would give back plain data for the project's own classes, as it knows none
        kept.serde = copied._apply_checkpointer_allowlist(saver).serde  # type: ignore[union-attr]
    return copied
