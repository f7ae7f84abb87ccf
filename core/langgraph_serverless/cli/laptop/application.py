"""Everything in one process: the API, a worker and the scheduler, as ``langgraph-serverless dev`` runs them."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from langgraph_serverless.cli.server.application import ServerApplication
from langgraph_serverless.settings import Settings


def create_laptop_app(settings: Settings, *, config_path: Path | None = None) -> FastAPI:
    """The ASGI application of ``langgraph-serverless dev``: its lifespan starts the worker and the scheduler.

    Raises:
        ProjectError: the project cannot be loaded.
    """
    if config_path is not None:
        settings = settings.replace(config_path=config_path)
    return ServerApplication(settings, with_worker=True, with_scheduler=True).app
