"""One process that executes runs and serves no API; at most its own health.

How it ends: on the first SIGTERM or SIGINT it claims nothing more and hands its runs on at their next superstep boundary, for
which they have ``BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS``; what has not come to one by then starts its superstep again elsewhere. No attempt
is counted. The second signal skips the waiting, the third ends the process there and then: leases run out. Exit code 0, or 1 if
the worker itself has failed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from langgraph_serverless import garbage, tracing
from langgraph_serverless.cli.server.application import load_project
from langgraph_serverless.cli.server.readiness import check_databases
from langgraph_serverless.cli.server.signals import end_now, leave_nodes_behind
from langgraph_serverless.cli.server.status import StatusServer
from langgraph_serverless.containers.worker import WorkerContainer, use_threads_for
from langgraph_serverless.event_loop import run_to_end
from langgraph_serverless.http.in_process import serving_beside
from langgraph_serverless.services.worker import Worker
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger


def work_here(settings: Settings, listener: socket.socket | None, *, with_migrations: bool) -> None:
    """Work until asked to stop.

    Args:
        listener: where to tell how the process is; None: nowhere.

    Raises:
        ServerError: one sentence, if it cannot begin.
        SystemExit: with 1, if the worker has failed.
    """
    garbage.relax()
    check_databases(settings, os.environ, with_migrations=with_migrations)
    tracing.start("worker", os.environ)
    registry, manifest = load_project(settings)
    container = WorkerContainer(settings, registry=registry, manifest=manifest)
    # made now, as their errors are for whoever starts the worker
    container.embedder, container.webhooks  # noqa: B018
    status = StatusServer(settings, manifest, listener) if listener is not None else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failed = run_to_end(runner.get_loop(), _work(container, status))
        leave_nodes_behind(int(failed))
    if failed:
        sys.exit(1)


async def _work(container: WorkerContainer, status: StatusServer | None) -> bool:
    """Whether it has failed."""
    executor = use_threads_for(container.settings)
    worker = container.worker()
    _listen_to_signals(worker, status)
    if status is not None:
        status.start(lambda: worker.metrics)
    logger.info("working", extra={"action": "working", "worker": worker.worker_id})
    try:
        with garbage.settled():
            async with serving_beside(container):
                report = await worker.work()
    except Exception:
        logger.exception("the worker has ended", extra={"action": "worker_crashed"})
        return True
    else:
        did = {"runs": report.total, "handed_off": report.handed_off, "lost": report.lost}
        logger.info("stopped", extra={"action": "stopped", "worker": worker.worker_id, **did})
        return False
    finally:
        await container.aclose()
        await asyncio.to_thread(tracing.flush, tracing.LAST_FLUSH_SECONDS)
        if status is not None:
            await asyncio.to_thread(status.stop)
        # a synchronous node that still blocks must not hold up the end of the process
        executor.shutdown(wait=False, cancel_futures=True)


def _listen_to_signals(worker: Worker, status: StatusServer | None) -> None:
    loop = asyncio.get_running_loop()
    received = 0

    def on_signal(number: int, _: object) -> None:
        nonlocal received
        received += 1
        if received > 2:
            end_now(number)
        if received == 1 and status is not None:
            status.leave()
        act: Callable[[], None] = worker.stop if received == 1 else worker.hurry
        loop.call_soon_threadsafe(act)

    # not the loop's own: these are also called while a node holds it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
