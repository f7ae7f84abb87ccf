"""An API as a process of its own, for tests that kill and restart it: what the API functions do, all resources together.

Started by tests only, as ``api_main.py PORT``. Settings come from the environment; it serves until it is killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from langgraph_serverless import tracing
from langgraph_serverless.cli.server.slow_clients import patient_for
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import configure_logging


def serve(port: int) -> None:
    settings = Settings.from_env(os.environ)
    container = StateContainer(settings)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        await container.assistants.ensure_defaults()
        yield
        await container.aclose()

    app = create_app(container, lifespan=lifespan)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        ws="none",
        timeout_graceful_shutdown=1,
        # as the laptop's server
        loop="uvloop",
        http=patient_for(settings.stream_write_timeout),
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    configure_logging("WARNING", json=False)
    tracing.start("api", os.environ)
    serve(int(sys.argv[1]))
