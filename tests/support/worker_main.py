"""A worker as a process of its own: what the worker function does, for tests that stop, kill and restart it.

Started by ``cluster.py`` only. Settings come from the environment; it consumes until it is killed, or until SIGTERM: then it
hands on its runs and leaves, as a function does whose time is almost over. ``CLOCK_OFF_BY`` (seconds) makes its wall clock
wrong, and on SIGUSR1 it is set by ``CLOCK_STEP`` (seconds), as a machine's is by its time service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time

from langgraph_serverless import tracing
from langgraph_serverless.containers.worker import consume
from langgraph_serverless.event_loop import run_to_end
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import Context, JsonFormatter, configure_logging

FOREVER = 1e6
#: What is left after SIGTERM: less than the margin at which a function leaves, and enough for a superstep.
A_WHILE = 30.0


def have_a_clock_of_its_own() -> None:
    """Everybody looks at it as ``time.time`` and ``time.time_ns``, which are replaced; leases must not need it at all."""
    off_by, real, real_ns = int(os.environ.get("CLOCK_OFF_BY", "0")), time.time, time.time_ns

    def set_it(*_: object) -> None:
        nonlocal off_by
        off_by += int(os.environ["CLOCK_STEP"])

    time.time = lambda: real() + off_by
    time.time_ns = lambda: real_ns() + off_by * 10**9
    signal.signal(signal.SIGUSR1, set_it)


if __name__ == "__main__":
    have_a_clock_of_its_own()
    left = [FOREVER]
    signal.signal(signal.SIGTERM, lambda *_: left.append(A_WHILE))
    settings = Settings.from_env(os.environ)
    configure_logging("INFO", json=settings.log_json)
    logging.basicConfig(level=logging.INFO)
    if settings.log_json:
        for handler in logging.getLogger().handlers:
            handler.addFilter(Context())
            handler.setFormatter(JsonFormatter())
    tracing.start("worker", os.environ)
    with asyncio.Runner() as runner:
        run_to_end(runner.get_loop(), consume(settings, deadline=lambda: left[-1], idle_grace=None))
    tracing.flush(A_WHILE)
