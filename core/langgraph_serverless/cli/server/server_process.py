"""A child process that serves HTTP, as the command sees it that has started it (a laptop's supervisor, ``serve --workers``).

Three descriptors join the two: the listening socket (the command owns it, so that the port stays taken while the child
is exchanged and connections wait instead of being refused), the life line (the child ends when its other end closes,
which is what happens to a command that is killed), and the status pipe, on which the child reports ``started`` or
``failed`` as one JSON line each, after any number of ``progress`` lines. What the child prints goes where the command prints.

Relies on being used in the main thread: on Linux the kernel's parent-death signal follows the thread that started a child.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from langgraph_serverless.errors import StartupError


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """How to start the child; the same for every restart."""

    #: What ``python -m`` runs: a module whose ``main`` takes the descriptors (``child.py``).
    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


class ServerProcess:
    """One run of the child. Made by ``start``; ``stop`` must be awaited in the end."""

    def __init__(self, process: asyncio.subprocess.Process, life: int, status: asyncio.StreamReader) -> None:
        self._process = process
        self._life = life
        self._status = status

    @classmethod
    async def start(cls, command: ServerCommand, listener: socket.socket) -> ServerProcess:
        """Start the child; ``ready`` tells what becomes of it."""
        life_read, life_write = os.pipe()
        status_read, status_write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder we stand in is the user's, and may hold a `uvicorn.py`
                "-m",
                command.module,
                *command.arguments,
                f"--listen-fd={listener.fileno()}",
                f"--life-fd={life_read}",
                f"--status-fd={status_write}",
                pass_fds=(listener.fileno(), life_read, status_write),
                env=dict(command.environment),
            )
        except BaseException:
            os.close(life_write)
            os.close(status_read)
            raise
        finally:
            os.close(life_read)
            os.close(status_write)
        status = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(status), os.fdopen(status_read, "rb", buffering=0)
        )
        return cls(process, life_write, status)

    async def ready(self, on_progress: Callable[[str], None]) -> None:
        """Return once the child serves.

        Raises:
            StartupError: the child's own sentence, if it cannot serve.
        """
        while line := await self._status.readline():
            report = json.loads(line)
            if report["event"] == "started":
                return
            if report["event"] == "failed":
                raise StartupError(report["message"])
            on_progress(report["message"])
        raise StartupError(f"The server ended while it was starting ({_ending(await self._process.wait())}).")

    async def ended(self) -> str:
        """Return how the child ended, once it has."""
        return _ending(await self._process.wait())

    async def stop(self, grace: float) -> None:
        """Ask the child to finish its requests and release its runs; kill it after ``grace`` seconds."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
                try:
                    await asyncio.wait_for(self._process.wait(), grace)
                except TimeoutError:
                    self.kill()
                    await self._process.wait()
        finally:
            os.close(self._life)

    def ask(self) -> None:
        """Ask the child to stop; once more, to be quicker about it."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End the child this instant."""
        if self._process.returncode is None:
            self._process.kill()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
