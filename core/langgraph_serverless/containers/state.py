"""What a process needs that reads and writes states: everything of the API, and the user's graphs."""

from __future__ import annotations

from functools import cached_property, partial

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.graphs import GraphContainer
from langgraph_serverless.persistence.checkpoints import Saver
from langgraph_serverless.services.state import StateService
from langgraph_serverless.services.state_queries import QueriesHere
from langgraph_serverless.services.threads import SuperstepWriter


class StateContainer(GraphContainer):
    """Adds the states of threads."""

    resources = ApiContainer.resources | {"state"}

    @cached_property
    def state(self) -> StateService:
        saver = partial(Saver, serde=self.serializer)
        return StateService(
            self.database, self.registry, saver, self.graph_store, self.thread_index, authorize=self.authorize
        )

    @property
    def state_queries(self) -> QueriesHere:
        return QueriesHere(self.state)

    @property
    def supersteps(self) -> SuperstepWriter:
        return self.state.apply_supersteps
