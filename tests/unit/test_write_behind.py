"""Rows that are written a moment later: what becomes of many puts, of failures, and of commits that were lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence import write_behind
from langgraph_serverless.persistence.checkpoint_rows import CheckpointRow, Rows, WriteRow, parameters
from langgraph_serverless.persistence.write_behind import WriteBehind


def write(value: bytes, *, replaces: bool = False) -> WriteRow:
    return WriteRow("path", "channel", ("msgpack", value), replaces)


def checkpoint(number: int, document: bytes = b"{}") -> Rows:
    rows = Rows()
    rows.put_checkpoint(("thread", "", f"c{number}"), CheckpointRow(None, document, b"{}"))
    return rows


KEY = ("thread", "", "c1", "task", 0)


def test_rows_are_kept_as_the_tables_would_keep_them() -> None:
    first, second = Rows(), Rows()
    first.put_blob(("thread", "", "log", "1"), ("msgpack", b"first"))
    first.put_write(KEY, write(b"first"))
    first.put_checkpoint(("thread", "", "c1"), CheckpointRow("c0", b"first", b"{}"))
    second.put_blob(("thread", "", "log", "1"), ("msgpack", b"second"))
    second.put_write(KEY, write(b"second"))
    second.put_checkpoint(("thread", "", "c1"), CheckpointRow(None, b"second", b"{}"))
    both = first.then(second)
    assert both.blobs == {("thread", "", "log", "1"): ("msgpack", b"first")}
    assert both.writes[KEY].value == ("msgpack", b"first")
    assert both.checkpoints["thread", "", "c1"] == CheckpointRow("c0", b"second", b"{}")
    second.put_write(KEY, write(b"third", replaces=True))
    assert first.then(second).writes[KEY] == write(b"third", replaces=True)
    # a plain write does not take the place of an error
    assert second.then(first).writes[KEY] == write(b"third", replaces=True)


def test_what_says_that_rows_are_there_was_not_there_before() -> None:
    place, other = ("thread", "", "c1"), ("thread", "", "c2")
    rows, later = Rows(), Rows()
    assert rows.witness is None
    rows.put_write(KEY, write(b"answer", replaces=True))
    assert rows.witness == KEY
    rows.put_checkpoint(place, CheckpointRow(None, b"{}", b"{}"))
    # another answer takes the place of one that may be on disk
    rows.put_write(KEY, write(b"other answer", replaces=True))
    assert rows.witness == place
    # the last statement's, if it has any
    later.put_write((*other, "task", 0), write(b"value"))
    assert rows.then(later).witness == (*other, "task", 0)
    assert later.then(rows).witness == place
    assert later.then(Rows()).witness == (*other, "task", 0)


def test_parameters_of_nothing_are_none() -> None:
    assert parameters(Rows(), None) is None
    given = parameters(Rows(), ("thread", "", "c1"))
    assert given is not None
    assert given["save_rows"].obj == {"after": ("thread", "", "c1")}


class Database:
    """Takes what is written, or fails as it is told to."""

    def __init__(self) -> None:
        self.written: list[tuple[dict[str, Any], bool]] = []
        self.failures: list[Exception | None] = []
        self.lost = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def write(self, given: Mapping[str, Any], relaxed: bool) -> bool:
        await self.may_answer.wait()
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        if self.lost and "after" in given["save_rows"].obj:
            self.lost = False
            return False
        self.written.append((given["save_rows"].obj, relaxed))
        return True

    @property
    def checkpoints(self) -> list[list[str]]:
        return [[row[2] for row in rows.get("checkpoints", ())] for rows, _ in self.written]


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def test_many_puts_are_one_statement_and_there_is_one_at_a_time() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, relaxed=True)
    database.may_answer.clear()
    for number in range(3):
        await behind.put(checkpoint(number))
    await until(lambda: behind._flight is not None)
    for number in range(3, 6):
        await behind.put(checkpoint(number))
    await until(lambda: behind._due)
    assert behind.concern("thread", "")
    assert not behind.concern("thread", "other")
    database.may_answer.set()
    await until(lambda: len(database.written) == 2)
    assert database.checkpoints == [["c0", "c1", "c2"], ["c3", "c4", "c5"]]
    assert [relaxed for _, relaxed in database.written] == [True, True]
    # each looks for the last row of the one before
    assert [rows.get("after") for rows, _ in database.written] == [None, ("thread", "", "c2")]
    assert not behind.concern("thread", None)


async def test_who_wants_it_on_disk_waits() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60)
    await behind.put(checkpoint(0))
    assert database.written == []
    await behind.put(checkpoint(1), now=True)
    assert database.checkpoints == [["c0", "c1"]]
    assert not database.written[0][1]


async def test_much_does_not_wait_for_more() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60, relaxed=True)
    await behind.put(checkpoint(0, b"x" * (write_behind.MUCH + 1)))
    await until(lambda: database.written)
    # and what is too much is waited for
    await behind.put(checkpoint(1, b"x" * (write_behind.TOO_MUCH + 1)))
    assert database.checkpoints == [["c0"], ["c1"]]
    assert [relaxed for _, relaxed in database.written] == [True, False], "so much is not left to a crash"


async def test_after_a_second_one_goes_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "RELAXED_FOR", 0.0)
    database = Database()
    behind = WriteBehind(database.write, delay=60, relaxed=True)
    for number in range(3):
        await behind.put(checkpoint(number))
        await behind.flush()
        await asyncio.sleep(0.001)
    assert [(rows.get("after"), relaxed) for rows, relaxed in database.written] == [
        (None, True),
        (("thread", "", "c0"), False),
        (None, True),
    ]


async def test_an_outage_loses_nothing_and_is_told_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "RETRY", 60)
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, relaxed=True)
    await behind.put(checkpoint(0))
    await behind.flush()
    database.failures = [UnavailableError("away")] * 3
    await behind.put(checkpoint(1))
    await until(lambda: behind._failure is not None)
    await behind.put(checkpoint(2))
    with pytest.raises(UnavailableError):
        await behind.flush()
    with pytest.raises(UnavailableError):
        await behind.put(checkpoint(3), now=True)
    taken = await behind.take()
    assert taken is not None
    # with what was not known to be on disk
    assert [row[2] for row in taken["save_rows"].obj["checkpoints"]] == ["c0", "c1", "c2", "c3"]
    behind.close()


async def test_it_is_tried_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "RETRY", 0.001)
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, relaxed=True)
    database.failures = [UnavailableError("away")] * 3
    for number in range(3):
        await behind.put(checkpoint(number))
    await until(lambda: database.written)
    assert database.checkpoints == [["c0", "c1", "c2"]]


async def test_a_lost_lease_is_told_to_everyone() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, relaxed=True)
    database.failures = [LeaseLostError("lost")]
    await behind.put(checkpoint(0))
    await until(lambda: behind._failure is not None)
    with pytest.raises(LeaseLostError):
        await behind.put(checkpoint(1))
    with pytest.raises(LeaseLostError):
        await behind.flush()
    with pytest.raises(LeaseLostError):
        await behind.take()
    assert database.written == []


async def test_what_the_database_refuses_is_told_once_at_the_end_and_left_out() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, relaxed=True)
    database.failures = [ValueError("refused")]
    await behind.put(checkpoint(0))
    await until(lambda: behind._failure is not None)
    with pytest.raises(ValueError, match="refused"):
        await behind.take()
    assert await behind.take() is None


async def test_lost_commits_are_repeated_with_what_came_after_them() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60, relaxed=True)
    for number in range(3):
        await behind.put(checkpoint(number))
        await behind.flush()
    database.lost = True
    await behind.put(checkpoint(3))
    await behind.flush()
    assert database.checkpoints[3:] == [["c0", "c1", "c2", "c3"]]
    assert not database.written[3][1]
    # what is on disk is not looked for
    await behind.put(checkpoint(4))
    await behind.flush()
    assert "after" not in database.written[4][0]


async def test_what_is_taken_is_given_again_until_it_is_written() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60, relaxed=True)
    await behind.put(checkpoint(0))
    await behind.flush()
    await behind.put(checkpoint(1))
    taken = await behind.take()
    assert taken is not None
    assert [row[2] for row in taken["save_rows"].obj["checkpoints"]] == ["c1"]
    assert taken["save_rows"].obj["after"] == ("thread", "", "c0")
    taken = await behind.take()
    assert taken is not None
    assert [row[2] for row in taken["save_rows"].obj["checkpoints"]] == ["c0", "c1"]
    assert "after" not in taken["save_rows"].obj
    behind.written()
    assert await behind.take() is None


async def test_what_is_put_after_the_end_is_refused() -> None:
    behind = WriteBehind(Database().write, delay=60, relaxed=True)
    await behind.put(checkpoint(0))
    assert await behind.take() is not None
    behind.written()
    with pytest.raises(LeaseLostError):
        await behind.put(checkpoint(1))
    assert await behind.take() is None


async def test_who_is_told_of_an_outage_is_also_told_of_a_refusal() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60, relaxed=True)
    database.failures = [UnavailableError("away"), ValueError("refused")]
    await behind.put(checkpoint(0))
    with pytest.raises(UnavailableError):
        await behind.flush()
    behind._begin()
    await until(lambda: behind._flight is None)
    with pytest.raises(ValueError, match="refused"):
        await behind.take()
    behind.close()


async def test_who_waits_may_be_cancelled_and_it_is_written() -> None:
    database = Database()
    behind = WriteBehind(database.write, delay=60)
    database.may_answer.clear()
    waiting = asyncio.create_task(behind.put(checkpoint(0), now=True))
    await until(lambda: behind._flight is not None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    database.may_answer.set()
    await behind.flush()
    assert database.checkpoints == [["c0"]]


async def test_a_busy_process_waits_for_more_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "LATE", -1.0)  # always
    database = Database()
    behind = WriteBehind(database.write, delay=0.001, patience=0.05, relaxed=True)
    began = asyncio.get_running_loop().time()
    await behind.put(checkpoint(0))
    await until(lambda: database.written)
    assert asyncio.get_running_loop().time() - began >= 0.05
