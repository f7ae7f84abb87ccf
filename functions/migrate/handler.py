"""Brings the database up to date and gives each graph its default assistant. Invoke it once after every deployment."""

from dataclasses import asdict
from typing import Any

from langgraph_serverless.containers.migrate import migrate_and_seed
from langgraph_serverless.function_runtime import FunctionRuntime

runtime = FunctionRuntime("migrate")


def migrate(event: dict[str, Any], context: Any) -> dict[str, Any]:
    outcome = asdict(runtime.run(migrate_and_seed(runtime.settings)))
    runtime.logger.info("The database is up to date", extra=outcome)
    return outcome


handler = runtime.instrument(migrate)
