"""Claims where the queue has fairness groups: whose turn it is, and limits that no number of claimers gets past."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import moves
import psycopg
import pytest
from psycopg.rows import dict_row

from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.domain.runs import ClaimedRun, RunOutcome, RunStatus
from langgraph_serverless.persistence.doctor import DoctorRepository
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.persistence.system import SystemRepository
from langgraph_serverless.settings import Settings

FAIR = GroupLimits()
#: Stands for runs without a group.
NONE = "default"

pytestmark = pytest.mark.usefixtures("clean_database")


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.replace(pool_max_size=16))
    yield database
    await database.aclose()


class Queue:
    """Runs in the database, without anybody who asked for them."""

    def __init__(self, connection: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.connection = connection

    async def add(
        self, group: str, count: int = 1, *, priority: int = 0, age: float = 0, thread: uuid.UUID | None = None
    ) -> None:
        for number in range(count):
            thread_id = thread or uuid.uuid4()
            await self.connection.execute(
                "INSERT INTO lgs.thread (thread_id, status) VALUES (%s, 'busy') ON CONFLICT DO NOTHING", [thread_id]
            )
            await self.connection.execute(
                "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, priority, concurrency_key,"
                " created_at, available_at) SELECT gen_random_uuid(), %s, gen_random_uuid(), 'g', '{}', %s, %s, at, at"
                " FROM (SELECT now() - make_interval(secs => %s)) AS times (at)",
                [thread_id, priority, None if group == NONE else group, age - number * 0.001],
            )

    async def rows(self, query: str) -> list[dict[str, Any]]:
        return await (await self.connection.execute(query)).fetchall()  # type: ignore[arg-type]


@pytest.fixture
async def queue(database_uri: str) -> AsyncIterator[Queue]:
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True, row_factory=dict_row) as connection:
        yield Queue(connection)


async def claim(database: Database, limits: GroupLimits | None, limit: int = 10) -> Sequence[ClaimedRun]:
    return await QueueRepository(database, limits).claim(owner="w", limit=limit, lease=30)


async def due_in(queue: Queue) -> float | None:
    """What a look that finds no more says of delayed runs."""
    [row] = await queue.rows("SELECT lgs.next_due_v1() AS due")
    due: float | None = row["due"]
    return due


async def groups_of(queue: Queue, claimed: Sequence[ClaimedRun]) -> Counter[str]:
    rows = await queue.rows("SELECT run_id, COALESCE(concurrency_key, 'default') AS name FROM lgs.run")
    names = {row["run_id"]: row["name"] for row in rows}
    return Counter(names[each.run.run_id] for each in claimed)


async def test_groups_share_what_a_claim_takes(database: Database, queue: Queue) -> None:
    await queue.add("flood", 20, age=60)
    await queue.add("one", 3)
    await queue.add(NONE, 3)
    assert await groups_of(queue, await claim(database, FAIR, 6)) == {"flood": 2, "one": 2, NONE: 2}
    # without groups it goes by age alone
    assert await groups_of(queue, await claim(database, None, 6)) == {"flood": 6}
    # who has the fewest running is next, and what others do not want is anybody's
    assert await groups_of(queue, await claim(database, FAIR, 2)) == {"one": 1, NONE: 1}
    assert await groups_of(queue, await claim(database, FAIR, 10)) == {"flood": 10}


async def test_the_oldest_of_a_group_is_first_and_priority_before_fairness(database: Database, queue: Queue) -> None:
    await queue.add("a", 1, age=5)
    await queue.add("a", 1, age=50)
    await queue.add("b", 5, priority=1, age=500)
    await queue.add("c", 1, priority=-5)
    taken = [await claim(database, FAIR, 1) for _ in range(4)]
    assert [await groups_of(queue, each) for each in taken] == [{"c": 1}, {"a": 1}, {"a": 1}, {"b": 1}]
    assert taken[1][0].run.created_at < taken[2][0].run.created_at


async def test_a_group_gets_no_more_than_its_limit(database: Database, queue: Queue) -> None:
    for group in ("a", "b", "free", NONE):
        await queue.add(group, 5, age=9)
    await queue.add("a", 5, priority=-1)  # the limit is for all priorities together
    limits = GroupLimits(most=2, of={"b": 3, "free": 0, "unheard of": 1})
    assert await QueueRepository(database, limits).runnable() == 2 + 3 + 5 + 2
    taken = await groups_of(queue, await claim(database, limits, 20))
    assert taken == {"a": 2, "b": 3, "free": 5, NONE: 2}
    assert await claim(database, limits, 20) == []
    assert await QueueRepository(database, limits).runnable() == 0
    # what is above waits as it should, and alarms nobody
    async with database.connection() as connection:
        for groups, over, nobody_takes in ((limits, 8 + 2 + 3, 0), (FAIR, 0, 13)):
            measured = await SystemRepository().measure_queue(connection, groups)
            assert (measured["over_limit"], measured["unblocked_wait_max_seconds"] is None) == (over, not nobody_takes)
            waiting = await DoctorRepository().waiting_runs(connection, seconds=-60, groups=groups, limit=50)
            assert len(waiting) == nobody_takes
    assert await QueueRepository(database, None).runnable() == 8 + 2 + 3
    ((a, *_),) = [await queue.rows("SELECT run_id FROM lgs.run WHERE concurrency_key = 'a' AND status = 'running'")]
    await queue.connection.execute(
        "UPDATE lgs.run SET status = 'pending', lease_token = NULL, lease_expires_at = NULL, attempt = 0,"
        " lease_history = '[]' WHERE run_id = %s",
        [a["run_id"]],
    )
    assert await groups_of(queue, await claim(database, limits, 20)) == {"a": 1}


async def test_a_group_that_cannot_go_on_keeps_nobody_waiting(database: Database, queue: Queue) -> None:
    thread = uuid.uuid4()
    await queue.add("stuck", 30, age=60, thread=thread)  # one at a time
    await queue.add("later", 3, age=-60)
    await queue.add("b", 2)
    assert await groups_of(queue, await claim(database, FAIR, 20)) == {"stuck": 1, "b": 2}
    look = await QueueRepository(database, FAIR).look(owner="w", limit=20, lease=30)
    assert look.runs == []
    assert look.due == pytest.approx(await due_in(queue), abs=5)
    due = await due_in(queue)
    assert due is not None
    assert 30 < due <= 60


async def test_the_earliest_delayed_run_of_any_priority_is_found(database: Database, queue: Queue) -> None:
    assert await due_in(queue) is None
    await queue.add(NONE, 3, age=5)
    assert await due_in(queue) is None
    await queue.add("x", 1, priority=-2, age=-500)
    await queue.add("x", 1, priority=3, age=-50)
    due = await due_in(queue)
    assert due is not None
    assert 20 < due <= 50


async def test_no_number_of_claimers_gets_past_a_limit(database: Database, queue: Queue) -> None:
    """Claimers, hand-offs, ends and lost leases all at once; what was running when is noted by the database itself."""
    most, groups = 4, ("a", "b", NONE)
    for group in groups:
        await queue.add(group, 60)
    repository, chance = QueueRepository(database, GroupLimits(most=most)), random.Random(7)
    done = 0

    async def work(number: int) -> None:
        nonlocal done
        while done < 180:
            # those that take a last attempt look at other runs, and count the same ones
            claimed = await repository.claim(
                owner=f"w{number}", limit=chance.randint(1, 3), lease=30, last_attempt=2, on_trial=number % 2 == 0
            )
            for each in claimed:
                await asyncio.sleep(chance.uniform(0, 0.01))
                fate = chance.random()
                if fate < 0.2:
                    await repository.hand_off(each.lease)
                elif fate < 0.5:  # its worker is lost
                    await queue.connection.execute(
                        "UPDATE lgs.run SET lease_expires_at = now() - interval '1 s' WHERE run_id = %s",
                        [each.run.run_id],
                    )
                    await repository.requeue_expired(max_attempts=100)
                else:
                    end = RunOutcome(status=RunStatus.SUCCESS)
                    await repository.settle(
                        each.lease, each.run.thread_id, end, thread_error=None, temporary_retention=1
                    )
                    done += 1
            if not claimed:
                await asyncio.sleep(0.002)

    await queue.connection.execute(moves.WATCH)
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(work(number) for number in range(12)))
        highest = await queue.rows(moves.MOST_RUNNING)
    finally:
        await queue.connection.execute(moves.UNWATCH)
    assert {row["name"]: row["most"] for row in highest} == dict.fromkeys(groups, most)
