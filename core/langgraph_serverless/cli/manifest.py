"""``langgraph-serverless manifest``: describe a project's graphs, so that API functions answer without langgraph."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from langgraph_serverless.domain.manifest import encode
from langgraph_serverless.errors import StartupError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project


def manifest(*, config: Path, output: Path | None) -> None:
    """Load every graph once and write what can be said about it."""
    project = read_project(config)
    project.apply_env(os.environ)
    text = encode(asyncio.run(build_manifest(GraphRegistry.load(project), files=True)))
    if output is None:
        click.echo(text)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"{output} cannot be written: {error.strerror}.") from error
    click.echo(f"{output}: {', '.join(project.graphs)}")
