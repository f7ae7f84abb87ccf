"""What a run that goes on resumes, and what begins anew."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langgraph._internal._constants import CONFIG_KEY_CHECKPOINT_MAP, CONFIG_KEY_RESUMING
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint

from langgraph_serverless.execution.continuing import OnlyBegun

RUN, EARLIER = uuid.uuid4(), uuid.uuid4()


def found(checkpoint_id: str, run_id: uuid.UUID, **parents: str) -> CheckpointTuple:
    metadata: Any = {"run_id": str(run_id), "parents": parents}
    return CheckpointTuple({}, {**empty_checkpoint(), "id": checkpoint_id}, metadata)


def asks(**around: str) -> Any:
    return {"configurable": {CONFIG_KEY_RESUMING: True, CONFIG_KEY_CHECKPOINT_MAP: around}}


@pytest.mark.parametrize(
    ("parent", "own", "resumes"),
    [
        ("r2", RUN, True),  # begun after the checkpoint at which its parent stands
        ("r1", RUN, False),  # it ended before
        ("r1", EARLIER, True),  # the state of its parent has been written by hand since it asked
    ],
)
def test_a_subgraph_is_resumed_where_it_has_begun(parent: str, own: uuid.UUID, resumes: bool) -> None:
    only_begun = OnlyBegun(RUN)
    only_begun({"configurable": {}}, found("r2", own))
    config = asks(root="r2")
    only_begun(config, found("s1", EARLIER, root=parent))
    assert config["configurable"][CONFIG_KEY_RESUMING] is resumes


def test_what_counts_is_the_graph_around_it() -> None:
    """The run answers a question within a subgraph, which has gone on since; the root has not."""
    only_begun = OnlyBegun(RUN)
    only_begun({"configurable": {}}, found("r1", EARLIER))
    outer, inner = asks(root="r1"), asks(root="r1", mid="m2")
    only_begun(outer, found("m2", RUN, root="r1"))
    only_begun(inner, found("d1", EARLIER, root="r0", mid="m0"))
    assert outer["configurable"][CONFIG_KEY_RESUMING] is True
    assert inner["configurable"][CONFIG_KEY_RESUMING] is False
