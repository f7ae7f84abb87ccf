"""The store that graphs get (``runtime.store``, ``get_store()``): LangGraph's own, with our statements for items.

Promises that a graph and a client see the same items in the same order with the same scores, that a put is all or nothing
with its vectors, that concurrent batches never wait for each other in a circle, and that no connection is held while
something is embedded. The rules on namespaces and times to live are LangGraph's own, and that a
batch does its reads first, then its writes, the last one of a key. Items are those of one tenant, whose graph it is.

Only processes with langgraph import this module. Never commits half a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)
from langgraph.store.base import Item as StoredItem
from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg_pool import AsyncConnectionPool

from langgraph_serverless.domain.ports import Embedder
from langgraph_serverless.domain.store import StoreTtl, conditions
from langgraph_serverless.errors import BadRequestError
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.store import Entry, Item, StoreRepository


class GraphStore(AsyncPostgresStore):
    """Built in the event loop that uses it."""

    def __init__(
        self,
        database: Database,
        pool: AsyncConnectionPool[Connection],
        ttl: StoreTtl,
        embedder: Embedder | None = None,
        *,
        tenant: str = "",
    ) -> None:
        super().__init__(
            pool,
            ttl=TTLConfig(omit_expired=True, refresh_on_read=ttl.refresh_on_read, default_ttl=ttl.default_ttl),
        )
        self._database = database
        self._embedder = embedder
        self._items = StoreRepository()
        self._tenant = tenant

    # Not gathered with those of other runs, which stand for each other: what one of them gets wrong would fail all.
    aput = BaseStore.aput
    asearch = BaseStore.asearch

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer each operation, in their order."""
        wanted = list(ops)
        for op in wanted:
            validate_op_namespace(op)
        answers: dict[int, Result] = {}
        for place, op in enumerate(wanted):
            if isinstance(op, ListNamespacesOp):
                answers[place] = await self._list(op)
        gets = {place: op for place, op in enumerate(wanted) if isinstance(op, GetOp)}
        if gets:
            answers |= zip(gets, await self._get_all(list(gets.values())), strict=True)
        searches = {place: op for place, op in enumerate(wanted) if isinstance(op, SearchOp)}
        if searches:
            answers |= zip(searches, await self._search_all(list(searches.values())), strict=True)
        await self._put_all([op for op in wanted if isinstance(op, PutOp)])
        return [answers.get(place) for place in range(len(wanted))]

    async def _get_all(self, gets: Sequence[GetOp]) -> list[StoredItem | None]:
        async with self._database.connection() as connection:
            names = [((get.namespace, get.key), get.refresh_ttl) for get in gets]
            found = await self._items.find(connection, names, tenant=self._tenant)
        return [None if item is None else StoredItem(**_fields(item)) for item in found]

    async def _search_all(self, searches: Sequence[SearchOp]) -> list[list[SearchItem]]:
        vectors = await asyncio.gather(*map(self._vector, searches))
        async with self._database.connection() as connection:
            return [
                [
                    _search_item(item)
                    for item in await self._items.search(
                        connection,
                        search.namespace_prefix,
                        _conditions(search.filter or {}),
                        tenant=self._tenant,
                        limit=search.limit,
                        offset=search.offset,
                        refresh=search.refresh_ttl,
                        query=vector,
                    )
                ]
                for search, vector in zip(searches, vectors, strict=True)
            ]

    async def _list(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        asked = op.match_conditions or ()
        prefixes = [list(each.path) for each in asked if each.match_type == "prefix"]
        suffixes = [list(each.path) for each in asked if each.match_type == "suffix"]
        async with self._database.connection() as connection:
            found = await self._items.namespaces(
                connection,
                tenant=self._tenant,
                prefixes=prefixes,
                suffixes=suffixes,
                max_depth=op.max_depth,
                limit=op.limit,
                offset=op.offset,
            )
        return [tuple(namespace) for namespace in found]

    async def _vector(self, search: SearchOp) -> list[float] | None:
        if self._embedder is None or not search.query:
            return None
        return await self._embedder.embed_query(search.query)

    async def _put_all(self, puts: Sequence[PutOp]) -> None:
        last = {(put.namespace, put.key): put for put in puts}
        entries = await self._entries([put for put in last.values() if put.value is not None])
        deleted = [key for key, put in last.items() if put.value is None]
        if not last:
            return
        # What goes is put first, so that rows are locked in one order, also those that are not there yet: else two batches
        # would wait for each other.
        going = [Entry(namespace=namespace, key=key, value={}) for namespace, key in deleted if len(last) > 1]
        async with self._database.transaction() as connection:
            if entries or going:
                await self._items.put(connection, [*entries, *going], tenant=self._tenant)
            if deleted:
                await self._items.delete(connection, deleted, tenant=self._tenant)

    async def _entries(self, puts: Sequence[PutOp]) -> list[Entry]:
        embedder = self._embedder
        names: list[list[str]] = []
        texts: list[str] = []
        for put in puts:
            found: list[tuple[str, str]] = []
            if embedder is not None and put.index is not False:
                found = embedder.texts(cast("Mapping[str, Any]", put.value), put.index)
            names.append([name for name, _ in found])
            texts += [text for _, text in found]
        vectors = iter(await embedder.embed(texts) if embedder is not None else [])
        return [
            Entry(
                namespace=put.namespace,
                key=put.key,
                value=dict(cast("Mapping[str, Any]", put.value)),
                ttl=put.ttl,
                vectors=[(name, next(vectors)) for name in named],
            )
            for put, named in zip(puts, names, strict=True)
        ]


def _conditions(wanted: Mapping[str, Any]) -> Any:
    try:
        return conditions(wanted)
    except BadRequestError as error:
        raise ValueError(str(error)) from error  # what LangGraph's own stores raise


def _search_item(item: Item) -> SearchItem:
    return SearchItem(**_fields(item), score=item.score)


def _fields(item: Item) -> dict[str, Any]:
    return {
        "namespace": tuple(item.namespace),
        "key": item.key,
        "value": dict(item.value),
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }
