"""``langgraph-serverless reencrypt``: everything in the database that ``DATABASE_URI`` names is stored as today's encryption has it.

May be stopped and repeated at any time, beside a deployment that goes on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from langgraph_serverless.cli.laptop.addresses import check_postgres, named
from langgraph_serverless.containers.reencryption import reencrypt as renew
from langgraph_serverless.execution.project_code import open_project
from langgraph_serverless.settings import Settings


def reencrypt(*, config: Path, everything: bool) -> None:
    """Write what was done, one table a line; exit code 1 if something could not be decrypted."""
    project = open_project(config)
    settings = Settings.from_env(os.environ)
    chosen = named(os.environ, "database_uri")
    check_postgres(chosen[0] if chosen else "DATABASE_URI", settings.database_uri)
    report = asyncio.run(renew(project, settings, everything=everything))
    for name, table in report.tables.items():
        said = [f"{table.renewed} of {table.looked_at} {name} encrypted anew"]
        said += [f"{table.passed} written by others meanwhile"] if table.passed else []
        said += [f"{table.failed} cannot be decrypted and stay as they are"] if table.failed else []
        click.echo(", ".join(said))
    if report.failed:
        sys.exit(1)
