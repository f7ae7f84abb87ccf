"""The long-term memory that threads share, as clients see it.

The same items as in a graph's ``store``; the rules on namespaces are LangGraph's. What has expired is never shown, whether
or not a sweep has been by. Semantic search is not here: a ``query`` is answered with the plain listing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import BadRequestError, NamespaceLabelError
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.store import Condition, Item, StoreRepository

OPERATORS = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte"})
#: LangGraph keeps this root for itself.
RESERVED_ROOT = "langgraph"
#: Postgres counts rows in 64 bits; more than this nobody has.
_MOST = 2**53


class StoreService:
    """Items by namespace and key."""

    def __init__(self, database: Database, *, default_ttl: float | None = None, refresh_on_read: bool = True) -> None:
        self._database = database
        self._default_ttl = default_ttl
        self._refresh_on_read = refresh_on_read
        self._items = StoreRepository()

    async def put(
        self,
        caller: Principal,
        *,
        namespace: Sequence[str],
        key: str,
        value: Mapping[str, Any],
        ttl: float | None = None,
    ) -> None:
        """Insert or replace an item; it lives for ``ttl`` minutes if given.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
            BadRequestError: if the namespace is empty or begins with ``langgraph``.
        """
        _check_labels(namespace)
        if not namespace:
            raise BadRequestError("Namespace cannot be empty.")
        if namespace[0] == RESERVED_ROOT:
            raise BadRequestError(f'Root label for namespace cannot be "{RESERVED_ROOT}". Got: {tuple(namespace)}')
        lifetime = self._default_ttl if ttl is None else ttl
        async with self._database.connection() as connection:
            await self._items.put(connection, namespace, key, value, lifetime)

    async def get(
        self, caller: Principal, *, namespace: Sequence[str], key: str, refresh_ttl: bool | None = None
    ) -> Item | None:
        """An item, or None if there is none. Reading starts its time to live anew, unless the caller says not to.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
        """
        _check_labels(namespace)
        async with self._database.connection() as connection:
            return await self._items.find(connection, namespace, key, refresh=self._refresh(refresh_ttl))

    async def delete(self, caller: Principal, *, namespace: Sequence[str], key: str) -> None:
        """Delete an item, if it is there.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
        """
        _check_labels(namespace)
        async with self._database.connection() as connection:
            await self._items.delete(connection, namespace, key)

    async def search(
        self,
        caller: Principal,
        *,
        namespace: Sequence[str],
        filter: Mapping[str, Any] | None = None,
        limit: int = 10,
        offset: int = 0,
        refresh_ttl: bool | None = None,
    ) -> Sequence[Item]:
        """A page of the items at and below a namespace that match ``filter``, last updated first.

        Raises:
            NamespaceLabelError: if a label is empty or holds a period.
            BadRequestError: if the filter has an operator that does not exist.
        """
        _check_labels(namespace)
        conditions = _conditions(filter or {})
        async with self._database.connection() as connection:
            return await self._items.search(
                connection,
                namespace,
                conditions,
                limit=_clamp(limit),
                offset=_clamp(offset),
                refresh=self._refresh(refresh_ttl),
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
        _check_labels(prefix)
        _check_labels(suffix)
        async with self._database.connection() as connection:
            return await self._items.namespaces(
                connection,
                prefix=prefix,
                suffix=suffix,
                max_depth=None if max_depth is None else min(max(max_depth, 0), 1000),
                limit=_clamp(limit),
                offset=_clamp(offset),
            )

    def _refresh(self, wanted: bool | None) -> bool:
        return self._refresh_on_read if wanted is None else wanted


def _check_labels(namespace: Sequence[str]) -> None:
    for label in namespace:
        if not label or "." in label:
            raise NamespaceLabelError(label)


def _clamp(number: int) -> int:
    return min(max(number, 0), _MOST)


def _conditions(wanted: Mapping[str, Any]) -> list[Condition]:
    """A value that is an object with operators asks for those, any other value for equality."""
    conditions = []
    for key, value in wanted.items():
        if isinstance(value, Mapping) and any(name.startswith("$") for name in value):
            for operator, operand in value.items():
                if operator not in OPERATORS:
                    raise BadRequestError(f"Unsupported operator: {operator}")
                conditions.append(Condition(key=key, operator=operator, operand=operand))
        else:
            conditions.append(Condition(key=key, operator="$eq", operand=value))
    return conditions
