"""Worker functions on the deployed stack: a burst of runs raises them to their limit, then there are none; an idle stack only ticks.

Invocations are counted by what each leaves in its function's log. LocalStack ignores the template's reserved concurrency, so the
test sets it, and with it what the functions are told of it (``WORKER_CONCURRENCY``).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from figures import Figures, sizes
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis

from langgraph_serverless.queue.slots import SlotBoard

pytestmark = pytest.mark.e2e

JOBS = 4


def invocations(stack: Any) -> Counter[str]:
    """How often each function has been invoked; of those that still run nothing is seen."""
    logs, counted = stack.aws.client("logs"), Counter[str]()
    for name, function in stack.functions.items():
        group = f"/aws/lambda/{function}"
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            continue
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
            counted[name] += sum(event["message"].count("START RequestId: ") for event in page["events"])
    return counted


async def settled(stack: Any, *, seconds: float = 120) -> Counter[str]:
    """The same, once nobody works any more and all have written their logs."""
    until, before = time.monotonic() + seconds, Counter[str]()
    async with Redis.from_url(stack.redis_uri) as redis:
        board = SlotBoard(redis, "lgs")
        while True:
            now = await asyncio.to_thread(invocations, stack)
            if await board.workers() == 0 and now["worker"] == before["worker"]:
                return now
            assert time.monotonic() < until, "workers are still there"
            before = now
            await asyncio.sleep(1)


def connections(stack: Any) -> int:
    with psycopg.connect(stack.database_uri) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
async def peak(stack: Any) -> AsyncIterator[list[int]]:
    """How many workers have been on the board at once."""
    seen, over = [0], asyncio.Event()

    async def look() -> None:
        async with Redis.from_url(stack.redis_uri) as redis:
            board = SlotBoard(redis, "lgs")
            while not over.is_set():
                seen[0] = max(seen[0], await board.workers())
                await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    yield seen
    over.set()  # a client of Redis may swallow a cancellation
    await looking


@sizes(timeout=1200, runs=(40, 1000), limit=(3, 3))
async def test_a_burst_raises_workers_to_the_limit_and_back_to_zero(
    size: SimpleNamespace, client: LangGraphClient, stack: Any, peak: list[int], figures: Figures
) -> None:
    lambda_, told = stack.aws.client("lambda"), {"WORKER_CONCURRENCY": str(size.limit), "N_JOBS_PER_WORKER": str(JOBS)}
    with ExitStack() as changed:
        for function in ("runs", "worker"):
            changed.enter_context(stack.configured(function, **told))
        name = stack.functions["worker"]
        lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=size.limit)
        changed.callback(lambda_.delete_function_concurrency, FunctionName=name)
        before = await settled(stack)
        began = time.monotonic()
        given = {"assistant_id": "long_run", "input": {"steps": 2, "seconds": 0.1}}
        left = size.runs

        async def create() -> None:
            nonlocal left
            while left > 0:
                count = min(left, 5)
                left -= count
                if count % 2:
                    await client.runs.create_batch([given] * count)
                else:
                    for _ in range(count):
                        await client.runs.create(None, **given)

        peak[0] = 0
        await asyncio.gather(create(), create())
        with psycopg.connect(stack.database_uri, autocommit=True) as connection:
            while True:
                row = connection.execute(
                    "SELECT count(*) FILTER (WHERE status IN ('pending', 'running')) FROM lgs.run"
                ).fetchone()
                if row == (0,):
                    break
                assert time.monotonic() - began < size.runs + 60, row
                await asyncio.sleep(0.1)
        drain = time.monotonic() - began
        after = await settled(stack)
        to_zero = time.monotonic() - began - drain
        leaves = await asyncio.to_thread(stack.log_lines, "worker", "The worker leaves")
    woken = after["worker"] - before["worker"]
    mine = leaves[-woken:]
    empty = sum(not any(line[name] for name in ("succeeded", "failed", "handed_off", "lost")) for line in mine)
    figures(
        "C6 LocalStack burst",
        runs=size.runs,
        limit=size.limit,
        invocations=woken,
        peak=peak[0],
        empty=empty,
        drain=drain,
        to_zero=to_zero,
    )
    assert sum(line["succeeded"] for line in mine) == size.runs
    assert peak[0] == size.limit
    assert woken - empty <= 2 * size.limit
    assert empty <= size.limit


@sizes(timeout=1200, ticks=(2, 10))
async def test_an_idle_stack_ticks_and_does_nothing_else(size: SimpleNamespace, stack: Any, figures: Figures) -> None:
    """What an hour is made of: 60 of these ticks."""
    before, held = await settled(stack), connections(stack)
    began = time.monotonic()
    if size.full:  # those of the schedule
        while (await asyncio.to_thread(invocations, stack))["scheduler"] < before["scheduler"] + size.ticks:
            assert time.monotonic() - began < 60 * (size.ticks + 2)
            await asyncio.sleep(2)
    else:
        for _ in range(size.ticks):
            report = await asyncio.to_thread(stack.invoke, "scheduler")
            assert {name: value for name, value in report.items() if value} == {}
    after = await settled(stack)
    made = after - before
    figures("C6 LocalStack idle", seconds=time.monotonic() - began, held=held, **dict(made))
    assert set(made) == {"scheduler"}
    # the schedule itself may tick meanwhile
    assert size.ticks <= made["scheduler"] <= size.ticks + 1 + (time.monotonic() - began) / 60
    assert connections(stack) <= held, "a tick leaves no connection behind"
