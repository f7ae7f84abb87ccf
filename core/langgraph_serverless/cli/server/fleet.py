"""``serve --workers N``: N server processes behind one listening socket, and this one, which only looks after them.

A process that ends by itself is started again; one that does so again and again ends all of them, with exit code 1, as whoever
runs containers has better means. One that does not start ends all of them only if no other serves: a database that is away for a
moment must not take along processes that wait for it. Signals are passed on as they come. Relies on children that end when this
process does, also by SIGKILL (``child.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
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
#: Before a process that has not started is started again: twice as long each time (seconds).
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
#: What the others get when one cannot be started (seconds).
_GRACE = 30.0


class Fleet:
    """One run of the command. Not reusable."""

    def __init__(self, commands: Sequence[ServerCommand], listener: socket.socket) -> None:
        self._commands = commands
        self._listener = listener
        self._children: set[ServerProcess] = set()
        self._serving: set[ServerProcess] = set()
        self._signals = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until asked to stop.

        Raises:
            StartupError: a process does not start and no other serves, or one does not stay.
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
        pause = _FIRST_PAUSE
        while not self._stopping():
            try:
                how = await self._run_one(command)
            except StartupError as error:
                if self._stopping():
                    return
                if not self._serving:
                    raise
                logger.warning(
                    "a server process does not start, others serve: %s", error, extra={"action": "server_not_started"}
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if self._stopping():
                return
            pause = _FIRST_PAUSE
            crashes = [moment for moment in crashes if moment > time.monotonic() - _CRASH_WINDOW] + [time.monotonic()]
            if len(crashes) == _CRASHES:
                raise StartupError(
                    f"A server process ended by itself {_CRASHES} times in {_CRASH_WINDOW:.0f} seconds ({how})."
                )
            logger.warning("a server process has ended by itself (%s)", how, extra={"action": "server_crashed"})

    async def _run_one(self, command: ServerCommand) -> str:
        """How it has ended, after it has served."""
        child = await ServerProcess.start(command, self._listener)
        self._children.add(child)
        if self._stopping():
            child.ask()
        try:
            await child.ready(logger.info)
            self._serving.add(child)
            logger.info("serving", extra={"action": "serving"})
            return await child.ended()
        finally:
            self._children.discard(child)
            self._serving.discard(child)
            await child.stop(_GRACE)

    def _stopping(self) -> bool:
        return self._signals > 0

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        self._stop.set()
        for child in self._children:
            child.ask() if self._signals <= 2 else child.kill()
        if self._signals > 2:
            os._exit(ENDED_BY_SIGNAL + number)
