"""The queue's consumer: executes runs until there are none, or until shortly before the invocation's deadline.

The event is only a hint that there may be work; what to do is read from Postgres.
"""

from dataclasses import asdict
from typing import Any

from langgraph_serverless.containers.graphs import load_registry
from langgraph_serverless.containers.worker import consume
from langgraph_serverless.function_runtime import FunctionRuntime

runtime = FunctionRuntime("worker")
registry = load_registry(runtime.settings)  # the user's graphs are imported once per process


def consume_queue(event: dict[str, Any], context: Any) -> dict[str, Any]:
    report = runtime.run(
        consume(
            runtime.settings,
            deadline=lambda: context.get_remaining_time_in_millis() / 1000,
            idle_grace=runtime.settings.worker_idle_grace,
            registry=registry,
        )
    )
    outcome = asdict(report)
    runtime.count(RunsSucceeded=report.succeeded, RunsFailed=report.failed, RunsHandedOff=report.handed_off)
    runtime.logger.info("The worker leaves", extra=outcome)
    return outcome


handler = runtime.instrument(consume_queue)
