"""The long-term memory of a project that has a store of its own (``store.path``), as clients see it: asked through LangGraph's interface.

The same checks and the same authorisation as for the built-in one (``store.py``), and the same answers as far as the store gives them: what it
cannot do (times to live, say) is the client's error, what it raises otherwise is 502 and in the log. Only processes with the project
import this module. Never touches the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from langgraph.store.base import BaseStore
from langgraph.store.base import Item as StoredItem

from langgraph_serverless.errors import BadGatewayError, BadRequestError, InvalidInputError, ServerError
from langgraph_serverless.persistence.store import Item
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.telemetry import logger

T = TypeVar("T")


class OwnStoreService(StoreService):
    """``StoreService`` on whatever the project has."""

    _own: Callable[[], Awaitable[BaseStore]]

    @classmethod
    def instead_of(cls, service: StoreService, own: Callable[[], Awaitable[BaseStore]]) -> OwnStoreService:
        """The same service, whatever it has been made with (who may do what, above all), on the store that ``own`` gives, open."""
        made = cls.__new__(cls)
        vars(made).update(vars(service))
        made._own = own
        return made

    @property
    def is_elsewhere(self) -> bool:
        return False

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
        store = await self._own()
        if ttl is not None and not store.supports_ttl:
            raise InvalidInputError("'ttl': the project's store has no times to live")
        named: dict[str, Any] = {} if ttl is None else {"ttl": ttl}
        wanted: Any = list(index) if isinstance(index, Sequence) else index
        await self._asked(store.aput(tuple(namespace), key, dict(value), wanted, **named))

    async def _get(self, tenant: str, namespace: Sequence[str], key: str, refresh: bool | None) -> Item | None:
        found = await self._asked((await self._own()).aget(tuple(namespace), key, refresh_ttl=refresh))
        return None if found is None else _item(found)

    async def _delete(self, tenant: str, namespace: Sequence[str], key: str) -> None:
        await self._asked((await self._own()).adelete(tuple(namespace), key))

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
        limit, offset = page
        store = await self._own()
        found = await self._asked(
            store.asearch(
                tuple(namespace),
                query=query or None,
                filter=dict(filter) or None,
                limit=limit,
                offset=offset,
                refresh_ttl=refresh,
            )
        )
        return [_item(item) for item in found]

    async def _namespaces(
        self,
        tenant: str,
        prefix: Sequence[str],
        suffix: Sequence[str],
        max_depth: int | None,
        page: tuple[int, int],
    ) -> Sequence[Sequence[str]]:
        limit, offset = page
        store = await self._own()
        found = await self._asked(
            store.alist_namespaces(
                prefix=tuple(prefix) or None,
                suffix=tuple(suffix) or None,
                max_depth=max_depth,
                limit=limit,
                offset=offset,
            )
        )
        return [list(namespace) for namespace in found]

    async def _asked(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except ServerError:
            raise
        except (ValueError, NotImplementedError) as error:
            raise BadRequestError(str(error) or type(error).__name__) from error
        # the user's code; what it says may not be for clients
        except Exception as error:
            logger.exception("the project's store failed", extra={"action": "own_store_failed"})
            raise BadGatewayError(f"The project's store failed: {type(error).__name__}") from error


def _item(item: StoredItem) -> Item:
    return Item(
        namespace=list(item.namespace),
        key=item.key,
        value=item.value,
        created_at=item.created_at,
        updated_at=item.updated_at,
        score=getattr(item, "score", None),
    )
