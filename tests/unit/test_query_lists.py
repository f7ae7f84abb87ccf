"""Lists in queries: repeated, or the one JSON array that the JavaScript SDK 2.0 makes of them."""

from __future__ import annotations

import pytest

from langgraph_serverless.http.params import read_list


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, []),
        ([], []),
        (["values"], ["values"]),
        (["values", "updates"], ["values", "updates"]),
        (['["values","updates"]'], ["values", "updates"]),
        (["[]"], []),
        (["[1]"], ["[1]"]),
        (["[values"], ["[values"]),
        (['["values"]', "updates"], ['["values"]', "updates"]),
    ],
)
def test_lists_are_read(given: list[str] | None, read: list[str]) -> None:
    assert read_list(given) == read
