"""``langgraph-serverless serve``: the command line's words for ``server/serve.py`` and ``server/fleet.py``."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

from langgraph_serverless.cli.laptop.addresses import listen, url_of
from langgraph_serverless.cli.server.fleet import Fleet
from langgraph_serverless.cli.server.options import MODULE, ServeOptions
from langgraph_serverless.cli.server.readiness import read_settings
from langgraph_serverless.cli.server.server_process import ServerCommand
from langgraph_serverless.errors import StartupError
from langgraph_serverless.telemetry import logger


def serve(options: ServeOptions, *, host: str, port: int, uds: Path | None, workers: int, debug: bool) -> None:
    """Serve the project until SIGTERM or Ctrl-C."""
    options = replace(options, config=str(Path(options.config).expanduser().resolve()))
    settings = read_settings(Path(options.config), os.environ, carry_over=True)
    # the address before the rest: one that is taken must not cost the time of everything else
    listener = listen(host, port) if uds is None else _listen_at(uds)
    where = url_of(listener) if uds is None else str(uds)
    try:
        if workers == 1:
            # a command that only supervises does without all of it
            from langgraph_serverless.cli.server.serve import serve_here  # noqa: PLC0415

            fields = {"action": "serving", "address": where}
            serve_here(options, settings, listener, lambda: logger.info("serving on %s", where, extra=fields))
            return
        commands = [
            ServerCommand(
                module=MODULE,
                # one of them ticks: it is started again whenever it ends
                arguments=replace(options, with_scheduler=options.with_scheduler and number == 0).to_arguments(
                    debug=debug
                ),
                environment=os.environ.copy(),
            )
            for number in range(workers)
        ]
        asyncio.run(Fleet(commands, listener).run())
    finally:
        listener.close()
        if uds is not None:
            uds.unlink(missing_ok=True)


def _listen_at(path: Path) -> socket.socket:
    """A Unix socket, which whoever may enter its folder may use."""
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise StartupError(f"Another program listens at {path}; choose another path with --uds.")
            path.unlink()  # of a process that was killed
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(2048)
    except OSError as error:
        raise StartupError(f"{path} cannot be listened at: {error.strerror or error}.") from error
    return listener
