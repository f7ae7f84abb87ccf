"""What is put into a plan: the load, the deployment and the prices; every field is an option of ``langgraph-serverless plan``.

The prices are list prices of us-east-1 in US dollars as they were published in 2026 (https://aws.amazon.com/lambda/pricing,
/api-gateway/pricing, /rds/aurora/pricing, /elasticache/pricing, /vpc/pricing, /cloudwatch/pricing), without free tiers, discounts
or taxes. They change: look at yours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from langgraph_serverless.errors import PlanError


def amount(default: float, about: str, *, least: float = 0.0, most: float = float("inf")) -> Any:
    """A field with what it means and what it may be."""
    return field(default=default, metadata={"about": about, "least": least, "most": most})


class Checked:
    """Dataclasses whose numbers are in their ranges.

    Raises:
        PlanError: naming the field.
    """

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            value = getattr(self, each.name)
            least, most = each.metadata.get("least"), each.metadata.get("most")
            if isinstance(value, bool) or least is None:
                continue
            if not least <= value <= most:
                upper = "" if most == float("inf") else f" and at most {most:g}"
                raise PlanError(f"{each.name} must be at least {least:g}{upper}, and is {value:g}.")


@dataclass(frozen=True, kw_only=True)
class Workload(Checked):
    """What clients do on a day."""

    runs_per_day: float = amount(10_000, "Runs that are created on a day.", least=1, most=1e9)
    peak_factor: float = amount(4.0, "The busiest hour's runs, in runs of a mean hour.", least=1, most=24)
    run_seconds: float = amount(20.0, "How long a run takes, most of which it waits for a model.", least=0.01, most=1e6)
    run_cpu_ms: float = amount(50.0, "CPU that the project's own code takes in a run (ms).")
    supersteps: float = amount(6, "Supersteps of a run.", least=1)
    state_kb: float = amount(
        4.0, "What the channels hold that a superstep writes (kB); LangGraph stores a channel whole."
    )
    events: float = amount(300, "Events that a run streams: tokens, updates, custom data.")
    event_bytes: float = amount(300, "Size of an event (bytes).")
    followed: float = amount(0.8, "Share of the runs that a client streams or waits for.", most=1)
    requests: float = amount(3.0, "Other requests for each run: threads, states, polls.")
    answer_kb: float = amount(5.0, "Size of an answer to those (kB).")
    stream_ttl_seconds: float = amount(600, "RESUMABLE_STREAM_TTL_SECONDS: how long events are kept after a run's end.")
    keep_days: float = amount(30, "Days until threads are deleted.", least=0)


@dataclass(frozen=True, kw_only=True)
class Deployment(Checked):
    """The stack, as its parameters make it. What the template does not say is an assumption that can be changed."""

    jobs_per_worker: int = amount(10, "JobsPerWorker: runs that one worker executes at once.", least=1, most=1000)
    worker_concurrency: int = amount(0, "WorkerConcurrency: most workers at once; 0 for the account's limit.")
    idle_grace_seconds: float = amount(20, "WorkerIdleGraceSeconds: how long a worker stays without a run.")
    worker_seconds: float = amount(900, "The worker function's time limit (seconds).", least=60, most=900)
    margin_seconds: float = amount(
        60, "How long before its time limit a worker hands its runs over (seconds).", most=600
    )
    worker_mb: float = amount(1769, "Memory of the worker function (MB).", least=128, most=10240)
    api_mb: float = amount(1024, "Memory of the other functions (MB).", least=128, most=10240)
    request_ms: float = amount(30, "Assumed: how long a function takes for a request (ms).", least=1)
    cold_start_seconds: float = amount(1.5, "Assumed: cold start of the worker with the project's code (seconds).")
    warm_seconds: float = amount(600, "Assumed: how long Lambda keeps an idle sandbox.")
    account_concurrency: float = amount(1000, "The account's concurrent invocations.", least=1)
    database_proxy: bool = field(default=False, metadata={"about": "Whether connections go through RDS Proxy."})
    min_acu: float = amount(
        0.5,
        "DatabaseMinCapacity: least capacity of Aurora Serverless (ACU, 2 GiB each); awake it has half of one at least.",
        most=256,
    )
    max_acu: float = amount(4, "DatabaseMaxCapacity: most capacity of Aurora Serverless (ACU).", least=0.5, most=256)
    cache_max_gb: float = amount(2, "CacheMaxGigabytes: most that the cache holds.", least=1, most=5000)
    cache_max_ecpu: float = amount(
        15_000, "CacheMaxEcpuPerSecond: most that the cache does in a second (ECPU).", least=1000, most=15_000_000
    )
    nat_gateways: float = amount(1, "NAT gateways of the network.")
    endpoints: float = amount(0, "Interface endpoints of the network, times their availability zones.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin_seconds * 2 > self.worker_seconds:
            raise PlanError("margin_seconds must be at most half of worker_seconds.")
        if self.min_acu > self.max_acu:
            raise PlanError("min_acu must be at most max_acu.")


@dataclass(frozen=True, kw_only=True)
class Prices(Checked):
    """Dollars."""

    lambda_gb_second: float = amount(0.0000133334, "Lambda on arm64, a GB-second.")
    lambda_million_requests: float = amount(0.20, "Lambda, a million invocations.")
    lambda_stream_gb: float = amount(0.008, "Lambda, a GB streamed beyond the first 6 MB of an answer.")
    api_million_requests: float = amount(3.50, "API Gateway REST, a million requests; a stream counts anew each 10 MB.")
    transfer_gb: float = amount(0.09, "Data to the internet, a GB.")
    acu_hour: float = amount(0.12, "Aurora Serverless v2, an ACU-hour.")
    proxy_acu_hour: float = amount(0.015, "RDS Proxy, an ACU-hour; at least 8 ACUs are counted.")
    storage_gb_month: float = amount(0.10, "Aurora's storage, a GB-month.")
    million_io: float = amount(0.20, "Aurora's I/O, a million requests.")
    cache_gb_hour: float = amount(0.084, "ElastiCache Serverless for Valkey, a GB-hour; at least 0.1 GB are counted.")
    cache_million_ecpu: float = amount(0.0023, "ElastiCache Serverless for Valkey, a million ECPUs (a kB each).")
    nat_hour: float = amount(0.045, "A NAT gateway, an hour.")
    endpoint_hour: float = amount(0.01, "An interface endpoint in one availability zone, an hour.")
    logs_gb: float = amount(0.50, "CloudWatch Logs, a GB taken in.")
    metric_month: float = amount(0.30, "CloudWatch, a custom metric for a month.")
