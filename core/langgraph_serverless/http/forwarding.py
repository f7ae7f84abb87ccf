"""Requests that take the user's code, and reach a function that has none.

On Lambda only the state function (and the worker) holds the user's project. A route that finds out that it needs the project
hands the whole request on and gives back the answer as it is::

    @router.post("/threads", ...)
    async def create_thread(request: Request, container: Container, ...) -> Response:
        if payload.supersteps and container.supersteps is None:
            return await forward_to_state(request, container, "'supersteps' cannot be written by this function")

The state function serves the same routes from a container that has the project (``functions/state/handler.py`` names their
resources; add yours there), so it never forwards. Forward before anything is written. The event travels unchanged, headers
included: who may do what is decided there once more. Where there is no state function (``STATE_FUNCTION_NAME`` is empty), or
the request has not come from API Gateway, the text given is the answer, as 422. Needs ``STATE_FUNCTION_NAME`` and the statement
``CallState`` in the function's role in ``infra/api.yaml``; ``assistants``, ``threads`` and ``store`` have them. (So have those that make
runs: what they ask the state function is an event of its own, ``services/priorities.py``, as a stream cannot be forwarded.)
"""

from __future__ import annotations

import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.errors import BadGatewayError, InvalidInputError

#: Where Mangum keeps the event.
_EVENT = "aws.event"
#: Written anew for the answer that leaves here.
_OURS = frozenset({"content-length"})


async def forward_to_state(request: Request, container: ApiContainer, refusal: str) -> Response:
    """The state function's answer to this request.

    Args:
        refusal: what to tell the client if nobody here can do it; names the field.

    Raises:
        InvalidInputError: with ``refusal``.
        UnavailableError: if the function cannot be started now.
        BadGatewayError: if it has failed or has not answered.
    """
    event = request.scope.get(_EVENT)
    if event is None or container.state_function is None:
        raise InvalidInputError(refusal)
    return _response(await container.state_function.call(event))


def _response(answer: dict[str, Any]) -> Response:
    """The response in the form of API Gateway's proxy integration."""
    try:
        status, body = int(answer["statusCode"]), answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    except (KeyError, TypeError, ValueError) as error:
        raise BadGatewayError("The state function's answer is not a response") from error
    response = Response(content, status)
    single, several = answer.get("headers") or {}, answer.get("multiValueHeaders") or {}
    for name, values in ({name: [value] for name, value in single.items()} | several).items():
        if name.lower() not in _OURS:
            for value in values:
                response.headers.append(name, value)
    return response
