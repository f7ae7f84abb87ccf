"""Cuts an OpenAPI document down to facts; as a command, the one that a server publishes::

    python tests/contract/openapi/reference_fields.py http://127.0.0.1:8123 > tests/contract/openapi/reference_fields.json

Facts are names and enums, by operation: parameters, fields of the request's body, fields of the success's body; fields of
what is in a field have dotted names. Ids of graphs are left out, as they are those of the project that was served.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

#: How deep fields of fields are followed: those below belong to the graphs, or repeat themselves.
DEEPEST = 3


def facts(document: dict[str, Any]) -> dict[str, Any]:
    """``METHOD /path`` -> ``parameter``, ``request``, ``response`` -> name -> its enum's values."""
    return {
        f"{method.upper()} {path}": {
            "parameter": {
                parameter["name"].lower(): _enum(parameter.get("schema", {}), document)
                for parameter in operation.get("parameters", ())
            },
            "request": dict(_fields(_content(operation.get("requestBody", {})), document)),
            "response": dict(_fields(_content(operation["responses"].get("200", {})), document)),
        }
        for path, methods in sorted(document["paths"].items())
        for method, operation in sorted(methods.items())
    }


def _content(holder: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = holder.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _branches(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema itself and those that it is made of."""
    if "$ref" in schema:
        yield from _branches(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(key, ()):
            yield from _branches(branch, document)
    if schema.get("type") == "array":
        yield from _branches(schema.get("items", {}), document)
    yield schema


def _fields(schema: dict[str, Any], document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    if prefix.count(".") >= DEEPEST:
        return
    for branch in _branches(schema, document):
        for name, field in branch.get("properties", {}).items():
            yield f"{prefix}{name}", _enum(field, document)
            yield from _fields(field, document, f"{prefix}{name}.")


def _enum(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if schema.get("title") == "Graph Id":
        return []
    branches = [branch for branch in _branches(schema, document) if branch.get("title") != "Graph Id"]
    values = {str(value) for branch in branches for value in branch.get("enum", ())}
    values |= {str(branch["const"]) for branch in branches if "const" in branch}
    return sorted(values)


if __name__ == "__main__":
    with urllib.request.urlopen(f"{sys.argv[1]}/openapi.json") as answer:
        json.dump(facts(json.load(answer)), sys.stdout, indent=1, sort_keys=True)
    print()
