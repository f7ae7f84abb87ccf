"""Sessions of protocol v2 over threads that are followed: subscriptions, cuts, numbers."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

from thread_logs import FollowedThread, RunLog

from langgraph_serverless.domain.events import GAP, Event
from langgraph_serverless.domain.protocol_events import ProtocolEvent, ThreadTranslator
from langgraph_serverless.domain.protocol_filters import CHANNELS, parse_subscription
from langgraph_serverless.domain.thread_events import ThreadEvent
from langgraph_serverless.services.protocol_streams import ProtocolSession, Replayed
from langgraph_serverless.services.thread_streams import Left, ThreadStreamService

CHILD = "child:25580dc6-e8b9-ade5-7877-066739353c94"


def thread() -> tuple[list[RunLog], list[ProtocolEvent]]:
    """Two runs of either kind, and everything that there is to be told of them."""
    first = RunLog().begin().say("values", {"a": 1}).say("values", {"b": 1}, [CHILD]).say("custom", {"name": "x"}).end()
    second = RunLog(base=first.after, protocol=False, began=2000).begin().emit("updates", {"n": 1, "m": 2}).end()
    third = RunLog(base=second.after, began=3000).begin().say("values", {"a": 2}).end()
    translator = ThreadTranslator()
    logs = [first, second, third]
    return logs, [event for log in logs for entry in log.entries for event in translator.events(entry)]


def session(followed: FollowedThread) -> ProtocolSession:
    return ProtocolSession(cast(ThreadStreamService, followed), uuid.uuid4(), keepalive=0.2)


def asking(*channels: str, **others: Any) -> Any:
    return parse_subscription({"channels": list(channels or CHANNELS), **others})


async def read(opened: ProtocolSession, replays: int = 1) -> list[ProtocolEvent | Replayed]:
    """Everything up to the end of so many replays."""
    found: list[ProtocolEvent | Replayed] = []
    async with aclosing(opened.events()) as batches, asyncio.timeout(10):
        async for items in batches:
            found += items
            replays -= sum(isinstance(item, Replayed) for item in items)
            if replays <= 0:
                return found
    return found


async def test_every_cut_and_every_filter() -> None:
    logs, events = thread()
    followed = FollowedThread(*logs)
    wholes = [{}, {"namespaces": [[]], "depth": 0}, {"namespaces": [["child"]]}]
    for others in wholes:
        for channels in ((), ("values",), ("custom:x", "lifecycle"), ("custom:y",)):
            for since in (0, *(event.seq for event in events)):
                wanted = asking(*channels, **others, since=since)
                expected = [
                    event
                    for event in events
                    if event.seq > since
                    and wanted.wants(event.method, event.namespace)
                    and (event.method != "custom" or wanted.wants_named(event.custom_name))
                ]
                opened = session(followed)
                subscription_id = opened.subscribe(wanted)
                assert await read(opened) == [*expected, Replayed(subscription_id, len(expected))]
                assert opened.applied_through_seq == events[-1].seq


async def test_a_thread_that_is_made_anew_is_gone_on_with() -> None:
    """Its numbers begin anew: those of the thread that had its id before say nothing about them."""
    (before, *_), _ = thread()
    anew = RunLog(base=0, began=4000).begin().say("values", {"a": 3}).end()
    translator = ThreadTranslator()
    expected = [event for entry in anew.entries for event in translator.events(entry)]
    for since in (0, 2):
        followed = FollowedThread(before)
        opened = session(followed)
        opened.subscribe(asking(since=since))
        found: list[Any] = []
        async with aclosing(opened.events()) as batches, asyncio.timeout(10):
            async for items in batches:
                if not found and items:
                    followed.grow(*anew.entries)
                found += items
                if len(found) > 1 and found[-1] == expected[-1]:
                    break
        assert [each for each in found if isinstance(each, ProtocolEvent)][-len(expected) :] == expected


async def test_subscriptions_are_united() -> None:
    """A later one is given what was there, but for what the first had anyway; both go on."""
    logs, events = thread()
    followed = FollowedThread(*logs)
    opened = session(followed)
    first = opened.subscribe(asking("values", since=events[2].seq))
    values = [event for event in events if event.method == "values"]
    found: list[ProtocolEvent | Replayed] = []
    async with aclosing(opened.events()) as batches, asyncio.timeout(10):
        async for items in batches:
            found += items
            if len(found) == 2:
                assert found == [values[-1], Replayed(first, 1)]
                second = opened.subscribe(asking("values", "updates"))
            if len(found) == 7 and isinstance(found[-1], Replayed):
                update, *_ = RunLog(base=events[-1].seq, began=4000).say("updates", {"z": 1}, node="z").entries
                followed.grow(update)
            if len(found) == 8:
                break
    replayed = [event for event in events if event.method in {"values", "updates"} and event != values[-1]]
    assert found[2:7] == [*replayed, Replayed(second, 4)]
    assert isinstance(found[7], ProtocolEvent)
    assert found[7].seq == events[-1].seq + 1
    assert opened.unsubscribe(first)
    assert not opened.unsubscribe(first)


async def test_silence_is_broken_also_by_what_is_not_wanted() -> None:
    log = RunLog().begin()
    followed = FollowedThread(log)
    opened = session(followed)
    opened.subscribe(asking("tools"))
    empty = 0
    async with aclosing(opened.events()) as batches, asyncio.timeout(10):
        async for items in batches:
            empty += not items
            if empty == 3:
                break
            log.say("values", {"a": 1})
            followed.grow(log.entries[-1])


async def test_a_thread_that_is_not_followed_ends_the_session() -> None:
    followed = FollowedThread()
    followed.closed = True
    opened = session(followed)
    opened.subscribe(asking())
    async with asyncio.timeout(5):
        assert [items async for items in opened.events()] == []


async def test_a_session_without_subscriptions_follows_nothing() -> None:
    logs, events = thread()
    followed = FollowedThread(*logs)
    opened = session(followed)
    reading = asyncio.create_task(read(opened))
    await asyncio.sleep(0)
    assert followed.opened == 0
    opened.subscribe(asking("lifecycle"))
    found = await reading
    assert [json.loads(event.data)["method"] for event in found if isinstance(event, ProtocolEvent)] == [
        "lifecycle"
    ] * 6
    assert followed.opened == 1
    assert opened.applied_through_seq == events[-1].seq


def ended(log: RunLog, *, next_base: int | None) -> Left:
    """What is left of a thread whose last run was this one, and whose logs are gone."""
    end = log.entries[-1].event
    return Left(
        True, next_base, [ThreadEvent(log.run, Event(name, data)) for name, data in ((GAP, b""), (end.name, end.data))]
    )


async def test_who_comes_back_when_all_is_gone_gets_the_state() -> None:
    log = RunLog().begin().say("values", {"a": 1}).end("success", {"a": 1})
    told = [("values", {"a": 1}), ("lifecycle", {"event": "completed", "graph_name": "graph"})]

    async def back(since: int, left: Left) -> list[tuple[int, str, Any]]:
        opened = session(FollowedThread(left=left))
        opened.subscribe(asking(since=since))
        return [
            (event.seq, event.method, json.loads(event.data)["params"]["data"])
            for event in await read(opened)
            if isinstance(event, ProtocolEvent)
        ]

    # nobody remembers the numbers: those of the next run are larger
    assert await back(2, ended(log, next_base=None)) == [(3, *told[0]), (4, *told[1])]
    # it is known which numbers the end had, and who has had it
    assert await back(1, ended(log, next_base=3)) == [(2, *told[0]), (3, *told[1])]
    assert await back(3, ended(log, next_base=3)) == []
    # what is there is only slow to come
    assert await back(1, replace(ended(log, next_base=3), gone=False)) == []
    # of another thread that had this id
    assert await back(99, ended(log, next_base=3)) == [(2, *told[0]), (3, *told[1])]
    # a run goes on, and will end; or there never was one
    assert await back(1, Left(True, None, ())) == []
    assert await back(1, Left(True, None, None)) == []
    assert await back(0, ended(log, next_base=3)) == []


async def test_numbers_that_nobody_gave_out_leave_nobody_in_silence() -> None:
    log = RunLog().begin()
    followed = FollowedThread(left=Left(True, None, None))
    opened = session(followed)
    opened.subscribe(asking(since=99))
    async with aclosing(opened.events()) as batches, asyncio.timeout(10):
        async for items in batches:
            if items and isinstance(items[-1], Replayed):
                followed.grow(*log.entries)
            elif items:
                assert [item.seq for item in items if isinstance(item, ProtocolEvent)] == [1]
                break


async def test_a_run_whose_log_is_lost_while_it_is_listened_to_ends_for_who_was_ahead() -> None:
    """Its end is made from its row, with a number that this client has had."""
    log = RunLog().begin().end("success", {"a": 1})
    followed = FollowedThread(left=Left(True, None, ()))
    opened = session(followed)
    opened.subscribe(asking("values", "lifecycle", since=50))
    found: list[Any] = []
    async with aclosing(opened.events()) as batches, asyncio.timeout(10):
        async for items in batches:
            found += [item for item in items if isinstance(item, ProtocolEvent)]
            if any(isinstance(item, Replayed) for item in items):
                followed.left_behind = ended(log, next_base=None)
                followed.grow(*log.entries)
            if found and not items:
                break  # it is told once
    assert [(event.seq, event.method) for event in found] == [(51, "values"), (52, "lifecycle")]
