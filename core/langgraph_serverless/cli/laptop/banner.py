"""What the user sees once everything runs: where things are, and one line to try.

The line to try is made from the first graph's own input schema, asked over HTTP like any client would; a server that does
not tell (custom authentication, a graph without a schema) gets an empty input. Colour only on a terminal.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from langgraph_serverless.domain.ids import default_assistant_id

_TIMEOUT = 10.0
_DEPTH = 4


def banner(title: str, places: Mapping[str, str], try_this: str, closing: str, *, colour: bool) -> str:
    """The whole text, ending without a newline."""
    bold, dim, reset = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
    width = max(len(name) for name in places)
    rows = [f"  {dim}{name:<{width}}{reset}  {value}" for name, value in places.items()]
    return "\n".join(
        ["", f"{bold}{title}{reset}", "", *rows, "", f"  {dim}Try:{reset}", f"  {try_this}", "", closing, ""]
    )


def line_to_try(url: str, graph_id: str) -> str:
    """A command that runs the graph once and prints its result."""
    schemas = get_json(url, f"/assistants/{default_assistant_id(graph_id)}/schemas")
    schema = schemas.get("input_schema") if isinstance(schemas, dict) else None
    body = json.dumps({"assistant_id": graph_id, "input": sample_input(schema) if schema else {}}, ensure_ascii=False)
    return f"curl -s {url}/runs/wait -H 'content-type: application/json' -d {shlex.quote(body)}"


def answers(url: str) -> bool:
    """Whether ``GET /ok`` gets an answer; what it is may be up to the project's own application."""
    return _get(url, "/ok") is not None


def get_json(url: str, path: str) -> Any:
    """The answer's body, or None if it is not a success. Takes no proxy from the environment: the server is next door."""
    try:
        status, body = _get(url, path) or (0, b"")
        return json.loads(body) if status == 200 else None
    except ValueError:
        return None


def _get(url: str, path: str) -> tuple[int, bytes] | None:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", f"{parts.path}{path}")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def sample_input(schema: Mapping[str, Any]) -> Any:
    """A small value that fits a JSON Schema, friendly to chat graphs."""
    return _sample(schema, schema, 0)


def _sample(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    schema = _resolve(schema, root)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    alternatives = [_resolve(one, root) for key in ("anyOf", "oneOf", "allOf") for one in schema.get(key, [])]
    if alternatives:
        return _sample(next((one for one in alternatives if one.get("type") != "null"), {}), root, depth)
    match schema.get("type"):
        case "string":
            return "Hello"
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return []
        case "object" | None if "properties" in schema and depth < _DEPTH:
            return _sample_object(schema, root, depth)
    return {}


def _sample_object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema["properties"]
    if "messages" in properties:
        return {"messages": [{"role": "user", "content": "Hello"}]}
    needed = schema.get("required") or [name for name, value in properties.items() if "default" not in value]
    return {name: _sample(properties[name], root, depth + 1) for name in needed if name in properties}


def _resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow ``#/$defs/Name``; anything that is no schema object says nothing about the value."""
    for _ in range(_DEPTH):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = root.get("$defs", {}).get(reference.rsplit("/", 1)[-1], {})
    return {}
