"""Ending the streams of runs that end without a worker: cancelled while they wait, or deleted.

A worker writes the end marker of the runs that it settles; here is nobody who could. A reader that misses it finds out by itself,
so Redis may be away.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from langgraph_serverless.domain.events import end_marker
from langgraph_serverless.domain.ports import EventAppender
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.persistence.runs import LiveRun
from langgraph_serverless.telemetry import logger

#: Names the worker in the fence of events that no worker appends; no run has it as its token.
NOBODY = uuid.UUID(int=0)


async def close_streams(events: EventAppender | None, ended: Sequence[LiveRun], retention: float) -> None:
    """Tell the readers, who may read for as long as ``retention`` seconds."""
    if events is None:
        return
    for run in ended:
        # above its worker's, which may not know yet that the run is deleted
        lease = Lease(run_id=run.run_id, token=NOBODY, epoch=run.epoch + 1, origin=run.origin)
        try:
            await events.append(lease, [end_marker(status="interrupted", output=None)])
            await events.expire(run.run_id, retention)
        except UnavailableError as error:
            logger.warning("event log out of reach: %s", error, extra={"action": "close_stream", "run_id": run.run_id})
