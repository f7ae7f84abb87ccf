"""``langgraph-serverless doctor``: looks at a project and its databases, and changes nothing.

Each part is looked at although another one is broken. A laptop's databases that do not run are started for the visit and
stopped after it. No password and nothing of what runs hold is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import psycopg
import redis
from psycopg.rows import DictRow, dict_row

from langgraph_serverless.cli.doctor_project import key_findings, variable_findings
from langgraph_serverless.cli.laptop.addresses import check_postgres, check_redis, named, without_password
from langgraph_serverless.containers.api import read_manifest
from langgraph_serverless.containers.reencryption import cipher_of
from langgraph_serverless.errors import ProjectError, ServerError, SettingsError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import ProjectConfig, read_project
from langgraph_serverless.execution.project_code import load_object
from langgraph_serverless.execution.project_files import hash_project
from langgraph_serverless.http.user_app import UserApp
from langgraph_serverless.persistence.migrate import known_migrations
from langgraph_serverless.services.doctor import DoctorService, Finding, Level
from langgraph_serverless.settings import Settings

_MARKS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.PROBLEM: "PROBLEM"}
_CONNECT_TIMEOUT = 5
#: That of ``dev``, whose module only laptops can import.
_DATA_DIR = ".langgraph_serverless"


@dataclass(slots=True)
class _Examination:
    environ: dict[str, str]
    findings: list[Finding] = field(default_factory=list)

    def add(self, area: str, level: Level, says: str, do: str = "") -> None:
        self.findings.append(Finding(area=area, level=level, says=says, do=do))


def doctor(*, config: Path, data_dir: Path | None, as_json: bool) -> int:
    """Print what is found; the exit code."""
    config_path = config.expanduser().resolve()
    seen = _Examination(dict(os.environ))
    with redirect_stdout(sys.stderr):  # where the project's own modules may print
        project = _project(seen, config_path)
        settings = _settings(seen)
        if project is not None and settings is not None and settings.manifest_path is not None:
            _manifest(seen, project, settings)
        with ExitStack() as visit:
            folder = (data_dir or config_path.parent / _DATA_DIR).expanduser().absolute()
            _databases(seen, visit, folder, settings, project)
    problems = sum(finding.level is Level.PROBLEM for finding in seen.findings)
    if as_json:
        findings = [asdict(finding) for finding in seen.findings]
        click.echo(json.dumps({"ok": not problems, "problems": problems, "findings": findings}, default=str))
    else:
        _print(seen.findings)
        click.echo(f"\n{problems or 'No'} problem{'' if problems == 1 else 's'} found.")
    return 1 if problems else 0


# -- the project and the settings ------------------------------------------------------------------------------------


def _project(seen: _Examination, config_path: Path) -> ProjectConfig | None:
    if not config_path.exists() and named(seen.environ, "database_uri"):
        seen.add("project", Level.NOTE, f"{config_path} does not exist: only the databases are looked at.")
        return None
    try:
        project = read_project(config_path)
        document = json.loads(config_path.read_text(encoding="utf-8-sig"))
    except ProjectError as error:
        seen.add("project", Level.PROBLEM, str(error))
        return None
    seen.environ = {**project.env, **seen.environ}
    seen.findings += key_findings(document)
    environ = dict(os.environ)
    project.apply_env(os.environ)
    try:
        graphs = GraphRegistry.load(project).graph_ids
        seen.add("project", Level.OK, f"All graphs load: {', '.join(graphs)}.")
        if project.encryption is not None:
            cipher_of(project)
            seen.add("project", Level.OK, "The handlers of its encryption are complete.")
        if (target := project.http.app) is not None:
            UserApp(load_object(project, target, key="http.app"), spec=target, key=f"{config_path}: http.app")
            seen.add("project", Level.OK, "Its own application can be served.")
    except ProjectError as error:
        seen.add("project", Level.PROBLEM, str(error))
    finally:
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
    return project


def _manifest(seen: _Examination, project: ProjectConfig, settings: Settings) -> None:
    do = "Build the project again, and deploy what was built."
    try:
        manifest = read_manifest(settings)
    except ProjectError as error:
        seen.add("manifest", Level.PROBLEM, str(error), do)
        return
    if manifest.digest() != manifest.hash:
        seen.add("manifest", Level.PROBLEM, f"Somebody has changed {settings.manifest_path} since it was built.", do)
    elif manifest.project_hash and manifest.project_hash != hash_project(project):
        says = f"{settings.manifest_path} describes another state of the project than {project.config_path}."
        seen.add("manifest", Level.PROBLEM, says, do)
    else:
        made_with = ", ".join(f"{name} {version}" for name, version in sorted(manifest.made_with.items()))
        seen.add(
            "manifest", Level.OK, f"The manifest (build {manifest.short_hash}) describes this project: {made_with}."
        )


def _settings(seen: _Examination) -> Settings | None:
    later = {} if named(seen.environ, "database_uri") else {"DATABASE_URI": "postgresql://later"}
    try:
        settings = Settings.from_env(seen.environ | later)
    except SettingsError as error:
        for problem in error.problems:
            seen.add("settings", Level.PROBLEM, f"{problem}.", "See docs/guides/settings.md.")
        return None
    seen.add("settings", Level.OK, "Every setting in the environment can be read.")
    seen.findings += variable_findings(seen.environ)
    return settings


# -- the databases ---------------------------------------------------------------------------------------------------


def _databases(
    seen: _Examination, visit: ExitStack, folder: Path, settings: Settings | None, project: ProjectConfig | None
) -> None:
    own_postgres, own_redis = named(seen.environ, "database_uri"), named(seen.environ, "redis_uri")
    asleep = False
    if own_postgres is None and not (folder / "postgres").exists():
        do = "Set DATABASE_URI, name the data folder with --data-dir, or run 'langgraph-serverless dev' once."
        seen.add(
            "postgres", Level.PROBLEM, f"There is no database: DATABASE_URI is not set, and {folder} has none.", do
        )
    else:
        with _reported(seen, "postgres"):
            if own_postgres is None:
                name, (uri, asleep) = "the data folder", visit.enter_context(_embedded_postgres(folder))
            else:
                name, uri = own_postgres
            check_postgres(name, uri)
            seen.add("postgres", Level.OK, f"Looking at {without_password(uri)} ({name}).")
            service = DoctorService(
                migrations=known_migrations(),
                prepared=settings.prepared_statements if settings else True,
                wants_vectors=project is not None and project.store_settings.index is not None,
                asleep=asleep,
                groups=settings.group_limits if settings else None,
                tenants=settings is not None and settings.row_level_security,
            )
            seen.findings += asyncio.run(_examine(service, uri))
    if own_redis is not None:
        with _reported(seen, "redis"):
            check_redis(*own_redis)
            _redis(seen, own_redis[1])
    elif own_postgres is None and (folder / "valkey").exists():
        with _reported(seen, "redis"):
            _redis(seen, visit.enter_context(_embedded_valkey(folder)))
    elif own_postgres is not None:
        do = "Set REDIS_URI for live streams and runs that begin at once."
        seen.add("redis", Level.NOTE, "No Redis: runs are found by polling, and streams end in snapshots.", do)


async def _examine(service: DoctorService, uri: str) -> list[Finding]:
    async with await psycopg.AsyncConnection[DictRow].connect(
        uri, autocommit=True, row_factory=dict_row, prepare_threshold=None, connect_timeout=_CONNECT_TIMEOUT
    ) as connection:
        return await service.examine(connection)


def _redis(seen: _Examination, uri: str) -> None:
    with redis.Redis.from_url(uri, socket_timeout=_CONNECT_TIMEOUT, decode_responses=True) as client:
        server: Any = client.info()
        version = server.get("valkey_version") or server["redis_version"]
        name = "Valkey" if "valkey_version" in server else "Redis"
        seen.add(
            "redis", Level.OK, f"{name} {version} answers. It may lose everything: whatever counts is in Postgres."
        )
        if server.get("role") == "slave":
            do = "Name the primary in REDIS_URI."
            seen.add("redis", Level.PROBLEM, "It is a replica: it takes no bell and no events.", do)
        most = int(server.get("maxmemory", 0))
        if most and int(server["used_memory"]) > 0.9 * most:
            do = "Give it more memory, or set RESUMABLE_STREAM_TTL_SECONDS lower. Until then streams end in snapshots."
            seen.add("redis", Level.PROBLEM, f"It uses {server['used_memory_human']} of its maxmemory.", do)
        policy = server.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            do = "Set maxmemory-policy to noeviction, and maxmemory large enough for the streams of ten minutes."
            says = f"Its maxmemory-policy is {policy}: under pressure it drops streams that clients are reading."
            seen.add("redis", Level.PROBLEM, says, do)


@contextmanager
def _reported(seen: _Examination, area: str) -> Iterator[None]:
    """What cannot be looked at is a finding."""
    try:
        yield
    except ServerError as error:
        seen.add(area, Level.PROBLEM, str(error))
    except (psycopg.Error, redis.RedisError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        seen.add(
            area, Level.PROBLEM, f"It cannot be looked at: {reason.rstrip('.')}.", "Look at its rights and its log."
        )


@contextmanager
def _embedded_postgres(folder: Path) -> Iterator[tuple[str, bool]]:
    """The server of the data folder, and whether it had to be started for this visit."""
    from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres  # noqa: PLC0415 - only laptops have its packages

    server = EmbeddedPostgres(folder)
    running = server.visit()
    try:
        yield running or server.start(), running is None
    finally:
        server.stop()  # does nothing to one that it has not started


@contextmanager
def _embedded_valkey(folder: Path) -> Iterator[str]:
    from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey  # noqa: PLC0415 - as above

    server = EmbeddedValkey(folder)
    try:
        yield server.visit() or server.start()
    finally:
        server.stop()


# -- what is said ----------------------------------------------------------------------------------------------------


def _print(findings: list[Finding]) -> None:
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            click.echo(f"\n{area.capitalize()}")
        click.echo(f"  {_MARKS[finding.level]}  {finding.says}")
        if finding.do:
            click.echo(f"           {finding.do}")
        for row in finding.rows:
            click.echo(f"           - {_row(row)}")
        for statement in finding.mend:
            click.echo(f"           mend: {statement}")


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items())
