"""The store on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from langgraph_serverless.http.schemas.shared import JsonObject, Omittable, RequestModel, ResponseModel
from langgraph_serverless.http.validation import show
from langgraph_serverless.persistence.store import Item

Namespace = list[str]


def _one_of(value: Any) -> Any:
    # it is its own type: to Python 0 is False, and True a value of the same type
    paths = isinstance(value, list) and all(isinstance(path, str) for path in value)
    if value is not None and value is not False and not paths:
        message = f"{show(value)} is not valid under any of the schemas listed in the 'oneOf' keyword"
        raise PydanticCustomError("oneOf", "{message}", {"message": message})
    return value


#: What is embedded of an item: these paths of its value, or nothing at all.
Paths = Annotated[Literal[False] | list[str], BeforeValidator(_one_of)]
#: Whole minutes are stored in 32 bits.
Minutes = Annotated[float, Field(ge=0, le=2**31 - 1, allow_inf_nan=False)]


class ItemPut(RequestModel):
    namespace: Namespace
    key: str
    value: JsonObject
    index: Paths | None = None
    ttl: Minutes | None = None


class ItemDelete(RequestModel):
    namespace: Omittable[Namespace] = None
    key: str


class ItemSearch(RequestModel):
    namespace_prefix: Namespace | None = None
    filter: JsonObject | None = None
    limit: int = 10
    offset: int = 0
    query: str | None = None
    refresh_ttl: bool | None = None


class NamespaceSearch(RequestModel):
    prefix: Omittable[Namespace] = None
    suffix: Omittable[Namespace] = None
    max_depth: Omittable[int] = None
    limit: int = 100
    offset: int = 0


class ItemResponse(ResponseModel):
    namespace: Namespace
    key: str
    value: JsonObject
    created_at: str
    updated_at: str


class SearchItemResponse(ItemResponse):
    score: float | None


class ItemsResponse(ResponseModel):
    items: list[SearchItemResponse]


class NamespacesResponse(ResponseModel):
    namespaces: list[Namespace]


def item_document(item: Item) -> dict[str, Any]:
    """An item as clients see it."""
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def search_item_document(item: Item) -> dict[str, Any]:
    """An item that a search found; its score is null but in semantic search."""
    return {**item_document(item), "score": item.score}
