"""What the schemas of all resources share."""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    WithJsonSchema,
    with_config,
)
from pydantic_core import CoreSchema
from typing_extensions import TypedDict


class RequestModel(BaseModel):
    """A request's body. Types are those of the wire (``"1"`` is not a number); unknown fields pass and are dropped.

    A field that may be left out but not be null has the type ``Omittable[T]`` or simply a default; what was left out is not
    in ``model_fields_set``.
    """

    # most are not what a function's first request asks for
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, defer_build=True)


class ResponseModel(BaseModel):
    """Shown in the OpenAPI document; responses are not validated against it."""

    model_config = ConfigDict(defer_build=True)


JsonObject = dict[str, Any]

_OPEN: Any = {"type": "object", "additionalProperties": True}
_NODE: Any = {
    "anyOf": [
        {"type": "string", "description": "A node's name."},
        {
            "type": "object",
            "description": "A node with an input of its own.",
            "properties": {
                "node": {"type": "string", "description": "The node's name."},
                "input": {"description": "The node's input."},
            },
            "required": ["node"],
        },
    ]
}


@with_config(extra="allow", strict=True)
class _Send(TypedDict):
    """A node with an input of its own."""

    node: str
    input: NotRequired[Any]


@with_config(extra="allow", strict=True)
class _Command(TypedDict, total=False):
    """LangGraph's ``Command`` in a request; other keys are for the graph to refuse."""

    resume: Any
    update: JsonObject | list[Annotated[list[Any], Field(min_length=2, max_length=2)]] | None
    goto: str | _Send | list[str | _Send] | None


CommandObject = Annotated[
    _Command,
    WithJsonSchema(
        _OPEN
        | {
            "properties": {
                "resume": {"description": "The answer to an interrupt, or answers by the interrupts' ids."},
                "update": {"description": "Values to write to the state: an object, or a list of pairs."},
                "goto": {
                    "description": "The nodes that come next.",
                    "anyOf": [*_NODE["anyOf"], {"type": "array", "items": _NODE}, {"type": "null"}],
                },
            }
        }
    ),
]

#: Strings become UUIDs, although models are strict.
Uuid = Annotated[uuid.UUID, Strict(False)]


class _NotNull:
    """Takes the null out of an optional type; a default of None stays possible, as defaults are not validated."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return schema["schema"] if schema["type"] == "nullable" else schema


_T = TypeVar("_T")
#: ``field: Omittable[str] = None``: None means that the client left it out; an explicit null is an error.
Omittable = Annotated[_T | None, _NotNull()]

_Enum = TypeVar("_Enum", bound=Enum)
#: ``WireEnum[ThreadStatus]``: strings become members, although models are strict.
WireEnum = Annotated[_Enum, Strict(False)]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: To JSON, ``1.0`` is a whole number.
Whole = BeforeValidator(_whole)
Limit = Annotated[int, Field(ge=1, le=1000), Whole]
#: Postgres takes offsets up to 2**63 - 1; nobody pages that far.
Offset = Annotated[int, Field(ge=0, le=2**53), Whole]
SortOrder = Literal["asc", "desc"]


@with_config(extra="allow", strict=True)
class Configurable(TypedDict, total=False):
    """The parts of ``configurable`` that LangGraph's savers take as they are; the rest is the graph's."""

    checkpoint_id: str | None
    checkpoint_ns: str | None
    checkpoint_map: dict[str, str] | None


@with_config(extra="allow", strict=True)
class Config(TypedDict, total=False):
    """The parts of a config that have a type; the rest is LangChain's."""

    tags: list[str]
    recursion_limit: Annotated[int, Field(le=2**31 - 1), Whole]
    configurable: Configurable
    metadata: JsonObject


class CheckpointConfig(RequestModel):
    """Which checkpoint is meant. ``thread_id`` may be sent and is ignored: the path names the thread."""

    checkpoint_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_map: dict[str, str] | None = None
    thread_id: Any = Field(default=None, exclude=True, json_schema_extra={"type": "string"})


class Checkpoint(ResponseModel):
    """Where a state is stored."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, str] | None = None


class ErrorResponse(ResponseModel):
    """Every error that is not said to look otherwise."""

    detail: str
