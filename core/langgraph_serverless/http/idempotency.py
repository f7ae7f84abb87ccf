"""The header ``Idempotency-Key``: what routes that create something hand to their use case. In a router::

    async def create_thread(caller: Caller, container: Container, key: Key, payload: ...) -> Response:
        thread = await container.threads.create(caller, ..., once=once(key, _created))
        return _created(thread)

A repeat is answered by the table of errors, with the first answer and ``Idempotency-Replayed: true``; routes that go on
after creating (streams, waits) catch ``AnsweredBeforeError`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from starlette.responses import Response

from langgraph_serverless.domain.idempotency import HEADER, REPLAYED, Answer, IdempotencyKey, check_key, fingerprint
from langgraph_serverless.errors import InvalidInputError
from langgraph_serverless.services.idempotency import Once

Made = TypeVar("Made")

#: Says that the answer was given before.
AGAIN: Mapping[str, str] = {REPLAYED: "true"}
#: Written anew for each response.
_OURS = frozenset({"content-length"})


async def read_key(
    request: Request, header: Annotated[str | None, Header(alias=HEADER)] = None
) -> tuple[IdempotencyKey, float] | None:
    """The key that the client has given this request, and how long its answer is kept; None without one."""
    if header is None:
        return None
    if len(request.headers.getlist(HEADER)) > 1:
        raise InvalidInputError(f"'{HEADER}' is given more than once")
    route = f"{request.method} {request.scope['route'].path}"
    print_ = fingerprint(request.method, request.url.path, await request.body())
    key = IdempotencyKey(route=route, key=check_key(header), fingerprint=print_)
    return key, request.app.state.container.settings.idempotency_retention


Key = Annotated[tuple[IdempotencyKey, float] | None, Depends(read_key)]


def once(key: tuple[IdempotencyKey, float] | None, respond: Callable[[Made], Response]) -> Once[Made] | None:
    """What the use case is to be told; ``respond`` makes the route's response."""
    if key is None:
        return None
    return Once(key=key[0], retention=key[1], answer=lambda made: _answer(respond(made)))


def _answer(response: Response) -> Answer:
    headers = {name: value for name, value in response.headers.items() if name not in _OURS}
    return Answer(status=response.status_code, headers=headers, body=bytes(response.body))


def replayed(answer: Answer) -> Response:
    """The first answer once more."""
    return Response(answer.body, answer.status, {**answer.headers, **AGAIN})
