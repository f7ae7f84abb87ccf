"""A queue of 50,000 pending runs: what a worker's statements read of it, looked at in their plans.

A claim, with and without fairness groups, and the look for the next delayed run must go through the queue's indexes and read a
handful of rows, however many wait; also if all of those that wait may not run. Times are printed, not asserted.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.persistence import priorities, queue, run_creation

PENDING, RUNNING, GROUPS = 50_000, 200, 100
#: Blocks that a statement may read: for a few rows, and for a step per group on top of that.
FEW, EACH_GROUP = 400, 12

_THREADS = f"""
INSERT INTO lgs.thread (thread_id, status) SELECT md5(n::text)::uuid, 'busy' FROM generate_series(1, {PENDING}) n
"""
# nearly all of one group and due; the others at the end of the queue, some of them delayed
_RUNS = f"""
INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, concurrency_key, priority, created_at, available_at,
    status, lease_token, lease_expires_at)
SELECT gen_random_uuid(), md5(n::text)::uuid, gen_random_uuid(), 'g', jsonb_build_object('input', repeat('x', 500)),
    CASE WHEN n > {PENDING - 10 * GROUPS} THEN 'g' || (n % {GROUPS}) ELSE 'flood' END, CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END,
    s.at, s.at + CASE WHEN n % 500 = 7 THEN interval '1 h' ELSE interval '0' END,
    CASE WHEN n <= {RUNNING} THEN 'running' ELSE 'pending' END,
    CASE WHEN n <= {RUNNING} THEN gen_random_uuid() END, CASE WHEN n <= {RUNNING} THEN now() + interval '1 h' END
FROM generate_series(1, {PENDING}) n, LATERAL (SELECT now() - make_interval(secs => {PENDING} - n) AS at) s
"""
# of every thread, so that to look for those of a few is worth the index
_CHECKPOINTS = f"""
INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)
SELECT md5(n::text)::uuid::text, '1', '{{}}' FROM generate_series(1, {PENDING}) n
"""
_CLAIM = {"owner": "w", "limit": 10, "lease": 30, "last_attempt": 3, "on_trial": False}


@pytest.fixture(scope="module")
def connection(databases: Any) -> Iterator[psycopg.Connection[Any]]:
    """To a database with all the rows; what is done to it is not kept."""
    uri = databases.create()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(_THREADS)
        connection.execute(_RUNS)
        connection.execute(_CHECKPOINTS)
        connection.execute("VACUUM ANALYZE lgs.thread, lgs.run, checkpoints")
        yield connection
    databases.drop(uri)


@dataclass
class Read:
    """What a statement has read."""

    rows: int
    blocks: int
    milliseconds: float
    indexes: set[str]
    scanned: set[str]


def explained(connection: psycopg.Connection[Any], statement: Any, parameters: Any = None) -> Read:
    with connection.transaction(force_rollback=True):
        query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        row = connection.execute(query, parameters).fetchone()  # type: ignore[arg-type]
    assert row is not None
    root = row[0][0]
    plan = root["Plan"]
    nodes = [plan]
    for node in nodes:
        nodes.extend(node.get("Plans", ()))
    return Read(
        rows=plan["Actual Rows"],
        blocks=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        milliseconds=root["Planning Time"] + root["Execution Time"],
        indexes={node["Index Name"] for node in nodes if "Index Name" in node},
        scanned={node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"},
    )


def fairly(limits: GroupLimits) -> dict[str, Any]:
    return {**_CLAIM, **priorities.limits(limits)}


def test_the_next_delayed_run_is_found_in_the_index(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT lgs.next_due_v1()")  # plans it, once
    read = explained(connection, "SELECT lgs.next_due_v1()")
    print(f"\nnext_due: {read}")
    assert read.rows == 1
    assert read.blocks < 40


def test_a_claim_reads_the_front_of_the_queue(connection: psycopg.Connection[Any]) -> None:
    read = explained(connection, queue.CLAIM, _CLAIM)
    print(f"\nclaim: {read}")
    assert (read.rows, read.scanned) == (10, set())
    assert "run_queue" in read.indexes
    assert read.blocks < FEW


@pytest.mark.parametrize("full", [False, True], ids=["room for all", "the flood has no room"])
def test_a_fair_claim_reads_a_few_runs_of_each_group(connection: psycopg.Connection[Any], full: bool) -> None:
    read = explained(connection, queue.CLAIM_FAIRLY, fairly(GroupLimits(of={"flood": RUNNING} if full else {})))
    print(f"\nclaim_fairly, {'the flood full' if full else 'no limits'}: {read}")
    assert (read.rows, read.scanned) == (10, set())
    assert "run_queue_of_group" in read.indexes
    assert read.blocks < FEW + EACH_GROUP * 2 * GROUPS


def test_a_fair_claim_in_vain_is_cheap(connection: psycopg.Connection[Any]) -> None:
    """The queue is long, and nothing of it may run."""
    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM lgs.run WHERE concurrency_key <> 'flood'")
        read = explained(connection, queue.CLAIM_FAIRLY, fairly(GroupLimits(most=RUNNING)))
    print(f"\nclaim_fairly, one group, full: {read}")
    assert (read.rows, read.scanned) == (1, set())  # which says that there is none
    assert read.blocks < FEW + 10 * GROUPS  # what has just been deleted is still in the index


@pytest.mark.parametrize("full", [False, True], ids=["room for all", "the flood has no room"])
def test_what_waits_for_a_worker_is_counted_up_to_a_limit(connection: psycopg.Connection[Any], full: bool) -> None:
    """A worker that is full asks every few seconds."""
    read = explained(connection, queue.RUNNABLE, {"up_to": queue.MOST_RUNNABLE})
    print(f"\nrunnable: {read}")
    assert read.blocks < 12 * queue.MOST_RUNNABLE
    limits = priorities.limits(GroupLimits(of={"flood": RUNNING} if full else {}))
    fair = explained(connection, queue.RUNNABLE_FAIRLY, {**limits, "up_to": queue.MOST_RUNNABLE})
    print(f"runnable_fairly: {fair}")
    assert "run_queue_of_group" in fair.indexes
    assert fair.blocks < 12 * queue.MOST_RUNNABLE + EACH_GROUP * 12 * GROUPS


def test_making_and_ending_a_run_reads_its_own_rows(connection: psycopg.Connection[Any]) -> None:
    """What functions read is not in the plan, but counted with them; a scan of any table here would be thousands of blocks."""
    assistant, token = uuid.uuid4(), uuid.uuid4()
    made = connection.execute(
        "INSERT INTO lgs.assistant (assistant_id, graph_id, version, name) VALUES (%s, 'g', 1, 'a') RETURNING version, updated_at",
        (assistant,),
    ).fetchone()
    assert made is not None
    row = connection.execute("SELECT thread_id FROM lgs.run WHERE status = 'running' LIMIT 1").fetchone()
    assert row is not None
    new = {
        "temporary": False,
        "ttl_strategy": None,
        "ttl_minutes": None,
        "webhook": None,
        "trace": None,
        "after_seconds": 0.0,
    }
    new |= {
        "tenant": "",
        "assistant_id": assistant,
        "assistant_version": made[0],
        "assistant_time": made[1],
        "graph_id": "g",
    }
    new |= {"makes_thread": True, "multitask_strategy": "enqueue"}
    new |= dict.fromkeys(("new_metadata", "metadata", "said", "thread_metadata", "thread_config"), Jsonb({}))
    new |= {"kwargs": Jsonb({"config": {"metadata": {}}})}
    end = {
        "token": token,
        "status": "success",
        "thread_status": "idle",
        "write_values": True,
        "temporary_retention": 60.0,
    }
    end |= {"output_is_values": True, "values": Jsonb({}), "interrupts": Jsonb({})}
    end |= dict.fromkeys(
        ("save_rows", "save_blobs", "save_writes", "output", "error", "last_error", "last_node", "thread_error")
    )
    for thread in (uuid.uuid4(), row[0]):  # a new one, and one that has a run
        for look in ("plan", "read"):  # it is planned once
            run = uuid.uuid4()
            with connection.transaction(force_rollback=True):
                parameters = {**new, **end, "run_id": run, "thread_id": thread}
                create = explained(connection, run_creation.CREATE_RUN, parameters)
                assert create.rows == 1
                connection.execute(run_creation.CREATE_RUN, parameters)
                begin = "UPDATE lgs.run SET status = 'running', lease_token = %s, lease_expires_at = now() WHERE run_id = %s"
                if thread != row[0]:
                    connection.execute(begin, (token, run))
                ended = explained(connection, queue.SETTLE, parameters)
                gone = explained(connection, queue.ROLL_BACK, parameters)
                if look == "read":
                    print(f"\ncreate: {create}\nsettle: {ended}\nroll back: {gone}")
                    assert ended.rows == gone.rows == (thread != row[0])
                    assert max(create.blocks, ended.blocks, gone.blocks) < FEW
