"""Where a database or Redis is and with what password: known from the start, or read again once that password is refused.

Passwords change while processes live (RDS changes its own every seven days), and what a process was told at its start is then
wrong for new connections; those that are there stay. So whoever connects tells its ``Address`` what was refused, and gets
what to try instead. Where an address comes from is not known here: ``function_secrets`` gives the function that reads it.

Never raises, never shows an address, and reads at most once per ``PAUSE``, however many connections are refused at once.
May be used by several threads and event loops.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from langgraph_serverless.errors import ServerError
from langgraph_serverless.redaction import conceal_address
from langgraph_serverless.telemetry import logger

#: Between two readings (seconds): a password is refused before its successor can be read, and nobody is to ask all the time.
PAUSE = 1.0


class Address:
    """One address (a URI)."""

    def __init__(self, current: str, read_again: Callable[[], str] | None = None) -> None:
        """``read_again`` is for an address that may change; it may take its time, and raise a ``ServerError``."""
        self._current = current
        self._read_again = read_again
        self._lock = threading.Lock()
        self._not_before = float("-inf")

    @property
    def current(self) -> str:
        """The newest one that is known."""
        return self._current

    @property
    def changes(self) -> bool:
        """Whether there is any use in asking ``instead_of``."""
        return self._read_again is not None

    def instead_of(self, refused: str) -> str | None:
        """What to try instead of an address whose password was refused; None if there is nothing else yet."""
        if self._read_again is None:
            return None
        with self._lock:  # whoever was refused at the same time waits for the answer
            if self._current == refused and time.monotonic() >= self._not_before:
                try:
                    self._current = self._read_again()
                    conceal_address(self._current)
                except ServerError as error:
                    logger.warning("an address cannot be read again: %s", error, extra={"action": "address_failed"})
                self._not_before = time.monotonic() + PAUSE
                if self._current != refused:
                    logger.info("a password has changed and was read again", extra={"action": "address_renewed"})
            return self._current if self._current != refused else None

    async def instead_of_soon(self, refused: str) -> str | None:
        """The same without holding up the event loop."""
        if self._read_again is None:
            return None
        # the event loop's own threads are for synchronous nodes, which may hold all of them
        thread = ThreadPoolExecutor(1, thread_name_prefix="address")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, self.instead_of, refused)
        finally:
            thread.shutdown(wait=False)
