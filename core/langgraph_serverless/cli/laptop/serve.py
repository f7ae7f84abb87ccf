"""The server process of a laptop: ``python -m langgraph_serverless.cli.laptop.serve``, started by the supervisor only.

Brings the database up to date and serves the project. It is here and not in the supervisor that migrations run, because
they need langgraph, whose import takes a second that this process spends anyway. What it owes the supervisor is in
``cli/server/child.py``.

Relies on the environment for its settings; the project's own ``env`` only fills gaps.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from langgraph_serverless.cli.server.child import Report, add_arguments, as_child
from langgraph_serverless.cli.server.logs import log_everything
from langgraph_serverless.cli.server.uvicorn_server import Reported, Server, run, server_config
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.migrate import migrate
from langgraph_serverless.settings import Settings

# After this, streams that are still open are cut; the runs behind them are released by the application itself.
_CONNECTION_GRACE = 1


class _Server(Server):
    """Leaves Ctrl-C to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="langgraph_serverless.cli.laptop.serve")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--app", required=True)
    add_arguments(parser)
    arguments = parser.parse_args()
    as_child(arguments, lambda report: _serve(arguments, report))


def _serve(arguments: argparse.Namespace, report: Report) -> None:
    project = read_project(arguments.config)
    project.apply_env(os.environ)
    settings = Settings.from_env(os.environ, config_path=arguments.config)
    log_everything(settings)
    index = project.store_settings.index
    applied = asyncio.run(
        migrate(settings.database_uri, dims=index.dims if index else None, tenants=settings.row_level_security)
    )
    if applied:
        report("progress", message=f"Database: {len(applied)} migrations applied")
    module, _, function = arguments.app.partition(":")
    make_app = getattr(importlib.import_module(module), function)
    app = Reported(make_app(settings, config_path=arguments.config))
    config = server_config(app, settings, connection_grace=_CONNECTION_GRACE)
    server = _Server(config, lambda: report("started"))
    run(server, app, socket.socket(fileno=arguments.listen_fd))


if __name__ == "__main__":
    main()
