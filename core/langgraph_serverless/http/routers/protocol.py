"""Commands of the thread protocol: one in each request. Over a WebSocket: ``protocol_socket.py``; events: ``protocol_events.py``.

HTTP's status is 200 for whatever is a command, also if it cannot be carried out.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from langgraph_serverless.domain.protocol_commands import no_command, read_command
from langgraph_serverless.errors import BadRequestError
from langgraph_serverless.http.body import MODEL_ATTRIBUTE, REQUIRED_ATTRIBUTE, MalformedJsonError, read_json
from langgraph_serverless.http.deps import Caller, Container, get_request_id
from langgraph_serverless.http.idempotency import Key
from langgraph_serverless.http.protocol_commands import Commands
from langgraph_serverless.http.responses import json_response, returns
from langgraph_serverless.http.routes import Route
from langgraph_serverless.http.schemas import protocol as wire

router = APIRouter(route_class=Route, tags=["Threads"])


async def read_document(request: Request) -> Any:
    """The body, whatever it is: what is no command has an answer of its own."""
    try:
        return await read_json(request)
    except MalformedJsonError:
        raise BadRequestError("Invalid JSON body") from None


# for the document of the API
setattr(read_document, MODEL_ATTRIBUTE, TypeAdapter(wire.CommandRequest))
setattr(read_document, REQUIRED_ATTRIBUTE, True)


@router.post("/threads/{thread_id}/commands", responses=returns(wire.CommandAnswer))
async def send_command(
    *,
    request: Request,
    caller: Caller,
    container: Container,
    key: Key,
    thread_id: str,
    document: Annotated[Any, Depends(read_document)],
) -> Response:
    """Carry out a command of the thread protocol."""
    command = read_command(document)
    if command is None:
        return json_response(no_command(document), 400)
    commands = Commands(container, caller, thread_id, request_id=get_request_id(request), key=key)
    return json_response(await commands.answer(command))
