"""Assistants: creating, versioning, finding and deleting them, and what the manifest says about their graphs.

Every change but ``set_latest`` makes a version. Which graphs exist comes from the catalogue, never from loading one; only a
graph that is built anew for each config is built to be described, where the user's code is at hand.

Handlers for ``assistants`` are asked before a connection is taken; their filter is compared with the metadata of the current version.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph_serverless.domain.assistants import (
    DEFAULT_NAME,
    Assistant,
    AssistantField,
    AssistantVersion,
    changed_context,
    mirror_context,
)
from langgraph_serverless.domain.auth_filters import Filter, visible
from langgraph_serverless.domain.handler_values import changed, changed_metadata, changed_number
from langgraph_serverless.domain.ids import default_assistant_id, parse_id, random_id
from langgraph_serverless.domain.manifest import GraphManifest
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.ports import Authorizer, Bell, GraphDescriber, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_kwargs import without_reserved
from langgraph_serverless.errors import AccessError, ConflictError, InvalidInputError, NotFoundError, ProjectNeededError
from langgraph_serverless.persistence.assistants import AssistantRepository
from langgraph_serverless.persistence.filters import Search
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.threads import ThreadRepository
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.idempotency import Once, claimed, keep

#: Marks the assistants that every graph has from the start.
SYSTEM_METADATA = {"created_by": "system"}
#: An ``if_exists: do_nothing`` that meets a concurrent delete looks again.
_ATTEMPTS = 3


class AssistantService:
    """Use cases around assistants."""

    def __init__(
        self,
        database: Database,
        catalog: GraphCatalog,
        bell: Bell,
        describe: GraphDescriber | None = None,
        *,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        self._database = database
        self._catalog = catalog
        self._bell = bell
        self._describe = describe
        self._assistants = AssistantRepository()
        self._threads = ThreadRepository()

    async def ensure_defaults(self) -> None:
        """Make the default assistants that are missing, and bring the descriptions of those up to date that no client has
        changed: at start, never while requests are answered.
        """
        defaults = [
            (default_assistant_id(graph_id), graph_id, graph.description)
            for graph_id, graph in self._catalog.graphs.items()
        ]
        async with self._database.as_system().connection() as connection:
            await self._assistants.insert_defaults(connection, defaults, SYSTEM_METADATA)

    async def create(
        self,
        caller: Principal,
        *,
        graph_id: str,
        assistant_id: uuid.UUID | None = None,
        config: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        name: str = DEFAULT_NAME,
        description: str | None = None,
        return_existing: bool = False,
        once: Once[Assistant] | None = None,
    ) -> Assistant:
        """Make an assistant; an empty name is none.

        Args:
            return_existing: give the stored assistant, as it is, if the id is taken.
            once: see ``services/idempotency.py``.

        Raises:
            ConflictError: if the id is taken, also by an assistant that the caller cannot see.
            GraphNotFoundError: if there is no such graph.
        """
        new_id = assistant_id or random_id()
        value: dict[str, Any] = {
            "assistant_id": new_id,
            "graph_id": graph_id,
            "config": dict(config or {}),
            "context": dict(context) if context else None,
            "metadata": dict(metadata or {}),
            "name": name,
            "if_exists": "do_nothing" if return_existing else "raise",
        }
        allowed = await self._authorize(caller, "assistants", "create", value)
        graph_id, metadata, name = changed(value, "graph_id", str), changed_metadata(value), changed(value, "name", str)
        self._catalog.require(graph_id)
        # what was left out may stay so
        sent = None if context is None and value.get("context") is None else changed(value, "context", dict)
        config, context = mirror_context(changed(value, "config", dict), sent)
        refused: AccessError | None = None
        if return_existing and allowed is None and self._authorize is not allow_all:
            # whoever may make one need not see those of others. Asked before a connection is taken; counts if the id is taken
            try:
                allowed = await self._authorize(caller, "assistants", "read", {"assistant_id": new_id})
            except AccessError as error:
                refused = error
        async with claimed(self._database, caller, once) as connection:
            for _ in range(_ATTEMPTS):
                made = await self._assistants.insert(
                    connection,
                    new_id,
                    tenant=caller.tenant,
                    graph_id=graph_id,
                    name=name or DEFAULT_NAME,
                    description=description,
                    config=config,
                    context=context,
                    metadata=metadata,
                )
                if made is None and return_existing:
                    made = await self._assistants.get(connection, new_id)
                    if made is not None and refused is not None:
                        raise refused
                    if made is not None and not visible(made.metadata, allowed):
                        break
                if made is not None:
                    await keep(connection, caller, once, made)
                    return made
                if not return_existing:
                    break
            # inside the transaction, so that the key stays unused
            raise ConflictError(f"Assistant {new_id} already exists")

    async def get(self, caller: Principal, assistant_id: uuid.UUID) -> Assistant:
        """The current version of an assistant.

        Raises:
            NotFoundError: if there is none.
        """
        allowed = await self._authorize(caller, "assistants", "read", {"assistant_id": assistant_id})
        async with self._database.connection() as connection:
            found = await self._assistants.get(connection, assistant_id)
        if found is None or not visible(found.metadata, allowed):
            raise NotFoundError("Not Found")
        return found

    async def update(self, caller: Principal, assistant_id: uuid.UUID, changes: Mapping[str, Any]) -> Assistant:
        """Make a new version with these changes: metadata is merged, config and context see ``changed_context``, the rest
        is replaced.

        Args:
            changes: any of graph_id, name, description, config, context, metadata.
        """
        value: dict[str, Any] = {
            "assistant_id": assistant_id,
            "graph_id": changes.get("graph_id"),
            "config": dict(changes.get("config") or {}),
            "context": changes.get("context") or None,
            "metadata": dict(changes.get("metadata") or {}),
            "name": changes.get("name"),
        }
        allowed = await self._authorize(caller, "assistants", "update", value)
        changes = _with_stamps(changes, value)
        if "graph_id" in changes:
            self._catalog.require(changes["graph_id"])
        async with self._database.transaction() as connection:
            current = await self._lock(connection, assistant_id, allowed)
            if current is None:
                raise NotFoundError(f"Assistant {assistant_id} not found")
            config, context = changed_context(current, changes.get("config"), changes.get("context"))
            return await self._assistants.add_version(
                connection,
                assistant_id,
                graph_id=changes.get("graph_id", current.graph_id),
                name=changes.get("name", current.name),
                description=changes.get("description", current.description),
                config=config,
                context=context,
                metadata={**current.metadata, **changes.get("metadata", {})},
            )

    async def delete(self, caller: Principal, assistant_id: uuid.UUID, *, delete_threads: bool = False) -> None:
        """Remove an assistant with all versions and crons, and on demand the threads that it was used on."""
        cancelled: Sequence[uuid.UUID] = ()
        allowed = await self._authorize(caller, "assistants", "delete", {"assistant_id": assistant_id})
        # as the official server has it, whatever becomes of the threads
        value = {"thread_id": None, "action": "interrupt", "metadata": {"run_ids": None, "status": None}}
        await self._authorize(caller, "threads", "update", value)
        of_threads = await self._authorize(caller, "threads", "delete", {"thread_id": None}) if delete_threads else None
        async with self._database.transaction() as connection:
            if allowed is not None and await self._lock(connection, assistant_id, allowed) is None:
                raise NotFoundError(f"Assistant with ID {assistant_id} not found")
            # locked first, by a statement of its own: the next ones see the crons and the threads that were being made meanwhile
            if not await self._assistants.lock_to_delete(connection, assistant_id):
                raise NotFoundError(f"Assistant with ID {assistant_id} not found")
            threads: Sequence[uuid.UUID] = ()
            if delete_threads:
                threads = await self._threads.of_assistant(connection, assistant_id)
                # threads before crons, and these in one order, as everywhere: or two deletes would wait for each other
                # those of others, who have used it too, stay
                threads = await self._threads.lock(connection, threads, of_threads)
            await self._assistants.lock_crons(connection, assistant_id, threads)
            await self._assistants.delete(connection, assistant_id)
            if threads:
                cancelled = await self._threads.delete_runs(connection, threads)
                await self._threads.delete(connection, threads)
        if cancelled:
            await self._bell.cancel(cancelled)

    async def search(
        self,
        caller: Principal,
        *,
        metadata: Mapping[str, Any],
        graph_id: str | None,
        name: str | None,
        select: Sequence[AssistantField] = tuple(AssistantField),
        sort_by: AssistantField = AssistantField.CREATED_AT,
        descending: bool = True,
        limit: int = 10,
        offset: int = 0,
    ) -> Page[dict[str, Any]]:
        """Assistants that match, each with the selected fields."""
        value = _wanted(graph_id, metadata, limit, offset)
        conditions = await self._conditions(caller, value, name)
        limit, offset = changed_number(value, "limit", limit), changed_number(value, "offset", offset)
        async with self._database.connection() as connection:
            rows = await self._assistants.search(
                connection,
                conditions,
                select=select,
                sort_by=sort_by,
                descending=descending,
                limit=limit,
                offset=offset,
            )
        return Page.of(rows, offset=offset, limit=limit)

    async def count(
        self, caller: Principal, *, metadata: Mapping[str, Any], graph_id: str | None, name: str | None
    ) -> int:
        conditions = await self._conditions(caller, _wanted(graph_id, metadata, 0, 0), name)
        async with self._database.connection() as connection:
            return await self._assistants.count(connection, conditions)

    async def list_versions(
        self, caller: Principal, assistant_id: uuid.UUID, *, metadata: Mapping[str, Any], limit: int, offset: int
    ) -> list[AssistantVersion]:
        """Versions, newest first.

        Raises:
            NotFoundError: if there is no such assistant.
        """
        allowed = await self._authorize(caller, "assistants", "read", {"assistant_id": assistant_id})
        async with self._database.connection() as connection:
            if allowed is not None:
                await self._require_visible(connection, assistant_id, allowed)
            found = await self._assistants.list_versions(
                connection, assistant_id, metadata=metadata, limit=limit, offset=offset
            )
            if not found and await self._assistants.get(connection, assistant_id) is None:
                raise NotFoundError(f"Assistant {assistant_id} not found")
        return found

    async def set_latest(self, caller: Principal, assistant_id: uuid.UUID, version: int | None) -> Assistant:
        """Make an existing version the current one; no version is added."""
        value = {"assistant_id": assistant_id, "version": version}
        allowed = await self._authorize(caller, "assistants", "update", value)
        # without a filter, a single statement is a transaction by itself
        scope = self._database.connection() if allowed is None else self._database.transaction()
        async with scope as connection:
            if allowed is not None and await self._lock(connection, assistant_id, allowed) is None:
                raise NotFoundError(f"Assistant {assistant_id} not found")
            if version is not None:
                found = await self._assistants.set_latest(connection, assistant_id, version)
                if found is not None:
                    return found
            if await self._assistants.get(connection, assistant_id) is None:
                raise NotFoundError(f"Assistant {assistant_id} not found")
        raise NotFoundError(f"Version {version} not found for assistant {assistant_id}")

    async def graph(self, caller: Principal, assistant: str, *, xray: bool | int) -> Any:
        """The drawing of an assistant's graph; a graph's id stands for its default assistant.

        Raises:
            InvalidInputError: if it cannot be drawn.
            ProjectNeededError, BadRequestError: as for ``schemas``.
        """
        if assistant in self._catalog.graphs:
            assistant_id = default_assistant_id(assistant)
        else:
            assistant_id = parse_id(assistant, "assistant")
        described = await self._described(caller, assistant_id)
        drawing = described.drawing(xray)
        if drawing is None:
            raise InvalidInputError(f"Graph '{described.graph_id}' cannot be drawn")
        return drawing

    async def schemas(self, caller: Principal, assistant_id: uuid.UUID) -> dict[str, Any]:
        """The JSON schemas of an assistant's graph; null for what has none.

        Raises:
            ProjectNeededError: if the graph depends on the assistant's config, and there is no code here to build it.
            BadRequestError: if the graph's factory refuses the assistant's config.
        """
        described = await self._described(caller, assistant_id)
        return {"graph_id": described.graph_id, **described.schemas}

    async def subgraphs(
        self, caller: Principal, assistant_id: uuid.UUID, *, namespace: str | None, recurse: bool
    ) -> dict[str, Any]:
        """The schemas of the subgraphs, by namespace; empty if there are none. Raises what ``schemas`` does."""
        return (await self._described(caller, assistant_id)).subgraphs_at(namespace, recurse=recurse)

    async def _conditions(self, caller: Principal, value: dict[str, Any], name: str | None) -> Search:
        allowed = await self._authorize(caller, "assistants", "search", value)
        graph_id = changed(value, "graph_id", str) or None
        if graph_id is not None:
            self._catalog.require(graph_id)
        return self._assistants.search_filter(
            metadata=changed_metadata(value), graph_id=graph_id, name=name, allowed=allowed
        )

    async def _require_visible(self, connection: Connection, assistant_id: uuid.UUID, allowed: Filter) -> None:
        found = await self._assistants.get(connection, assistant_id)
        if found is None or not visible(found.metadata, allowed):
            raise NotFoundError(f"Assistant {assistant_id} not found")

    async def _lock(self, connection: Connection, assistant_id: uuid.UUID, allowed: Filter | None) -> Assistant | None:
        """The assistant, locked; None if there is none that the filter lets through."""
        if allowed is not None:  # nobody waits for what he cannot see, nor keeps it from others
            found = await self._assistants.get(connection, assistant_id)
            if found is None or not visible(found.metadata, allowed):
                return None
        found = await self._assistants.lock(connection, assistant_id)
        return found if found is not None and visible(found.metadata, allowed) else None

    async def _described(self, caller: Principal, assistant_id: uuid.UUID) -> GraphManifest:
        assistant = await self.get(caller, assistant_id)
        known = self._catalog.require(assistant.graph_id)
        if not known.is_factory:
            return known
        if self._describe is not None:
            return await self._describe(assistant.graph_id, _read_config(caller, assistant))
        # what the build has described was made with an empty config, if it could be made at all
        if assistant.config or assistant.context or not known.drawings:
            raise ProjectNeededError(
                f"Graph '{assistant.graph_id}' is built anew for each config: it cannot be described by this server"
            )
        return known


def _wanted(graph_id: str | None, metadata: Mapping[str, Any], limit: int, offset: int) -> dict[str, Any]:
    """A search as handlers are shown one."""
    return {"graph_id": graph_id, "metadata": dict(metadata), "limit": limit, "offset": offset}


def _with_stamps(changes: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """A client's changes with what the handler has made of them."""
    found = dict(changes)
    kinds: dict[str, type[Any]] = {"graph_id": str, "name": str, "config": dict, "context": dict, "metadata": dict}
    for key, kind in kinds.items():
        # what a client has left out is shown as empty, and stays so unless the handler has put something there
        if value.get(key):
            found[key] = changed(value, key, kind)
        elif changes.get(key):  # taken out by the handler
            del found[key]
    return found


def _read_config(caller: Principal, assistant: Assistant) -> dict[str, Any]:
    """The config with which a factory builds a graph that is only looked at."""
    sent = assistant.config.get("configurable") or {}
    configurable = {
        # as in runs: nobody but the server sets these
        **{key: value for key, value in without_reserved(sent).items() if key not in ("thread_id", "run_id")},
        "langgraph_auth_user": caller.as_user(),
        "langgraph_auth_user_id": caller.identity,
        "langgraph_auth_permissions": list(caller.permissions),
        "user_id": caller.identity,
        "graph_id": assistant.graph_id,
        "assistant_id": str(assistant.assistant_id),
    }
    return {**assistant.config, "configurable": configurable}
