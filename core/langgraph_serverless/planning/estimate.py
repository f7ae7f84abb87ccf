"""One day and one month of a deployment, in invocations, GB-seconds, connections, bytes and dollars.

Promises plain arithmetic over ``workers.play_day`` and ``footprint.MEASURED``: every number can be followed with a pocket calculator.
What is assumed rather than measured is a field of ``Deployment`` that says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from langgraph_serverless.planning.footprint import (
    CONNECTIONS,
    LOG_BYTES_PER_INVOCATION,
    MEASURED,
    VCPUS_PER_ACU,
)
from langgraph_serverless.planning.workers import HOURS, WorkerDay, hourly_rates, play_day
from langgraph_serverless.planning.workload import Deployment, Prices, Workload

DAYS_PER_MONTH = 365 / 12
HOURS_PER_MONTH = DAYS_PER_MONTH * HOURS
TICKS_PER_DAY = 24 * 60
TICK_SECONDS = 0.15
#: How much of its CPU a database is meant to use, so that it answers quickly.
DATABASE_LOAD = 0.6
#: Seconds of its 15 minutes that a stream has (``STREAM_DEADLINE_MARGIN_SECS`` is 15).
STREAM_SECONDS = 885.0
#: What Lambda streams without counting it (bytes of an answer).
FREE_STREAM_BYTES = 6e6
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class FunctionUse:
    """One kind of function, on a day."""

    invocations: float
    gb_seconds: float
    #: Invocations at the same time in the busiest hour; one second in a thousand has more.
    peak: float


@dataclass(frozen=True, kw_only=True)
class DatabaseUse:
    """Postgres."""

    commits_per_second: float
    cpus: float
    acu: float
    acu_hours_per_day: float
    connections: float
    gb_per_day: float
    gb_kept: float
    io_per_day: float


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """Redis or Valkey, in the busiest hour."""

    gigabytes: float
    megabytes_per_second: float
    commands_per_second: float
    ecpu_per_day: float
    mean_gigabytes: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Everything about one load."""

    workload: Workload
    workers: WorkerDay
    functions: dict[str, FunctionUse]
    database: DatabaseUse
    cache: CacheUse
    #: CPU of a run (ms), of the project's code and of the server around it.
    worker_cpu_ms: float
    #: Dollars a month, by what they are for.
    costs: dict[str, float]

    @property
    def dollars(self) -> float:
        """Of a month."""
        return sum(self.costs.values())

    @property
    def dollars_per_thousand_runs(self) -> float:
        return self.dollars / (self.workload.runs_per_day * DAYS_PER_MONTH) * 1000

    @property
    def concurrency(self) -> float:
        """Invocations at once in the busiest hour."""
        return sum(use.peak for use in self.functions.values())


def estimate(workload: Workload, deployment: Deployment, prices: Prices, *, seed: int = 1) -> Estimate:
    """What this load needs and costs there."""
    workers = play_day(workload, deployment, seed=seed)
    functions = _functions(workload, deployment, workers)
    database = _database(workload, deployment, functions)
    cache = _cache(workload)
    return Estimate(
        workload=workload,
        workers=workers,
        functions=functions,
        database=database,
        cache=cache,
        worker_cpu_ms=workload.run_cpu_ms + _of_a_run(workload, "server_cpu_ms"),
        costs=_costs(workload, deployment, prices, functions, database, cache),
    )


def at_most(mean: float) -> float:
    """What a number that varies by chance around this mean seldom exceeds: one time in a thousand."""
    return math.ceil(mean + 3.1 * math.sqrt(mean)) if mean > 0 else 0


def _functions(workload: Workload, deployment: Deployment, workers: WorkerDay) -> dict[str, FunctionUse]:
    busiest = max(hourly_rates(workload)) / 3600
    api_gb, worker_gb = deployment.api_mb / 1024, deployment.worker_mb / 1024
    request = deployment.request_ms / 1000
    followed_seconds = workload.run_seconds + workers.wait_p50
    requests = workload.requests + (1 - workload.followed)
    streams = workload.runs_per_day * workload.followed
    return {
        "api": FunctionUse(
            invocations=workload.runs_per_day * requests,
            gb_seconds=workload.runs_per_day * requests * request * api_gb,
            peak=at_most(busiest * requests * request),
        ),
        "stream": FunctionUse(
            invocations=streams * math.ceil(followed_seconds / STREAM_SECONDS),
            gb_seconds=streams * followed_seconds * api_gb,
            peak=at_most(busiest * workload.followed * followed_seconds),
        ),
        "worker": FunctionUse(
            invocations=workers.invocations, gb_seconds=workers.seconds * worker_gb, peak=workers.peak_workers
        ),
        "scheduler": FunctionUse(invocations=TICKS_PER_DAY, gb_seconds=TICKS_PER_DAY * TICK_SECONDS * api_gb, peak=1),
    }


def _of_a_run(workload: Workload, what: str) -> float:
    """The measured amount of one run of this load."""
    amounts: dict[str, float] = {name: getattr(per_unit, what) for name, per_unit in MEASURED.items()}
    return max(
        0.0,
        amounts["run"]
        + amounts["superstep"] * (workload.supersteps - 1)
        + amounts["state_kilobyte"] * workload.state_kb * workload.supersteps
        + amounts["event"] * (workload.events - 1)
        + amounts["stream"] * workload.followed,
    )


def _database(workload: Workload, deployment: Deployment, functions: dict[str, FunctionUse]) -> DatabaseUse:
    rates = [runs / 3600 for runs in hourly_rates(workload)]
    cpu_seconds = (_of_a_run(workload, "database_cpu_ms") + workload.requests) / 1000
    acus = [
        min(deployment.max_acu, max(deployment.min_acu, 0.5, rate * cpu_seconds / DATABASE_LOAD / VCPUS_PER_ACU))
        for rate in rates
    ]
    stored = _of_a_run(workload, "database_bytes") * workload.runs_per_day / GB
    return DatabaseUse(
        commits_per_second=max(rates) * (_of_a_run(workload, "commits") + workload.requests),
        cpus=max(rates) * cpu_seconds,
        acu=max(rates) * cpu_seconds / DATABASE_LOAD / VCPUS_PER_ACU,
        acu_hours_per_day=sum(acus),
        connections=sum(use.peak * CONNECTIONS[name] for name, use in functions.items()),
        gb_per_day=stored,
        gb_kept=stored * workload.keep_days,
        # Aurora counts writes of the log in 4 kB, and reads of pages that its memory does not hold: as many, here
        io_per_day=2 * _of_a_run(workload, "wal_bytes") / 4096 * workload.runs_per_day,
    )


def _cache(workload: Workload) -> CacheUse:
    rates = [runs / 3600 for runs in hourly_rates(workload)]
    sent = workload.events * workload.event_bytes
    kept = _of_a_run(workload, "redis_bytes") + sent
    alive = workload.run_seconds / 2 + workload.stream_ttl_seconds
    commands = _of_a_run(workload, "redis_commands")
    # one ECPU for each command, and one for each kB that goes in, and out again to whoever follows
    ecpu = commands + sent / 1000 * (1 + workload.followed)
    return CacheUse(
        gigabytes=max(rates) * alive * kept / GB,
        megabytes_per_second=max(rates) * sent * (1 + workload.followed) / 1e6,
        commands_per_second=max(rates) * commands,
        ecpu_per_day=ecpu * workload.runs_per_day,
        mean_gigabytes=sum(rates) / len(rates) * alive * kept / GB,
    )


def _costs(  # noqa: PLR0917 - everything costs
    workload: Workload,
    deployment: Deployment,
    prices: Prices,
    functions: dict[str, FunctionUse],
    database: DatabaseUse,
    cache: CacheUse,
) -> dict[str, float]:
    runs = workload.runs_per_day * DAYS_PER_MONTH
    invocations = sum(use.invocations for use in functions.values()) * DAYS_PER_MONTH
    streamed = workload.events * workload.event_bytes
    # a stream of more than 10 MB counts as several requests
    requests = runs * (1 + workload.requests + workload.followed * math.floor(streamed / 10e6))
    out = runs * (streamed * workload.followed + workload.requests * workload.answer_kb * 1000) / GB
    proxy = prices.proxy_acu_hour * max(8.0, deployment.max_acu) * HOURS_PER_MONTH if deployment.database_proxy else 0.0
    network = deployment.nat_gateways * prices.nat_hour + deployment.endpoints * prices.endpoint_hour
    return {
        **{
            f"Lambda, {name}": use.gb_seconds * DAYS_PER_MONTH * prices.lambda_gb_second
            for name, use in functions.items()
        },
        "Lambda, requests": invocations / 1e6 * prices.lambda_million_requests,
        "Lambda, streamed": runs
        * workload.followed
        * max(0.0, streamed - FREE_STREAM_BYTES)
        / GB
        * prices.lambda_stream_gb,
        "API Gateway": requests / 1e6 * prices.api_million_requests,
        "Data to the internet": out * prices.transfer_gb,
        "Database, capacity": database.acu_hours_per_day * DAYS_PER_MONTH * prices.acu_hour + proxy,
        "Database, storage": max(database.gb_kept, 1.0) * prices.storage_gb_month,
        "Database, I/O": database.io_per_day * DAYS_PER_MONTH / 1e6 * prices.million_io,
        "Cache, storage": max(cache.mean_gigabytes, 0.1) * HOURS_PER_MONTH * prices.cache_gb_hour,
        "Cache, requests": cache.ecpu_per_day * DAYS_PER_MONTH / 1e6 * prices.cache_million_ecpu,
        "Network": network * HOURS_PER_MONTH,
        "Logs": invocations * LOG_BYTES_PER_INVOCATION / GB * prices.logs_gb,
    }
