"""Finding and ending server processes that an earlier command may have left.

A process id in a file proves nothing: the process may be gone and its number given to another. ``serving`` therefore
believes a number only if the process has the expected program name and works in the expected folder, and ``end`` asks
again before each signal. Nothing here ever signals a process that fails that test.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def serving(pid: int | None, program: str, folder: Path) -> psutil.Process | None:
    """The process of this id if it runs ``program`` in ``folder``."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if _matches(process, program, folder) else None
    except psutil.Error:
        return None


def all_serving(program: str, folder: Path) -> list[psutil.Process]:
    """Every process that runs ``program`` in ``folder``. Looks at the whole process table, so ask only on suspicion."""
    found = []
    for process in psutil.process_iter():
        try:
            if _matches(process, program, folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end(process: psutil.Process, steps: Iterable[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn, giving the process that many seconds after it; true once the process is gone."""
    for number, patience in steps:
        try:
            process.send_signal(number)  # psutil refuses when the id has been reused
        except psutil.NoSuchProcess:
            return True
        if gone(process, patience):
            return True
    return False


def gone(process: psutil.Process, patience: float) -> bool:
    """Wait until the process has ended. A zombie has: whoever started it was killed or will collect it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _matches(process: psutil.Process, program: str, folder: Path) -> bool:
    if process.name() != program or process.status() == psutil.STATUS_ZOMBIE:
        return False
    return Path(process.cwd()) == folder
