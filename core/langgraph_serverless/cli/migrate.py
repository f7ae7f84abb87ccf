"""``langgraph-serverless migrate``: bring the database of ``DATABASE_URI`` to this version's schema."""

from __future__ import annotations

import asyncio
import os

import click

from langgraph_serverless.cli.laptop.addresses import check_postgres, named, without_password
from langgraph_serverless.persistence.migrate import migrate as apply_migrations
from langgraph_serverless.settings import Settings


def migrate() -> None:
    """Apply what is missing and name it."""
    settings = Settings.from_env(os.environ)
    chosen = named(os.environ, "database_uri")
    check_postgres(chosen[0] if chosen else "DATABASE_URI", settings.database_uri)
    applied = asyncio.run(apply_migrations(settings.database_uri, on_progress=click.echo))
    click.echo(f"{without_password(settings.database_uri)}: {len(applied) or 'no'} migrations applied, up to date.")
