"""The Model Context Protocol, as far as it is ours: its versions, and what an assistant is as a tool.

Promises: names of tools are unique, hold nothing but what every client takes, and an assistant that is made later takes no name away
from one that is there; an input schema is always one of an object, and ``Tool.input_of`` undoes what was changed for that. An output
schema only names what comes out: graphs are not held to what their schemas say of it, and clients refuse what does not conform.

Relies on schemas that Pydantic has made (``$defs``). Never does I/O; the messages themselves are ``http/mcp_messages.py``'s.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.manifest import GraphManifest
from langgraph_serverless.errors import NotFoundError

#: Of clients that shake hands (``initialize``), oldest first; who says nothing has the second, as the protocol wants it.
HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
ASSUMED_VERSION = "2025-03-26"
#: Of clients that say with each request who they are.
MODERN_VERSIONS = ("2026-07-28",)
VERSIONS = (*HANDSHAKE_VERSIONS, *MODERN_VERSIONS)
#: Since then tools may have schemas of their output.
_STRUCTURED = VERSIONS.index("2025-06-18")

#: The one argument of a graph whose input is not an object.
ONLY_ARGUMENT = "input"
_MESSAGES = "messages"
_MESSAGE_TEXT = {"type": "string", "title": "Messages", "description": "The user message to send to the agent."}
_LONGEST_NAME = 128


class UnknownToolError(NotFoundError):
    """There is no tool of this name, or the caller may not see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What makes an assistant a tool."""

    assistant_id: uuid.UUID
    graph_id: str
    name: str
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An assistant as clients of the protocol see it."""

    assistant_id: uuid.UUID
    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    #: None if what comes out is not an object.
    output_schema: Mapping[str, Any] | None
    #: The messages of the input are a text.
    from_text: bool
    #: The input is what ``ONLY_ARGUMENT`` is.
    wrapped: bool

    def input_of(self, arguments: Mapping[str, Any]) -> Any:
        """The input of a run for these arguments."""
        if self.wrapped:
            return arguments.get(ONLY_ARGUMENT)
        text = arguments.get(_MESSAGES)
        if self.from_text and isinstance(text, str):
            return {**arguments, _MESSAGES: [{"type": "human", "content": text}]}
        return dict(arguments)


def negotiated(asked: Any) -> str:
    """What ``initialize`` answers to a client that asks for this version."""
    return asked if asked in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]


def is_structured(version: str) -> bool:
    """Whether clients of this version know results that are more than text."""
    return VERSIONS.index(version) >= _STRUCTURED


def named(assistants: Iterable[Listed]) -> list[tuple[str, Listed]]:
    """Each with its name as a tool, in the order given, which is newest first: of several with one name the oldest has it alone."""
    found = [(_safe(each.name) or str(each.assistant_id), each) for each in assistants]
    oldest = {name: each.assistant_id for name, each in found}
    taken = set(oldest)
    names = []
    for name, each in found:
        unique = name
        if oldest[name] != each.assistant_id:
            unique = f"{name[: _LONGEST_NAME - 9]}_{each.assistant_id.hex[:8]}"
            if unique in taken:  # what somebody else is called
                unique = str(each.assistant_id)
            taken.add(unique)
        names.append((unique, each))
    return names


def tool(name: str, assistant: Listed, graph: GraphManifest) -> Tool:
    """The tool that an assistant is."""
    schema, from_text, wrapped = _input_schema(graph.schemas.get("input_schema"))
    return Tool(
        assistant_id=assistant.assistant_id,
        name=name,
        title=assistant.name,
        description=assistant.description or f"Tool based on the {assistant.name} assistant",
        input_schema=schema,
        output_schema=_output_schema(graph.schemas.get("output_schema")),
        from_text=from_text,
        wrapped=wrapped,
    )


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "", re.sub(r"\s+", "_", name))[:_LONGEST_NAME]


def _input_schema(schema: Any) -> tuple[dict[str, Any], bool, bool]:
    """The schema, whether messages have become a text in it, and whether it has been wrapped."""
    if not schema:
        return (
            {"type": "object"},
            False,
            False,
        )  # it could not be described; what the graph makes of it is seen when it runs
    root = _resolved(schema)
    if root.get("type") != "object":
        inner = {key: value for key, value in schema.items() if key != "$defs"}
        wrapping = {"type": "object", "properties": {ONLY_ARGUMENT: inner}, "required": [ONLY_ARGUMENT]}
        return _with_definitions(wrapping, schema), False, True
    properties = root.get("properties", {})
    if not _are_messages(properties.get(_MESSAGES), schema):
        return _with_definitions(root, schema), False, False
    required = list(dict.fromkeys([_MESSAGES, *root.get("required", [])]))
    simple = {**root, "properties": {**properties, _MESSAGES: _MESSAGE_TEXT}, "required": required}
    return _with_definitions(simple, schema), True, False


def _output_schema(schema: Any) -> dict[str, Any] | None:
    root = _resolved(schema) if schema else {}
    if root.get("type") != "object":
        return None
    named = {
        name: {key: about[key] for key in ("title", "description") if key in about}
        for name, about in root.get("properties", {}).items()
        if isinstance(about, Mapping)
    }
    return {"type": "object", "properties": named}


def _resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema itself where it only points to one of its definitions; without the definitions."""
    definitions, root, seen = schema.get("$defs", {}), schema, set[str]()
    while isinstance(reference := root.get("$ref"), str) and reference not in seen:
        seen.add(reference)
        root = {**definitions.get(reference.removeprefix("#/$defs/"), {}), **_without(root, "$ref")}
    return _without(root, "$defs")


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _are_messages(about: Any, schema: Mapping[str, Any]) -> bool:
    """Whether this is a list of LangChain's messages."""
    if not isinstance(about, Mapping) or about.get("type") != "array":
        return False
    return "HumanMessage" in _references(about.get("items"), schema.get("$defs", {}))


def _with_definitions(root: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """With those definitions that it still refers to."""
    definitions = schema.get("$defs", {})
    used = _references(root, definitions)
    kept = {name: about for name, about in definitions.items() if name in used}
    return {**root, "$defs": kept} if kept else dict(root)


def _references(part: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Names of the definitions that it leads to."""
    found, left = set[str](), [part]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            if isinstance(reference := part.get("$ref"), str):
                name = reference.removeprefix("#/$defs/")
                if name not in found and name in definitions:
                    found.add(name)
                    left.append(definitions[name])
            left.extend(part.values())
        elif isinstance(part, Sequence) and not isinstance(part, str):
            left.extend(part)
    return found
