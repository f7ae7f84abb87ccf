"""Servers, databases and settings for all tests.

``database_uri`` and ``redis_uri`` start real servers out of wheels under ``.data/test`` (or use ``TEST_DATABASE_URI`` and
``TEST_REDIS_URI``; ``TEST_DATA`` names another folder in ``.data``). Several test sessions may run at once: they share the
servers, the last one to leave stops them. Each session gets a database of its own, copied from a migrated template, so a
second session starts in about a second.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import sql

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres
from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.persistence import migrate
from langgraph_serverless.settings import Settings

# what several folders of tests share; the folders themselves are no packages
sys.path.insert(0, str(Path(__file__).parent / "support"))
sys.path.insert(0, str(Path(__file__).parent / "contract" / "differential"))
pytest_plugins = [
    "dev_server",
    "cluster",
    "everything_encrypted",
    "worker_container",
    "workload",
    "hostile",
    "javascript",
    "figures",
    "lambda_service",
    "lambda_site",
    "own_valkey",
]

ROOT = Path(__file__).parent.parent
#: Numbers per vector of the store's index, for all projects of the tests that have one.
STORE_DIMS = 8
DATA = ROOT / ".data" / os.environ.get("TEST_DATA", "test")
#: Tests under these folders leave nothing behind that breaks an invariant.
GUARDED = ("integration", "contract", "faults", "e2e")


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield


def _leave(users: Any) -> bool:
    """Stop using the servers; whether nobody else does."""
    fcntl.flock(users, fcntl.LOCK_UN)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _shared_server(name: str, kind: Any, answers: Any) -> Iterator[str]:
    """A server for as long as any test session wants it."""
    DATA.mkdir(parents=True, exist_ok=True)
    note = DATA / f"{name}.json"
    with (DATA / f"{name}.users").open("a") as users:
        server = None
        with _locked(DATA / f"{name}.starting", fcntl.LOCK_EX):
            uri = json.loads(note.read_text()) if note.exists() else None
            if uri is None or not answers(uri):
                server = kind(DATA)
                uri = server.start()
                note.write_text(json.dumps(uri))
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield uri
        finally:
            with _locked(DATA / f"{name}.starting", fcntl.LOCK_EX):
                if _leave(users):
                    if server is None:
                        server = kind(DATA)
                        server.start()  # adopts the one that runs
                    server.stop()
                    note.unlink(missing_ok=True)
                elif server is not None:
                    server._owned.close()  # the folder's lock, so that the last one can take it
                    if server._child is not None:
                        server._child.returncode = 0  # or Python warns at exit about a child that runs on


def _postgres_answers(uri: str) -> bool:
    try:
        with psycopg.connect(uri, connect_timeout=3) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _valkey_answers(uri: str) -> bool:
    client = redis.Redis.from_url(uri, socket_connect_timeout=3)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A server on which databases may be made; tests want ``database_uri``."""
    if given := os.environ.get("TEST_DATABASE_URI"):
        yield given
        return
    with _shared_server("postgres", EmbeddedPostgres, _postgres_answers) as uri:
        yield uri


@pytest.fixture(scope="session")
def redis_uri() -> Iterator[str]:
    """A Redis or Valkey that may be shared with other sessions: use the settings' key prefix."""
    if given := os.environ.get("TEST_REDIS_URI"):
        yield given
        return
    with _shared_server("valkey", EmbeddedValkey, _valkey_answers) as uri:
        yield uri


def _schema_version() -> str:
    """Changes when a migration does."""
    digest = hashlib.sha256(bytes([STORE_DIMS]))
    for path in [Path(migrate.__file__), *sorted(migrate.DIRECTORY.glob("*.sql"))]:
        digest.update(path.read_bytes())
    for package in ("langgraph.checkpoint.postgres", "langgraph.store.postgres"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        digest.update((Path(spec.origin).parent / "base.py").read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Databases:
    """Makes databases on a server."""

    server: str

    def _execute(self, statement: str, name: str, *more: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, (name, *more))))

    def create(self, *, migrated: bool = True) -> str:
        """A new database's URI."""
        name = f"lgs_test_{uuid.uuid4().hex[:12]}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, self._template() if migrated else "template0")
        return _with_name(self.server, name)

    def drop(self, uri: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", psycopg.conninfo.conninfo_to_dict(uri)["dbname"])

    def _template(self) -> str:
        name = f"lgs_template_{_schema_version()}"
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(7264)")  # two sessions may start at once
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if found is None:
                unfinished = f"{name}_unfinished"
                self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", unfinished)
                self._execute("CREATE DATABASE {} TEMPLATE template0", unfinished)
                # with vectors, so that every query can be prepared; nothing asks for them without an index
                with ThreadPoolExecutor(1) as thread:  # whoever asks may be on an event loop
                    thread.submit(
                        asyncio.run, migrate.migrate(_with_name(self.server, unfinished), dims=STORE_DIMS)
                    ).result()
                self._execute("ALTER DATABASE {} RENAME TO {}", unfinished, name)
        return name


def _with_name(uri: str, name: str) -> str:
    base, question, query = uri.partition("?")
    return f"{base.rpartition('/')[0]}/{name}{question}{query}"


@pytest.fixture(scope="session")
def databases(postgres_uri: str) -> Databases:
    """For tests that need databases of their own: ``databases.create()``, ``databases.drop(uri)``."""
    return Databases(postgres_uri)


@pytest.fixture(scope="session")
def database_uri(databases: Databases) -> Iterator[str]:
    """The session's own database, migrated."""
    uri = databases.create()
    yield uri
    databases.drop(uri)


@pytest.fixture(scope="session")
def settings(database_uri: str, redis_uri: str) -> Settings:
    """Settings for the session's servers, with times short enough for tests."""
    return Settings(
        database_uri=database_uri,
        redis_uri=redis_uri,
        redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}",
        pool_max_size=10,
    )


@pytest.fixture
async def clean_database(database_uri: str) -> None:
    """An empty database, for tests that count or list everything."""
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        await connection.execute(
            "TRUNCATE lgs.assistant, lgs.thread, lgs.cron, lgs.run, lgs.outbox, lgs.idempotency,"
            " checkpoints, checkpoint_blobs, checkpoint_writes, store CASCADE"
        )


@pytest.fixture(autouse=True)
def check_invariants(request: pytest.FixtureRequest) -> None:
    """After every test that could have touched the database: the invariants of ``persistence/invariants.sql`` hold."""
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    if folder in GUARDED and "database_uri" in request.fixturenames:
        request.getfixturevalue("invariants_hold")


@pytest.fixture
async def invariants_hold(database_uri: str) -> AsyncIterator[None]:
    yield
    await _invariants().assert_invariants(database_uri)


def _invariants() -> Any:
    """``tests/invariants.py``; the test folders are no packages, so it is loaded by path."""
    spec = importlib.util.spec_from_file_location("lgs_test_invariants", Path(__file__).parent / "invariants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
