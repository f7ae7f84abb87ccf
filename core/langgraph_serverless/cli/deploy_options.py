"""The options of ``langgraph-serverless deploy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--output",
        "-o",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".build"),
        show_default=True,
        help="Where the bundles are built.",
    ),
    click.option("--stack-name", help="Name of the stack.  [default: what samconfig.toml says]"),
    click.option(
        "--config-env", "--env", "environment", default="default", show_default=True, help="Section of samconfig.toml."
    ),
    click.option(
        "--parameter",
        "-p",
        "parameters",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the template, as Database=aurora; repeatable.",
    ),
    click.option("--region", help="Region of AWS.  [default: that of your profile]"),
    click.option("--profile", help="Profile of your AWS credentials."),
    click.option(
        "--database-uri",
        is_flag=True,
        help="Make the secret with Postgres's address, if there is none: from DATABASE_URI, or asked for.",
    ),
    click.option(
        "--redis-uri",
        is_flag=True,
        help="Make the secret with Redis's address, if there is none: from REDIS_URI, or asked for.",
    ),
    click.option(
        "--python-version",
        type=click.Choice(["3.12", "3.13"]),
        help="The functions' Python.  [default: this machine's, or 3.13]",
    ),
    click.option(
        "--architecture",
        type=click.Choice(["arm64", "x86_64", "host"]),
        help="The functions' architecture.  [default: arm64]",
    ),
    click.option("--image-uri", help="Image of the worker's bundle in ECR, instead of an archive; see build --image."),
    click.option(
        "--template",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A template of your own, with infra beside it.",
    ),
    click.option("--samconfig", type=click.Path(dir_okay=False, path_type=Path), help="A samconfig.toml of your own."),
    click.option("--skip-build", is_flag=True, help="Deploy what was built before."),
    click.option("--skip-migrate", is_flag=True, help="Leave the database to 'langgraph-serverless migrate'."),
    click.option(
        "--yes", "-y", "--no-confirm", "yes", is_flag=True, help="Ask nothing, also where samconfig.toml asks."
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
    click.option("--verbose", "-v", is_flag=True, help="Show the output of the SAM CLI."),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command all of them, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
