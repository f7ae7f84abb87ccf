"""The long-term memory that threads share, as clients see it.

The same items as in a graph's ``store``; the rules on namespaces are LangGraph's. What has expired is never shown, whether
or not a sweep has been by. Where the project has an index, an item is written with its vectors or not at all, and no connection
is held while something is embedded. A process without the project has no embedder: what takes one must be asked of another
process (``lacks_embedder``). Without an index, a ``query`` is answered with the plain listing. A store of the project's own
(``store.path``) is asked by ``own_store.py``, in processes that have the project; all others are told so by ``is_elsewhere``.

Handlers for ``store`` are asked first, and what they leave in the value is done: they keep users apart by rewriting the namespace. Items have
no metadata, so a filter has nothing to be compared with; it is not applied, as on the official server, and the log says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langgraph_serverless.domain.handler_values import changed, changed_labels, changed_number
from langgraph_serverless.domain.ports import Authorizer, Embedder, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.store import StoreSettings, check_labels, conditions
from langgraph_serverless.errors import BadRequestError, UnavailableError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.store import Entry, Item, StoreRepository
from langgraph_serverless.telemetry import logger

#: LangGraph keeps this root for itself.
RESERVED_ROOT = "langgraph"
DEFAULT_LIMIT = 10
#: Postgres counts rows in 64 bits; more than this nobody has.
_MOST = 2**53


class StoreService:
    """Items by namespace and key."""

    def __init__(
        self,
        database: Database,
        settings: StoreSettings | None = None,
        embedder: Embedder | None = None,
        *,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        #: Actions of which the log has said that a filter is not applied.
        self._warned: set[str] = set()
        self._database = database
        self._settings = settings or StoreSettings()
        self._embedder = embedder
        self._items = StoreRepository()

    @property
    def is_elsewhere(self) -> bool:
        """Whether the project has a store of its own, and another process has to ask it."""
        return self._settings.path is not None

    @property
    def lacks_embedder(self) -> bool:
        """Whether there is an index, and another process has to embed for it."""
        return self._settings.index is not None and self._embedder is None

    async def put(
        self,
        caller: Principal,
        *,
        namespace: Sequence[str],
        key: str,
        value: Mapping[str, Any],
        index: Literal[False] | Sequence[str] | None = None,
        ttl: float | None = None,
    ) -> None:
        """Insert or replace an item; it lives for ``ttl`` minutes if given.

        Args:
            index: paths of what is embedded of the value; None means the project's, False nothing.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
            BadRequestError: if the namespace is empty or begins with ``langgraph``.
            InvalidInputError: if ``index`` leads to more than can be embedded.
            EmbeddingError: if the embedding fails; nothing has been written.
        """
        asked: dict[str, Any] = {
            "namespace": tuple(namespace),
            "key": key,
            "value": dict(value),
            "index": index,
            "ttl": ttl,
        }
        await self._ask(caller, "put", asked)
        namespace, key = changed_labels(asked, "namespace"), changed(asked, "key", str)
        value, index, ttl = changed(asked, "value", dict), asked.get("index"), asked.get("ttl")
        check_labels(namespace)
        if not namespace:
            raise BadRequestError("Namespace cannot be empty.")
        if namespace[0] == RESERVED_ROOT:
            raise BadRequestError(f'Root label for namespace cannot be "{RESERVED_ROOT}". Got: {tuple(namespace)}')
        await self._put(caller.tenant, namespace, key, value=value, index=index, ttl=ttl)

    async def get(
        self, caller: Principal, *, namespace: Sequence[str], key: str, refresh_ttl: bool | None = None
    ) -> Item | None:
        """An item, or None if there is none. Reading starts its time to live anew, unless the caller says not to.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
        """
        asked: dict[str, Any] = {"namespace": tuple(namespace), "key": key, "refresh_ttl": refresh_ttl}
        await self._ask(caller, "get", asked)
        namespace, key = changed_labels(asked, "namespace"), changed(asked, "key", str)
        refresh_ttl = asked.get("refresh_ttl")
        check_labels(namespace)
        return await self._get(caller.tenant, namespace, key, refresh_ttl)

    async def delete(self, caller: Principal, *, namespace: Sequence[str], key: str) -> None:
        """Delete an item, if it is there.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
        """
        asked: dict[str, Any] = {"namespace": tuple(namespace), "key": key}
        await self._ask(caller, "delete", asked)
        namespace, key = changed_labels(asked, "namespace"), changed(asked, "key", str)
        check_labels(namespace)
        await self._delete(caller.tenant, namespace, key)

    async def search(
        self,
        caller: Principal,
        *,
        namespace: Sequence[str],
        filter: Mapping[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        query: str | None = None,
        refresh_ttl: bool | None = None,
    ) -> Sequence[Item]:
        """A page of the items at and below a namespace that match ``filter``, last updated first; those nearest to ``query``
        first, if there is an index.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
            BadRequestError: if the filter has an operator that does not exist.
            EmbeddingError: if the embedding fails.
        """
        asked: dict[str, Any] = {
            "namespace": tuple(namespace),
            "filter": filter,
            "limit": limit,
            "offset": offset,
            "query": query,
            "refresh_ttl": refresh_ttl,
        }
        await self._ask(caller, "search", asked)
        namespace, filter = changed_labels(asked, "namespace"), changed(asked, "filter", dict)
        limit, offset = _page(asked, limit, offset)
        query, refresh_ttl = asked.get("query"), asked.get("refresh_ttl")
        check_labels(namespace)
        # as the official server has it: no limit at all would be a strange thing to ask for
        page = (_clamp(limit or DEFAULT_LIMIT), _clamp(offset))
        return await self._search(
            caller.tenant, namespace, filter=filter or {}, page=page, query=query, refresh=refresh_ttl
        )

    async def list_namespaces(
        self,
        caller: Principal,
        *,
        prefix: Sequence[str] = (),
        suffix: Sequence[str] = (),
        max_depth: int | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Sequence[Sequence[str]]:
        """The namespaces in use, sorted; ``*`` in ``prefix`` and ``suffix`` stands for any one label.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
        """
        asked: dict[str, Any] = {
            "namespace": tuple(prefix) or None,
            "suffix": tuple(suffix) or None,
            "max_depth": max_depth,
            "limit": limit,
            "offset": offset,
        }
        await self._ask(caller, "list_namespaces", asked)
        prefix, suffix = changed_labels(asked, "namespace"), changed_labels(asked, "suffix")
        max_depth = asked.get("max_depth")
        limit, offset = _page(asked, limit, offset)
        check_labels(prefix)
        check_labels(suffix)
        depth = None if max_depth is None else min(max(max_depth, 0), 1000)
        return await self._namespaces(caller.tenant, prefix, suffix, depth, (_clamp(limit), _clamp(offset)))

    async def _ask(self, caller: Principal, action: str, value: dict[str, Any]) -> None:
        allowed = await self._authorize(caller, "store", action, value)
        if allowed is not None and action not in self._warned:
            self._warned.add(action)
            logger.warning(
                "an auth handler has returned a filter for store.%s, which items have no metadata for: it is not applied, and"
                " users are not kept apart by it; let the handler rewrite value['namespace'], and return None",
                action,
                extra={"action": "auth_filter"},
            )

    # What is asked of the items themselves, by now checked and allowed; a store of the project's own answers it otherwise.

    async def _put(
        self,
        tenant: str,
        namespace: Sequence[str],
        key: str,
        *,
        value: Mapping[str, Any],
        index: Literal[False] | Sequence[str] | None,
        ttl: float | None,
    ) -> None:
        lifetime = self._settings.ttl.default_ttl if ttl is None else ttl
        vectors = await self._vectors(value, index)
        entry = Entry(namespace=namespace, key=key, value=value, ttl=lifetime, vectors=vectors)
        # a single statement is a transaction by itself, and saves two round trips
        scope = self._database.transaction() if vectors else self._database.connection()
        async with scope as connection:
            await self._items.put(connection, [entry], tenant=tenant)

    async def _get(self, tenant: str, namespace: Sequence[str], key: str, refresh: bool | None) -> Item | None:
        async with self._database.connection() as connection:
            wanted = [((namespace, key), self._refresh(refresh))]
            (item,) = await self._items.find(connection, wanted, tenant=tenant)
        return item

    async def _delete(self, tenant: str, namespace: Sequence[str], key: str) -> None:
        async with self._database.connection() as connection:
            await self._items.delete(connection, [(namespace, key)], tenant=tenant)

    async def _search(
        self,
        tenant: str,
        namespace: Sequence[str],
        *,
        filter: Mapping[str, Any],
        page: tuple[int, int],
        query: str | None,
        refresh: bool | None,
    ) -> Sequence[Item]:
        wanted = conditions(filter)
        vector = None
        if query and self._settings.index is not None:
            vector = await self._require_embedder().embed_query(query)
        async with self._database.connection() as connection:
            return await self._items.search(
                connection,
                namespace,
                wanted,
                tenant=tenant,
                limit=page[0],
                offset=page[1],
                refresh=self._refresh(refresh),
                query=vector,
            )

    async def _namespaces(
        self,
        tenant: str,
        prefix: Sequence[str],
        suffix: Sequence[str],
        max_depth: int | None,
        page: tuple[int, int],
    ) -> Sequence[Sequence[str]]:
        async with self._database.connection() as connection:
            return await self._items.namespaces(
                connection,
                tenant=tenant,
                prefixes=[prefix],
                suffixes=[suffix],
                max_depth=max_depth,
                limit=page[0],
                offset=page[1],
            )

    def _refresh(self, wanted: bool | None) -> bool:
        return self._settings.ttl.refresh_on_read if wanted is None else wanted

    def _require_embedder(self) -> Embedder:
        if self._embedder is None:
            raise UnavailableError("This process cannot embed for the store's index.")
        return self._embedder

    async def _vectors(
        self, value: Mapping[str, Any], index: Literal[False] | Sequence[str] | None
    ) -> list[tuple[str, list[float]]]:
        if self._settings.index is None or index is False:
            return []
        embedder = self._require_embedder()
        texts = embedder.texts(value, index)
        vectors = await embedder.embed([text for _, text in texts])
        return [(name, vector) for (name, _), vector in zip(texts, vectors, strict=True)]


def _page(asked: Mapping[str, Any], limit: int, offset: int) -> tuple[int, int]:
    """What a handler has left of a page; what a client has sent may be any number."""
    return (
        limit if asked.get("limit") == limit else changed_number(asked, "limit", limit),
        offset if asked.get("offset") == offset else changed_number(asked, "offset", offset),
    )


def _clamp(number: int) -> int:
    return min(max(number, 0), _MOST)
