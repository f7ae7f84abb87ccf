"""What a process needs that reads and writes states: everything of the API, and the user's graphs.

The graphs are imported at their first use. Without a manifest of the build, one is made of them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.base import BaseStore
from langgraph.store.postgres.aio import AsyncPostgresStore

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.worker import load_registry
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.state import StateService
from langgraph_serverless.services.threads import SuperstepWriter
from langgraph_serverless.settings import Settings


class StateContainer(ApiContainer):
    """Adds the states of threads."""

    resources = ApiContainer.resources | {"state"}

    def __init__(
        self, settings: Settings, *, registry: GraphRegistry | None = None, manifest: Manifest | None = None
    ) -> None:
        super().__init__(settings, manifest=manifest)
        self._registry = registry

    @cached_property
    def registry(self) -> GraphRegistry:
        return self._registry or load_registry(self.settings)

    @cached_property
    def catalog(self) -> GraphCatalog:
        if self._manifest is None and self.settings.manifest_path is None:
            # this may be asked for inside the event loop, so the graphs are described in another one
            with ThreadPoolExecutor(1) as thread:
                self._manifest = thread.submit(lambda: asyncio.run(build_manifest(self.registry))).result()
        return super().catalog

    @cached_property
    def state(self) -> StateService:
        return StateService(self.database, self.registry, AsyncPostgresSaver, self._store)

    @property
    def supersteps(self) -> SuperstepWriter:
        return self.state.apply_supersteps

    async def _store(self) -> BaseStore:
        if self._graph_store is None:
            self._graph_store = AsyncPostgresStore(await self.database.pool())
        return self._graph_store

    _graph_store: AsyncPostgresStore | None = None
