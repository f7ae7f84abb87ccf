"""The commands and their options.

Promises: an expected error is one sentence on stderr and exit code 1; anything else keeps its traceback, because it is a
bug of ours. Each command imports its module when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from langgraph_serverless import __version__, garbage
from langgraph_serverless.cli import deploy_options, plan_options, serve_options
from langgraph_serverless.errors import ServerError

_CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("langgraph.json"),
    show_default=True,
    help="The project's langgraph.json.",
)
_DEBUG = click.option("--debug", is_flag=True, help="Show tracebacks; log everything.")


@contextmanager
def _sentences(debug: bool) -> Iterator[None]:
    """Turn expected errors into one line and exit code 1."""
    try:
        yield
    except ServerError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="langgraph-serverless", message="%(prog)s %(version)s")
def main() -> None:
    """The open LangGraph Server that runs as functions."""
    garbage.relax()  # before the imports of the commands that serve


@main.command(short_help="Serve a project on this machine, with its databases.")
@_CONFIG
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=2024, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--n-jobs-per-worker", "jobs", type=click.IntRange(1, 1000), default=10, show_default=True, help="Runs at once."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where Postgres and Valkey keep their data.  [default: .langgraph_serverless beside the config]",
)
@click.option("--reload/--no-reload", default=True, show_default=True, help="Follow edits of the project.")
@click.option("--app", hidden=True, help="module:function that makes the application; for tests.")
@_DEBUG
def dev(
    *, config: Path, host: str, port: int, jobs: int, data_dir: Path | None, reload: bool, app: str | None, debug: bool
) -> None:
    """Serve a project on this machine: API, worker, scheduler, Postgres and Valkey.

    DATABASE_URI and REDIS_URI in the environment name servers of your own, which are then used instead of the embedded
    ones. Ctrl-C stops everything and ends with exit code 0; Ctrl-C twice ends at once.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.dev import dev as command  # noqa: PLC0415

        command(config=config, host=host, port=port, jobs=jobs, data_dir=data_dir, reload=reload, debug=debug, app=app)


@main.command(short_help="Serve the API in production, on databases of your own.")
@serve_options.serve_options
@_DEBUG
def serve(
    *, config: Path, host: str, port: int, uds: Path | None, workers: int, keep_alive: int, debug: bool, **options: Any
) -> None:
    """Serve the API of a project, on the databases that DATABASE_URI and REDIS_URI name.

    Runs are executed by 'langgraph-serverless worker' in processes of their own, here or elsewhere. SIGTERM lets requests
    end and sends streams on to another process; twice does not wait, three times ends at once.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.server.signals import end_on_signals  # noqa: PLC0415

        end_on_signals()
        from langgraph_serverless.cli.serve import serve as command  # noqa: PLC0415
        from langgraph_serverless.cli.server.options import ServeOptions  # noqa: PLC0415

        chosen = ServeOptions(config=str(config), keep_alive=keep_alive, **options)
        command(chosen, host=host, port=port, uds=uds, workers=workers, debug=debug)


@main.command(short_help="Execute runs, on databases of your own.")
@serve_options.worker_options
@_DEBUG
def worker(*, config: Path, host: str, port: int | None, jobs: int | None, with_migrations: bool, debug: bool) -> None:
    """Execute the runs of a project, on the databases that DATABASE_URI and REDIS_URI name.

    SIGTERM hands them on to another worker at their next superstep, and no attempt is counted; twice does not wait for
    supersteps, three times ends at once.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.server.signals import end_on_signals  # noqa: PLC0415

        end_on_signals()
        from langgraph_serverless.cli.worker import worker as command  # noqa: PLC0415

        command(config=config, host=host, port=port, jobs=jobs, with_migrations=with_migrations)


@main.command(name="dockerfile", short_help="Write a Dockerfile for a project.")
@_CONFIG
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: the terminal]"
)
@click.option(
    "--package", help="This package, as pip takes it: a requirement, or the path of a wheel.  [default: this version]"
)
@click.option("--base-image", help="An image with Python.  [default: what langgraph.json says]")
@_DEBUG
def dockerfile_command(
    *, config: Path, output: Path | None, package: str | None, base_image: str | None, debug: bool
) -> None:
    """Write a Dockerfile for a project, and beside it a .dockerignore of the same name.

    The image has both roles: 'serve' is its default command, 'worker' and 'migrate' are others.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.dockerfile import dockerfile as command  # noqa: PLC0415

        command(config=config, output=output, package=package, base_image=base_image)


@main.command(short_help="Bring a database up to date.")
@_DEBUG
def migrate(debug: bool) -> None:
    """Bring the database that DATABASE_URI names to this version's schema."""
    with _sentences(debug):
        from langgraph_serverless.cli.server.signals import end_on_signals  # noqa: PLC0415

        end_on_signals()
        from langgraph_serverless.cli.migrate import migrate as command  # noqa: PLC0415

        command()


@main.group(short_help="Look after runs that were given up.")
def runs() -> None:
    """Runs that ended because they had lost every worker, in the database that DATABASE_URI names."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most lines.")
@_DEBUG
def list_runs(limit: int, debug: bool) -> None:
    """List the runs that were given up after their attempts, one JSON object a line, the last one first."""
    with _sentences(debug):
        from langgraph_serverless.cli.runs import list_runs as command  # noqa: PLC0415

        command(limit=limit)


@runs.command("replay")
@click.argument("ids", nargs=-1, type=click.UUID, required=True)
@_DEBUG
def replay_runs(ids: tuple[uuid.UUID, ...], debug: bool) -> None:
    """Let runs that were given up go on from their newest checkpoints, with all their attempts.

    Refused if a run did not end because it had lost every worker, or if its thread has gone on without it. REDIS_URI, if it is
    set, tells the workers at once.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.runs import replay_runs as command  # noqa: PLC0415

        command(ids)


@main.group(short_help="Look after webhooks that no receiver accepted.")
def webhooks() -> None:
    """Webhooks that no receiver accepted, in the database that DATABASE_URI names."""


@webhooks.command("list")
@click.option(
    "--waiting", is_flag=True, help="Those that wait for their next try, instead of those that were given up."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most lines.")
@_DEBUG
def list_webhooks(waiting: bool, limit: int, debug: bool) -> None:
    """List the webhooks that were given up within the last week, one JSON object a line, the last one first."""
    with _sentences(debug):
        from langgraph_serverless.cli.webhooks import list_webhooks as command  # noqa: PLC0415

        command(waiting=waiting, limit=limit)


@webhooks.command("replay")
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every webhook that was given up.")
@_DEBUG
def replay_webhooks(ids: tuple[uuid.UUID, ...], everything: bool, debug: bool) -> None:
    """Send webhooks that were given up again, by their ids or all of them."""
    if bool(ids) == everything:
        raise click.UsageError("Give either ids or --all.")
    with _sentences(debug):
        from langgraph_serverless.cli.webhooks import replay_webhooks as command  # noqa: PLC0415

        command(None if everything else ids)


@main.command(short_help="Encrypt what is stored anew, after a key has changed.")
@_CONFIG
@click.option("--all", "everything", is_flag=True, help="Also what the handlers do not want replaced.")
@_DEBUG
def reencrypt(*, config: Path, everything: bool, debug: bool) -> None:
    """Encrypt anew what the project's decrypt handlers want replaced, and what was stored before there was encryption.

    DATABASE_URI names the database. It may be stopped and repeated at any time, while the deployment goes on. Ends with exit code 1 if
    something cannot be decrypted.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.reencrypt import reencrypt as command  # noqa: PLC0415

        command(config=config, everything=everything)


@main.command(short_help="Look for what is wrong, and say what to do about it.")
@_CONFIG
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="A laptop's data.  [default: .langgraph_serverless beside the config]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of sentences.")
@_DEBUG
def doctor(*, config: Path, data_dir: Path | None, as_json: bool, debug: bool) -> None:
    """Look at the project, the settings, Postgres, Redis, the queue and the invariants, and change nothing.

    DATABASE_URI and REDIS_URI name the databases; without them it is those of this project's data folder, which are
    started for the visit if they do not run. Ends with exit code 1 if there is a problem.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.doctor import doctor as command  # noqa: PLC0415

        sys.exit(command(config=config, data_dir=data_dir, as_json=as_json))


@main.command(short_help="Describe the project's graphs in a JSON file.")
@_CONFIG
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: the terminal]"
)
@_DEBUG
def manifest(config: Path, output: Path | None, debug: bool) -> None:
    """Describe the project's graphs in one JSON file, which API functions read instead of importing langgraph."""
    with _sentences(debug):
        from langgraph_serverless.cli.manifest import manifest as command  # noqa: PLC0415

        command(config=config, output=output)


@main.command()
def schema() -> None:
    """Print the JSON schema of langgraph.json, for editors."""
    from langgraph_serverless.execution.config_table import TABLE  # noqa: PLC0415

    click.echo(json.dumps(TABLE.schema(), indent=2))


@main.command(short_help="Build what is deployed to AWS Lambda, without Docker.")
@_CONFIG
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".build"),
    show_default=True,
    help="Gets the folders api and worker.",
)
@click.option(
    "--with-dependencies/--without-dependencies",
    "dependencies",
    default=True,
    show_default=True,
    help="Without: for functions that run beside a virtual environment.",
)
@click.option(
    "--python-version",
    type=click.Choice(["3.12", "3.13"]),
    help="The functions' Python.  [default: this machine's, or 3.13]",
)
@click.option(
    "--architecture",
    type=click.Choice(["arm64", "x86_64", "host"]),
    help="The functions' architecture; host is this machine's.  [default: arm64]",
)
@click.option("--image", is_flag=True, help="For a container image of the worker's functions: up to 10 GB.")
@click.option("--otel", is_flag=True, help="With what it takes to send traces (the template's OtlpEndpoint).")
@_DEBUG
def build(
    *,
    config: Path,
    output: Path,
    dependencies: bool,
    python_version: str | None,
    architecture: str | None,
    image: bool,
    otel: bool,
    debug: bool,
) -> None:
    """Build what is deployed to AWS Lambda, without Docker."""
    with _sentences(debug):
        from langgraph_serverless.cli.build import build as command  # noqa: PLC0415

        command(
            config=config,
            output=output,
            dependencies=dependencies,
            python_version=python_version,
            architecture=architecture,
            image=image,
            otel=otel,
        )


@main.command(name="deploy", short_help="Take a project to your AWS account: build, deploy, migrate.")
@_CONFIG
@deploy_options.options
@_DEBUG
def deploy_command(*, debug: bool, **options: Any) -> None:
    """Take a project to your AWS account: build the bundles, deploy the stack with the SAM CLI, migrate the database.

    It says where the API is at the end. Ends with exit code 1 and the reason if something fails; repeating it is safe.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.deploy import deploy as command  # noqa: PLC0415

        command(**options)


@main.command(name="plan", short_help="Say what a load needs and costs on AWS, and what gives way when it grows.")
@plan_options.options
@click.option(
    "--price",
    "prices",
    multiple=True,
    metavar="NAME=DOLLARS",
    help="A price of yours, as lambda_gb_second=0.00001; repeatable.",
)
@click.option("--scale", default="10,100,1000", show_default=True, help="Factors by which the load is to grow as well.")
@click.option("--seed", default=1, show_default=True, help="Where the chance in the simulated day comes from.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON document.")
@_DEBUG
def plan_command(*, prices: tuple[str, ...], scale: str, seed: int, as_json: bool, debug: bool, **numbers: Any) -> None:
    """Say what a load needs and costs on AWS, and what gives way first when it grows.

    A simulation of one day on this machine: it asks nobody, and needs no account. See docs/guides/scaling.md.
    """
    with _sentences(debug):
        from langgraph_serverless.cli.plan import plan as command  # noqa: PLC0415

        command(numbers=numbers, prices=prices, scale=plan_options.factors(scale), seed=seed, as_json=as_json)
