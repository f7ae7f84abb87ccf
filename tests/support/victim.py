"""Worker processes by the dozen, each forked from one that has imported everything: a start takes a tenth of a second.

They are processes like those of ``worker_main.py``, to be killed with SIGKILL; SIGTERM makes one hand on its runs and leave.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Mapping
from multiprocessing.process import BaseProcess

from langgraph_serverless.containers.worker import WorkerContainer, use_threads_for
from langgraph_serverless.settings import Settings

#: Imported before the fork: what the child would need, and what it imports of the parent's.
IMPORTED = ["pytest", "langgraph.graph", "langgraph_serverless.containers.worker"]


def start(environ: Mapping[str, str], log: str) -> BaseProcess:
    """A worker with these settings that consumes until it is killed or asked to leave."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_main, args=(dict(environ), log), daemon=True)
    process.start()
    return process


def _main(environ: dict[str, str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environ)
    asyncio.run(_work(Settings.from_env(os.environ)))


async def _work(settings: Settings) -> None:
    container = WorkerContainer(settings)
    threads = use_threads_for(settings)
    worker = container.worker()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.work()
    await container.aclose()
    threads.shutdown(wait=False)
