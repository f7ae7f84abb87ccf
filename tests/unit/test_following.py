"""Following a run whose log, database or client is slow: what the log still has is passed on, and the client is kept alive."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from langgraph_serverless.domain.events import DELAYED, Event, end_marker
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.persistence.runs import RunResult
from langgraph_serverless.services import following
from langgraph_serverless.services.following import RunFollower
from langgraph_serverless.settings import Settings

END = end_marker(status="success", output={})


class Log:
    """Has these batches, and then nothing for ever."""

    connected = False

    def __init__(self, *batches: Sequence[Event]) -> None:
        self._batches = batches

    async def read(self, run_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        for batch in self._batches:
            await asyncio.sleep(0.01)
            yield batch
        while True:
            await asyncio.sleep(0.01)
            yield ()


def follower(log: Log, result: Callable[[uuid.UUID], Awaitable[Any]]) -> RunFollower:
    runs: Any = SimpleNamespace(result=result)
    events: Any = log
    return RunFollower(events, runs, Settings(stream_keepalive=0.05))


async def over(run_id: uuid.UUID) -> Any:
    return SimpleNamespace(status=RunStatus.SUCCESS, output={"from": "row"}, error=None)


async def test_a_slow_client_gets_what_the_log_has_of_a_run_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log was out of reach for a moment, so that the row was looked at."""
    monkeypatch.setattr(following, "GRACE", 0.1)
    events = [Event("custom", b"%d" % number, f"{number}-0") for number in range(5)]
    log = Log((), *([event] for event in events), [END])
    found: list[Event] = []
    async for batch in follower(log, over).follow(uuid.uuid4(), "0-0"):
        found.extend(batch)
        await asyncio.sleep(0.08)  # all of it takes longer than the grace
    assert found == [*events, END]


async def test_a_log_that_others_are_served_from_is_waited_for() -> None:
    """Not having been asked is no silence."""
    event = Event("custom", b"1", "1-0")
    log = Log(DELAYED, DELAYED, [event], DELAYED, [END])
    found = [event async for batch in follower(log, over).follow(uuid.uuid4(), "0-0") for event in batch]
    assert found == [event, END]


async def test_a_log_that_says_nothing_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "GRACE", 0.1)
    event = Event("custom", b"1", "1-0")
    found = [event async for batch in follower(Log((), [event]), over).follow(uuid.uuid4(), "0-0") for event in batch]
    assert [event.name for event in found] == ["custom", "values", "__end__"]


async def test_clients_are_kept_alive_while_the_database_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LONGEST_LOOK", 0.1)
    asked = 0

    async def hangs(run_id: uuid.UUID) -> RunResult | None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return None

    batches = follower(Log(), hangs).follow(uuid.uuid4(), "0-0")
    async with asyncio.timeout(10):
        assert [await anext(batches) for _ in range(3)] == [(), (), ()]
    assert asked
    await batches.aclose()
