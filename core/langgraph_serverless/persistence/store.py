"""The long-term memory store as rows of LangGraph's own table.

Graphs use ``AsyncPostgresStore`` on the same table; the statements here agree with it on everything that is stored: a
namespace is its labels joined by dots in ``prefix``, values are ``jsonb``, a time to live is ``expires_at`` plus whole
``ttl_minutes``. Unlike it, they hide what has expired, compare numbers as numbers, and need no langgraph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
PUT_ITEM = _SQL["put_item"]
GET_ITEM = _SQL["get_item"]
DELETE_ITEM = _SQL["delete_item"]
SEARCH_ITEMS = _SQL["search_items"]
LIST_NAMESPACES = _SQL["list_namespaces"]
SWEEP_EXPIRED_ITEMS = _SQL["sweep_expired_items"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something remembered."""

    namespace: Sequence[str]
    key: str
    value: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a search asks of one top-level key of an item's value."""

    key: str
    #: ``$eq``, ``$ne``, ``$gt``, ``$gte``, ``$lt`` or ``$lte``.
    operator: str
    operand: Any


def _item(row: Mapping[str, Any]) -> Item:
    return Item(
        namespace=row["prefix"].split("."),
        key=row["key"],
        value=row["value"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


class StoreRepository:
    """The statements of ``store.sql``."""

    async def put(
        self, connection: Connection, namespace: Sequence[str], key: str, value: Mapping[str, Any], ttl: float | None
    ) -> None:
        """Insert or replace an item that lives for ``ttl`` minutes, or for ever."""
        await connection.execute(
            PUT_ITEM, {"prefix": ".".join(namespace), "key": key, "value": jsonb(value), "ttl": ttl}
        )

    async def find(self, connection: Connection, namespace: Sequence[str], key: str, *, refresh: bool) -> Item | None:
        cursor = await connection.execute(GET_ITEM, {"prefix": ".".join(namespace), "key": key, "refresh": refresh})
        row = await cursor.fetchone()
        return _item(row) if row else None

    async def delete(self, connection: Connection, namespace: Sequence[str], key: str) -> None:
        await connection.execute(DELETE_ITEM, {"prefix": ".".join(namespace), "key": key})

    async def search(
        self,
        connection: Connection,
        namespace: Sequence[str],
        conditions: Sequence[Condition],
        *,
        limit: int,
        offset: int,
        refresh: bool,
    ) -> Sequence[Item]:
        # the operand is wrapped, as a bare JSON null would become an SQL null on the way
        wanted = [{"key": c.key, "operator": c.operator, "operand": [c.operand]} for c in conditions]
        parameters = {
            "prefix": ".".join(namespace),
            "conditions": jsonb(wanted),
            "limit": limit,
            "offset": offset,
            "refresh": refresh,
        }
        cursor = await connection.execute(SEARCH_ITEMS, parameters)
        return [_item(row) for row in await cursor.fetchall()]

    async def namespaces(
        self,
        connection: Connection,
        *,
        prefix: Sequence[str],
        suffix: Sequence[str],
        max_depth: int | None,
        limit: int,
        offset: int,
    ) -> Sequence[Sequence[str]]:
        parameters = {
            "prefix": list(prefix),
            "suffix": list(suffix),
            "max_depth": max_depth,
            "limit": limit,
            "offset": offset,
        }
        cursor = await connection.execute(LIST_NAMESPACES, parameters)
        return [row["namespace"] for row in await cursor.fetchall()]

    async def sweep(self, connection: Connection, limit: int) -> int:
        """Delete up to ``limit`` expired items; returns how many."""
        cursor = await connection.execute(SWEEP_EXPIRED_ITEMS, {"limit": limit})
        return cursor.rowcount
