"""Records of the thread protocol, as they are stored: what each says, and how messages are written in them.

A record is one entry of a run's log. Its JSON begins with ``{"type":"event","method":"<method>","params":{`` and ends after the
params; whoever sends it splices in what only readers know (``event_id``, ``seq``), without parsing the rest.

In values and updates, messages are slim: keys that say nothing are left out, and so is what other events tell (usage, the
provider's own kwargs). Slim is made of what stands in a list, at any depth, as observed on the official server. Content that
consists of blocks is written with the blocks of the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.serialization import dump_json, to_json

#: Types of messages, and the names that clients use for some of them.
ROLES = {
    "human": "human",
    "user": "human",
    "ai": "ai",
    "assistant": "ai",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "remove": "remove",
}
#: Types of content blocks that the protocol knows.
BLOCKS = frozenset(
    {
        "text",
        "reasoning",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "image",
        "audio",
        "video",
        "file",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
        "non_standard",
    }
)
#: Of a message: shown where they are not empty, shown where they are there, and never shown.
_WHERE_FULL = ("id", "name", "response_metadata", "tool_calls", "invalid_tool_calls")
_WHERE_THERE = ("tool_call_id", "status", "artifact")
_NEVER = frozenset({"type", "content", "additional_kwargs", "usage_metadata"})

_SCALARS = (str, int, float, bool, type(None))


def record(method: str, namespace: Sequence[str], timestamp_ms: int, data: Any, node: str | None = None) -> Event:
    """The entry that says this; ``data`` is anything that can be turned into JSON."""
    params: dict[str, Any] = {"namespace": namespace, "timestamp": timestamp_ms, "data": data}
    if node is not None:
        params["node"] = node
    head = b'{"type":"event","method":' + orjson.dumps(method) + b',"params":'
    return Event(record_name(method, namespace), head + dump_json(params) + b"}")


def record_name(method: str, namespace: Sequence[str]) -> str:
    """``values``, ``values|child:...``."""
    return "|".join((method, *namespace))


def slim(value: Any) -> Any:
    """A state or an update with slim messages. Takes what graphs hold as well as JSON documents; changes nothing in place."""
    try:
        return _slim(value, listed=False)
    except RecursionError:
        return value  # nested without end: nobody's messages


def _slim(value: Any, *, listed: bool) -> Any:
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict | Mapping):
        if listed and (role := _role(value.get("type"))) and ("content" in value or role == "remove"):
            return _message(role, value)
        return {key: _slim(item, listed=False) for key, item in value.items()}
    if isinstance(value, list | deque | set | frozenset) or (
        isinstance(value, tuple) and not hasattr(value, "_asdict")
    ):
        return [_slim(item, listed=True) for item in value]
    # a message is told by its fields; to ask a pydantic model for what it does not have is slow
    fields: Mapping[str, Any] = getattr(value, "__dict__", {})
    if "additional_kwargs" in fields and "content" in fields and "type" in fields:
        role = _role(fields["type"]) if listed else None
        return value if role is None else _message(role, fields)
    if isinstance(plain := to_json(value), dict | list):
        return _slim(plain, listed=listed)
    return plain


def _role(kind: Any) -> str | None:
    return ROLES.get(kind) if isinstance(kind, str) else None


def _message(role: str, message: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": role, "content": _content(message.get("content", ""))}
    made |= {key: message[key] for key in _WHERE_FULL if message.get(key)}
    made |= {key: message[key] for key in _WHERE_THERE if key in message}
    if "additional_kwargs" not in message:  # no message that was turned into JSON, but somebody's own dict
        made |= {key: value for key, value in message.items() if key not in _NEVER and key not in _WHERE_FULL}
    if isinstance(calls := made.get("tool_calls"), list):
        made["tool_calls"] = [_call("tool_call", call) for call in calls]
    if isinstance(calls := made.get("invalid_tool_calls"), list):
        made["invalid_tool_calls"] = [
            {"error": "Malformed args.", **_call("invalid_tool_call", call)} for call in calls
        ]
    return made


def _call(kind: str, call: Any) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        return {"type": kind, "args": call}
    return {"type": kind} | {key: call[key] for key in ("name", "args", "id", "error") if call.get(key) is not None}


def _content(content: Any) -> Any:
    return [_block(block) for block in content] if isinstance(content, list) else content


def _block(block: Any) -> Any:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if not isinstance(block, Mapping):
        return {"type": "non_standard", "value": {"value": block}}
    kind = block.get("type")
    if kind in BLOCKS:
        return block
    if kind == "image_url":
        image = block.get("image_url")
        return {"type": "image", "url": image.get("url") if isinstance(image, Mapping) else image}
    if kind == "input_audio" and isinstance(block.get("input_audio"), Mapping):
        return {"type": "audio", "data": block["input_audio"].get("data")}
    return {"type": "non_standard", "value": block}
