"""The OpenAPI document: FastAPI's, with the bodies that ``http/body.py`` reads.

Body dependencies are plain callables to FastAPI; the model hangs on each of them. Made at the first request for it and kept.
An operation's id is the name of its function, which is also the name of the service's method.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from langgraph_serverless import __version__
from langgraph_serverless.http.body import MODEL_ATTRIBUTE
from langgraph_serverless.http.schemas.shared import ErrorResponse

TITLE = "LangGraph Server"
_REFERENCES = "#/components/schemas/{model}"
_ERROR = {
    "description": "The request is malformed; the text names the field",
    "content": {"application/json": {"schema": {"$ref": _REFERENCES.format(model="ErrorResponse")}}},
}
TAGS = ("Assistants", "Threads", "Thread Runs", "Stateless Runs", "Crons", "Store", "System")


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an app's routes."""
    if app.openapi_schema is None:
        app.openapi_schema = _build(app)
    return app.openapi_schema


def _build(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=TITLE, version=__version__, routes=app.routes, tags=[{"name": tag} for tag in TAGS])
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for route in app.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for adapter in _bodies(route.dependant):
            body = adapter.json_schema(ref_template=_REFERENCES)
            components.update(body.pop("$defs", {}))
            if "title" in body and body.get("type") == "object":
                components[body["title"]] = body
                body = {"$ref": _REFERENCES.format(model=body["title"])}
            for operation in _operations(schema, route):
                operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        for operation in _operations(schema, route):
            operation["operationId"] = route.name
            if "422" in operation["responses"] or "requestBody" in operation:
                operation["responses"]["422"] = _ERROR
    # FastAPI's own form of validation errors, which this server never sends
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    components["ErrorResponse"] = ErrorResponse.model_json_schema()
    return schema


def _operations(schema: dict[str, Any], route: APIRoute) -> list[dict[str, Any]]:
    return [schema["paths"][route.path_format][method.lower()] for method in route.methods or ()]


def _bodies(dependant: Dependant) -> Iterator[TypeAdapter[Any]]:
    for dependency in dependant.dependencies:
        adapter = getattr(dependency.call, MODEL_ATTRIBUTE, None)
        if adapter is not None:
            yield adapter
        yield from _bodies(dependency)
