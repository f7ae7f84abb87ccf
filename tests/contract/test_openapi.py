"""The OpenAPI document: it is valid, says something about everything, and has all that the reference's has.

``openapi/reference_fields.json`` is what the reference publishes, cut down to facts: paths, methods, parameters, fields,
enums. It is made from a running reference server by ``python tests/contract/openapi/reference_fields.py URL``.
``openapi/differences.json`` lists what of it is not in ours, each with the reason.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from pydantic import TypeAdapter

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.http import openapi_examples, openapi_texts
from langgraph_serverless.http.app import create_app
from langgraph_serverless.http.body import MODEL_ATTRIBUTE
from langgraph_serverless.settings import Settings

HERE = Path(__file__).parent / "openapi"


def facts(document: dict[str, Any]) -> dict[str, Any]:
    """As the reference's are made."""
    spec = importlib.util.spec_from_file_location("reference_fields", HERE / "reference_fields.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.facts(document)
    return found


@pytest.fixture(scope="module")
def app() -> Any:
    # nothing is opened: the document needs no server
    return create_app(StateContainer(Settings(database_uri="postgresql://nowhere"), manifest=Manifest.of({})))


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for methods in document["paths"].values():
        for operation in methods.values():
            yield operation["operationId"], operation


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_operation_says_what_it_does_takes_and_answers(document: dict[str, Any]) -> None:
    lacking = []
    for name, operation in operations(document):
        lacking += [f"{name}: {key}" for key in ("summary", "description", "tags") if not operation.get(key)]
        lacking += [
            f"{name}: {given['name']}" for given in operation.get("parameters", ()) if not given.get("description")
        ]
        lacking += [f"{name}: errors" for _ in "1" if name not in openapi_texts.ERRORS]
        bodies = [(f"{name}: {status}", answer) for status, answer in operation["responses"].items()]
        if "requestBody" in operation:
            bodies.append((f"{name}: body", operation["requestBody"]))
        lacking += [
            f"{where}: example of {media_type}"
            for where, body in bodies
            for media_type, content in body.get("content", {}).items()
            if "example" not in content and not (media_type == "text/plain" and "422" in where)
        ]
        lacking += [
            f"{where}: description" for where, body in bodies if "body" not in where and not body["description"]
        ]
    assert lacking == [], "add them to http/openapi_texts.py and http/openapi_examples.py"


def test_every_field_is_described(document: dict[str, Any]) -> None:
    lacking = [
        f"{model}.{field}"
        for model, schema in document["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    assert lacking == [], "add them to http/openapi_texts.py"


def test_words_are_not_for_what_is_gone(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    known = {f"{model}.{field}" for model, schema in schemas.items() for field in schema.get("properties", ())}
    fields = {name.partition(".")[2] for name in known}
    assert sorted(name for name in openapi_texts.FIELDS if name not in (known if "." in name else fields)) == []
    names = {name for name, _ in operations(document)}
    for table in (openapi_texts.ERRORS, openapi_texts.HEADERS, openapi_texts.PLAIN_TEXT_422, openapi_texts.SELECTED):
        assert sorted(set(table) - names) == []
    parameters = {
        parameter
        for name, operation in operations(document)
        for given in operation.get("parameters", ())
        for parameter in (given["name"], f"{name}.{given['name']}")
    }
    assert sorted(set(openapi_texts.PARAMETERS) - parameters) == []
    examples = {**openapi_examples.REQUESTS, **openapi_examples.RESPONSES}
    assert sorted(set(examples) - set(schemas)) == []


def test_examples_are_what_the_models_take(app: Any) -> None:
    models: dict[str, Any] = {}
    for route in app.routes:
        for dependency in getattr(getattr(route, "dependant", None), "dependencies", ()):
            if (adapter := getattr(dependency.call, MODEL_ATTRIBUTE, None)) is not None:
                models[adapter.json_schema().get("title", "")] = adapter
        for answer in getattr(route, "responses", {}).values():
            for model in (answer.get("model"), *getattr(answer.get("model"), "__args__", ())):
                models[getattr(model, "__name__", "")] = TypeAdapter(model)
    for name, example in openapi_examples.REQUESTS.items():
        models[name].validate_python(example)
    for name, example in openapi_examples.RESPONSES.items():
        if name != "ErrorResponse":
            models[name].validate_python(example)


def test_ours_has_what_the_reference_has(document: dict[str, Any]) -> None:
    theirs, ours = json.loads((HERE / "reference_fields.json").read_text()), facts(document)
    allowed = json.loads((HERE / "differences.json").read_text())
    missing = sorted(_missing(theirs, ours))
    unexplained = [place for place in missing if not any(_covers(entry, place) for entry in allowed)]
    assert unexplained == []
    assert [entry for entry in allowed if not any(_covers(entry, place) for place in missing)] == [], "no longer needed"
    assert all(len(reason) > 20 for reason in allowed.values())


def _covers(entry: str, place: str) -> bool:
    return place == entry or place.startswith(f"{entry} ")


def _missing(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """What is in theirs and not in ours, as ``METHOD path kind name``."""
    for operation, kinds in theirs.items():
        if operation not in ours:
            yield operation
            continue
        for kind, names in kinds.items():
            for name, values in names.items():
                found = ours[operation].get(kind, {})
                if name not in found:
                    yield f"{operation} {kind} {name}"
                elif lacking := set(values) - set(found[name]):
                    yield f"{operation} {kind} {name} {sorted(lacking)}"
