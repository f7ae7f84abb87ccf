"""``langgraph-serverless dockerfile``: writes a Dockerfile for the project, and beside it what the image is not to get."""

from __future__ import annotations

from pathlib import Path

import click

from langgraph_serverless.build.dockerfile import PACKAGE, dockerfile_of
from langgraph_serverless.errors import StartupError
from langgraph_serverless.execution.project import read_project


def dockerfile(*, config: Path, output: Path | None, package: str | None, base_image: str | None) -> None:
    """Write it, or print it."""
    made = dockerfile_of(read_project(config), package=package or PACKAGE, base_image=base_image)
    if output is None:
        click.echo(made.text, nl=False)
        return
    ignore = output.with_name(f"{output.name}.dockerignore")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(made.text, encoding="utf-8")
        ignore.write_text(made.ignore, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{output} cannot be written: {error.strerror}.") from error
    for note in made.notes:
        click.echo(note)
    click.echo(f"docker build -f {output} -t my-agent {made.context}")
