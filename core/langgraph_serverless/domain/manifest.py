"""What the API functions know about a project without importing it, or langgraph: graphs as plain JSON, and what they were made of.

Promises: ``from_json(to_json())`` gives an equal manifest; one of another format, or a broken one, is a ``ProjectError`` that says
what to do. ``hash`` depends on the content only, and the content says which files the project had (``project_hash``) and what it was
described with; so two processes with the same hash know the same project. ``drawing`` and ``subgraphs_at`` answer like
langgraph itself would. ``encode`` refuses a manifest that is too large for functions that read it at each cold start.

Relies on nothing. ``execution/manifest.py`` builds manifests; never built here.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from langgraph_serverless.domain.auth_settings import AuthSettings
from langgraph_serverless.domain.http_settings import HttpSettings
from langgraph_serverless.domain.store import StoreSettings
from langgraph_serverless.domain.threads import Ttl
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.errors import ProjectError

logger = logging.getLogger(__name__)

#: Of the document; whoever reads another one asks for a new build. Raise it when a key is added that must be there.
FORMAT = 3
#: Bytes of the document beyond which a build says that every cold start of an API function reads them, and those it refuses.
LARGE, LARGEST = 1_000_000, 8_000_000
#: So many characters of the hash tell two builds apart where it is shown.
SHORT_HASH = 12
#: between the parts of a subgraph's namespace, as in langgraph
NAMESPACE_SEPARATOR = "|"


@dataclass(frozen=True, slots=True, order=True)
class CheckpointType:
    """A class whose instances may be in checkpoints: ``getattr(module, name)`` for a name without dots."""

    module: str
    #: qualified: with the classes that it is in
    name: str
    #: ``pydantic``, ``dataclass``, ``enum``, ``namedtuple``, ``value`` or ``class``; the last cannot be written without pickle, nor is it
    #: made when something is read
    kind: str


@dataclass(frozen=True, kw_only=True)
class GraphManifest:
    """One graph, described."""

    graph_id: str
    #: what the graph calls itself; None if nobody could ask it
    name: str | None = None
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
            "name": self.name,
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
            name=value["name"],
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
    #: changes when, and only when, something else in here changes
    hash: str
    #: of every file of the project that a bundle has; empty if the manifest was not made of files
    project_hash: str = ""
    #: distribution to version: what the graphs were loaded and described with
    made_with: Mapping[str, str] = field(default_factory=dict)
    #: classes that the schemas of the graphs name, sorted; see ``execution/checkpoint_types.py`` for what cannot be found
    types: tuple[CheckpointType, ...] = ()
    #: places whose schema lets anything be stored, so that ``types`` may miss something there
    untyped: tuple[str, ...] = ()
    store: StoreSettings = field(default_factory=StoreSettings)
    #: of threads that are made without one
    thread_ttl: Ttl | None = None
    #: with the templates of headers, not with what they stand for
    webhooks: WebhookRules = field(default_factory=WebhookRules)
    #: whether the project has a handler that gives threads their priority
    priority: bool = False
    #: ``./file.py:name`` of the project's encryption, which every process that reads or writes data imports
    encryption: str | None = None
    #: the project's own authentication, which every process that takes requests imports
    auth: AuthSettings | None = None
    #: the section ``http``, with where the project's own application is
    http: HttpSettings = field(default_factory=HttpSettings)

    @classmethod
    def of(cls, graphs: Mapping[str, GraphManifest], **rest: Any) -> Manifest:
        """A manifest with the hash of its content; ``rest`` are the other fields."""
        unsigned = cls(graphs=dict(graphs), hash="", **rest)
        return replace(unsigned, hash=unsigned.digest())

    def digest(self) -> str:
        """What ``hash`` is if nobody has changed anything else."""
        content = {name: value for name, value in self.to_json().items() if name != "hash"}
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    @property
    def has_code_for_all(self) -> bool:
        """Whether every process that takes requests imports something of the project, which most projects leave to the graphs."""
        return self.auth is not None or self.encryption is not None or self.http.app is not None

    @property
    def short_hash(self) -> str:
        return self.hash[:SHORT_HASH]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "hash": self.hash,
            "project_hash": self.project_hash,
            "made_with": dict(self.made_with),
            "graphs": {graph_id: graph.to_json() for graph_id, graph in self.graphs.items()},
            "types": [asdict(each) for each in self.types],
            "untyped": list(self.untyped),
            "store": self.store.to_json(),
            "thread_ttl": self.thread_ttl and self.thread_ttl.to_json(),
            "webhooks": self.webhooks.to_json(),
            "priority": self.priority,
            "encryption": self.encryption,
            "auth": self.auth and self.auth.to_json(),
            "http": self.http.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """The inverse of ``to_json``.

        Raises:
            ProjectError: it is of another format, or not a manifest.
        """
        found = value.get("format", 1) if isinstance(value, Mapping) and "graphs" in value else None
        if found is None:
            raise ProjectError("It is not a manifest; build the project again.")
        if found != FORMAT:
            raise ProjectError(
                f"It has format {found}, and this version reads format {FORMAT}: build the project again with this version."
            )
        try:
            return cls._from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            says = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ProjectError(f"It is broken ({says}); build the project again.") from error

    @classmethod
    def _from_json(cls, value: Mapping[str, Any]) -> Manifest:
        ttl = value["thread_ttl"]
        return cls(
            graphs={graph_id: GraphManifest.from_json(graph) for graph_id, graph in value["graphs"].items()},
            hash=value["hash"],
            project_hash=value["project_hash"],
            made_with=value["made_with"],
            types=tuple(CheckpointType(**each) for each in value["types"]),
            untyped=tuple(value["untyped"]),
            store=StoreSettings.from_json(value["store"]),
            thread_ttl=Ttl.from_json(ttl) if ttl else None,
            webhooks=WebhookRules.from_json(value["webhooks"]),
            priority=value["priority"],
            encryption=value["encryption"],
            auth=AuthSettings.from_json(value["auth"]) if value["auth"] else None,
            http=HttpSettings.from_json(value["http"]),
        )


def canonical(content: Any) -> str:
    """The same text for equal JSON values."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def encode(manifest: Manifest) -> str:
    """The document that is deployed.

    Raises:
        ProjectError: it is too large.
    """
    document = canonical(manifest.to_json())
    if len(document) > LARGE:
        sizes = {graph_id: len(canonical(graph.to_json())) for graph_id, graph in manifest.graphs.items()}
        largest = sorted(sizes, key=lambda graph_id: -sizes[graph_id])[:3]
        named = ", ".join(f"{graph_id} ({sizes[graph_id] / 1e6:.1f} MB)" for graph_id in largest)
        says = f"The manifest has {len(document) / 1e6:.1f} MB, and each API function reads it when it starts. The largest: {named}."
        if len(document) > LARGEST:
            raise ProjectError(f"{says} At most {LARGEST / 1e6:.0f} MB can be deployed; make their schemas smaller.")
        logger.warning("%s", says)
    return document
