"""What graphs hold, as JSON: what no other test of answers and streams shows."""

from __future__ import annotations

import orjson
from langgraph.types import Command, Send

from langgraph_serverless.domain.run_errors import MASK
from langgraph_serverless.domain.serialization import dump_json


class SecretError(Exception):
    """Of no class that is shown."""


def test_an_exception_is_what_clients_learn_of_it() -> None:
    """Wherever it is: in custom data, in a state, in an event."""
    shown, masked = orjson.loads(dump_json([ValueError("wrong"), {"deep": SecretError("password=1")}]))
    assert shown == {"error": "ValueError", "message": "wrong"}
    assert masked == {"deep": {"error": "SecretError", "message": MASK}}


def test_sends_are_objects() -> None:
    assert orjson.loads(dump_json(Send("node", {"x": {1}}))) == {"node": "node", "args": {"x": [1]}}
    assert orjson.loads(dump_json(Command(goto=[Send("a", 1), "b"])))["goto"] == [{"node": "a", "args": 1}, "b"]


def test_what_orjson_refuses_takes_the_slow_way() -> None:
    assert orjson.loads(dump_json({"large": 2**70, "error": SecretError("x"), "lone": "\ud800"})) == {
        "large": str(2**70),
        "error": {"error": "SecretError", "message": MASK},
        "lone": "\ufffd",
    }
