"""A worker as a process of its own: what the worker function does, for tests that stop, kill and restart it.

Started by ``cluster.py`` only. Settings come from the environment; it consumes until it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os

from langgraph_serverless.containers.worker import consume
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import configure_logging

FOREVER = 1e6

if __name__ == "__main__":
    settings = Settings.from_env(os.environ)
    configure_logging("INFO", json=False)
    logging.basicConfig(level=logging.INFO)
    asyncio.run(consume(settings, deadline=lambda: FOREVER, idle_grace=FOREVER))
