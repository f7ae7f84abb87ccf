"""What must be true of the database at every moment, as queries that find no row.

Each has its number in docs/design/invariants.md, the sentence that a row of it means, and what an operator can do about one.
Tests run all of them after whatever they did; ``langgraph-serverless doctor`` runs them on a deployment's own database. They
only read; some of them read whole tables, so no request ever waits for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg.rows import DictRow

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """One of them."""

    number: str
    #: What is wrong if a row is found.
    broken: str
    sql: LiteralString
    #: What to do about it.
    advice: str
    #: A statement that mends one row, with the row's columns in braces; empty if none is safe to give.
    mend: str = ""


_CONSTRAINT = "A constraint of the schema forbids this, so it has been dropped: compare the schema with a fresh one."
_REPORT = "Nothing of this server writes that. Please report it, with the server's log lines about the run."

INVARIANTS = (
    Invariant(
        number="1a",
        broken="A thread is busy without a pending or running run.",
        sql=_SQL["busy_without_run"],
        advice="It refuses what an idle thread takes. Give it back the status that its last run left.",
        mend="UPDATE lgs.thread t SET status = settled_status WHERE thread_id = '{thread_id}' AND status = 'busy' AND NOT"
        " EXISTS (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'));",
    ),
    Invariant(
        number="1b",
        broken="A thread has a pending or running run and is not busy.",
        sql=_SQL["run_without_busy"],
        advice="It mends itself when the run ends. To show it at once, mark the thread.",
        mend="UPDATE lgs.thread t SET status = 'busy' WHERE thread_id = '{thread_id}' AND EXISTS"
        " (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'));",
    ),
    Invariant(number="2", broken="Two runs are running on one thread.", sql=_SQL["two_running"], advice=_CONSTRAINT),
    Invariant(
        number="3",
        broken="A running run has lost its worker, and nobody has taken it back.",
        sql=_SQL["lost_lease"],
        advice="Every worker and the scheduler do that when they come by, so none of them does: start a worker, or look"
        " whether the scheduler function is invoked every minute and what it logs.",
    ),
    Invariant(number="4", broken="A run has ended only halfway.", sql=_SQL["ended_halfway"], advice=_CONSTRAINT),
    Invariant(
        number="5",
        broken="A run waits on a free thread although a worker is there.",
        sql=_SQL["left_waiting"],
        advice="Look at the worker's log for 'cannot claim'.",
    ),
    Invariant(
        number="6",
        broken="A checkpoint was written under a token that none of its thread's runs ever had.",
        sql=_SQL["foreign_checkpoint"],
        advice=_REPORT,
    ),
    Invariant(
        number="7",
        broken="A run has forked: two of its checkpoints have the same step and different parents.",
        sql=_SQL["forked_run"],
        advice=_REPORT,
    ),
    Invariant(
        number="8",
        broken="A checkpoint, blob or write belongs to a thread that is gone.",
        sql=_SQL["orphaned_state"],
        advice="Nobody reads it and it takes room. Delete it.",
        mend="DELETE FROM {place} c WHERE thread_id = '{thread_id}' AND NOT EXISTS"
        " (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = c.thread_id);",
    ),
    Invariant(
        number="9a",
        broken="A webhook was noted for a run that has not ended.",
        sql=_SQL["early_webhook"],
        advice=_REPORT,
    ),
    Invariant(
        number="9b",
        broken="A run with a webhook has ended, and none was noted: its receiver does not hear of it.",
        sql=_SQL["missing_webhook"],
        advice="Tell the receiver, or let it ask for the run. " + _REPORT,
    ),
    Invariant(
        number="10", broken="A cron has made two runs for one due time.", sql=_SQL["cron_twice"], advice=_CONSTRAINT
    ),
    Invariant(
        number="11",
        broken="An Idempotency-Key has no answer, or that of an error, so that a repeat fails until it is forgotten.",
        sql=_SQL["kept_failure"],
        advice="Forget these keys. " + _REPORT,
        mend="DELETE FROM lgs.idempotency WHERE status NOT BETWEEN 200 AND 299 OR response = '';",
    ),
    Invariant(
        number="12", broken="A row's tenant differs from its parent's.", sql=_SQL["mixed_tenants"], advice=_REPORT
    ),
    Invariant(
        number="13",
        broken="A run's attempts, hand-offs and leases do not add up.",
        sql=_SQL["miscounted"],
        advice="The run may get one attempt too many or too few; nothing else depends on it. " + _REPORT,
    ),
)


async def find_broken(
    connection: Connection,
    invariant: Invariant,
    *,
    worker: bool,
    pending_seconds: float,
    sweep_seconds: float,
    limit: int,
) -> Sequence[DictRow]:
    """Up to `limit` rows that break an invariant.

    Args:
        worker: whether a worker is running that has to take pending runs.
        pending_seconds: how long a run may wait on a free thread.
        sweep_seconds: how long it may be until somebody looks for lost leases.
    """
    parameters = {"worker": worker, "pending": pending_seconds, "sweep": sweep_seconds}
    return await (await connection.execute(invariant.sql, parameters)).fetchmany(limit)
