"""``/threads``, except for their state, history and runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from langgraph_serverless.domain.threads import Thread, ThreadField
from langgraph_serverless.errors import GraphRefusedError, InvalidInputError, ServerError
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container, ThreadId
from langgraph_serverless.http.forwarding import forward_to_state
from langgraph_serverless.http.idempotency import Key, once
from langgraph_serverless.http.pagination import page_response
from langgraph_serverless.http.params import wants_minimal
from langgraph_serverless.http.responses import json_response, no_content, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import threads as wire

router = APIRouter(route_class=Route, tags=["Threads"])


def _created(thread: Thread) -> Response:
    return json_response(wire.thread_document(thread))


@router.post("/threads", responses=returns(wire.Thread))
async def create_thread(
    request: Request,
    caller: Caller,
    container: Container,
    key: Key,
    payload: Annotated[wire.ThreadCreate, Body(wire.ThreadCreate)],
) -> Response:
    """Make a thread."""
    write_supersteps = container.supersteps
    if payload.supersteps and key is not None:
        # they are written one by one once the thread exists, so a crash may leave some of them
        raise InvalidInputError("'supersteps' cannot be combined with 'Idempotency-Key'; give a 'thread_id' instead")
    if payload.supersteps and write_supersteps is None:
        return await forward_to_state(
            request, container, "'supersteps' cannot be written by this server; update the thread's state instead"
        )
    thread = await container.threads.create(
        caller,
        thread_id=payload.thread_id,
        metadata=payload.metadata,
        ttl=payload.ttl.to_domain() if payload.ttl else None,
        return_existing=payload.if_exists == "do_nothing",
        once=once(key, _created),
    )
    if payload.supersteps and write_supersteps is not None:
        try:
            thread = await write_supersteps(caller, thread.thread_id, payload.superstep_documents())
        except GraphRefusedError:
            raise  # also then the thread stays
        except ServerError as error:
            problem = f"Thread {thread.thread_id} was created, but there were problems updating the state: {error}"
            return json_response({"detail": problem}, 201)
    return _created(thread)


@router.post("/threads/search", responses=returns(list[wire.Thread]))
async def search_threads(
    caller: Caller, container: Container, payload: Annotated[wire.ThreadSearch, Body(wire.ThreadSearch)]
) -> Response:
    """Find threads."""
    page = await container.threads.search(
        caller,
        ids=payload.ids,
        metadata=payload.metadata,
        values=payload.values,
        status=payload.status,
        select=[ThreadField(name) for name in payload.select or ThreadField],
        extract=payload.extract,
        sort_by=ThreadField(payload.sort_by),
        descending=payload.sort_order == "desc",
        limit=payload.limit,
        offset=payload.offset,
    )
    return page_response(page)


@router.post("/threads/count", responses=returns(int))
async def count_threads(
    caller: Caller, container: Container, payload: Annotated[wire.ThreadFilter, Body(wire.ThreadFilter)]
) -> Response:
    """Count threads."""
    count = await container.threads.count(
        caller, metadata=payload.metadata, values=payload.values, status=payload.status
    )
    return json_response(count)


@router.post("/threads/prune", responses=returns(wire.PruneResult))
async def prune_threads(
    caller: Caller, container: Container, payload: Annotated[wire.ThreadPrune, Body(wire.ThreadPrune)]
) -> Response:
    """Remove several threads, or all of their checkpoints but the newest; unknown threads are passed over."""
    pruned = await container.threads.prune(caller, payload.thread_ids, payload.strategy)
    return json_response({"pruned_count": pruned})


@router.get("/threads/{thread_id}", responses=returns(wire.Thread))
async def get_thread(caller: Caller, container: Container, thread_id: ThreadId, include: str = "") -> Response:
    """One thread."""
    thread = await container.threads.get(caller, thread_id)
    return json_response(wire.thread_document(thread, ttl="ttl" in include.split(",")))


@router.patch("/threads/{thread_id}", responses=returns(wire.Thread))
async def update_thread(
    caller: Caller,
    container: Container,
    thread_id: ThreadId,
    payload: Annotated[wire.ThreadPatch, Body(wire.ThreadPatch)],
    prefer: Annotated[str, Header(description="`return=minimal` for an answer without a body, 204.")] = "",
) -> Response:
    """Merge a thread's metadata, set its time to live."""
    thread = await container.threads.update(
        caller, thread_id, metadata=payload.metadata, ttl=payload.ttl.to_domain() if payload.ttl else None
    )
    if wants_minimal(prefer):
        return no_content()
    return json_response(wire.thread_document(thread))


@router.delete("/threads/{thread_id}", status_code=204, response_class=Response)
async def delete_thread(caller: Caller, container: Container, thread_id: ThreadId) -> Response:
    """Remove a thread with its runs and checkpoints, also while it is busy."""
    await container.threads.delete(caller, thread_id)
    return no_content()


@router.post("/threads/{thread_id}/copy", responses=returns(wire.Thread))
async def copy_thread(caller: Caller, container: Container, key: Key, thread_id: ThreadId) -> Response:
    """A new thread with the same state and history."""
    return _created(await container.threads.copy(caller, thread_id, once(key, _created)))


@router.get("/threads/{thread_id}/storage", responses=returns(wire.ThreadStorage))
async def get_thread_storage(caller: Caller, container: Container, thread_id: ThreadId) -> Response:
    """What a thread's checkpoints take."""
    return json_response(await container.threads.storage(caller, thread_id))
