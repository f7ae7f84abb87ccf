"""Rows of the queue as what workers know of them: claimed runs, runs that are only to be ended, and what an end leaves.

A run that cannot be decrypted, or whose row was damaged, can be claimed all the same: whoever has it has to end it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.encryption import SCOPE_KEY, UNREADABLE, scope_of
from langgraph_serverless.domain.run_kwargs import request_id_of
from langgraph_serverless.domain.runs import CancelAction, CancelRequest, ClaimedRun, Lease, correlation
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.persistence.runs import origin_from, run_from_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the queue has found."""

    runs: Sequence[ClaimedRun]
    #: Seconds until the earliest delayed run is due; None if none waits, or if so many were found that nobody has asked.
    due: float | None = None
    #: It has met another worker and taken nothing of what else there may be.
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the end of a run leaves to be done."""

    #: Its thread has further runs waiting.
    more: bool
    #: The webhook that was put into the outbox.
    outbox_id: uuid.UUID | None
    #: Notifications for other agents were put there too.
    pushed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhaustedRun:
    """A run whose last attempt was lost, taken over in order to end it."""

    lease: Lease
    thread_id: uuid.UUID
    graph_id: str
    attempts: int
    last_error: str | None
    #: What its last worker had noted.
    nodes: Sequence[str]
    #: It was to be cancelled, which took its workers away as well.
    cancel: CancelRequest | None
    #: Of the request that has made it.
    request_id: str | None

    @property
    def about(self) -> dict[str, Any]:
        """What every line of the log says about it; see ``ClaimedRun.about``."""
        return {
            "run_id": str(self.lease.run_id),
            "thread_id": str(self.thread_id),
            "graph_id": self.graph_id,
            "attempt": self.attempts,
            "lease": self.lease.name,
            **correlation(self.request_id, None),
        }


def cancel_from(row: Mapping[str, Any]) -> CancelRequest | None:
    return CancelRequest(CancelAction(row["cancel_action"]), row["cancel_reason"]) if row["cancel_action"] else None


def lease_from(row: Mapping[str, Any]) -> Lease:
    epoch = row["attempt"] + row["handoffs"]
    return Lease(
        run_id=row["run_id"],
        token=row["lease_token"],
        epoch=epoch,
        origin=origin_from(row),
        # not read of runs that are only taken over in order to end them
        tenant=row.get("tenant", ""),
    )


def claimed_from(row: Mapping[str, Any]) -> ClaimedRun:
    if UNREADABLE in row:
        # it has been claimed, and is ended by whoever has: its runner finds nothing in its kwargs but this
        kwargs = {UNREADABLE: row[UNREADABLE], SCOPE_KEY: scope_of(row["kwargs"])}
        row = {**row, "kwargs": kwargs, "metadata": {}, "thread_metadata": {}}
    return ClaimedRun(
        run=run_from_row(row),
        lease=lease_from(row),
        graph_id=row["graph_id"],
        attempt=row["attempt"],
        handoffs=row["handoffs"],
        continued=row["continued"],
        age=max(0.0, row["age"]),
        temporary=row["temporary"],
        cancel=cancel_from(row),
        thread_metadata=row["thread_metadata"],
        has_checkpoints=row["has_checkpoints"],
        waited=max(0.0, row["waited"]) if row["attempt"] == 1 and row["handoffs"] == 0 else None,
        request_id=request_id_of(row["kwargs"]),
        cron_id=row["cron_id"],
        trace=TraceContext.from_json(row["trace"]),
    )
