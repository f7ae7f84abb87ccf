"""The checkers of the fault tests find what they are there to find: each bad history is told from a good one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from audit import stale
from history import History, check


def told(history: History, name: str, result: Any = None, outcome: str = "ok", /, **args: Any) -> None:
    history.end(history.invoke("c", name, **args), outcome, result)


def good() -> History:
    """Two runs of one thread, one of another that is deleted, a cancel, a repeated key, writes of which one is not known."""
    history = History()
    told(history, "make", thread="t")
    told(history, "search", True, thread="t")
    told(history, "create", "a", thread="t", name="a-", steps=2)
    told(history, "create", "b", thread="t", name="b-", steps=1, key="k")
    told(history, "create", "b", thread="t", name="b-", steps=1, key="k")
    told(history, "create", "x", thread="t", name="x-", steps=1)
    told(history, "create", None, "fail", thread="t", name="no-", steps=1)
    told(history, "get", "pending", run="a")
    told(history, "list", {"a": "running", "b": "pending", "x": "pending"}, thread="t")
    told(history, "cancel", run="x")
    told(history, "get", "success", run="a")
    told(history, "join", ["a-1", "a-2"], run="a")
    told(history, "delete", run="a")
    told(history, "get", "gone", run="a")
    told(history, "write", thread="s", line="one")
    history.end(history.invoke("d", "write", thread="s", line="two"), "info")
    told(history, "read", ["one"], thread="s")
    told(history, "read", ["one", "two"], thread="s")
    runs = {"b": {"name": "b-", "status": "success"}, "x": {"name": "x-", "status": "interrupted"}}
    told(history, "final", {"runs": runs, "log": ["a-1", "a-2", "b-1"]}, thread="t")
    return history


def final(log: list[str], runs: dict[str, tuple[str, str]] | None = None) -> Callable[[History], None]:
    def change(history: History) -> None:
        found = runs or {"b": ("b-", "success"), "x": ("x-", "interrupted")}
        result = {"runs": {run: {"name": name, "status": status} for run, (name, status) in found.items()}, "log": log}
        told(history, "final", result, thread="t")

    return change


def after(name: str, result: Any = None, /, **args: Any) -> Callable[[History], None]:
    return lambda history: told(history, name, result, **args)


def test_a_good_history_is_good() -> None:
    assert check(good().operations) == []


RIGHT = ["a-1", "a-2", "b-1"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (after("get", "gone", run="b"), "is missing"),
        (after("list", {"x": "interrupted"}, thread="t"), "is missing"),
        (after("get", "success", run="a"), "is still there"),
        (after("list", {"a": "success", "b": "success", "x": "interrupted"}, thread="t"), "is still there"),
        (after("get", "pending", run="b"), "went back"),
        (after("list", {"b": "running", "x": "interrupted"}, thread="t"), "went back"),
        (after("get", "error", run="b"), "ended in several ways"),
        (after("get", "hurt", run="b"), "unknown status"),
        (after("list", {"b": "running", "x": "running"}, thread="t"), "two runs of one thread"),
        (after("search", False, thread="t"), "is not found"),
        (after("create", "c", thread="t", name="b-", steps=1, key="k"), "made several runs"),
        (final(RIGHT, {"b": ("b-", "running"), "x": ("x-", "interrupted")}), "has not ended"),
        (final(RIGHT, {"b": ("b-", "success"), "x": ("x-", "success")}), "was cancelled and ended in success"),
        (final(RIGHT, {"b": ("b-", "error"), "x": ("x-", "interrupted")}), "failed"),
        (final(RIGHT, {"b": ("b-", "success"), "n": ("no-", "success")}), "was refused is there"),
        (final(RIGHT, {"b": ("b-", "success"), "c": ("b-", "success")}), "2 runs are named b-"),
        (final(["a-1", "a-2"]), "succeeded with 0 of 1"),
        (final(["a-2", "a-1", "b-1"]), "the output of run a is wrong"),
        (final(["b-1", "a-1", "a-2"]), "began before run a"),
        (final([*RIGHT, "b-1"]), "lines came twice"),
        (final([*RIGHT, "?"]), "nobody wrote"),
        (after("join", ["a-1"], run="b"), "a client that waited"),
        (after("read", [], thread="s"), "is not there"),
        (after("read", ["one", "one"], thread="s"), "came twice"),
        (after("read", ["two", "one"], thread="s"), "not a continuation"),
    ],
)
def test_a_bad_history_is_found(change: Callable[[History], None], found: str) -> None:
    history = good()
    change(history)
    assert any(found in wrong for wrong in check(history.operations)), check(history.operations)


def test_operations_that_overlap_have_no_order() -> None:
    history = History()
    told(history, "create", "a", thread="t", name="a-", steps=1)
    get = history.invoke("c", "get", run="a")
    told(history, "get", "success", run="a")
    told(history, "create", "b", thread="t", name="b-", steps=1)
    history.end(get, "ok", "running")
    final(["a-1", "b-1"], {"a": ("a-", "success"), "b": ("b-", "success")})(history)
    assert check(history.operations) == []


# -- who wrote what --------------------------------------------------------------------------------------------------

A, B = uuid.uuid4(), uuid.uuid4()
TAKEN_OVER: list[tuple[str, str, uuid.UUID | None, int]] = [
    ("claim", "zombie", A, 1),
    ("checkpoints", "zombie", A, 2),
    ("heartbeat", "zombie", A, 3),
    ("requeue", "other", A, 4),
    ("claim", "other", B, 5),
    ("checkpoints", "other", B, 6),
    ("thread", "", None, 7),
    ("settle", "other", B, 8),
    ("thread", "other", None, 8),
    ("outbox", "other", None, 8),
]


def notes(written: list[tuple[str, str, uuid.UUID | None, int]]) -> list[dict[str, Any]]:
    names = ("place", "process", "token", "tx")
    return [dict(zip(names, note, strict=True)) | {"thread_id": "t"} for note in written]


def test_what_owners_write_is_not_stale() -> None:
    assert not stale(notes(TAKEN_OVER))


@pytest.mark.parametrize(
    "place", ["checkpoints", "checkpoint_writes", "checkpoint_blobs", "heartbeat", "settle", "thread"]
)
@pytest.mark.parametrize("moment", range(4, len(TAKEN_OVER) + 1))
def test_what_a_zombie_writes_is_stale(place: str, moment: int) -> None:
    late = (place, "zombie", A if place != "thread" else None, 99)
    found = stale(notes([*TAKEN_OVER[:moment], late, *TAKEN_OVER[moment:]]))
    assert found == {"run" if place in {"heartbeat", "settle"} else place: 1}


def test_what_a_worker_writes_under_a_lease_that_it_has_lost_is_stale_although_it_has_another() -> None:
    again = [*TAKEN_OVER[:4], ("claim", "zombie", B, 5), ("checkpoints", "zombie", A, 6)]
    assert stale(notes(again)) == {"checkpoints": 1}
