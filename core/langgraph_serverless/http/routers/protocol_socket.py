"""The thread protocol over a WebSocket, where the server has connections that last; a function answers GET with 405."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.websockets import WebSocket

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.errors import InvalidInputError, ServerError
from langgraph_serverless.http.authentication import CLOSE, caller_of
from langgraph_serverless.http.protocol_socket import NO_THREAD_ID, ProtocolSocket
from langgraph_serverless.http.routes import Route

router = APIRouter(route_class=Route)


@router.websocket("/threads/{thread_id}/stream/events")
async def open_protocol_socket(socket: WebSocket, thread_id: str) -> None:
    """Commands to a thread, and what happens on it."""
    container: ApiContainer = socket.app.state.container
    await socket.accept()
    try:
        known = parse_id(thread_id, "thread")
    except InvalidInputError as error:
        await socket.close(NO_THREAD_ID, error.detail)
        return
    caller = caller_of(socket.scope)
    try:
        session = await container.protocol_streams.session(caller, known)
    except ServerError as error:
        await socket.close(CLOSE + error.status, error.detail[:100])
        return
    await ProtocolSocket(socket, container, caller, known, session, request_id=socket.state.request_id).serve()
