"""What has to be right before a long-lived process begins: settings, databases, schema.

Promises settings with which the process can start, or one sentence that says what to mend. Postgres is asked once; a Redis
that does not answer is a warning, as everything works without it, only later. No password is ever shown. ``read_settings`` comes
first and imports nothing heavy: what is wrong with the environment is said at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import psycopg

from langgraph_serverless.cli.laptop.addresses import check_postgres, check_redis, named, without_password
from langgraph_serverless.cli.server.logs import log_everything
from langgraph_serverless.errors import SettingsError, StartupError
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

_USUAL_NAMES = {"database_uri": "DATABASE_URI", "redis_uri": "REDIS_URI"}
#: Why.
_NEEDED = {
    "database_uri": "it names your Postgres, as in postgresql://user:password@host:5432/name",
    "redis_uri": "it names your Redis or Valkey, as in redis://host:6379/0, through which processes hear of each other",
}


def read_settings(config: Path, environ: MutableMapping[str, str], *, carry_over: bool = False) -> Settings:
    """Read the project's configuration and the environment, and configure the log.

    Args:
        environ: the project's own variables are added to it.
        carry_over: streams are broken off and go on elsewhere, unless the environment says otherwise.

    Raises:
        ServerError: one sentence.
    """
    project = read_project(config)
    project.apply_env(environ)
    missing = [
        f"{_USUAL_NAMES[setting]} is not set: {why}" for setting, why in _NEEDED.items() if not named(environ, setting)
    ]
    if missing:
        raise SettingsError(missing)
    environ.setdefault("LOG_JSON", "false" if sys.stderr.isatty() else "true")
    if carry_over:
        environ.setdefault("STREAM_CARRY_OVER", "true")
    settings = Settings.from_env(environ, config_path=project.config_path)
    log_everything(settings)
    return settings


def check_databases(settings: Settings, environ: Mapping[str, str], *, with_migrations: bool) -> None:
    """Look whether the databases are there and up to date.

    Args:
        with_migrations: bring the schema up to date instead of refusing an older one. Processes may do so at once.

    Raises:
        StartupError: one sentence.
    """
    postgres, redis = (named(environ, setting) or ("", "") for setting in _NEEDED)
    check_postgres(*postgres)
    try:
        check_redis(*redis)
    except StartupError as error:
        if isinstance(error.__cause__, ValueError):
            raise  # no address at all
        logger.warning("%s", error, extra={"action": "redis_down"})
    # imported here: it brings langgraph
    from langgraph_serverless.persistence.migrate import migrate  # noqa: PLC0415

    assert settings.config_path is not None
    index = read_project(settings.config_path).store_settings.index
    dims = index.dims if index else None
    if with_migrations:
        applied = asyncio.run(migrate(settings.database_uri, dims=dims, tenants=settings.row_level_security))
        logger.info("%s migrations applied", len(applied) or "no", extra={"action": "migrated"})
    else:
        _refuse_older_schema(settings, dims)


def _refuse_older_schema(settings: Settings, dims: int | None) -> None:
    from langgraph_serverless.persistence.migrate import missing_migrations  # noqa: PLC0415

    shown = without_password(settings.database_uri)
    try:
        missing = asyncio.run(missing_migrations(settings.database_uri, dims=dims, tenants=settings.row_level_security))
    except psycopg.Error as error:
        said = str(error).strip().splitlines()[0]
        raise StartupError(f"The schema of {shown} cannot be read: {said}.") from error
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise StartupError(
            f"The database {shown} is not prepared for this version: it lacks {missing[0]}{more}. Run"
            " 'langgraph-serverless migrate' with the same DATABASE_URI and LANGGRAPH_CONFIG first, or start with --migrate."
        )
