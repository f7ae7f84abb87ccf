"""``langgraph-serverless migrate``: bring the database of ``DATABASE_URI`` to this version's schema.

The table of vectors is made for the project that ``LANGGRAPH_CONFIG`` names, or else the manifest in ``LANGGRAPH_MANIFEST``.
"""

from __future__ import annotations

import asyncio
import os

import click

from langgraph_serverless.cli.laptop.addresses import check_postgres, named, without_password
from langgraph_serverless.containers.api import read_manifest
from langgraph_serverless.domain.store import StoreSettings
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.migrate import migrate as apply_migrations
from langgraph_serverless.settings import Settings


def migrate() -> None:
    """Apply what is missing and name it."""
    settings = Settings.from_env(os.environ)
    chosen = named(os.environ, "database_uri")
    check_postgres(chosen[0] if chosen else "DATABASE_URI", settings.database_uri)
    index = _store(settings).index
    dims = index.dims if index else None
    applied = asyncio.run(
        apply_migrations(settings.database_uri, dims=dims, tenants=settings.row_level_security, on_progress=click.echo)
    )
    click.echo(f"{without_password(settings.database_uri)}: {len(applied) or 'no'} migrations applied, up to date.")


def _store(settings: Settings) -> StoreSettings:
    if settings.config_path is not None:
        return read_project(settings.config_path).store_settings
    return StoreSettings() if settings.manifest_path is None else read_manifest(settings).store
