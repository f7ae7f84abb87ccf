"""One tick of the scheduler: due crons, expired leases, lost bells. Ticks may come twice or late; both are harmless."""

from dataclasses import asdict
from typing import Any

from langgraph_serverless.containers.scheduler import tick_and_measure
from langgraph_serverless.function_runtime import FunctionRuntime

runtime = FunctionRuntime("scheduler")


def run_tick(event: dict[str, Any], context: Any) -> dict[str, Any]:
    report, numbers = runtime.run(tick_and_measure(runtime.settings))
    outcome = asdict(report)
    runtime.count(
        CronsFired=report.crons_fired,
        CronsFailed=report.crons_failed,
        LeasesExpired=report.leases_expired,
        RunsGivenUp=report.runs_buried,
        WebhooksDelivered=report.webhooks_delivered,
        WebhooksFailed=report.webhooks_failed,
        RowsSwept=report.rows_swept,
        TickFailures=report.failures,
    )
    if report.crons_fired:
        runtime.measure(CronsLate=[report.crons_late_seconds])
    if numbers is not None:
        queue, moves = numbers.queue, numbers.moves
        runtime.tell(
            RunsPending=queue.pending,
            RunsRunning=queue.running,
            LeasesOverdue=queue.expired_leases,
            SlotsAvailable=numbers.slots - queue.executing,
            HandOffsLastHour=moves.handoffs,
            RepeatsLastHour=moves.repeats,
            WebhooksUndelivered=numbers.webhooks.undelivered,
            WebhooksDead=numbers.webhooks.dead,
            CronsOverdue=numbers.crons.overdue,
        )
        runtime.measure(
            OldestPending=[queue.unblocked_wait_max_seconds or 0.0],
            WebhookLag=[numbers.webhooks.lag_seconds or 0.0],
            CronLag=[numbers.crons.lag_seconds or 0.0],
        )
    runtime.logger.info("The scheduler has ticked", extra=outcome)
    return outcome


handler = runtime.instrument(run_tick)
