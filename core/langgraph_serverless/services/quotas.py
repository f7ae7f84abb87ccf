"""How much of the queue a tenant may fill: ``MAX_QUEUED_RUNS_PER_TENANT``, off unless it is set.

A bound on what one tenant can pile up, and no exact number: requests that are carried out at the same time do not see each other's
runs, so there may be as many more as there are such requests. To count them one by one, all runs of a tenant would have to be
made one after the other. Runs of crons are not counted out, as their number is bounded by that of crons. What runs at once is
bounded elsewhere, and exactly (``CONCURRENCY_LIMIT_PER_GROUP``).
"""

from __future__ import annotations

from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.errors import QuotaError
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.quotas import queue_is_full


async def check_queue(connection: Connection, tenant: str, request: RunRequest, most: int) -> None:
    """Raises: QuotaError: the tenant has ``most`` runs in the queue already (0: any number)."""
    if most and request.cron_id is None and await queue_is_full(connection, tenant, most):
        raise QuotaError(f"{most} runs are waiting, as many as MAX_QUEUED_RUNS_PER_TENANT allows: try again later")
