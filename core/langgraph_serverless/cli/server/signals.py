"""How long-lived processes end when they cannot end in order: while they start, when somebody insists, when a thread is stuck.

Light on purpose, as the first of these has to hold before anything else is imported: the first process of a container ignores
SIGTERM as long as it has not asked for it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import NoReturn

#: What a process ends with that a signal has ended, as shells count it.
ENDED_BY_SIGNAL = 128
#: How long threads may take to end by themselves (seconds).
LAST_MOMENT = 1.0


def end_on_signals() -> None:
    """Until the process can do better: SIGTERM and Ctrl-C end it. A child of ours leaves Ctrl-C to its command."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(ENDED_BY_SIGNAL + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def end_now(number: int) -> NoReturn:
    """Leave everything as it is; what this process held is taken over by others when its leases have run out."""
    os._exit(ENDED_BY_SIGNAL + number)


def leave_nodes_behind(code: int) -> None:
    """End the process if synchronous nodes still block their threads: Python would wait for them, and nobody needs them any more."""
    deadline = time.monotonic() + LAST_MOMENT
    while any(thread.name.startswith("node") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)
        time.sleep(0.02)
