"""Which graphs a deployment has, and which graph and assistant a request means.

The catalogue is the manifest that the build wrote (on a laptop: made when the project was loaded), so it needs no graph
object and no langgraph.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from langgraph_serverless.domain.ids import default_assistant_id
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.errors import GraphNotFoundError, InvalidInputError


class GraphCatalog:
    """The graphs of one manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @property
    def graph_ids(self) -> Iterable[str]:
        return self.manifest.graphs.keys()

    @property
    def graphs(self) -> Mapping[str, GraphManifest]:
        return self.manifest.graphs

    def require(self, graph_id: str) -> GraphManifest:
        """The graph with this id.

        Raises:
            GraphNotFoundError: naming the graphs that exist.
        """
        try:
            return self.manifest.graphs[graph_id]
        except KeyError:
            raise GraphNotFoundError(graph_id, self.graph_ids) from None

    def resolve_assistant(self, assistant: str) -> uuid.UUID:
        """The assistant id that a UUID or a graph id stands for; whether it exists is not looked up.

        Raises:
            InvalidInputError: if it is neither.
        """
        if assistant in self.manifest.graphs:
            return default_assistant_id(assistant)
        try:
            return uuid.UUID(assistant)
        except ValueError:
            known = ", ".join(sorted(self.graph_ids))
            raise InvalidInputError(
                f"Invalid assistant: '{assistant}'. Must be either:\n"
                f"- A valid assistant UUID, or\n- One of the registered graphs: {known}"
            ) from None
