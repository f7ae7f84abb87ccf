"""What a server process owes the command that has started it (``server_process.py`` is the other side).

Promises: JSON lines on the status pipe, ``progress`` and then ``started`` once requests are answered, or ``failed`` with one
sentence; an end within a moment of the command's, however that came about, so that nothing of this process outlives it.
SIGTERM ends it in order; Ctrl-C, which reaches this process too because both share a terminal, is left to the command.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from langgraph_serverless.errors import ServerError

_FDS = ("--listen-fd", "--life-fd", "--status-fd")
_PR_SET_PDEATHSIG = 1

Report = Callable[..., None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in _FDS:
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--debug", action="store_true")


def as_child(arguments: argparse.Namespace, serve: Callable[[Report], None]) -> None:
    """Serve, and tell the command what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for fd in (arguments.listen_fd, arguments.life_fd, arguments.status_fd):
        os.set_inheritable(fd, False)  # a tool server that a graph starts must not keep the port
    _die_with_parent(arguments.life_fd)
    status = os.fdopen(arguments.status_fd, "w", buffering=1)

    def report(event: str, **details: str) -> None:
        # a command that is gone takes us along in a moment; nobody is left to read
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"event": event, **details}), file=status, flush=True)

    try:
        serve(report)
    except Exception as error:  # the last one to see it: everything becomes a sentence for the user
        if arguments.debug:
            traceback.print_exc()
        report("failed", message=_sentence(error))
        sys.exit(1)


def _sentence(error: Exception) -> str:
    if isinstance(error, ServerError):
        return str(error)
    return f"The server did not start: {type(error).__name__}: {error} (--debug shows where)"


def _die_with_parent(life: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        os.read(life, 1)  # nothing is ever written; this returns when the other end is closed
        os._exit(1)

    # also where there is no such signal, and for a parent that was gone before we asked for it
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
