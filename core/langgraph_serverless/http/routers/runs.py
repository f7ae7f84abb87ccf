"""Runs: creating them in the background, listing, cancelling and deleting. What follows a run is in ``stream.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from langgraph_serverless.domain.runs import CancelAction, Run
from langgraph_serverless.errors import InvalidInputError
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container, RunId, RunThreadId, ThreadId, get_request_id
from langgraph_serverless.http.idempotency import Key, once
from langgraph_serverless.http.params import read_list
from langgraph_serverless.http.responses import json_response, no_content, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.run_locations import run_headers, run_path
from langgraph_serverless.http.schemas import runs as wire
from langgraph_serverless.http.streaming_response import awaited_json

THREAD_RUNS, STATELESS_RUNS = "Thread Runs", "Stateless Runs"
router = APIRouter(route_class=Route)

Batch = Annotated[list[wire.RunCreate], Field(min_length=1)]
Action = Literal["interrupt", "rollback"]


def _reason(request: Request, action: str) -> str:
    return f"{action} requested via {request.method} {request.scope['route'].path}"


@router.post("/threads/{thread_id}/runs", tags=[THREAD_RUNS], responses=returns(wire.Run))
async def create_run(
    *,
    caller: Caller,
    container: Container,
    request: Request,
    key: Key,
    thread_id: RunThreadId,
    payload: Annotated[wire.RunCreate, Body(wire.RunCreate)],
) -> Response:
    """Queue a run on a thread."""

    def created(run: Run) -> Response:
        return json_response(wire.run_document(run), headers=run_headers(run_path(run.run_id, thread_id)))

    wanted = payload.to_domain(get_request_id(request))
    return created(await container.runs.create(caller, wanted, thread_id=thread_id, once=once(key, created)))


@router.post("/runs", tags=[STATELESS_RUNS], responses=returns(wire.Run))
async def create_stateless_run(
    caller: Caller,
    container: Container,
    request: Request,
    key: Key,
    payload: Annotated[wire.RunCreate, Body(wire.RunCreate)],
) -> Response:
    """Queue a run on a thread of its own."""

    def created(run: Run) -> Response:
        return json_response(wire.run_document(run), headers=run_headers(run_path(run.run_id)))

    wanted = payload.to_domain(get_request_id(request))
    return created(await container.runs.create(caller, wanted, thread_id=None, once=once(key, created)))


@router.post("/runs/batch", tags=[STATELESS_RUNS], responses=returns(list[wire.Run]))
async def create_run_batch(
    caller: Caller,
    container: Container,
    request: Request,
    key: Key,
    payload: Annotated[list[wire.RunCreate], Body(Batch)],
) -> Response:
    """Queue several stateless runs, all or none."""

    def created(runs: Sequence[Run]) -> Response:
        return json_response([wire.run_document(run) for run in runs])

    request_id = get_request_id(request)
    wanted = [create.to_domain(request_id) for create in payload]
    return created(await container.runs.create_batch(caller, wanted, once(key, created)))


@router.post(
    "/runs/cancel", tags=[STATELESS_RUNS], status_code=204, responses={404: {"description": "Nothing to cancel"}}
)
async def cancel_runs(
    caller: Caller,
    container: Container,
    request: Request,
    payload: Annotated[wire.RunsCancel, Body(wire.RunsCancel)],
    action: Action = "interrupt",
) -> Response:
    """Cancel runs of one thread, or all runs of a status."""
    named = payload.thread_id is not None or payload.run_ids is not None
    if (payload.status is not None) == named or (named and (payload.thread_id is None or payload.run_ids is None)):
        raise InvalidInputError("Give either 'status', or 'thread_id' and 'run_ids'")
    how, reason = CancelAction(action), _reason(request, action)
    if payload.status is not None:
        await container.runs.cancel_by_status(caller, payload.status, how, reason)
    elif payload.thread_id is not None and payload.run_ids is not None:
        await container.runs.cancel(caller, payload.thread_id, payload.run_ids, how, reason)
    return no_content()


@router.get("/threads/{thread_id}/runs", tags=[THREAD_RUNS], responses=returns(list[wire.Run]))
async def list_runs(
    *,
    caller: Caller,
    container: Container,
    thread_id: ThreadId,
    limit: int = 10,
    offset: int = 0,
    status: str | None = None,
    select: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """A thread's runs, newest first."""
    select = read_list(select)
    if unknown := [column for column in select if column not in wire.COLUMNS]:
        raise InvalidInputError(f"Invalid select columns: {unknown}. Expected: {set(wire.COLUMNS)}")
    page = {"limit": min(max(limit, 0), 2**53), "offset": min(max(offset, 0), 2**53)}
    runs = await container.runs.list(caller, thread_id, status=status, select=select or None, **page)
    documents = [wire.run_document(run) for run in runs]
    if select:
        documents = [{column: document[column] for column in select} for document in documents]
    return json_response(documents)


@router.get("/threads/{thread_id}/runs/{run_id}", tags=[THREAD_RUNS], responses=returns(wire.Run))
async def get_run(caller: Caller, container: Container, thread_id: ThreadId, run_id: RunId) -> Response:
    """One run."""
    return json_response(wire.run_document(await container.runs.get(caller, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", tags=[THREAD_RUNS], status_code=204)
async def delete_run(caller: Caller, container: Container, thread_id: ThreadId, run_id: RunId) -> Response:
    """Delete a run; if it is running, it is cancelled."""
    await container.runs.delete(caller, thread_id, run_id)
    return no_content()


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    tags=[THREAD_RUNS],
    status_code=202,
    responses={200: {"description": "The run has stopped; only with wait"}},
)
async def cancel_run(
    *,
    caller: Caller,
    container: Container,
    request: Request,
    thread_id: ThreadId,
    run_id: RunId,
    wait: bool = False,
    action: Action = "interrupt",
    reason: Literal["taken"] | None = None,
) -> Response:
    """Cancel a run; with ``wait``, answer when it has stopped."""
    why = _reason(request, action)
    if reason is not None:
        if action != "interrupt":
            raise InvalidInputError("'reason' is for the action 'interrupt'")
        why = f"{reason}: {why}"
    await container.runs.cancel(caller, thread_id, [run_id], CancelAction(action), why)
    if not wait:
        return Response(status_code=202)
    headers = run_headers(run_path(run_id, thread_id), "join")
    return awaited_json(container.streams.wait_until_over([run_id]), headers=headers)
