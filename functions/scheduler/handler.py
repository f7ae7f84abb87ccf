"""One tick of the scheduler: due crons, expired leases, lost bells. Ticks may come twice or late; both are harmless."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from langgraph_serverless.containers.scheduler import tick
from langgraph_serverless.function_runtime import FunctionRuntime

runtime = FunctionRuntime("scheduler")


def run_tick(event: dict[str, Any], context: Any) -> dict[str, Any]:
    report = runtime.run(tick(runtime.settings))
    outcome = asdict(report)
    runtime.count(
        CronsFired=report.crons_fired,
        CronsFailed=report.crons_failed,
        LeasesExpired=report.leases_expired,
        RunsGivenUp=report.runs_buried,
        RowsSwept=report.rows_swept,
        TickFailures=report.failures,
    )
    if report.crons_fired:
        runtime.metrics.add_metric(name="CronsLate", unit=MetricUnit.Seconds, value=report.crons_late_seconds)
    runtime.logger.info("The scheduler has ticked", extra=outcome)
    return outcome


handler = runtime.instrument(run_tick)
