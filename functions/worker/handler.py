"""The queue's consumer: executes runs until there are none, or until shortly before the invocation's deadline.

The event is only a hint that there may be work; what to do is read from Postgres.
"""

from typing import Any

from langgraph_serverless import lean_clients  # noqa: F401 - before langgraph is imported
from langgraph_serverless.containers.graphs import load_registry
from langgraph_serverless.containers.worker import consume
from langgraph_serverless.function_build import OwnBuild
from langgraph_serverless.function_runtime import FunctionRuntime
from langgraph_serverless.http.in_process import serving_beside

runtime = FunctionRuntime("worker")
registry = load_registry(runtime.settings)  # the user's graphs are imported once per process
build = OwnBuild(runtime)


def consume_queue(event: dict[str, Any], context: Any) -> dict[str, Any]:
    build.compare(event)
    report = runtime.run(
        consume(
            runtime.settings,
            deadline=lambda: context.get_remaining_time_in_millis() / 1000,
            idle_grace=runtime.settings.worker_idle_grace,
            registry=registry,
            ticket=str(event.get("ticket", "")),
            beside=serving_beside,
        )
    )
    outcome = dict(report.summary)
    runtime.count(
        RunsSucceeded=report.succeeded,
        RunsFailed=report.failed,
        RunsInterrupted=report.interrupted,
        RunsHandedOff=report.handed_off,
        RunsLost=report.lost,
        RunsRepeated=report.repeated,
        LeasesExpired=report.leases_expired,
        RunsGivenUp=report.given_up,
        WebhooksDelivered=report.webhooks_delivered,
        WebhooksFailed=report.webhooks_failed,
    )
    runtime.measure(**{f"RunSeconds{status.title()}": seconds for status, seconds in report.seconds.items()})
    runtime.measure(QueueWait=report.queue_waits, FirstEvent=report.first_events)
    runtime.logger.info("The worker leaves", extra=outcome)
    return outcome


handler = runtime.instrument(consume_queue)
