"""``langgraph-serverless build``: makes the folders that ``sam deploy`` uploads."""

from __future__ import annotations

from pathlib import Path

import click

from langgraph_serverless.build.bundle import build_bundles
from langgraph_serverless.build.dependencies import BuildTarget, host_architecture, host_python


@click.command("build")
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("langgraph.json"), help="Path of langgraph.json."
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path(".build"), help="Gets the folders api and worker."
)
@click.option(
    "--without-dependencies", is_flag=True, help="Leave dependencies out; for runs beside a virtual environment."
)
@click.option(
    "--python-version",
    type=click.Choice(["3.11", "3.12", "3.13"]),
    default=host_python(),
    help="The functions' Python; this machine's by default.",
)
@click.option(
    "--architecture",
    type=click.Choice(["x86_64", "arm64"]),
    default=host_architecture(),
    help="The functions' architecture; this machine's by default.",
)
def build(config: Path, output: Path, without_dependencies: bool, python_version: str, architecture: str) -> None:
    """Build what is deployed to AWS Lambda, without Docker."""
    target = BuildTarget(python=python_version, architecture=architecture)
    report = build_bundles(config, output, target=target, with_dependencies=not without_dependencies, say=click.echo)
    click.echo(f"Built {' and '.join(map(str, report.folders))} with graphs {', '.join(report.graph_ids)}.")
    if report.has_env:
        click.echo("The values of `env` in langgraph.json are part of the bundles: keep secrets out of it.")
    if not report.compiled:
        click.echo("Not compiled to byte code: this machine is of another kind than the functions. They start slower.")
    click.echo(f"Next: sam deploy --parameter-overrides PythonVersion={python_version} Architecture={architecture}")
