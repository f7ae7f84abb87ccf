"""What a process needs that opens the user's graphs, to execute them or to read their states."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from langgraph.store.base import BaseStore

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.ports import GraphDescriber
from langgraph_serverless.domain.priorities import AskHandler
from langgraph_serverless.domain.tenants import acting_tenant
from langgraph_serverless.encryption.aes import AesKeys
from langgraph_serverless.encryption.cipher import ProjectCipher
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.embeddings import ProjectEmbedder
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import AssistantGraphs, build_manifest
from langgraph_serverless.execution.own_store import OwnStore
from langgraph_serverless.execution.priorities import PriorityHandler
from langgraph_serverless.execution.project import ProjectConfig, read_project
from langgraph_serverless.lean_imports import usual_imports
from langgraph_serverless.persistence.graph_store import GraphStore
from langgraph_serverless.persistence.serializer import ProjectSerializer
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.own_store import OwnStoreService
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.setting_values import parse_aes_key
from langgraph_serverless.settings import Settings

#: Stores of tenants that are kept; one that is in use elsewhere lives on there.
_MOST_STORES = 100


def load_registry(settings: Settings) -> GraphRegistry:
    """Import the project that the settings name; its ``env`` applies to this process from then on.

    Raises:
        ProjectError: with the sentence to show.
    """
    if settings.config_path is None:
        raise ProjectError("LANGGRAPH_CONFIG is not set: it names the project's langgraph.json")
    project = read_project(settings.config_path)
    project.apply_env(os.environ)
    with usual_imports():  # of the user's code, also where ours is being imported
        return GraphRegistry.load(project)


class GraphContainer(ApiContainer):
    """Adds the graphs, imported at their first use, and the store that they see.

    Without a manifest of the build, one is made of the graphs.
    """

    def __init__(
        self, settings: Settings, *, registry: GraphRegistry | None = None, manifest: Manifest | None = None
    ) -> None:
        super().__init__(settings, manifest=manifest)
        self._registry = registry
        #: By tenant, those used last at the end.
        self._graph_stores: OrderedDict[str, GraphStore] = OrderedDict()

    @cached_property
    def registry(self) -> GraphRegistry:
        return self._registry or load_registry(self.settings)

    @property
    def project(self) -> ProjectConfig:
        """That of the graphs, which has been opened to load them."""
        return self.registry.project

    @cached_property
    def catalog(self) -> GraphCatalog:
        if self._manifest is None and self.settings.manifest_path is None:
            # this may be asked for inside the event loop, so the graphs are described in another one
            with ThreadPoolExecutor(1) as thread:
                self._manifest = thread.submit(lambda: asyncio.run(build_manifest(self.registry))).result()
        return super().catalog

    @property
    def describe_graph(self) -> GraphDescriber:
        return AssistantGraphs(self.registry, self.graph_store)

    @cached_property
    def embedder(self) -> ProjectEmbedder | None:
        """Made at its first use, as a provider's client may want a key that only a deployment has."""
        return ProjectEmbedder.of(self.registry.project)

    @cached_property
    def serializer(self) -> ProjectSerializer:
        """What checkpoints are written and read with: it makes no class that neither a graph's schemas nor langgraph.json name."""
        serde = self.registry.project.serde
        # One inside another class is not found by its name, and something else might be. What cannot be written is not to be made
        # either: a schema that names subprocess.Popen is no reason to start what a checkpoint says.
        types = [each for each in self.catalog.manifest.types if "." not in each.name and each.kind != "class"]
        named = {(each.module, each.name) for each in types}
        return ProjectSerializer(named | serde.msgpack, allowed_json=serde.json)

    @property
    def encryption_path(self) -> str | None:
        return self.registry.project.encryption if self._manifest is None else self._manifest.encryption

    @cached_property
    def cipher(self) -> ProjectCipher | None:
        """With the key of the environment, which checkpoints alone are encrypted with."""
        key = self.settings.aes_key
        has_project = self._registry is not None or self.settings.config_path is not None
        if not key and has_project and (said := self.registry.project.env.get("LANGGRAPH_AES_KEY")) is not None:
            # settings are read before the project is; nobody who has set it there may find his checkpoints plain
            try:
                key = parse_aes_key(said)
            except ValueError as error:
                raise ProjectError(f"{self.registry.project.config_path}: LANGGRAPH_AES_KEY {error}.") from None
        if not key:
            return super().cipher
        return ProjectCipher(self.encryption_handlers, AesKeys(key, self.settings.aes_old_keys))

    @property
    def ask_priority_handler(self) -> AskHandler | None:
        handler = self.registry.priority_handler
        return PriorityHandler(handler) if handler is not None else None

    @cached_property
    def own_store(self) -> OwnStore | None:
        """The project's own; None if it has the built-in one.

        Raises:
            ProjectError: what it holds would be protected less than the project asks for.
        """
        own, settings = OwnStore.of(self.registry.project), self.settings
        if own is not None and (settings.tenant_from or self.encryption_path or self.cipher is not None):
            lacks = "keeps no tenants apart (TENANT_FROM)" if settings.tenant_from else "is not encrypted (encryption)"
            raise ProjectError(
                f"{self.registry.project.config_path}: store.path: a store of your own {lacks}; remove one of them."
            )
        return own

    @cached_property
    def store(self) -> StoreService:
        built_in, own = super().store, self.own_store
        return built_in if own is None else OwnStoreService.instead_of(built_in, own.get)

    async def graph_store(self, tenant: str | None = None) -> BaseStore:
        """LangGraph's own store on the tables that the HTTP API serves too, with the items of a tenant; by default, of the one for
        whom the process acts."""
        if self.own_store is not None:
            return await self.own_store.get()
        whose = acting_tenant() or "" if tenant is None else tenant
        if (store := self._graph_stores.get(whose)) is None:
            ttl = self.registry.project.store_settings.ttl
            database = self.database.for_tenant(whose)
            store = GraphStore(database, await database.pool(), ttl, self.embedder, tenant=whose)
            # another task may have been quicker
            store = self._graph_stores.setdefault(whose, store)
            if len(self._graph_stores) > _MOST_STORES:
                self._graph_stores.popitem(last=False)
        if whose in self._graph_stores:
            self._graph_stores.move_to_end(whose)
        return store

    async def aclose(self) -> None:
        if (own := vars(self).get("own_store")) is not None:
            await own.aclose()
        while self._graph_stores:
            _, store = self._graph_stores.popitem()
            if (task := store._task) is not None:
                # the store's batching task; its finaliser only cancels it, and a closed event loop would complain
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await super().aclose()
