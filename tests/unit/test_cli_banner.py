"""The line to try has an input that the graph takes."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_serverless.cli.laptop.banner import banner, get_json, line_to_try, sample_input


@pytest.mark.parametrize(
    ("schema", "sample"),
    [
        ({}, {}),
        ({"type": "string"}, "Hello"),
        (
            {"properties": {"messages": {"items": {}, "type": "array"}}, "type": "object"},
            {"messages": [{"role": "user", "content": "Hello"}]},
        ),
        (
            {
                "properties": {"topic": {"type": "string"}, "steps": {"type": "integer"}, "note": {"type": "string"}},
                "required": ["topic", "steps"],
                "type": "object",
            },
            {"topic": "Hello", "steps": 1},
        ),
        ({"properties": {"deep": {"default": True}, "q": {"type": "string"}}, "type": "object"}, {"q": "Hello"}),
        ({"properties": {"x": {"anyOf": [{"type": "null"}, {"type": "number"}]}}, "type": "object"}, {"x": 1}),
        (
            {
                "$defs": {"Mode": {"enum": ["fast", "slow"]}},
                "properties": {"mode": {"$ref": "#/$defs/Mode"}},
                "type": "object",
            },
            {"mode": "fast"},
        ),
        # a schema that contains itself
        ({"$defs": {"T": {"$ref": "#/$defs/T"}}, "$ref": "#/$defs/T"}, {}),
        (
            {
                "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}, "type": "object"}},
                "$ref": "#/$defs/Node",
            },
            {"next": {"next": {"next": {"next": {}}}}},
        ),
    ],
)
def test_sample_input_fits_the_schema(schema: dict[str, Any], sample: Any) -> None:
    assert sample_input(schema) == sample


def test_a_server_that_tells_nothing_gets_an_empty_input() -> None:
    assert get_json("http://127.0.0.1:1", "/ok") is None
    line = line_to_try("http://127.0.0.1:1", "it's")
    assert line.endswith("""'{"assistant_id": "it'"'"'s", "input": {}}'""")


def test_colour_is_an_option() -> None:
    plain = banner("Ready", {"API": "http://x"}, "curl", "Bye", colour=False)
    assert "\033" not in plain
    assert "  API  http://x" in plain.splitlines()
    assert "\033" in banner("Ready", {"API": "http://x"}, "curl", "Bye", colour=True)
