"""``langgraph-serverless build``: makes the folders that ``sam deploy`` uploads, and says what they weigh."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import click

from langgraph_serverless.build.bundle import BuildReport, build_bundles
from langgraph_serverless.build.measuring import megabytes
from langgraph_serverless.build.sources import deployment_folder
from langgraph_serverless.build.target import (
    DEFAULT_ARCHITECTURE,
    BuildTarget,
    default_python,
    host_architecture,
    host_python,
)


def build(
    *,
    config: Path,
    output: Path,
    dependencies: bool,
    python_version: str | None,
    architecture: str | None,
    image: bool,
    otel: bool,
) -> None:
    """Build both bundles and say what to do next."""
    began = time.monotonic()
    report = build_bundles(
        config,
        output,
        target=chosen_target(python_version, architecture, dependencies=dependencies),
        with_dependencies=dependencies,
        for_image=image,
        for_traces=otel,
        say=click.echo,
    )
    show(report)
    click.echo(f"Built in {time.monotonic() - began:.1f} s with graphs {', '.join(report.graph_ids)}.")
    if image:
        shutil.copy(deployment_folder() / "infra" / "Dockerfile", output)
        _say_image(report)
    else:
        folder = "" if output == Path(".build") else f" --output {output}"
        click.echo(f"Next: langgraph-serverless deploy --skip-build{folder}")


def chosen_target(python_version: str | None, architecture: str | None, *, dependencies: bool = True) -> BuildTarget:
    """What the options mean. Without dependencies, the functions run beside an environment of this machine's Python."""
    python = python_version or (default_python() if dependencies else host_python())
    chosen = host_architecture() if architecture == "host" else architecture
    return BuildTarget(python=python, architecture=chosen or DEFAULT_ARCHITECTURE)


def show(report: BuildReport) -> None:
    """Sizes, what weighs most, and what somebody should know."""
    for name, size in report.sizes.items():
        click.echo(
            f"{report.output / name}: {size.files} files, {megabytes(size.unpacked)} unpacked, {megabytes(size.zipped)} zipped"
        )
        click.echo("  " + ", ".join(f"{package} {megabytes(weight)}" for package, weight in size.largest))
    for warning in report.warnings:
        click.echo(f"Warning: {warning}")
    if report.has_env:
        click.echo("The values of `env` in langgraph.json are part of the bundles: keep secrets out of it.")
    if not report.compiled:
        python = report.target.python
        click.echo(
            f"Not compiled to byte code, as there is no python{python} on the PATH: cold starts take two to three times as long."
            f" Install Python {python}, or build with the functions' version."
        )


def _say_image(report: BuildReport) -> None:
    target = report.target
    platform = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}[target.architecture]
    click.echo(
        "Next, with a repository of yours in ECR as IMAGE:\n"
        f"  docker build --platform {platform} --provenance=false --build-arg PYTHON_VERSION={target.python}"
        f" --target worker --tag IMAGE {report.output}\n"
        "  docker push IMAGE\n"
        "  langgraph-serverless deploy --skip-build --image-uri IMAGE"
    )
