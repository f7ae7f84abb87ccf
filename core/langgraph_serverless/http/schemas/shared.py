"""What the schemas of all resources share."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict


class RequestModel(BaseModel):
    """A request's body. Types are those of the wire (``"1"`` is not a number); unknown fields pass and are dropped.

    A field that may be left out but not be null has a default and no ``| None`` in its type; what was left out is not in
    ``model_fields_set``.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ResponseModel(BaseModel):
    """Shown in the OpenAPI document; responses are not validated against it."""


JsonObject = dict[str, Any]

#: Strings become UUIDs, although models are strict.
Uuid = Annotated[uuid.UUID, Strict(False)]

Limit = Annotated[int, Field(ge=1, le=1000)]
#: Postgres takes offsets up to 2**63 - 1; nobody pages that far.
Offset = Annotated[int, Field(ge=0, le=2**53)]
SortOrder = Literal["asc", "desc"]


class ErrorResponse(ResponseModel):
    """Every error that is not said to look otherwise."""

    detail: str
