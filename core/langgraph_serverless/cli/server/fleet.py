"""``serve --workers N``: N server processes behind one listening socket, and this one, which only looks after them.

A process that ends by itself is started again; one that does so again and again ends all of them, with exit code 1, as whoever
runs containers has better means. Signals are passed on as they come. Relies on children that end when this process does, also by
SIGKILL (``child.py``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence

from langgraph_serverless.cli.server.server_process import ServerCommand, ServerProcess
from langgraph_serverless.cli.server.signals import ENDED_BY_SIGNAL
from langgraph_serverless.errors import StartupError
from langgraph_serverless.telemetry import logger

_CRASHES = 3
_CRASH_WINDOW = 30.0
#: What the others get when one cannot be started (seconds).
_GRACE = 30.0


class Fleet:
    """One run of the command. Not reusable."""

    def __init__(self, commands: Sequence[ServerCommand], listener: socket.socket) -> None:
        self._commands = commands
        self._listener = listener
        self._children: set[ServerProcess] = set()
        self._signals = 0

    async def run(self) -> None:
        """Until asked to stop.

        Raises:
            StartupError: a process does not start, or does not stay.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        keeping = [asyncio.create_task(self._keep(command)) for command in self._commands]
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, command: ServerCommand) -> None:
        crashes: list[float] = []
        while not self._stopping():
            child = await ServerProcess.start(command, self._listener)
            self._children.add(child)
            if self._stopping():
                child.ask()
            try:
                await child.ready(logger.info)
                logger.info("serving", extra={"action": "serving"})
                how = await child.ended()
            except StartupError:
                if not self._stopping():
                    raise
                return
            finally:
                self._children.discard(child)
                await child.stop(_GRACE)
            if self._stopping():
                return
            crashes = [moment for moment in crashes if moment > time.monotonic() - _CRASH_WINDOW] + [time.monotonic()]
            if len(crashes) == _CRASHES:
                raise StartupError(
                    f"A server process ended by itself {_CRASHES} times in {_CRASH_WINDOW:.0f} seconds ({how})."
                )
            logger.warning("a server process has ended by itself (%s)", how, extra={"action": "server_crashed"})

    def _stopping(self) -> bool:
        return self._signals > 0

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        for child in self._children:
            child.ask() if self._signals <= 2 else child.kill()
        if self._signals > 2:
            os._exit(ENDED_BY_SIGNAL + number)
