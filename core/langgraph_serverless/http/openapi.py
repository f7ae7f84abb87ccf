"""The OpenAPI document: FastAPI's, with the bodies that ``http/body.py`` reads and the words of ``openapi_texts.py``.

Body dependencies are plain callables to FastAPI; the model hangs on each of them. Paths, parameters, models and docstrings
come from the code; what it cannot say (headers, errors, examples, a sentence for each field) comes from two modules of data
that are loaded with the first request for the document, which is then kept. An operation's id is the name of its function,
which is also the name of the service's method.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from langgraph_serverless import __version__
from langgraph_serverless.domain import protocol_commands
from langgraph_serverless.domain.idempotency import HEADER, REPLAYED
from langgraph_serverless.http.body import MODEL_ATTRIBUTE, REQUIRED_ATTRIBUTE
from langgraph_serverless.http.schemas.shared import ErrorResponse

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

    from langgraph_serverless.domain.auth_settings import AuthSettings

Schema = dict[str, Any]

TITLE = "LangGraph Server"
_REFERENCES = "#/components/schemas/{model}"
_JSON = "application/json"
_STREAM = "text/event-stream"


def document(app: FastAPI) -> Schema:
    """The OpenAPI 3.1 document of an app's routes, and of those of the user's own application."""
    if app.openapi_schema is None:
        built, user = _build(app), getattr(app.state, "user_app", None)
        if isinstance(user, FastAPI):
            from langgraph_serverless.http.openapi_merge import merged  # noqa: PLC0415 - for projects that have one

            built = merged(built, user.openapi())
        app.openapi_schema = built
    return app.openapi_schema


def _build(app: FastAPI) -> Schema:
    from langgraph_serverless.http import openapi_texts as texts  # noqa: PLC0415 - prose, which no request but this needs

    built = get_openapi(
        title=TITLE,
        version=__version__,
        description=texts.ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": about} for name, about in texts.TAGS.items()],
    )
    components: dict[str, Schema] = built.setdefault("components", {}).setdefault("schemas", {})
    components["ErrorResponse"] = ErrorResponse.model_json_schema()
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = built["paths"][route.path_format][method.lower()]
                operation["operationId"] = route.name
                _add_body(operation, route.dependant, components)
                _add_parameters(operation)
                _add_answers(operation, components)
    # FastAPI's own form of validation errors, which this server never sends
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for name, schema in components.items():
        _describe_fields(name, schema)
    _add_examples(built)
    _add_security(built, app.state.container.catalog.manifest.auth)
    return built


def _add_security(built: Schema, auth: AuthSettings | None) -> None:
    """How callers say who they are, as the project has it (``auth.openapi``)."""
    said = (auth.openapi if auth is not None else None) or {}
    schemes = said.get("securitySchemes") or (said.get("components") or {}).get("securitySchemes")
    if schemes:
        built["components"]["securitySchemes"] = schemes
    if said.get("security"):
        built["security"] = said["security"]


def _add_body(operation: Schema, dependant: Dependant, components: dict[str, Schema]) -> None:
    for read_body in _body_readers(dependant):
        body = getattr(read_body, MODEL_ATTRIBUTE).json_schema(ref_template=_REFERENCES)
        components.update(body.pop("$defs", {}))
        if "title" in body and body.get("type") == "object":
            components[body["title"]] = body
            body = {"$ref": _REFERENCES.format(model=body["title"])}
        required = getattr(read_body, REQUIRED_ATTRIBUTE)
        operation["requestBody"] = {"required": required, "content": {_JSON: {"schema": body}}}


def _body_readers(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        if hasattr(dependency.call, MODEL_ATTRIBUTE):
            yield dependency.call
        yield from _body_readers(dependency)


def _add_parameters(operation: Schema) -> None:
    from langgraph_serverless.http.openapi_texts import PARAMETERS  # noqa: PLC0415

    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        known = PARAMETERS.get(f"{operation['operationId']}.{name}") or PARAMETERS.get(name)
        if known is not None:
            words, schema = known
            parameter["description"] = words
            parameter["schema"] = schema or parameter["schema"]
        _without_impossible_defaults(parameter["schema"])


def _add_answers(operation: Schema, components: dict[str, Schema]) -> None:
    from langgraph_serverless.http import openapi_texts as texts  # noqa: PLC0415

    name, responses = operation["operationId"], operation["responses"]
    success: Schema = next((response for status, response in responses.items() if status.startswith("2")), {})
    headers, errors = dict(texts.HEADERS.get(name, {})), dict(texts.ERRORS.get(name, {}))
    if any(parameter["name"] == HEADER for parameter in operation.get("parameters", ())):
        headers |= {REPLAYED: ("`true` if this is the answer to an earlier request with this key.", {"type": "string"})}
        errors[409] = "; ".join(filter(None, (errors.get(409), f"the `{HEADER}` has been used for another request")))
        errors[409] = errors[409][0].upper() + errors[409][1:]
    if headers:
        success = responses.get("200", success)
        success["headers"] = {
            header: {"description": words, "schema": schema} for header, (words, schema) in headers.items()
        }
    _say_what_is_no_model(name, responses)
    if name in texts.SELECTED:
        _allow_selection(success["content"][_JSON]["schema"], components)
    takes_body = "requestBody" in operation
    errors |= {413: texts.COMMON_ERRORS[413]} if takes_body else {}
    errors |= {422: texts.COMMON_ERRORS[422]} if takes_body or "parameters" in operation else {}
    errors |= {503: texts.COMMON_ERRORS[503]}
    for status, words in errors.items():
        content: Schema = {_JSON: {"schema": {"$ref": _REFERENCES.format(model="ErrorResponse")}}}
        if status == 422 and name in texts.PLAIN_TEXT_422:
            content["text/plain"] = {"schema": {"type": "string"}}
        responses[str(status)] = {"description": words, "content": content}
    if name == "get_item":
        # as clients know it
        error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
        responses["400"]["content"][_JSON] = {"schema": error, "example": {"error": "Key is required"}}
    if name == "post_mcp":
        # words of a LangGraph server, or an error of the protocol
        error = {"type": "object", "properties": {"error": {"description": "What is wrong."}}, "required": ["error"]}
        for refused in ("400", "403"):
            responses[refused]["content"][_JSON] = {"schema": error, "example": {"error": "Invalid JSON"}}
    if name == "send_command":
        # what is JSON and no command gets an answer of the protocol's form
        forms = [{"$ref": _REFERENCES.format(model=model)} for model in ("CommandAnswer", "ErrorResponse")]
        example = {"type": "error", "id": None, "error": "invalid_argument", "message": protocol_commands.NO_COMMAND}
        responses["400"]["content"][_JSON] = {"schema": {"anyOf": forms}, "example": example}
    responses["503"]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def _say_what_is_no_model(name: str, responses: Schema) -> None:
    """Streams, outputs of graphs, and answers without a body; FastAPI would call all of them empty JSON."""
    from langgraph_serverless.http import openapi_examples as examples  # noqa: PLC0415

    for status, response in responses.items():
        content = response.get("content", {})
        if _STREAM in content:
            schema = {"description": "Server-sent events; comments (`: heartbeat`) keep the connection alive."}
            stream = {"schema": schema, "example": examples.STREAMS.get(name, examples.STREAM)}
            # some methods of a call are answered at once
            whole = {_JSON: content[_JSON]} if content.get(_JSON, {}).get("schema") else {}
            response["content"] = {**whole, _STREAM: stream}
        elif content.get(_JSON) == {"schema": {}}:
            if status == "200" and name != "cancel_run":
                response["content"] = {_JSON: {"schema": {"description": "Any JSON."}, "example": examples.OUTPUT}}
            else:
                del response["content"]
    if name == "get_metrics":
        responses["200"]["content"]["text/plain"] = {"schema": {"type": "string"}, "example": examples.METRICS}


def _allow_selection(answer: Schema, components: dict[str, Schema]) -> None:
    """What is answered, or the items of a page, need not have every field if the request may have a ``select``."""
    selected = answer.get("items", answer)
    whole = selected["$ref"].removeprefix(_REFERENCES.format(model=""))
    part = f"{whole}Selection"
    components[part] = {key: value for key, value in components[whole].items() if key != "required"} | {"title": part}
    selected["$ref"] = _REFERENCES.format(model=part)


def _describe_fields(name: str, schema: Schema) -> None:
    from langgraph_serverless.http.openapi_texts import FIELDS  # noqa: PLC0415

    for field, about in schema.get("properties", {}).items():
        words = FIELDS.get(f"{name.removesuffix('Selection')}.{field}") or FIELDS.get(field)
        if words is not None:
            about.setdefault("description", words)
        _without_impossible_defaults(about)


def _without_impossible_defaults(schema: Schema) -> None:
    """A default of null means that the field may be left out, which says nothing where null itself is an error."""
    if "default" in schema and schema["default"] is None:
        branches = schema.get("anyOf", [schema])
        if not any(
            branch.get("type") == "null" or not set(branch) - {"title", "description", "default"} for branch in branches
        ):
            del schema["default"]


def _add_examples(built: Schema) -> None:
    from langgraph_serverless.http import openapi_examples as examples  # noqa: PLC0415

    components = built["components"]["schemas"]
    for name, example in {**examples.REQUESTS, **examples.RESPONSES}.items():
        if name in components:
            components[name]["examples"] = [example]
    for path in built["paths"].values():
        for operation in path.values():
            for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media_type, content in holder.get("content", {}).items():
                    found = _example(content.get("schema", {}), components)
                    if media_type == _JSON and found is not None:
                        content.setdefault("example", found)


def _example(schema: Schema, components: dict[str, Schema]) -> Any:
    """An example for a body, out of those of the models in it."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REFERENCES.format(model="")).removesuffix("Selection")
        return next(iter(components[name].get("examples", ())), None)
    if "anyOf" in schema:
        return next((found for branch in schema["anyOf"] if (found := _example(branch, components)) is not None), None)
    if schema.get("type") == "array":
        return None if (item := _example(schema["items"], components)) is None else [item]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        item = _example(schema["additionalProperties"], components)
        return None if item is None else {"child": item}
    return 3 if schema.get("type") == "integer" else None
