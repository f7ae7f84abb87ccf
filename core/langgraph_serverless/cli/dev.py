"""``langgraph-serverless dev``: the command line's words for ``laptop/supervisor.py``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from langgraph_serverless.cli.laptop.supervisor import DevOptions, Supervisor

DATA_DIR = ".langgraph_serverless"
APP = "langgraph_serverless.cli.laptop.application:create_laptop_app"


def dev(
    *,
    config: Path,
    host: str,
    port: int,
    jobs: int,
    data_dir: Path | None,
    reload: bool,
    debug: bool,
    app: str | None,
) -> None:
    """Serve the project until Ctrl-C."""
    config_path = config.expanduser().resolve()
    options = DevOptions(
        config_path=config_path,
        host=host,
        port=port,
        jobs=jobs,
        data_dir=(data_dir or config_path.parent / DATA_DIR).expanduser().absolute(),
        reload=reload,
        debug=debug,
        app=app or APP,
    )
    asyncio.run(_run(options))


async def _run(options: DevOptions) -> None:
    await Supervisor(options, os.environ).run()
