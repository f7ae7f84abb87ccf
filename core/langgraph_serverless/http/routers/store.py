"""Routes of the store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.store import check_labels
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container
from langgraph_serverless.http.forwarding import forward_to_state
from langgraph_serverless.http.responses import json_response, no_content, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import store as schemas

router = APIRouter(route_class=Route, tags=["Store"])


@router.put("/store/items", status_code=204)
async def put_item(
    request: Request, caller: Caller, container: Container, payload: Annotated[schemas.ItemPut, Body(schemas.ItemPut)]
) -> Response:
    """Insert or replace an item."""
    if container.store.is_elsewhere:
        return await _ask_the_project(request, container)
    if payload.index is not False and container.store.lacks_embedder:
        return await forward_to_state(request, container, "'index': this server cannot embed for the store's index")
    await container.store.put(
        caller,
        namespace=payload.namespace,
        key=payload.key,
        value=payload.value,
        index=payload.index,
        ttl=payload.ttl,
    )
    return no_content()


@router.get("/store/items", responses=returns(schemas.ItemResponse | None))
async def get_item(
    request: Request,
    caller: Caller,
    container: Container,
    *,
    namespace: str = "",
    key: str | None = None,
    refresh_ttl: bool | None = None,
) -> Response:
    """Get an item, or null. The namespace's labels are joined by dots."""
    labels = namespace.split(".")
    check_labels(labels)
    if key is None:
        return json_response({"error": "Key is required"}, 400)
    if container.store.is_elsewhere:
        return await _ask_the_project(request, container)
    item = await container.store.get(caller, namespace=labels, key=key, refresh_ttl=refresh_ttl)
    return json_response(None if item is None else schemas.item_document(item))


@router.delete("/store/items", status_code=204)
async def delete_item(
    request: Request,
    caller: Caller,
    container: Container,
    payload: Annotated[schemas.ItemDelete, Body(schemas.ItemDelete)],
) -> Response:
    """Delete an item, if it is there."""
    if container.store.is_elsewhere:
        return await _ask_the_project(request, container)
    await container.store.delete(caller, namespace=payload.namespace or [], key=payload.key)
    return no_content()


@router.post("/store/items/search", responses=returns(schemas.ItemsResponse))
async def search_items(
    request: Request,
    caller: Caller,
    container: Container,
    payload: Annotated[schemas.ItemSearch, Body(schemas.ItemSearch)],
) -> Response:
    """List the items at and below a namespace; with a query and an index, those nearest to it first."""
    if container.store.is_elsewhere:
        return await _ask_the_project(request, container)
    if payload.query and container.store.lacks_embedder:
        return await forward_to_state(request, container, "'query': this server cannot embed for the store's index")
    items = await container.store.search(
        caller,
        namespace=payload.namespace_prefix or [],
        filter=payload.filter,
        limit=payload.limit,
        offset=payload.offset,
        query=payload.query,
        refresh_ttl=payload.refresh_ttl,
    )
    return json_response({"items": [schemas.search_item_document(item) for item in items]})


@router.post("/store/namespaces", responses=returns(schemas.NamespacesResponse))
async def list_namespaces(
    request: Request,
    caller: Caller,
    container: Container,
    payload: Annotated[schemas.NamespaceSearch, Body(schemas.NamespaceSearch)],
) -> Response:
    """List the namespaces in use."""
    if container.store.is_elsewhere:
        return await _ask_the_project(request, container)
    found = await container.store.list_namespaces(
        caller,
        prefix=payload.prefix or [],
        suffix=payload.suffix or [],
        max_depth=payload.max_depth,
        limit=payload.limit,
        offset=payload.offset,
    )
    return json_response({"namespaces": found})


async def _ask_the_project(request: Request, container: ApiContainer) -> Response:
    """Of a store of the project's own, which functions without the project cannot open."""
    return await forward_to_state(request, container, "This server cannot open the project's own store")
