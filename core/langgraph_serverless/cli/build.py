"""``langgraph-serverless build``: makes the folders that ``sam deploy`` uploads."""

from __future__ import annotations

from pathlib import Path

import click

from langgraph_serverless.build.bundle import build_bundles
from langgraph_serverless.build.dependencies import BuildTarget, host_architecture, host_python


def build(
    *, config: Path, output: Path, dependencies: bool, python_version: str | None, architecture: str | None
) -> None:
    """Build both bundles and say what to do next."""
    target = BuildTarget(python=python_version or host_python(), architecture=architecture or host_architecture())
    report = build_bundles(config, output, target=target, with_dependencies=dependencies, say=click.echo)
    click.echo(f"Built {' and '.join(map(str, report.folders))} with graphs {', '.join(report.graph_ids)}.")
    if report.has_env:
        click.echo("The values of `env` in langgraph.json are part of the bundles: keep secrets out of it.")
    if not report.compiled:
        click.echo("Not compiled to byte code: this machine is of another kind than the functions. They start slower.")
    click.echo(
        f"Next: sam deploy --parameter-overrides PythonVersion={target.python} Architecture={target.architecture}"
    )
