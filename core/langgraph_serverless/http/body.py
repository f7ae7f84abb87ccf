"""Request bodies: raw bytes -> orjson -> one pydantic validation.

FastAPI's own bodies are not used: they would be parsed by the slow ``json``, and their errors are not the wire's. In a
router::

    @router.post("/threads", responses=returns(schemas.Thread))
    async def create_thread(
        caller: Caller, container: Container, payload: Annotated[schemas.ThreadCreate, Body(schemas.ThreadCreate)]
    ) -> Response:
        thread = await container.threads.create(caller, thread_id=payload.thread_id, ...)
        return json_response(schemas.thread_document(thread))

A list at the top works too: ``Annotated[list[RunCreate], Body(list[RunCreate])]``. Models derive from
``http.schemas.shared.RequestModel`` (strict, unknown fields ignored); what a client left out is not in
``payload.model_fields_set``. ``http/openapi.py`` finds the model on the dependency, so nothing is declared twice.

Raises, as 422 that names the field, ``InvalidInputError``; as 413 ``TooLargeError``.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError

from langgraph_serverless.errors import InvalidInputError, TooLargeError
from langgraph_serverless.http.validation import invalid_input, refuse_nul

#: Where ``openapi.py`` finds the model of a body dependency.
MODEL_ATTRIBUTE = "body_model"
#: And whether the body may be left out.
REQUIRED_ATTRIBUTE = "body_required"

#: orjson writes at most 254 levels; stored documents are wrapped in a few of ours.
DEEPEST_NESTING = 200

#: A parsed body takes many times its bytes in memory if it has little but brackets or short words in it.
MOST_CONTAINERS = 200_000
MOST_VALUES = 1_000_000
# possessive, and closed by the end too, so that it takes one pass whatever the text is
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

#: How JSON spells the character that Postgres has no way to keep.
NUL = b"\\u0000"

#: A form of ``document`` that no JSON text has.
_ABSENT = object()


class MalformedJsonError(InvalidInputError):
    """What the client has sent is not JSON."""


def Body(model: Any, *, required: bool = True) -> Any:  # noqa: N802, RUF100 - reads like FastAPI's own
    """A dependency that reads the request's JSON body as ``model``.

    Args:
        required: whether an empty body is an error. If not, it means ``{}``.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    async def read_body(request: Request) -> Any:
        document = await read_json(request, default=_ABSENT if required else {})
        try:
            payload = adapter.validate_python(document)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise invalid_input(found, document) from None
        # the body is kept by the request
        if NUL in await request.body():
            refuse_nul(payload)
        return payload

    setattr(read_body, MODEL_ATTRIBUTE, adapter)
    setattr(read_body, REQUIRED_ATTRIBUTE, required)
    return Depends(read_body)


async def read_json(request: Request, *, default: Any = _ABSENT) -> Any:
    """The request's body as a JSON document; ``default``, if given, stands for an empty body."""
    body = await request.body()
    if len(body) > (limit := request.app.state.container.settings.max_body_bytes):
        raise too_large(limit)
    if not body and default is not _ABSENT:
        return default
    return parse_json(body)


def parse_json(body: bytes) -> Any:
    """What a client has sent as a JSON document, if it is one and harmless.

    Raises:
        MalformedJsonError, InvalidInputError, TooLargeError
    """
    _refuse_bomb(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJsonError("Invalid JSON in request body") from None
    # counting bytes is quick and clears nearly every body
    if body.count(b"[") + body.count(b"{") > DEEPEST_NESTING and _is_deeper(document, DEEPEST_NESTING):
        raise InvalidInputError(f"Invalid JSON in request body: nested deeper than {DEEPEST_NESTING} levels")
    return document


def _refuse_bomb(body: bytes) -> None:
    # counting bytes is quick and clears nearly every body; the others have their texts taken out first
    if _is_bomb(body) and _is_bomb(_STRING.sub(b"", body)):
        raise TooLargeError(
            f"The request body has more than {MOST_CONTAINERS} objects and lists, or more than {MOST_VALUES} values"
        )


def _is_bomb(text: bytes) -> bool:
    return text.count(b"{") + text.count(b"[") > MOST_CONTAINERS or text.count(b",") >= MOST_VALUES


def too_large(limit: int) -> TooLargeError:
    """The error for a body of more than ``limit`` bytes."""
    return TooLargeError(f"The request body is larger than {limit} bytes")


def _is_deeper(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit + 1):
        level = [
            item
            for container in level
            if isinstance(container, (dict, list))
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True
