"""Which differences from the official server an entry of ``differences.json`` covers, and that it hides no others."""

from __future__ import annotations

from typing import Any

import pytest
from comparison import Deliberate, Difference, judge

CASE = {"name": "threads/create", "steps": [{"send": "POST /threads"}]}


@pytest.mark.parametrize(
    ("entry", "covered"),
    [
        ({"at": "threads/create/*"}, False),
        ({"at": "threads/create/*", "status": 422}, True),
        ({"at": "threads/create/*", "status": [404, 422]}, True),
        ({"at": "threads/create/*", "status": 400}, False),
        ({"at": "threads/create/0/status", "reference": 200, "ours": 422}, True),
        ({"at": "threads/create/0/status", "reference": 400, "ours": 422}, False),
        ({"at": "threads/copy/*", "status": 422}, False),
    ],
)
def test_another_status_has_to_be_named(entry: dict[str, Any], covered: bool) -> None:
    deliberate = Deliberate([{**entry, "reason": ""}])
    assert deliberate.covers(Difference("threads/create/0/status", 200, 422)) is covered
    assert bool(deliberate.unused) is not covered


def test_the_status_of_a_thread_is_a_value_like_others() -> None:
    assert Deliberate([{"at": "threads/*", "reason": ""}]).covers(
        Difference("threads/create/0/json/status", "busy", "idle")
    )


def test_a_server_error_is_never_meant_by_a_pattern() -> None:
    entry = {"at": "threads/create/*", "status": 422, "reason": ""}
    (verdict,) = judge(CASE, [{"status": 200, "json": {}}], [{"status": 500}], Deliberate([entry]))
    assert [difference.at for difference in verdict.left] == ["threads/create/0/status"]
