"""Routes of crons."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from langgraph_serverless.domain.crons import Cron, CronField
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container, CronId, ThreadId
from langgraph_serverless.http.idempotency import Key, once
from langgraph_serverless.http.pagination import page_response
from langgraph_serverless.http.responses import json_response, no_content, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import crons as schemas
from langgraph_serverless.persistence.crons import CronFilter

router = APIRouter(route_class=Route, tags=["Crons"])


def _created(cron: Cron) -> Response:
    return json_response(schemas.cron_document(cron))


@router.post("/runs/crons", responses=returns(schemas.CronResponse))
async def create_cron(
    caller: Caller, container: Container, key: Key, payload: Annotated[schemas.CronCreate, Body(schemas.CronCreate)]
) -> Response:
    """Create a cron whose runs each get a thread of their own."""
    return _created(await container.crons.create(caller, payload.sent(), thread_id=None, once=once(key, _created)))


@router.post("/threads/{thread_id}/runs/crons", responses=returns(schemas.CronResponse))
async def create_thread_cron(
    caller: Caller,
    container: Container,
    key: Key,
    thread_id: ThreadId,
    payload: Annotated[schemas.ThreadCronCreate, Body(schemas.ThreadCronCreate)],
) -> Response:
    """Create a cron whose runs all happen on one thread."""
    return _created(await container.crons.create(caller, payload.sent(), thread_id=thread_id, once=once(key, _created)))


@router.post("/runs/crons/search", responses=returns(list[schemas.CronResponse]))
async def search_crons(
    caller: Caller, container: Container, payload: Annotated[schemas.CronSearch, Body(schemas.CronSearch)]
) -> Response:
    """Find crons."""
    wanted = CronFilter(
        assistant_id=payload.assistant_id,
        thread_id=payload.thread_id,
        enabled=payload.enabled,
        metadata=payload.metadata,
    )
    select = payload.select or tuple(CronField)
    page = await container.crons.search(
        caller,
        wanted,
        sort_by=CronField(payload.sort_by),
        descending=payload.sort_order == "desc",
        limit=payload.limit,
        offset=payload.offset,
        select=select,
    )
    return page_response(page, [schemas.cron_document(cron, select) for cron in page.items])


@router.post("/runs/crons/count", responses=returns(int))
async def count_crons(
    caller: Caller, container: Container, payload: Annotated[schemas.CronCount, Body(schemas.CronCount)]
) -> Response:
    """Count crons."""
    wanted = CronFilter(assistant_id=payload.assistant_id, thread_id=payload.thread_id, metadata=payload.metadata)
    return json_response(await container.crons.count(caller, wanted))


@router.get("/runs/crons/{cron_id}", responses=returns(schemas.CronResponse))
async def get_cron(caller: Caller, container: Container, cron_id: CronId) -> Response:
    """Get a cron."""
    return json_response(schemas.cron_document(await container.crons.get(caller, cron_id)))


@router.patch("/runs/crons/{cron_id}", responses=returns(schemas.CronResponse))
async def update_cron(
    caller: Caller,
    container: Container,
    cron_id: CronId,
    payload: Annotated[schemas.CronPatch, Body(schemas.CronPatch)],
) -> Response:
    """Change a cron."""
    return json_response(schemas.cron_document(await container.crons.update(caller, cron_id, payload.sent())))


@router.delete("/runs/crons/{cron_id}", status_code=204)
async def delete_cron(caller: Caller, container: Container, cron_id: CronId) -> Response:
    """Delete a cron; runs that it has made stay."""
    await container.crons.delete(caller, cron_id)
    return no_content()
