"""The long-term memory store as rows of LangGraph's own table.

Graphs use ``AsyncPostgresStore`` on the same table; the statements here agree with it on everything that is stored: a
namespace is its labels joined by dots in ``prefix``, values are ``jsonb``, a time to live is ``expires_at`` plus whole
``ttl_minutes``, vectors are in ``store_vectors`` and go with their item. Unlike it, they hide what has expired, compare numbers as
numbers, list items without vectors too, and need no langgraph. Graphs use them as well (``graph_store.py``).

A tenant has namespaces of its own, below ``tenants.item_root``; nobody above here sees that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph_serverless.domain.store import Condition
from langgraph_serverless.domain.tenants import item_root
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document

_SQL = load_queries(__file__)
PUT_ITEMS = _SQL["put_items"]
PUT_VECTORS = _SQL["put_vectors"]
GET_ITEMS = _SQL["get_items"]
DELETE_ITEMS = _SQL["delete_items"]
SEARCH_ITEMS = _SQL["search_items"]
SEARCH_ITEMS_BY_MEANING = _SQL["search_items_by_meaning"]
LIST_NAMESPACES = _SQL["list_namespaces"]
SWEEP_EXPIRED_ITEMS = _SQL["sweep_expired_items"]


#: Namespace and key.
Name = tuple[Sequence[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something remembered."""

    namespace: Sequence[str]
    key: str
    value: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    #: how near it is to what was looked for, 1.0 at most; None if it has no vectors, or nothing was looked for
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An item that is to be kept."""

    namespace: Sequence[str]
    key: str
    value: Mapping[str, Any]
    #: minutes to live; None: for ever
    ttl: float | None = None
    #: names of what is embedded of it, and the vectors
    vectors: Sequence[tuple[str, Sequence[float]]] = ()


def _item(row: Mapping[str, Any], root: str) -> Item:
    return Item(
        namespace=row["prefix"][len(root) :].split("."),
        key=row["key"],
        value=row["value"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        score=row.get("score"),
    )


def _names(items: Sequence[Name], root: str) -> dict[str, Any]:
    return {"prefixes": [root + ".".join(namespace) for namespace, _ in items], "keys": [key for _, key in items]}


def _vector(numbers: Sequence[float]) -> str:
    """As pgvector writes one."""
    return f"[{','.join(map(repr, numbers))}]"


class StoreRepository:
    """The statements of ``store.sql``, on the items of one tenant."""

    async def put(self, connection: Connection, entries: Sequence[Entry], *, tenant: str) -> None:
        """Insert or replace items, each at most once; with vectors, in a transaction of the caller's."""
        root = item_root(tenant)
        # always in one order, so that two batches wait for each other and not both for ever
        ordered = sorted((root + ".".join(entry.namespace), entry.key, entry) for entry in entries)
        await connection.execute(
            PUT_ITEMS,
            {
                "prefixes": [prefix for prefix, _, _ in ordered],
                "keys": [key for _, key, _ in ordered],
                "values": [document("store", "value", entry.value) for _, _, entry in ordered],
                "ttls": [entry.ttl for _, _, entry in ordered],
            },
        )
        vectors = [(prefix, key, *vector) for prefix, key, entry in ordered for vector in entry.vectors]
        if vectors:
            await connection.execute(
                PUT_VECTORS,
                {
                    "prefixes": [prefix for prefix, _, _, _ in vectors],
                    "keys": [key for _, key, _, _ in vectors],
                    "fields": [field for _, _, field, _ in vectors],
                    "embeddings": [_vector(numbers) for _, _, _, numbers in vectors],
                },
            )

    async def find(
        self, connection: Connection, wanted: Sequence[tuple[Name, bool]], *, tenant: str
    ) -> Sequence[Item | None]:
        """Items in the order of their names, each with whether its time is to start anew; None for what there is not."""
        root = item_root(tenant)
        parameters = _names([name for name, _ in wanted], root) | {"refresh": [refresh for _, refresh in wanted]}
        cursor = await connection.execute(GET_ITEMS, parameters)
        found = {(row["prefix"], row["key"]): _item(row, root) for row in await cursor.fetchall()}
        return [found.get((root + ".".join(namespace), key)) for (namespace, key), _ in wanted]

    async def delete(self, connection: Connection, items: Sequence[Name], *, tenant: str) -> None:
        """Delete items with their vectors; several only in a transaction that has put them."""
        await connection.execute(DELETE_ITEMS, _names(items, item_root(tenant)))

    async def search(
        self,
        connection: Connection,
        namespace: Sequence[str],
        conditions: Sequence[Condition],
        *,
        tenant: str,
        limit: int,
        offset: int,
        refresh: bool,
        query: Sequence[float] | None = None,
    ) -> Sequence[Item]:
        """A page of the items that meet the conditions, last updated first; with a query's vector, nearest first."""
        root = item_root(tenant)
        # the operand is wrapped, as a bare JSON null would become an SQL null on the way
        wanted = [{"path": c.path, "operator": c.operator, "operand": [c.operand]} for c in conditions]
        parameters: dict[str, Any] = {
            "prefix": (root + ".".join(namespace)).removesuffix("."),
            "conditions": jsonb(wanted),
            "limit": limit,
            "offset": offset,
            "refresh": refresh,
        }
        if query is None:
            cursor = await connection.execute(SEARCH_ITEMS, parameters)
        else:
            cursor = await connection.execute(SEARCH_ITEMS_BY_MEANING, parameters | {"query": _vector(query)})
        return [_item(row, root) for row in await cursor.fetchall()]

    async def namespaces(
        self,
        connection: Connection,
        *,
        tenant: str,
        prefixes: Sequence[Sequence[str]],
        suffixes: Sequence[Sequence[str]],
        max_depth: int | None,
        limit: int,
        offset: int,
    ) -> Sequence[Sequence[str]]:
        """Those that begin with all of the prefixes and end with all of the suffixes; ``*`` is any one label."""
        asked = [(False, path) for path in prefixes] + [(True, path) for path in suffixes]
        parameters = {
            "root": item_root(tenant),
            "ends": jsonb([{"at_end": at_end, "path": list(path)} for at_end, path in asked]),
            "max_depth": max_depth,
            "limit": limit,
            "offset": offset,
        }
        cursor = await connection.execute(LIST_NAMESPACES, parameters)
        return [row["namespace"] for row in await cursor.fetchall()]

    async def sweep(self, connection: Connection, limit: int, *, interval: float | None = None) -> int:
        """Delete up to ``limit`` expired items; with ``interval`` (minutes) only once it has passed. Returns how many."""
        seconds = None if interval is None else interval * 60
        cursor = await connection.execute(SWEEP_EXPIRED_ITEMS, {"limit": limit, "interval": seconds})
        return cursor.rowcount
