"""Ids of checkpoints sort as they are drawn, after those that were read, whatever the clock says."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base import id as langgraph_ids
from langgraph.pregel._checkpoint import create_checkpoint

from langgraph_serverless.persistence.checkpoint_ids import draw_after

HOUR = 3600


@pytest.fixture(autouse=True)
def own_clock() -> Iterator[None]:
    before = langgraph_ids._last_v6_timestamp
    langgraph_ids._last_v6_timestamp = None
    yield
    langgraph_ids._last_v6_timestamp = before


def drawn(step: int) -> str:
    """As a graph draws them."""
    return create_checkpoint(empty_checkpoint(), {}, step)["id"]


@pytest.mark.parametrize("off_by", [-HOUR, 0, HOUR])
def test_what_is_drawn_sorts_after_what_was_read(monkeypatch: pytest.MonkeyPatch, off_by: int) -> None:
    read = [drawn(step) for step in range(3)]
    langgraph_ids._last_v6_timestamp = None  # another process
    clock = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: clock() + off_by * 10**9)
    draw_after(read[-1])
    ids = [*read, *(drawn(step) for step in range(3, 6))]
    assert ids == sorted(set(ids))


def test_what_was_read_long_ago_changes_nothing() -> None:
    old = drawn(0)
    drawn(1)
    last = langgraph_ids._last_v6_timestamp
    draw_after(old)
    assert langgraph_ids._last_v6_timestamp == last


@pytest.mark.parametrize(
    "foreign", ["", "newest", str(uuid.UUID(int=2**128 - 1)), str(uuid.uuid4()), str(uuid.uuid1())]
)
def test_ids_of_other_programs_are_no_clock(foreign: str) -> None:
    draw_after(foreign)
    assert langgraph_ids._last_v6_timestamp is None
