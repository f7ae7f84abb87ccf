"""Every field of every body, and every field below it, with every hostile value.

The fields are those of the OpenAPI document, so a new one is tried as soon as it is there. Bodies are otherwise such that the
request succeeds; runs are delayed for years, as it is their creation that is tried.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hostile import VALUES, Hostile

from langgraph_serverless.http.openapi_texts import ERRORS

YEARS = 1e8
RUN = {"assistant_id": "line", "input": {}, "after_seconds": YEARS}
CRON = {"assistant_id": "line", "schedule": "0 5 1 1 *"}

#: Operation -> a body that it takes. Operations that follow a run read the same body as those that only make one.
BODIES: dict[str, Any] = {
    "post_mcp": {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}},
    "call_agent": {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "none"}},
    "send_command": {"id": 1, "method": "state.get", "params": {"namespace": [], "keys": ["log"]}},
    "create_assistant": {"graph_id": "line"},
    "search_assistants": {},
    "count_assistants": {},
    "update_assistant": {},
    "list_assistant_versions": {},
    "set_latest_assistant_version": {},
    "create_thread": {"metadata": {"graph_id": "line"}},
    "search_threads": {},
    "count_threads": {},
    "prune_threads": {"thread_ids": []},
    "update_thread": {},
    "update_state": {},
    "get_state_at_checkpoint": {"checkpoint": {}},
    "search_history": {},
    "create_run": RUN,
    "create_run_batch": [RUN],
    "cancel_runs": {},
    "create_cron": CRON,
    "create_thread_cron": CRON,
    "search_crons": {},
    "count_crons": {},
    "update_cron": {"enabled": False},
    "put_item": {"namespace": ["hostile"], "key": "k", "value": {}},
    "delete_item": {"namespace": ["hostile"], "key": "k"},
    "search_items": {},
    "list_namespaces": {},
}
#: What they take is answered by a stream without an end.
ENDLESS = {"stream_thread_events"}
SAME_BODY = {"create_stateless_run", "stream_run", "wait_run", "stream_stateless_run", "wait_stateless_run"}
#: How deep the fields of fields are followed; what is below ``config`` and the like is the same everywhere.
DEEPEST = 4
SHALLOW = ("update_assistant", "create_run_batch", "create_thread_cron", "create_cron", "update_cron", "update_state")
#: Whose fields are read as those of another operation are, or that take long, since each refusal looks at every row twice.
ALIKE = ("update_assistant", "create_run_batch", "create_thread_cron", "update_cron", "update_state")
#: Values for fields of fields, and for fields of those, unless there is time for all of them.
QUICK = (
    *("null", "minus one", "2**64", "400 digits", "empty text", "a word", "NUL inside", "a lone surrogate", "SQL"),
    *("empty list", "list of null", "empty object", "object with NUL in its key"),
)

Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def document(hostile: Hostile) -> dict[str, Any]:
    found: dict[str, Any] = hostile.make("GET", "/openapi.json")
    return found


@pytest.fixture(scope="module")
def ids(hostile: Hostile) -> dict[str, str]:
    thread = hostile.make("POST", "/threads", {"metadata": {"graph_id": "line"}})
    hostile.make(
        "POST", f"/threads/{thread['thread_id']}/runs/wait", {"assistant_id": "line", "input": {"log": ["in"]}}
    )
    return {
        "assistant_id": hostile.make("POST", "/assistants", {"graph_id": "line"})["assistant_id"],
        "thread_id": thread["thread_id"],
        "cron_id": hostile.make("POST", "/runs/crons", CRON)["cron_id"],
    }


def find(document: dict[str, Any], name: str) -> tuple[str, str, dict[str, Any]]:
    return next(
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["operationId"] == name
    )


def fields(schema: dict[str, Any], document: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths to all fields that a schema names."""
    if len(path) >= DEEPEST:
        return
    if "$ref" in schema:
        yield from fields(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, path)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from fields(branch, document, path)
    if schema.get("type") == "array":
        yield (*path, 0)
        yield from fields(schema.get("items", {}), document, (*path, 0))
    for name, field in schema.get("properties", {}).items():
        yield (*path, name)
        yield from fields(field, document, (*path, name))


def with_value(body: Any, path: Path, value: bytes) -> bytes:
    """The body with a JSON text in the place of a field; what is on the way to the field is made."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        found = list(body) if isinstance(body, list) else []
        items = found or [{}]
        return b"[" + b",".join([with_value(items[0], rest, value), *(orjson.dumps(item) for item in items[1:])]) + b"]"
    fields_of = copy.copy(body) if isinstance(body, dict) else {}
    inner = with_value(fields_of.pop(step, {}), rest, value)
    members = [orjson.dumps(name) + b":" + orjson.dumps(item) for name, item in fields_of.items()]
    return b"{" + b",".join([*members, orjson.dumps(step) + b":" + inner]) + b"}"


def send_all(
    hostile: Hostile, document: dict[str, Any], ids: dict[str, str], name: str, *, thorough: bool = False
) -> None:
    method, path, operation = find(document, name)
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for field in sorted({(), *fields(schema, document)}, key=str):
        top = not any(isinstance(step, str) for step in field[:-1])
        if not top and name in SHALLOW and not thorough:
            continue
        for about, value in VALUES.items():
            if about not in QUICK and (not top or name in ALIKE) and not thorough:
                continue
            body = with_value(BODIES[name], field, value)
            # the one refusal that keeps a row, as on the official server: a thread whose supersteps its graph refuses
            keeps = name == "create_thread" and "supersteps" in field
            response = hostile.send(method, path.format(**ids), body, may_write=keeps)
            if response.status_code == 422 and field and about != "50 kB":
                assert names(response.text, field), f"{name} {field} {about}: {response.text}"


@pytest.mark.parametrize("name", sorted(BODIES))
def test_every_field_takes_every_value_or_refuses_it(
    hostile: Hostile, document: dict[str, Any], ids: dict[str, str], name: str
) -> None:
    send_all(hostile, document, ids, name)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(BODIES))
def test_every_field_at_any_depth(hostile: Hostile, document: dict[str, Any], ids: dict[str, str], name: str) -> None:
    send_all(hostile, document, ids, name, thorough=True)


def names(text: str, field: Path) -> bool:
    """Whether an error says where the problem is."""
    known = (
        "Invalid JSON in request body",
        "Namespace label",
        "Invalid assistant: ",
        " ID: must be a UUID",
        "Invalid checkpoint ID",
    )
    return any(words in text for words in (*known, *(str(step) for step in field)))


def test_no_body_is_left_out(document: dict[str, Any]) -> None:
    with_body = {name for name in ERRORS if "requestBody" in find(document, name)[2]}
    assert with_body == set(BODIES) | SAME_BODY | ENDLESS
    expected = find(document, "create_run")[2]["requestBody"]
    for name in SAME_BODY:
        assert find(document, name)[2]["requestBody"] == expected
