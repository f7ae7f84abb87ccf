"""Following runs: created and streamed or waited for in one request, or joined later."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.cursors import parse_modes
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import Run
from langgraph_serverless.http.body import Body
from langgraph_serverless.http.deps import Caller, Container, RunId, RunThreadId, ThreadId, get_request_id
from langgraph_serverless.http.idempotency import AGAIN, Key, once
from langgraph_serverless.http.params import read_list
from langgraph_serverless.http.responses import json_response
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.run_locations import run_headers, run_path
from langgraph_serverless.http.schemas import runs as wire
from langgraph_serverless.http.streaming_response import OnDisconnect, awaited_json, event_stream
from langgraph_serverless.services.idempotency import AnsweredBeforeError

THREAD_RUNS, STATELESS_RUNS = "Thread Runs", "Stateless Runs"
router = APIRouter(route_class=Route)

Payload = Annotated[wire.RunCreate, Body(wire.RunCreate)]
LastEventId = Annotated[str | None, Header(alias="last-event-id")]
Modes = Annotated[list[str] | None, Query()]

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}
_OUTPUT: dict[int | str, dict[str, Any]] = {
    200: {"description": "What the run put out", "content": {"application/json": {}}}
}


def _abandoned(
    container: ApiContainer, caller: Principal, cancel: bool, thread_id: uuid.UUID | None, run_id: uuid.UUID
) -> OnDisconnect | None:
    if not cancel or thread_id is None:
        return None
    return lambda: container.streams.cancel_abandoned(caller, thread_id, run_id)


def _again(
    container: ApiContainer,
    path: str,
    form: Literal["stream", "join"],
    cancel: bool = False,
    modes: frozenset[str] | None = None,
) -> dict[str, str]:
    """Where the client comes back to; with what it has asked for, if its connection is going to be broken off."""
    query: dict[str, str] = {}
    if container.settings.stream_carry_over:
        query |= {"cancel_on_disconnect": "true"} if cancel else {}
        query |= {"stream_mode": ",".join(sorted(modes))} if modes else {}
    return run_headers(path, form, query)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    """The run that a request has made, now or under its key before; a repeat follows it from its beginning too."""

    run_id: uuid.UUID
    thread_id: uuid.UUID
    headers: Mapping[str, str]


def _ids(run: Run) -> Response:
    # what is kept for repeats, as what clients get is still to come
    return json_response({"run_id": run.run_id, "thread_id": run.thread_id})


async def _create(
    container: ApiContainer,
    caller: Principal,
    request: Request,
    payload: wire.RunCreate,
    *,
    key: Key,
    thread_id: uuid.UUID | None,
    waits: bool = False,
) -> _Followed:
    wanted = payload.to_domain(get_request_id(request))
    try:
        run = await container.runs.create(caller, wanted, thread_id=thread_id, once=once(key, _ids), reads=waits)
    except AnsweredBeforeError as before:
        ids = {name: uuid.UUID(value) for name, value in orjson.loads(before.answer.body).items()}
        await container.streams.require_kept(ids["run_id"])
        return _Followed(run_id=ids["run_id"], thread_id=ids["thread_id"], headers=AGAIN)
    return _Followed(run_id=run.run_id, thread_id=run.thread_id, headers={})


def _streamed(
    container: ApiContainer, caller: Principal, payload: wire.RunCreate, run: _Followed, path: str
) -> Response:
    cancel = payload.on_disconnect == "cancel"
    joined = container.streams.stream(run.run_id, resumable=payload.stream_resumable)
    return event_stream(
        joined.batches,
        with_ids=joined.with_ids,
        cursor=joined.cursor,
        keepalive=container.settings.stream_keepalive,
        headers={**_again(container, path, "stream", cancel), **run.headers},
        on_disconnect=_abandoned(container, caller, cancel, run.thread_id, run.run_id),
    )


def _waited_for(container: ApiContainer, caller: Principal, payload: wire.RunCreate, run: _Followed) -> Response:
    cancel = payload.on_disconnect == "cancel"
    return awaited_json(
        container.streams.wait(run.run_id),
        # the thread's form for stateless runs too: that is where their result can be joined
        headers={**_again(container, run_path(run.run_id, run.thread_id), "join", cancel), **run.headers},
        on_disconnect=_abandoned(container, caller, cancel, run.thread_id, run.run_id),
    )


@router.post("/threads/{thread_id}/runs/stream", tags=[THREAD_RUNS], responses=_STREAM)
async def stream_run(
    *, caller: Caller, container: Container, request: Request, key: Key, thread_id: RunThreadId, payload: Payload
) -> Response:
    """Queue a run on a thread and stream what it emits."""
    run = await _create(container, caller, request, payload, key=key, thread_id=thread_id)
    return _streamed(container, caller, payload, run, run_path(run.run_id, thread_id))


@router.post("/runs/stream", tags=[STATELESS_RUNS], responses=_STREAM)
async def stream_stateless_run(
    caller: Caller, container: Container, request: Request, key: Key, payload: Payload
) -> Response:
    """Queue a stateless run and stream what it emits."""
    run = await _create(container, caller, request, payload, key=key, thread_id=None)
    return _streamed(container, caller, payload, run, run_path(run.run_id))


@router.post("/threads/{thread_id}/runs/wait", tags=[THREAD_RUNS], responses=_OUTPUT)
async def wait_run(
    *, caller: Caller, container: Container, request: Request, key: Key, thread_id: RunThreadId, payload: Payload
) -> Response:
    """Queue a run on a thread and wait for its output."""
    run = await _create(container, caller, request, payload, key=key, thread_id=thread_id, waits=True)
    return _waited_for(container, caller, payload, run)


@router.post("/runs/wait", tags=[STATELESS_RUNS], responses=_OUTPUT)
async def wait_stateless_run(
    caller: Caller, container: Container, request: Request, key: Key, payload: Payload
) -> Response:
    """Queue a stateless run and wait for its output."""
    run = await _create(container, caller, request, payload, key=key, thread_id=None, waits=True)
    return _waited_for(container, caller, payload, run)


@router.get("/threads/{thread_id}/runs/{run_id}/join", tags=[THREAD_RUNS], responses=_OUTPUT)
async def join_run(
    caller: Caller, container: Container, thread_id: ThreadId, run_id: RunId, cancel_on_disconnect: bool = False
) -> Response:
    """Wait for a run's output; of a finished run, the current values of its thread."""
    return awaited_json(
        await container.streams.join(caller, thread_id, run_id),
        headers=_again(container, run_path(run_id, thread_id), "join", cancel_on_disconnect),
        on_disconnect=_abandoned(container, caller, cancel_on_disconnect, thread_id, run_id),
    )


@router.get("/threads/{thread_id}/runs/{run_id}/stream", tags=[THREAD_RUNS], responses=_STREAM)
async def join_run_stream(
    *,
    caller: Caller,
    container: Container,
    thread_id: ThreadId,
    run_id: RunId,
    stream_mode: Modes = None,
    last_event_id: LastEventId = None,
    cancel_on_disconnect: bool = False,
) -> Response:
    """Stream what a run emits from now on, or after an event."""
    modes = parse_modes(read_list(stream_mode))
    joined = await container.streams.join_stream(caller, thread_id, run_id, last_event_id=last_event_id, modes=modes)
    return event_stream(
        joined.batches,
        with_ids=joined.with_ids,
        cursor=joined.cursor,
        keepalive=container.settings.stream_keepalive,
        headers=_again(container, run_path(run_id, thread_id), "stream", cancel_on_disconnect, modes),
        on_disconnect=_abandoned(container, caller, cancel_on_disconnect, thread_id, run_id),
    )


@router.get("/runs/{run_id}/join", tags=[STATELESS_RUNS], responses=_OUTPUT)
async def join_stateless_run(caller: Caller, container: Container, run_id: RunId) -> Response:
    """Wait for the output of a run whose thread is not known."""
    return awaited_json(
        await container.streams.join(caller, None, run_id), headers=run_headers(run_path(run_id), "join")
    )


@router.get("/runs/{run_id}/stream", tags=[STATELESS_RUNS], responses=_STREAM)
async def join_stateless_run_stream(
    *,
    caller: Caller,
    container: Container,
    run_id: RunId,
    stream_mode: Modes = None,
    last_event_id: LastEventId = None,
    cancel_on_disconnect: bool = False,
) -> Response:
    """Stream a run whose thread is not known; where clients of stateless runs reconnect."""
    modes = parse_modes(read_list(stream_mode))
    joined = await container.streams.join_stream(caller, None, run_id, last_event_id=last_event_id, modes=modes)
    return event_stream(
        joined.batches,
        with_ids=joined.with_ids,
        cursor=joined.cursor,
        keepalive=container.settings.stream_keepalive,
        headers=_again(container, run_path(run_id), "stream", cancel_on_disconnect, modes),
        on_disconnect=_abandoned(container, caller, cancel_on_disconnect, joined.thread_id, run_id),
    )
