"""What the API functions know about graphs without importing langgraph: schemas, drawings and subgraphs as plain JSON.

Promises: ``from_json(to_json())`` gives an equal manifest, and ``hash`` depends on the content only. ``drawing`` and
``subgraphs_at`` answer like langgraph itself would.

Relies on nothing. ``execution/manifest.py`` builds manifests; never built here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph_serverless.domain.store import StoreSettings
from langgraph_serverless.domain.threads import Ttl
from langgraph_serverless.domain.webhook_rules import WebhookRules

#: between the parts of a subgraph's namespace, as in langgraph
NAMESPACE_SEPARATOR = "|"


@dataclass(frozen=True, kw_only=True)
class GraphManifest:
    """One graph, described."""

    graph_id: str
    description: str | None
    #: built anew for each use: what is here was made with an empty config
    is_factory: bool
    #: input_schema, output_schema, state_schema, config_schema, context_schema; None for what cannot be generated
    schemas: Mapping[str, Any]
    #: "false", "true" and, for graphs nested deeper than one level, "1", "2"...; empty if it cannot be drawn
    drawings: Mapping[str, Any]
    #: every subgraph at any depth: "child|grandchild" to its schemas
    subgraphs: Mapping[str, Any]

    def drawing(self, xray: bool | int) -> Any | None:
        """The drawing with subgraphs shown to the depth `xray`; None if the graph cannot be drawn."""
        # True == 1 to Python: the string forms keep "all levels" and "one level" apart.
        return self.drawings.get(str(xray).lower(), self.drawings.get("true"))

    def subgraphs_at(self, namespace: str | None, *, recurse: bool) -> dict[str, Any]:
        """The schemas of the subgraph at exactly `namespace`, or of all; nested ones only with `recurse`."""
        return {
            name: schemas
            for name, schemas in self.subgraphs.items()
            if (namespace is None or name == namespace) and (recurse or NAMESPACE_SEPARATOR not in name)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "graph_id": self.graph_id,
            "description": self.description,
            "is_factory": self.is_factory,
            "schemas": dict(self.schemas),
            "drawings": dict(self.drawings),
            "subgraphs": dict(self.subgraphs),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GraphManifest:
        """The inverse of ``to_json``; a missing key is a KeyError."""
        return cls(
            graph_id=value["graph_id"],
            description=value["description"],
            is_factory=value["is_factory"],
            schemas=value["schemas"],
            drawings=value["drawings"],
            subgraphs=value["subgraphs"],
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every graph of a project, described, and what the API functions must know of the rest."""

    graphs: Mapping[str, GraphManifest]
    #: changes when, and only when, a description changes
    hash: str
    store: StoreSettings = field(default_factory=StoreSettings)
    #: of threads that are made without one
    thread_ttl: Ttl | None = None
    #: with the templates of headers, not with what they stand for
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    #: whether the project has a handler that gives threads their priority
    priority: bool = False

    @classmethod
    def of(
        cls,
        graphs: Mapping[str, GraphManifest],
        *,
        store: StoreSettings | None = None,
        thread_ttl: Ttl | None = None,
        webhooks: WebhookRules | None = None,
        priority: bool = False,
    ) -> Manifest:
        """A manifest with the hash of its content."""
        store, webhooks = store or StoreSettings(), webhooks or WebhookRules()
        described = {graph_id: graph.to_json() for graph_id, graph in graphs.items()}
        ttl = thread_ttl and thread_ttl.to_json()
        content = {
            "graphs": described,
            "store": store.to_json(),
            "thread_ttl": ttl,
            "webhooks": webhooks.to_json(),
            "priority": priority,
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return cls(
            graphs=dict(graphs),
            hash=digest,
            store=store,
            thread_ttl=thread_ttl,
            webhooks=webhooks,
            priority=priority,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "hash": self.hash,
            "graphs": {graph_id: graph.to_json() for graph_id, graph in self.graphs.items()},
            "store": self.store.to_json(),
            "thread_ttl": self.thread_ttl and self.thread_ttl.to_json(),
            "webhooks": self.webhooks.to_json(),
            "priority": self.priority,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """The inverse of ``to_json``."""
        graphs = {graph_id: GraphManifest.from_json(graph) for graph_id, graph in value["graphs"].items()}
        ttl, webhooks = value.get("thread_ttl"), value.get("webhooks")
        return cls(
            graphs=graphs,
            hash=value["hash"],
            store=StoreSettings.from_json(value["store"]),
            thread_ttl=Ttl.from_json(ttl) if ttl else None,
            webhooks=WebhookRules.from_json(webhooks) if webhooks else WebhookRules(),
            priority=value.get("priority", False),
        )
