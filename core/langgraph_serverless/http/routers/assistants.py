"""``/assistants``: graphs with a configuration and a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from langgraph_serverless.domain.assistants import AssistantField
from langgraph_serverless.errors import ProjectNeededError
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import AssistantId, Caller, Container, get_container
from langgraph_serverless.http.forwarding import forward_to_state
from langgraph_serverless.http.idempotency import Key, once
from langgraph_serverless.http.pagination import page_response
from langgraph_serverless.http.params import read_switch, read_xray
from langgraph_serverless.http.responses import json_response, no_content, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import assistants as wire

if TYPE_CHECKING:
    from langgraph_serverless.services.assistants import AssistantService

router = APIRouter(route_class=Route, tags=["Assistants"])


@router.post("/assistants", responses=returns(wire.Assistant))
async def create_assistant(
    caller: Caller,
    container: Container,
    key: Key,
    payload: Annotated[wire.AssistantCreate, Body(wire.AssistantCreate)],
) -> Response:
    """Make an assistant."""
    assistant = await container.assistants.create(
        caller,
        graph_id=payload.graph_id,
        assistant_id=payload.assistant_id,
        config=payload.config,
        context=payload.context,
        metadata=payload.metadata,
        name=payload.name,
        description=payload.description,
        return_existing=payload.if_exists == "do_nothing",
        once=once(key, json_response),
    )
    return json_response(assistant)


@router.post("/assistants/search", responses=returns(list[wire.Assistant]))
async def search_assistants(
    caller: Caller, container: Container, payload: Annotated[wire.AssistantSearch, Body(wire.AssistantSearch)]
) -> Response:
    """Find assistants."""
    page = await container.assistants.search(
        caller,
        metadata=payload.metadata,
        graph_id=payload.graph_id,
        name=payload.name,
        select=payload.select or tuple(AssistantField),
        sort_by=AssistantField(payload.sort_by),
        descending=payload.sort_order == "desc",
        limit=payload.limit,
        offset=payload.offset,
    )
    return page_response(page)


@router.post("/assistants/count", responses=returns(int))
async def count_assistants(
    caller: Caller, container: Container, payload: Annotated[wire.AssistantFilter, Body(wire.AssistantFilter)]
) -> Response:
    """Count assistants."""
    count = await container.assistants.count(
        caller, metadata=payload.metadata, graph_id=payload.graph_id, name=payload.name
    )
    return json_response(count)


@router.get("/assistants/{assistant_id}", responses=returns(wire.Assistant))
async def get_assistant(caller: Caller, container: Container, assistant_id: AssistantId) -> Response:
    """One assistant, at its current version."""
    return json_response(await container.assistants.get(caller, assistant_id))


@router.patch("/assistants/{assistant_id}", responses=returns(wire.Assistant))
async def update_assistant(
    caller: Caller,
    container: Container,
    assistant_id: AssistantId,
    payload: Annotated[wire.AssistantPatch, Body(wire.AssistantPatch)],
) -> Response:
    """Make a new version of an assistant."""
    return json_response(await container.assistants.update(caller, assistant_id, payload.changes()))


@router.delete("/assistants/{assistant_id}", status_code=204, response_class=Response)
async def delete_assistant(
    caller: Caller, container: Container, assistant_id: AssistantId, delete_threads: str = "false"
) -> Response:
    """Remove an assistant with all its versions and, on demand, the threads it was used on."""
    await container.assistants.delete(caller, assistant_id, delete_threads=read_switch(delete_threads))
    return no_content()


@router.post("/assistants/{assistant_id}/versions", responses=returns(list[wire.AssistantVersion]))
async def list_assistant_versions(
    caller: Caller,
    container: Container,
    assistant_id: AssistantId,
    payload: Annotated[wire.VersionsSearch, Body(wire.VersionsSearch)],
) -> Response:
    """An assistant's versions, newest first."""
    versions = await container.assistants.list_versions(
        caller, assistant_id, metadata=payload.metadata, limit=payload.limit, offset=payload.offset
    )
    return json_response(versions)


@router.post("/assistants/{assistant_id}/latest", responses=returns(wire.Assistant))
async def set_latest_assistant_version(
    caller: Caller,
    container: Container,
    assistant_id: AssistantId,
    payload: Annotated[wire.LatestVersion, Body(wire.LatestVersion)],
) -> Response:
    """Make a version the current one."""
    return json_response(await container.assistants.set_latest(caller, assistant_id, payload.version))


@router.get("/assistants/{assistant_id}/graph", responses=returns(wire.GraphDrawing))
async def get_assistant_graph(request: Request, caller: Caller, assistant_id: str, xray: str = "false") -> Response:
    """The drawing of an assistant's graph; a graph's id works too."""
    depth = read_xray(xray)
    return await _described(request, lambda known: known.graph(caller, assistant_id, xray=depth))


@router.get("/assistants/{assistant_id}/schemas", responses=returns(wire.GraphSchema))
async def get_assistant_schemas(request: Request, caller: Caller, assistant_id: AssistantId) -> Response:
    """The JSON schemas of an assistant's graph."""
    return await _described(request, lambda known: known.schemas(caller, assistant_id))


@router.get("/assistants/{assistant_id}/subgraphs", responses=returns(dict[str, wire.SubgraphSchema]))
async def get_assistant_subgraphs(
    request: Request, caller: Caller, assistant_id: AssistantId, recurse: str = "false"
) -> Response:
    """The schemas of all subgraphs."""
    deep = read_switch(recurse)
    return await _described(request, lambda known: known.subgraphs(caller, assistant_id, namespace=None, recurse=deep))


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}", responses=returns(dict[str, wire.SubgraphSchema]))
async def get_assistant_subgraph(
    request: Request,
    caller: Caller,
    assistant_id: AssistantId,
    namespace: str,
    recurse: str = "false",
) -> Response:
    """The schemas of one subgraph."""
    deep = read_switch(recurse)
    return await _described(
        request, lambda known: known.subgraphs(caller, assistant_id, namespace=namespace, recurse=deep)
    )


async def _described(request: Request, describe: Callable[[AssistantService], Awaitable[Any]]) -> Response:
    """A description; of a graph that is built anew for each config, by the function that has the project."""
    container = await get_container(request)
    try:
        return json_response(await describe(container.assistants))
    except ProjectNeededError as error:
        return await forward_to_state(request, container, str(error))
