"""What gives way first as a load grows, and what to turn then.

A limit is a quota of AWS (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html,
/apigateway/latest/developerguide/limits.html, /AmazonElastiCache/latest/dg/quota-limits.html) or a figure measured of this server.
"""

from __future__ import annotations

from dataclasses import dataclass

from langgraph_serverless.planning.estimate import Estimate
from langgraph_serverless.planning.footprint import (
    CLAIMS_PER_SECOND,
    CONNECTIONS_PER_ACU,
    MOST_CONNECTIONS,
    MOST_CONNECTIONS_SMALL,
)
from langgraph_serverless.planning.workers import hourly_rates
from langgraph_serverless.planning.workload import Deployment

API_REQUESTS_PER_SECOND = 10_000
AURORA_GB = 128_000
LARGEST_ACU = 256


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How near a load is to one limit."""

    name: str
    need: float
    limit: float
    unit: str
    #: What to do when it is reached.
    advice: str

    @property
    def share(self) -> float:
        return self.need / self.limit

    @property
    def reached(self) -> bool:
        return self.share > 1


def limits(plan: Estimate, deployment: Deployment) -> list[Limit]:
    """Every limit, the nearest first."""
    rate = max(hourly_rates(plan.workload)) / 3600
    if deployment.database_proxy:
        connections = float("inf")
        advice = ""
    else:
        most = MOST_CONNECTIONS_SMALL if deployment.min_acu <= 0.5 else MOST_CONNECTIONS
        connections = min(most, CONNECTIONS_PER_ACU * deployment.max_acu)
        advice = (
            "DatabaseProxy=true, or more capacity (connections grow with it); fewer, larger workers (JobsPerWorker)."
        )
    found = [
        Limit(
            name="Concurrent invocations",
            need=plan.concurrency,
            limit=deployment.account_concurrency,
            unit="at once",
            advice=(
                "Ask AWS for more (Lambda, Concurrent executions). Streams and waits are most of it: let clients that show no "
                "tokens create runs in the background and take a webhook."
            ),
        ),
        Limit(
            name="Database capacity",
            need=plan.database.acu,
            limit=deployment.max_acu,
            unit="ACU",
            advice=(
                f"DatabaseMaxCapacity, up to {LARGEST_ACU}; beyond that several deployments. Less work: "
                'durability "exit" for short runs, fewer supersteps, smaller states.'
            ),
        ),
        Limit(
            name="Runs begun",
            need=rate,
            limit=CLAIMS_PER_SECOND,
            unit="a second",
            advice="One queue hands out runs one after the other: several deployments, split by customer or by graph.",
        ),
        Limit(
            name="Requests to the API",
            need=rate * (1 + plan.workload.requests),
            limit=API_REQUESTS_PER_SECOND,
            unit="a second",
            advice="Ask AWS for more (API Gateway, Throttle rate), or several deployments.",
        ),
        Limit(
            name="Cache, processing",
            need=plan.cache.commands_per_second + plan.cache.megabytes_per_second * 1000,
            limit=deployment.cache_max_ecpu,
            unit="ECPU a second",
            advice="CacheMaxEcpuPerSecond; up to it the cache grows by itself, doubling in about ten minutes.",
        ),
        Limit(
            name="Cache, memory",
            need=plan.cache.gigabytes,
            limit=deployment.cache_max_gb,
            unit="GB",
            advice="CacheMaxGigabytes; a shorter RESUMABLE_STREAM_TTL_SECONDS. Beyond it the oldest logs are forgotten.",
        ),
        Limit(
            name="Database size",
            need=plan.database.gb_kept,
            limit=AURORA_GB,
            unit="GB",
            advice='A time to live for threads (checkpointer.ttl, "keep_latest"); large documents elsewhere, their names in the state.',
        ),
    ]
    if advice:
        found.append(
            Limit(
                name="Connections to the database",
                need=plan.database.connections,
                limit=connections,
                unit="at once",
                advice=advice,
            )
        )
    if deployment.worker_concurrency:
        found.append(
            Limit(
                name="Workers",
                need=rate * plan.workload.run_seconds / deployment.jobs_per_worker,
                limit=deployment.worker_concurrency,
                unit="at once",
                advice="WorkerConcurrency or JobsPerWorker; beyond this runs wait in the queue.",
            )
        )
    found.append(
        Limit(
            name="A worker's processor",
            need=deployment.jobs_per_worker * _cpu_share(plan),
            limit=deployment.worker_mb / 1769,
            unit="vCPU",
            advice="Fewer JobsPerWorker, or more memory for the worker (1,769 MB have one processor).",
        )
    )
    return sorted(found, key=lambda limit: limit.share, reverse=True)


def _cpu_share(plan: Estimate) -> float:
    """Processors that one run keeps busy while it is executed."""
    return plan.worker_cpu_ms / 1000 / plan.workload.run_seconds
