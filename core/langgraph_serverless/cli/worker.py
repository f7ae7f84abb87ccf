"""``langgraph-serverless worker``: the command line's words for ``server/work.py``."""

from __future__ import annotations

import os
from pathlib import Path

from langgraph_serverless.cli.laptop.addresses import listen
from langgraph_serverless.cli.server.readiness import read_settings


def worker(*, config: Path, host: str, port: int | None, jobs: int | None, with_migrations: bool) -> None:
    """Execute runs until SIGTERM or Ctrl-C."""
    if jobs is not None:
        os.environ["N_JOBS_PER_WORKER"] = str(jobs)
    settings = read_settings(config, os.environ)
    listener = listen(host, port) if port is not None else None
    try:
        # what is wrong so far is said before all of this is imported
        from langgraph_serverless.cli.server.work import work_here  # noqa: PLC0415

        work_here(settings, listener, with_migrations=with_migrations)
    finally:
        if listener is not None:
            listener.close()
