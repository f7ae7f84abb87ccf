"""One streamed message as events of content blocks, out of the chunks of the legacy stream.

As langchain-core does it where it has the messages themselves: each chunk carries an increment, a block begins when it is first
seen, and all blocks are finished with the message. Only what models stream is told; other messages come with the values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import orjson

from langgraph_serverless.domain.protocol_records import BLOCKS

#: The type of the messages that are chunks of a model's answer.
CHUNK = "AIMessageChunk"

_TOOL = "tool_call_chunk"
#: Content that says what ``tool_call_chunks`` say.
_CALLS = frozenset({"tool_use", "input_json_delta", "function_call", "tool_call", _TOOL, "invalid_tool_call"})
#: What grows with deltas, by type of block: the field, and the delta's type.
_GROWING = {
    "text": ("text", "text-delta"),
    "reasoning": ("reasoning", "reasoning-delta"),
    _TOOL: ("args", "tool-call-delta"),
}
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_DETAILS = ("input_token_details", "output_token_details")

Block = dict[str, Any]
Data = dict[str, Any]


class StreamedMessage:
    """A message whose chunks are still coming."""

    def __init__(self, message_id: str) -> None:
        self._id = message_id
        self._started = False
        #: By what tells them apart in the chunks: what they have come to, in the order of their indexes.
        self._blocks: dict[Hashable, Block] = {}
        self._usage: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}

    def take(self, chunk: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Data]:
        """The data of the events that this chunk becomes."""
        self._metadata |= _mapping(chunk.get("response_metadata"))
        self._count(_mapping(chunk.get("usage_metadata")))
        if not self._started:
            self._started = True
            yield {"event": "message-start", "role": "ai", "id": self._id, "metadata": self._about(metadata)}
        for key, block in _blocks(chunk):
            yield from self._grow(key, block)
        if chunk.get("chunk_position") == "last":
            yield from self.finish()

    def finish(self) -> Iterator[Data]:
        """No more chunks come."""
        for index, block in enumerate(self._blocks.values()):
            yield {"event": "content-block-finish", "index": index, "content": _final(block)}
        usage = {"usage": self._usage} if self._usage else {}
        metadata = {"metadata": self._metadata} if self._metadata else {}
        yield {"event": "message-finish", **usage, **metadata}

    def _about(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        known = {
            "provider": self._metadata.get("model_provider"),
            "model": self._metadata.get("model_name"),
            "langgraph_node": metadata.get("langgraph_node"),
        }
        return {name: value for name, value in known.items() if isinstance(value, str)}

    def _grow(self, key: Hashable, block: Block) -> Iterator[Data]:
        known = self._blocks.get(key)
        kind = block["type"]
        field, delta = _GROWING.get(kind, ("", ""))
        if known is None:
            known = self._blocks[key] = {**block, field: ""} if field else block
            yield {"event": "content-block-start", "index": len(self._blocks) - 1, "content": dict(known)}
        elif field:
            # a later chunk may say what an earlier one did not know
            known |= {name: value for name, value in block.items() if name != field and value is not None}
        else:
            known |= block
        if field and block.get(field):
            # a new one: the event that began the block still refers to what it was
            self._blocks[key] = {**known, field: known[field] + block[field]}
            index = list(self._blocks).index(key)
            yield {"event": "content-block-delta", "index": index, "delta": {"type": delta, field: block[field]}}

    def _count(self, usage: Mapping[str, Any]) -> None:
        for name in _TOKENS:
            if isinstance(tokens := usage.get(name), int):
                self._usage[name] = self._usage.get(name, 0) + tokens
        for name in _DETAILS:
            if details := _mapping(usage.get(name)):
                self._usage[name] = {**self._usage.get(name, {}), **details}


def _blocks(chunk: Mapping[str, Any]) -> Iterator[tuple[Hashable, Block]]:
    """What this chunk adds to which block."""
    thought = _mapping(chunk.get("additional_kwargs")).get("reasoning_content")
    if isinstance(thought, str) and thought:
        yield ("reasoning", 0), {"type": "reasoning", "reasoning": thought}
    content = chunk.get("content")
    for at, part in enumerate(content if isinstance(content, list) else [content]):
        if block := _block(part):
            index = block.pop("index", None)
            yield (block["type"], at if index is None else str(index)), block
    calls = chunk.get("tool_call_chunks")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, Mapping):
            index = call.get("index")
            block = {"type": _TOOL, "id": call.get("id"), "name": call.get("name"), "args": _text(call.get("args"))}
            if index is not None:
                block["index"] = index
            yield (_TOOL, str(index) if index is not None else call.get("id") or at), block


def _block(part: Any) -> Block | None:
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    if not isinstance(part, Mapping) or (kind := part.get("type")) in _CALLS:
        return None
    index = {"index": part["index"]} if part.get("index") is not None else {}
    if kind == "text":
        return {**part, "text": _text(part.get("text"))}
    if kind == "reasoning":
        return {"type": kind, "reasoning": _text(part.get("reasoning")) or _summary(part.get("summary")), **index}
    if kind == "thinking":
        return {"type": "reasoning", "reasoning": _text(part.get("thinking")), **index}
    if kind in BLOCKS:
        return dict(part)
    return {"type": "non_standard", "value": dict(part), **index}


def _summary(parts: Any) -> str:
    if not isinstance(parts, list):
        return ""
    return "".join(_text(part.get("text")) for part in parts if isinstance(part, Mapping))


def _final(block: Block) -> Block:
    if block["type"] != _TOOL:
        return block
    call = {"id": block.get("id"), "name": block.get("name")}
    try:
        args = orjson.loads(block["args"] or "{}")
    except orjson.JSONDecodeError:
        args = None
    if isinstance(args, dict):
        return {"type": "tool_call", **call, "args": args}
    error = "Failed to parse tool call arguments as JSON"
    return {"type": "invalid_tool_call", **call, "args": block["args"], "error": error}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
