"""Who is compared, and how each of them is started: as its own documents say, with ten runs at once where that can be said.

* ``ours``: ``serve --migrate --with-worker``, on the Postgres and the Valkey that the peers get too.
* ``dev``: ``langgraph-serverless dev``, on servers of its own.
* ``reference``: the official development server, whose state is in memory.
* ``aegra`` and ``langhost``: two servers of the same API on Postgres and Redis; aegra with the three workers of its compose file.

Peers are black boxes: their commands, variables and answers are all that is known of them here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dev_server import DevServer, free_port
from official_server import AT_ONCE

from bench.databases import Databases
from bench.launch import launched
from bench.servers import PROJECT, Contestant, Serving

_SCRIPT = "from langgraph_serverless.cli.main import main; main()"
#: Bytecode that lies beside the project would make a peer's first start another's second one.
_NOT_COPIED = shutil.ignore_patterns(".langgraph_api", "__pycache__")


@contextmanager
def _dev(folder: Path) -> Iterator[Serving]:
    server = DevServer(PROJECT / "langgraph.json", folder / "data")
    try:
        process = server.start().process
        assert process is not None, "it has just been started"
        yield Serving(server.url, process.pid, server.log)
    finally:
        server.close()


def dev() -> Contestant:
    """This server as ``langgraph-serverless dev`` starts it, on Postgres and Valkey of its own."""
    return Contestant("dev", _dev, sys.path)


def ours(databases: Databases) -> Contestant:
    """This server as ``langgraph-serverless serve --with-worker`` starts it."""
    database, cache = f"postgresql://{databases.postgres('ours')}", databases.redis(3)

    def command(port: int) -> list[str | Path]:
        serve = ["serve", "--migrate", "--with-worker", "--host", "127.0.0.1", "--port", str(port)]
        return [sys.executable, "-P", "-c", _SCRIPT, *serve, "--config", "langgraph.json"]

    environ = {"DATABASE_URI": database, "REDIS_URI": cache, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    start = _on_databases(command, environ, (database, cache))
    return Contestant("ours", start, sys.path, lambda: databases.make_empty("ours"))


def reference(command: Path) -> Contestant:
    """The official development server."""

    @contextmanager
    def start(folder: Path) -> Iterator[Serving]:
        port, app, log = free_port(), _app(folder), folder / "output"
        options = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
        environ = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "PYTHONPATH": ""}
        whole: list[str | Path] = [command.absolute(), "dev", *options, "--n-jobs-per-worker", str(AT_ONCE)]
        with launched(whole, port, log, cwd=app, environ=environ) as pid:
            yield Serving(f"http://127.0.0.1:{port}", pid, log)

    return Contestant("reference", start, _packages(command), python=_python(command))


def aegra(command: Path, databases: Databases) -> Contestant:
    """aegra with its Redis broker and its pool of workers."""
    database, cache = f"postgresql://{databases.postgres('aegra')}", databases.redis(1)

    def whole(port: int) -> list[str | Path]:
        options = ["--host", "127.0.0.1", "--port", str(port), "--config", "langgraph.json"]
        return [command.absolute(), "serve", *options]

    environ = {
        "DATABASE_URL": database,
        "REDIS_URL": cache,
        "REDIS_BROKER_ENABLED": "true",
        "WORKER_COUNT": "3",
        "N_JOBS_PER_WORKER": str(AT_ONCE),
        "AUTH_TYPE": "noop",
        "ENV_MODE": "PRODUCTION",
        "OTEL_TARGETS": "",
        "PYTHONPATH": ".",  # the copy of the project
    }
    start = _on_databases(whole, environ, (database, cache), health="/health")
    return Contestant("aegra", start, _packages(command), lambda: databases.make_empty("aegra"), _python(command))


def langhost(command: Path, databases: Databases) -> Contestant:
    """langhost: a release of the official API server on a runtime for Postgres."""
    address, cache = databases.postgres("langhost"), databases.redis(2)

    def whole(port: int) -> list[str | Path]:
        options = ["--host", "127.0.0.1", "--port", str(port), "--n-jobs-per-worker", str(AT_ONCE)]
        return [command.absolute(), "serve", *options]

    environ = {"DATABASE_URI": f"postgresql+asyncpg://{address}?sslmode=disable", "REDIS_URI": cache, "PYTHONPATH": ""}
    start = _on_databases(whole, environ, (f"postgresql://{address}", cache))
    return Contestant("langhost", start, _packages(command), lambda: databases.make_empty("langhost"), _python(command))


def _on_databases(
    command: Callable[[int], list[str | Path]],
    environ: Mapping[str, str],
    databases: tuple[str, str],
    health: str = "/ok",
) -> Callable[[Path], AbstractContextManager[Serving]]:
    """How to start a server, told its port, in a copy of the project."""

    @contextmanager
    def start(folder: Path) -> Iterator[Serving]:
        port, app, log = free_port(), _app(folder), folder / "output"
        whole = command(port)
        # commands of an environment look for others beside them
        path = {"PATH": f"{Path(whole[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        with launched(whole, port, log, cwd=app, environ={**environ, **path}, health=health) as pid:
            yield Serving(f"http://127.0.0.1:{port}", pid, log, *databases)

    return start


def _app(folder: Path) -> Path:
    """A copy of the project: a server may keep what it likes beside it, until the folder is gone."""
    app = folder / "app"
    if not app.exists():
        shutil.copytree(PROJECT, app, ignore=_NOT_COPIED)
    return app


def _packages(command: Path) -> list[str]:
    return [str(path) for path in command.absolute().parents[1].glob("lib/python*/site-packages")]


def _python(command: Path) -> str:
    """The version of the interpreter beside a command."""
    said = subprocess.run([command.absolute().with_name("python"), "-V"], capture_output=True, text=True, check=False)
    return said.stdout.strip().removeprefix("Python ") or "unknown"
