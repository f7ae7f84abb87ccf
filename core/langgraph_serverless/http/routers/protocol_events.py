"""The events of protocol v2 as a stream that never ends by itself: what a body asks for, of one thread.

The same over a WebSocket: ``protocol_socket.py``.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from langgraph_serverless.domain.protocol_filters import Subscription, parse_subscription
from langgraph_serverless.errors import BadRequestError, InvalidInputError
from langgraph_serverless.http.body import MODEL_ATTRIBUTE, REQUIRED_ATTRIBUTE, read_json
from langgraph_serverless.http.deps import Caller, Container, ThreadId
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas.protocol_events import EventStreamRequest
from langgraph_serverless.http.streaming_response import event_stream

router = APIRouter(route_class=Route, tags=["Threads"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


async def read_subscription(request: Request) -> Subscription:
    """The body, which is more lenient than its model in the document says."""
    try:
        document = await read_json(request)
    except InvalidInputError:
        raise BadRequestError("Invalid JSON body") from None
    return parse_subscription(document)


setattr(read_subscription, MODEL_ATTRIBUTE, TypeAdapter(EventStreamRequest))
setattr(read_subscription, REQUIRED_ATTRIBUTE, True)


@router.post("/threads/{thread_id}/stream/events", responses=_STREAM)
async def stream_thread_events(
    caller: Caller,
    container: Container,
    thread_id: ThreadId,
    wanted: Annotated[Subscription, Depends(read_subscription)],
) -> Response:
    """Stream what happens on a thread, run after run, as events of protocol v2. The thread need not exist yet."""
    events = await container.protocol_streams.stream(caller, thread_id, wanted)
    return event_stream(events, with_ids=True, keepalive=container.settings.stream_keepalive, headers={})
