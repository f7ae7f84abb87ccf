"""Records of the thread protocol: their form, and the slim messages in them, as the official server writes them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage

from langgraph_serverless.domain.protocol_records import record, slim
from langgraph_serverless.domain.serialization import to_json

USAGE = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
CALL = {"name": "f", "args": {"a": 1}, "id": "c"}

#: What a list in a state holds, and what the official server made of it.
SLIM: list[tuple[Any, Any]] = [
    (
        AIMessage(
            "x", id="1", name="bob", additional_kwargs={"k": 1}, usage_metadata=USAGE, response_metadata={"m": 1}
        ),
        {"type": "ai", "content": "x", "id": "1", "name": "bob", "response_metadata": {"m": 1}},
    ),
    (
        AIMessage(
            "", id="2", tool_calls=[CALL], invalid_tool_calls=[{"name": "z", "args": "{", "id": "i", "error": None}]
        ),
        {
            "type": "ai",
            "content": "",
            "id": "2",
            "tool_calls": [{"type": "tool_call", **CALL}],
            "invalid_tool_calls": [
                {"type": "invalid_tool_call", "id": "i", "name": "z", "args": "{", "error": "Malformed args."}
            ],
        },
    ),
    (HumanMessage("x", extra_field=3), {"type": "human", "content": "x"}),
    (
        HumanMessage("", id="4", response_metadata={"r": 1}),
        {"type": "human", "content": "", "id": "4", "response_metadata": {"r": 1}},
    ),
    (SystemMessage("x", id="5"), {"type": "system", "content": "x", "id": "5"}),
    (
        ToolMessage("x", tool_call_id="q", id="6"),
        {"type": "tool", "content": "x", "id": "6", "tool_call_id": "q", "status": "success", "artifact": None},
    ),
    (RemoveMessage(id="9"), {"type": "remove", "content": "", "id": "9"}),
    ({"type": "user", "content": "u", "name": None}, {"type": "human", "content": "u"}),
    ({"type": "assistant", "content": "u", "tool_calls": []}, {"type": "ai", "content": "u"}),
    ([AIMessage("b", id="7")], [{"type": "ai", "content": "b", "id": "7"}]),
    ({"deep": {"er": [AIMessage("b", id="8")]}}, {"deep": {"er": [{"type": "ai", "content": "b", "id": "8"}]}}),
    ({"role": "user", "content": "x", "name": None}, {"role": "user", "content": "x", "name": None}),
    ({"type": "text", "content": "x", "name": None}, {"type": "text", "content": "x", "name": None}),
    (Document("x"), {"id": None, "metadata": {}, "page_content": "x", "type": "Document"}),
    (("human", "hi"), ["human", "hi"]),
    # ours: the official server takes these for messages, and leaves nothing of them
    ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
    ({"type": "tool", "content": "x", "score": 5}, {"type": "tool", "content": "x", "score": 5}),
]

#: Blocks of content, and what the official server made of them.
BLOCKS: list[tuple[Any, Any]] = [
    ("plain", {"type": "text", "text": "plain"}),
    ({"type": "text", "text": "a", "index": 0}, {"type": "text", "text": "a", "index": 0}),
    ({"type": "image_url", "image_url": {"url": "http://x/y.png"}}, {"type": "image", "url": "http://x/y.png"}),
    ({"type": "image", "base64": "aGk=", "mime_type": "image/png"},) * 2,
    ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, {"type": "audio", "data": "aGk="}),
    ({"type": "thinking", "thinking": "t"}, {"type": "non_standard", "value": {"type": "thinking", "thinking": "t"}}),
    ({"type": "text-plain", "text": "x"}, {"type": "non_standard", "value": {"type": "text-plain", "text": "x"}}),
    ({"type": "non_standard", "value": {"q": 1}},) * 2,
]


@pytest.mark.parametrize(("item", "expected"), SLIM, ids=lambda item: type(item).__name__)
def test_messages_in_lists_are_slim(item: Any, expected: Any) -> None:
    assert to_json(slim({"v": [item]})) == {"v": [expected]}
    assert slim(to_json({"v": [item]})) == {"v": [expected]}  # and so are those that are JSON already


def test_content_blocks_are_those_of_the_protocol() -> None:
    message = HumanMessage([block for block, _ in BLOCKS], id="1")
    assert slim([message])[0]["content"] == [expected for _, expected in BLOCKS]


def test_what_stands_alone_stays_as_it_is() -> None:
    message = HumanMessage("x", id="1")
    assert to_json(slim({"last": message})) == to_json({"last": message})
    assert slim({"type": "human", "content": "x", "name": None}) == {"type": "human", "content": "x", "name": None}


def test_nothing_is_changed_in_place_and_endless_nesting_does_no_harm() -> None:
    state: dict[str, Any] = {"messages": [{"type": "human", "content": "x", "name": None}]}
    assert slim(state) == {"messages": [{"type": "human", "content": "x"}]}
    assert state["messages"][0]["name"] is None
    state["again"] = state
    assert slim(state) is state


def test_a_record_begins_as_readers_expect() -> None:
    made = record("updates", ["child:1", "leaf:2"], 5, {"x": 1}, node="n")
    assert made.name == "updates|child:1|leaf:2"
    assert made.data.startswith(b'{"type":"event","method":"updates","params":{')
    assert orjson.loads(made.data) == {
        "type": "event",
        "method": "updates",
        "params": {"namespace": ["child:1", "leaf:2"], "timestamp": 5, "data": {"x": 1}, "node": "n"},
    }
    assert record("values", [], 5, {}).name == "values"
