"""Routes of threads' states and histories."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container, ThreadId
from langgraph_serverless.http.params import read_flag, read_list
from langgraph_serverless.http.responses import json_response, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import state as wire
from langgraph_serverless.services.state import StateService

router = APIRouter(route_class=Route, tags=["Threads"])

#: More states than anybody has.
_MOST = 2**31 - 1


async def get_states(container: Container) -> StateService:
    # the routes of this module are served from this container only
    return cast(StateContainer, container).state


States = Annotated[StateService, Depends(get_states)]
#: Fields of the state, or single values of it as ``values.<key>``; all if there are none.
Select = Annotated[list[str] | None, Query()]


@router.get("/threads/{thread_id}/state", responses=returns(wire.ThreadState))
async def get_state(
    caller: Caller, states: States, thread_id: ThreadId, subgraphs: str = "false", select: Select = None
) -> Response:
    """Get a thread's newest state."""
    wanted = wire.checked_select(read_list(select))
    state = await states.get(caller, thread_id, subgraphs=read_flag(subgraphs))
    return json_response(wire.selected_document(state, wanted))


@router.post("/threads/{thread_id}/state", responses=returns(wire.StateUpdated))
async def update_state(
    caller: Caller,
    states: States,
    thread_id: ThreadId,
    payload: Annotated[wire.StateUpdate, Body(wire.StateUpdate)],
) -> Response:
    """Write a thread's state."""
    configurable = await states.update(
        caller, thread_id, values=payload.values, as_node=payload.as_node, checkpoint=payload.wanted()
    )
    return json_response(wire.updated_document(configurable))


@router.get("/threads/{thread_id}/state/{checkpoint_id}", responses=returns(wire.ThreadState))
async def get_state_at(
    *,
    caller: Caller,
    states: States,
    thread_id: ThreadId,
    checkpoint_id: str,
    subgraphs: str = "false",
    select: Select = None,
) -> Response:
    """Get a thread's state at a checkpoint."""
    wanted = wire.checked_select(read_list(select))
    state = await states.get(
        caller, thread_id, checkpoint={"checkpoint_id": checkpoint_id}, subgraphs=read_flag(subgraphs)
    )
    return json_response(wire.selected_document(state, wanted))


@router.post("/threads/{thread_id}/state/checkpoint", responses=returns(wire.ThreadState))
async def get_state_at_checkpoint(
    caller: Caller,
    states: States,
    thread_id: ThreadId,
    payload: Annotated[wire.StateAtCheckpoint, Body(wire.StateAtCheckpoint)],
) -> Response:
    """Get a thread's state at a checkpoint, which may be a subgraph's."""
    wanted = wire.checked_select(payload.select)
    state = await states.get(caller, thread_id, checkpoint=payload.checkpoint.model_dump(), subgraphs=payload.subgraphs)
    return json_response(wire.selected_document(state, wanted))


@router.get("/threads/{thread_id}/history", responses=returns(list[wire.ThreadState]))
async def get_history(
    caller: Caller, states: States, thread_id: ThreadId, limit: int = 1, before: str | None = None
) -> Response:
    """Get a thread's states, newest first."""
    found = await states.history(caller, thread_id, limit=min(limit, _MOST), before=before)
    return json_response([wire.selected_document(state) for state in found])


@router.post("/threads/{thread_id}/history", responses=returns(list[wire.ThreadState]))
async def search_history(
    caller: Caller,
    states: States,
    thread_id: ThreadId,
    payload: Annotated[wire.HistoryRequest, Body(wire.HistoryRequest)],
) -> Response:
    """Get the states of a thread, or of a subgraph in it, newest first."""
    wanted = wire.checked_select(payload.select)
    found = await states.history(
        caller,
        thread_id,
        limit=payload.limit,
        before=payload.before_id(),
        metadata=payload.metadata,
        checkpoint=payload.checkpoint.model_dump() if payload.checkpoint else None,
    )
    return json_response([wire.selected_document(state, wanted) for state in found])
