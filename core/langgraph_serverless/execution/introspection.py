"""What can be said about a graph without running it: its schemas, its drawing, its subgraphs.

Promises: plain JSON values in the shapes of the wire (``GET /assistants/{id}/schemas``, ``/graph``, ``/subgraphs``).
``graph_schemas`` never raises: a part that cannot be generated is None, with the reason in one line of the log, because
state types that no JSON Schema can express are common and must not make a graph unusable.

Relies on: langgraph's own schema and drawing methods; pydantic for the state, which langgraph has no method for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from langgraph.channels.base import BaseChannel
from langgraph.pregel import Pregel
from pydantic import ConfigDict, Field, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema

logger = logging.getLogger(__name__)

SCHEMA_NAMES = ("input_schema", "output_schema", "state_schema", "config_schema", "context_schema")


async def graph_schemas(graph: Any, graph_id: str) -> dict[str, Any]:
    """The five JSON Schemas of a graph; `graph_id` says in the log whose schema failed."""

    missing: dict[str, list[str]] = {}

    def attempt(name: str, build: Callable[[], Any]) -> Any:
        try:
            return build()
        # pydantic reports types without a schema in several ways, and a user's type may raise anything
        except Exception as error:
            # the rest of pydantic's message is the address of a page
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            missing.setdefault(reason, []).append(name)
            return None

    context = attempt("context_schema", graph.get_context_jsonschema)
    schemas = {
        "input_schema": attempt("input_schema", graph.get_input_jsonschema),
        "output_schema": attempt("output_schema", graph.get_output_jsonschema),
        "state_schema": attempt("state_schema", lambda: _state_schema(graph)),
        # Config and context are two names of one thing. A graph without a context schema takes any config.
        "config_schema": {} if getattr(graph, "context_schema", None) is None else context,
        "context_schema": context,
    }
    for reason, names in missing.items():
        logger.info("graph %s: no %s: %s", graph_id, ", ".join(names), reason)
    return schemas


async def graph_drawing(graph: Any, xray: bool | int) -> dict[str, Any]:
    """Nodes and edges, with subgraphs drawn into the picture down to the depth `xray`."""
    drawn = (await graph.aget_graph(xray=xray)).to_json()
    return {"nodes": [_node(node) for node in drawn["nodes"]], "edges": drawn["edges"]}


async def graph_subgraphs(graph: Any, namespace: str | None, recurse: bool) -> dict[str, Any]:
    """The schemas of the graph's subgraphs by namespace, or of the one at exactly `namespace`."""
    return {
        name: await graph_schemas(subgraph, name)
        async for name, subgraph in graph.aget_subgraphs(namespace=namespace, recurse=recurse)
        # a graph called over HTTP has no schemas here
        if isinstance(subgraph, Pregel)
    }


class _AnythingGoes(GenerateJsonSchema):
    """A field whose type has no schema takes anything; the fields beside it keep theirs."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def _state_schema(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Any]:
    """A schema of everything that a state snapshot can hold. Every property has the default null."""
    fields: dict[str, Any] = {}
    for position, name in enumerate(graph.stream_channels_list):
        channel = graph.channels[name]
        if isinstance(channel, BaseChannel):
            # By alias: pydantic refuses names such as __end__ or schema, which are fine for channels.
            fields[f"field_{position}"] = (channel.ValueType, Field(default=None, alias=name))
    model = create_model(
        graph.get_name("State"),
        __config__=ConfigDict(arbitrary_types_allowed=True, protected_namespaces=()),
        **fields,
    )
    return model.model_json_schema(schema_generator=_AnythingGoes)


def _node(node: dict[str, Any]) -> dict[str, Any]:
    """The node as the wire has it: of its data only the id, and nothing for start and end nodes that are not run."""
    return {**node, "data": {"name": node["id"]}} if "data" in node else node
