"""Assistants as tools: names that are one's own, schemas that every client takes, inputs made of arguments."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_serverless.domain.manifest import GraphManifest
from langgraph_serverless.domain.mcp import Listed, Tool, named, negotiated, tool

MESSAGES = {
    "type": "array",
    "items": {"oneOf": [{"$ref": "#/$defs/HumanMessage"}, {"$ref": "#/$defs/AIMessage"}]},
    "title": "Messages",
}


def listed(name: str, number: int = 0) -> Listed:
    return Listed(assistant_id=uuid.UUID(int=number), graph_id="graph", name=name, description=None)


def made(input_schema: Any, output_schema: Any = None) -> Tool:
    schemas = {"input_schema": input_schema, "output_schema": output_schema}
    graph = GraphManifest(
        graph_id="graph", description=None, is_factory=False, schemas=schemas, drawings={}, subgraphs={}
    )
    return tool("name", listed("Name"), graph)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("chat", "chat"),
        ("Say it (twice)", "Say_it_twice"),
        ("a.b/c:d é(x)", "a.bcd_x"),
        ("Ünï", "n"),
        ("日本", str(uuid.UUID(int=0))),
        ("x" * 200, "x" * 128),
    ],
)
def test_names_hold_what_every_client_takes(name: str, safe: str) -> None:
    assert [found for found, _ in named([listed(name)])] == [safe]


def test_the_oldest_of_several_keeps_the_name() -> None:
    newest_first = [listed("a b", 3 << 96), listed("a_b", 2 << 96), listed("other", 1 << 96), listed("a  b", 0)]
    assert [name for name, _ in named(newest_first)] == ["a_b_00000003", "a_b_00000002", "other", "a_b"]
    # somebody who has named an assistant as another one's second name would be
    squatting = [listed("a", 5 << 96), listed("a_00000005", 4), listed("a", 3)]
    assert [name for name, _ in named(squatting)] == [str(uuid.UUID(int=5 << 96)), "a_00000005", "a"]


@given(st.lists(st.text(alphabet="aB _.-é", max_size=5), max_size=12))
def test_names_are_unique(names: list[str]) -> None:
    found = [name for name, _ in named(listed(name, number << 96) for number, name in enumerate(names))]
    assert len(set(found)) == len(found) == len(names)
    assert all(0 < len(name) <= 128 and name.isascii() and " " not in name for name in found)


def test_messages_become_a_text_and_back() -> None:
    definitions = {"HumanMessage": {"type": "object"}, "AIMessage": {}, "Kind": {"enum": ["a"]}}
    properties = {"messages": MESSAGES, "kind": {"$ref": "#/$defs/Kind"}}
    found = made({"type": "object", "properties": properties, "required": ["kind"], "$defs": definitions})
    assert found.input_schema["properties"]["messages"]["type"] == "string"
    assert found.input_schema["required"] == ["messages", "kind"]
    assert found.input_schema["$defs"] == {"Kind": {"enum": ["a"]}}  # what nothing names any more has gone
    assert found.input_of({"messages": "hi", "kind": "a"}) == {
        "messages": [{"type": "human", "content": "hi"}],
        "kind": "a",
    }
    sent = {"messages": [{"role": "user", "content": "hi"}]}
    assert found.input_of(sent) == sent


def test_what_is_called_messages_and_is_something_else_stays() -> None:
    for about in ({"type": "string"}, {"type": "array", "items": {"type": "string"}}, True):
        found = made({"type": "object", "properties": {"messages": about}})
        assert found.input_schema == {"type": "object", "properties": {"messages": about}}
        assert found.input_of({"messages": "x"}) == {"messages": "x"}


def test_every_input_is_an_object() -> None:
    assert made(None).input_schema == {"type": "object"}
    whole = made(
        {
            "$ref": "#/$defs/Node",
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
        }
    )
    assert whole.input_schema["type"] == "object"
    assert whole.input_schema["$defs"].keys() == {"Node"}
    number = made({"type": "integer", "title": "entry_input"})
    assert number.input_schema["properties"] == {"input": {"type": "integer", "title": "entry_input"}}
    assert (number.input_of({"input": 3}), number.input_of({})) == (3, None)
    # a definition that names itself is no object, and no endless search for one
    assert made({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}).wrapped


def test_an_output_schema_promises_names_only() -> None:
    properties = {"text": {"title": "Text", "type": "string", "description": "What comes."}, "any": True}
    output = {"type": "object", "properties": properties, "required": ["text"], "additionalProperties": False}
    assert made(None, output).output_schema == {
        "type": "object",
        "properties": {"text": {"title": "Text", "description": "What comes."}},
    }
    assert made(None, {"type": "integer"}).output_schema is None
    assert made(None, None).output_schema is None


def test_versions_are_negotiated_among_those_with_a_handshake() -> None:
    assert [negotiated(asked) for asked in ("2025-03-26", "2026-07-28", None, {})] == [
        "2025-03-26",
        *["2025-11-25"] * 3,
    ]
