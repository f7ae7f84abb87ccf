"""The options of ``serve`` and ``worker``. Imports nothing but click, so that ``--help`` answers at once.

Where platforms have a usual variable for an option (``PORT``, ``WEB_CONCURRENCY``, ``FORWARDED_ALLOW_IPS``, ``MOUNT_PREFIX``), it is
read from there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_PORTS = click.IntRange(0, 65535)

CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=Path("langgraph.json"),
    envvar="LANGGRAPH_CONFIG",
    show_envvar=True,
    show_default=True,
    help="The project's langgraph.json.",
)
MIGRATE = click.option(
    "--migrate",
    "with_migrations",
    is_flag=True,
    help="First bring the database up to date; processes that do so at once wait for each other.",
)


def _prefix(_: click.Context, __: click.Parameter, value: str) -> str:
    prefix = value.strip().rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise click.BadParameter("must begin with a slash, as /api does")
    return prefix


_SERVE = (
    CONFIG,
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all."),
    click.option(
        "--port",
        type=_PORTS,
        default=8000,
        envvar="PORT",
        show_envvar=True,
        show_default=True,
        help="Port; 0 takes a free one.",
    ),
    click.option("--uds", type=click.Path(dir_okay=False, path_type=Path), help="Listen on a Unix socket instead."),
    click.option(
        "--workers",
        type=click.IntRange(1, 64),
        default=1,
        envvar="WEB_CONCURRENCY",
        show_envvar=True,
        show_default=True,
        help="Processes that serve.",
    ),
    click.option("--with-worker", is_flag=True, help="Execute runs too, in each of them."),
    click.option(
        "--with-scheduler/--no-scheduler",
        default=True,
        show_default=True,
        help="Fire crons and look after what was left behind. Several may do so at once.",
    ),
    MIGRATE,
    click.option(
        "--mount-prefix",
        default="",
        callback=_prefix,
        envvar="MOUNT_PREFIX",
        show_envvar=True,
        help="Answer below this path too, as /api, whether a proxy takes it off or not.",
    ),
    click.option(
        "--proxy-headers/--no-proxy-headers",
        default=True,
        show_default=True,
        help="Believe X-Forwarded-For and -Proto of those that --forwarded-allow-ips names.",
    ),
    click.option(
        "--forwarded-allow-ips",
        default="127.0.0.1",
        envvar="FORWARDED_ALLOW_IPS",
        show_envvar=True,
        show_default=True,
        help="Addresses and networks of proxies, comma-separated; * for any.",
    ),
    click.option(
        "--keep-alive",
        type=click.IntRange(1, 3600),
        default=75,
        show_default=True,
        help="Seconds that an idle connection is kept: longer than the load balancer in front keeps it.",
    ),
)
_WORKER = (
    CONFIG,
    click.option(
        "--n-jobs",
        "jobs",
        type=click.IntRange(1, 1000),
        help="Runs at once.  [default: N_JOBS_PER_WORKER, or 10]",
    ),
    click.option("--port", type=_PORTS, help="Answer /ok, /info and /metrics on this port, for probes."),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address of that port; 0.0.0.0 for all."),
    MIGRATE,
)


def serve_options(command: Command) -> Command:
    return _all(command, _SERVE)


def worker_options(command: Command) -> Command:
    return _all(command, _WORKER)


def _all(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)
