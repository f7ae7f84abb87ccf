"""What commands ask about states: the same answers from a process with the graphs and from one that asks the state function."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pytest

from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import BadGatewayError, CommandError, NotFoundError
from langgraph_serverless.services.state import StateService
from langgraph_serverless.services.state_queries import (
    ASK,
    QueriesHere,
    QueriesInFunction,
    StateQueries,
    answer_event,
)

CALLER = Principal(identity="me", permissions=("read",), user={"identity": "me"})
THREAD, MISSING = uuid.uuid4(), uuid.uuid4()
CHECKPOINT = "1f0c6b5e-3d41-6b0e-8001-2a3b4c5d6e7f"


@dataclass
class State:
    values: Any = field(default_factory=lambda: {"a": 1, "b": {2}})
    config: Any = field(default_factory=lambda: {"configurable": {"checkpoint_id": CHECKPOINT, "checkpoint_ns": ""}})
    created_at: str = "2026-01-02T03:04:05+00:00"
    metadata: Any = field(default_factory=lambda: {"step": 1, "source": "loop"})


class States:
    """In place of the real one, which needs graphs and a database."""

    async def get(
        self, caller: Principal, thread_id: uuid.UUID, *, checkpoint: Mapping[str, Any] | None
    ) -> State | None:
        assert caller == CALLER
        if thread_id == MISSING:
            raise NotFoundError("no such thread")
        namespace = (checkpoint or {}).get("checkpoint_ns")
        if namespace == "unknown":
            raise ValueError("Subgraph unknown not found")
        return None if namespace == "empty" else State()

    async def history(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        limit: int,
        before: str | None,
        checkpoint: Mapping[str, Any] | None,
    ) -> Sequence[State]:
        assert (limit, before, checkpoint) == (2, CHECKPOINT, {"checkpoint_ns": "child|grandchild"})
        return [State(), State(config={})]


class Function:
    """The way to the state function and back: JSON."""

    def __init__(self, queries: StateQueries) -> None:
        self._queries = queries

    async def call(self, event: Mapping[str, Any]) -> dict[str, Any]:
        answer = await answer_event(self._queries, orjson.loads(orjson.dumps(event))[ASK])
        found: dict[str, Any] = orjson.loads(orjson.dumps(answer))
        return found


@pytest.fixture(params=["here", "in the state function"])
def queries(request: pytest.FixtureRequest) -> StateQueries:
    here = QueriesHere(cast(StateService, States()))
    return here if request.param == "here" else QueriesInFunction(Function(here))


async def test_a_state(queries: StateQueries) -> None:
    found = await queries.get(CALLER, THREAD, [], None)
    assert found == {"values": {"a": 1, "b": [2]}, "checkpoint": {"id": CHECKPOINT, "ns": ""}}
    assert (await queries.get(CALLER, THREAD, [], ["a", "c"]))["values"] == {"a": 1}


async def test_checkpoints(queries: StateQueries) -> None:
    found = await queries.list_checkpoints(CALLER, THREAD, ["child", "grandchild"], 2, CHECKPOINT)
    metadata = {"step": 1, "source": "loop"}
    listed = {"id": CHECKPOINT, "timestamp": State.created_at, "step": 1, "metadata": metadata}
    assert found == {"checkpoints": [listed]}


@pytest.mark.parametrize("namespace", ["unknown", "empty"])
async def test_a_namespace_that_is_none(queries: StateQueries, namespace: str) -> None:
    with pytest.raises(CommandError, match=f"Unknown namespace: {namespace}") as refused:
        await queries.get(CALLER, THREAD, [namespace], None)
    assert refused.value.error == "no_such_namespace"


async def test_a_thread_that_is_none(queries: StateQueries) -> None:
    with pytest.raises((NotFoundError, CommandError), match="no such thread"):
        await queries.get(CALLER, MISSING, [], None)


async def test_a_function_of_another_version() -> None:
    class Silent:
        async def call(self, _event: Mapping[str, Any]) -> dict[str, Any]:
            return {"warm": True}

    with pytest.raises(BadGatewayError):
        await QueriesInFunction(Silent()).get(CALLER, THREAD, [], None)
