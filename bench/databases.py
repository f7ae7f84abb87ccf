"""One Postgres 18 and one Valkey for all contestants that keep their state in such servers: a database each, one contestant at a time.

Out of the wheels that ``dev`` uses too, but with the settings that they have when nobody sets any (fsync and synchronous_commit
on), on ports of this machine that want a password. What a contestant asked of them is counted by the servers themselves.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from dev_server import free_port
from psycopg import sql

from langgraph_serverless.cli.laptop import postgres, valkey

#: Seconds until a server answers.
PATIENCE = 60.0
_USER = "bench"


class DatabasesError(Exception):
    """Postgres or Valkey did not start."""


@dataclass(frozen=True)
class Counters:
    """What the databases have been asked so far, by whomever."""

    at: float
    commits: float
    rollbacks: float
    wal: float
    #: Those inside of scripts and transactions too.
    commands: float
    #: How often Valkey has read from a connection: a pipeline counts once, as does a script.
    reads: float


def counters(database_uri: str, redis_uri: str) -> Counters:
    """Of one database, and of the whole Valkey."""
    with psycopg.connect(database_uri, autocommit=True) as connection:
        commits, rollbacks, wal = connection.execute(
            "SELECT xact_commit, xact_rollback, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            " FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone() or (0, 0, 0)
    with redis.Redis.from_url(redis_uri) as client:
        stats: Any = client.info("stats")
    commands, reads = stats["total_commands_processed"], stats["total_reads_processed"]
    return Counters(time.monotonic(), float(commits), float(rollbacks), float(wal), float(commands), float(reads))


@dataclass(frozen=True)
class Databases:
    """Servers that run."""

    postgres_port: int
    redis_port: int
    password: str
    processes: tuple[psutil.Process, ...]

    def postgres(self, name: str) -> str:
        """What comes after the scheme of a database's URI."""
        return f"{_USER}:{self.password}@127.0.0.1:{self.postgres_port}/{name}"

    def redis(self, number: int) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.redis_port}/{number}"

    def make_empty(self, name: str) -> None:
        """A new database of this name, an empty Valkey, and nothing left to write of what was there before."""
        self.drop(name)
        with self._administer() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute("CHECKPOINT")
        with redis.Redis.from_url(self.redis(0)) as client:
            client.flushall()

    def drop(self, name: str) -> None:
        with self._administer() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def versions(self) -> dict[str, str]:
        with self._administer() as connection:
            (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
        with redis.Redis.from_url(self.redis(0)) as client:
            server: Any = client.info("server")
        return {"postgres": str(version), "valkey": str(server.get("valkey_version", server["redis_version"]))}

    def _administer(self) -> psycopg.Connection:
        return psycopg.connect(f"postgresql://{self.postgres('postgres')}", autocommit=True)


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """Both servers, with their data in this folder; they are gone at the end.

    Raises:
        DatabasesError: one did not start.
    """
    password, ports = secrets.token_hex(16), (free_port(), free_port())
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [_postgres(folder, ports[0], password), _valkey(folder, ports[1], password)]
        made = Databases(*ports, password, tuple(psutil.Process(each.pid) for each in started))
        _until_answering(made, started, folder)
        yield made
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)  # to Postgres: stop now, and in order
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 3)
            process.kill()
            process.wait()


def _postgres(folder: Path, port: int, password: str) -> subprocess.Popen[bytes]:
    cluster, secret = folder / "postgres", folder / "postgres.password"
    cluster.mkdir(mode=0o700)
    secret.write_text(password)
    account = postgres._account(cluster)
    if account is not None:  # root may not run it
        for path in (cluster, secret):
            os.chown(path, account.pw_uid, account.pw_gid)
    making = [f"--pgdata={cluster}", f"--username={_USER}", "--auth=password", f"--pwfile={secret}"]
    making += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
    environ = postgres._environment()
    done = subprocess.run(
        [*postgres._command(account, "initdb"), *making],
        cwd="/",
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DatabasesError(f"The database cluster cannot be made: {done.stderr or done.stdout}")
    where = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
    options = [part for name, value in where.items() for part in ("-c", f"{name}={value}")]
    with (folder / "postgres.log").open("wb") as log:
        return subprocess.Popen(
            [*postgres._command(account, "postgres"), "-D", str(cluster), *options],
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _valkey(folder: Path, port: int, password: str) -> subprocess.Popen[bytes]:
    data = folder / "valkey"
    data.mkdir(mode=0o700)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--requirepass", password]
    with (folder / "valkey.log").open("wb") as log:
        return subprocess.Popen(
            [str(valkey._binary()), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _until_answering(made: Databases, started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            made.versions()
        except (psycopg.OperationalError, redis.RedisError) as error:
            if time.monotonic() > deadline or any(process.poll() is not None for process in started):
                said = [(folder / f"{name}.log").read_text(errors="replace")[-500:] for name in ("postgres", "valkey")]
                raise DatabasesError(f"A database did not start: {error}\n{''.join(said)}") from error
        else:
            return
        time.sleep(0.05)
