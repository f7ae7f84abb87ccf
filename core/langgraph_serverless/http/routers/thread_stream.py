"""What happens on a thread, as one stream of server-sent events; open-ended, also for a thread that is not there yet."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from langgraph_serverless.domain.thread_events import parse_thread_modes
from langgraph_serverless.http.deps import Caller, Container, ThreadId
from langgraph_serverless.http.params import read_list
from langgraph_serverless.http.routers.stream import LastEventId
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.streaming_response import event_stream

router = APIRouter(route_class=Route, tags=["Threads"])

Modes = Annotated[list[str] | None, Query()]

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


@router.get("/threads/{thread_id}/stream", responses=_STREAM)
async def stream_thread(
    *,
    caller: Caller,
    container: Container,
    thread_id: ThreadId,
    stream_modes: Modes = None,
    stream_mode: Modes = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream what the runs of a thread emit, one after the other."""
    # the SDKs say ``stream_mode``, which the official server does not hear
    asked = [*read_list(stream_modes), *read_list(stream_mode)]
    joined = await container.thread_streams.stream(
        caller, thread_id, last_event_id=last_event_id, modes=parse_thread_modes(asked)
    )
    headers = {}
    if container.settings.stream_carry_over:  # it will be broken off, and has to be taken up again
        query = urlencode([("stream_modes", mode) for mode in asked])
        headers["Location"] = f"/threads/{thread_id}/stream" + (f"?{query}" if query else "")
    return event_stream(
        joined.batches,
        with_ids=joined.with_ids,
        cursor=joined.cursor,
        keepalive=container.settings.stream_keepalive,
        headers=headers,
    )
