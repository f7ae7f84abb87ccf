"""Whether a worker's event loop still turns, and who holds it if not; asked by another thread.

A node that is ``async`` and blocks holds up everything on its loop: all other graphs, cancels, the run's own time limit. The
heartbeat goes on, as it has a thread of its own, and would keep the leases of all of them for ever. So it calls into the loop and
counts for how long no answer has come. Time in which the asking thread stood still as well (a frozen sandbox, a suspended
laptop) does not count: then nobody could have answered.

Decides nothing. Who holds the loop is read off the stack of its thread: LangGraph passes the config of a run, with the run's
id in its metadata, through every call down to the node.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

#: Frames of packages are no answer to where a node blocks.
_PACKAGES = ("site-packages", "dist-packages", os.path.dirname(os.__file__))
_OURS = str(Path(__file__).parent.parent)


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps a loop from turning."""

    #: The run whose code it is, if the stack says so.
    run_id: uuid.UUID | None
    #: The innermost line of the user's code, as ``file:line in function``.
    where: str


class LoopWatch:
    """Watches the running loop, from whichever thread calls ``look``."""

    def __init__(self, *, interval: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._most = 2 * interval
        self._asked = False
        self._looked_at = 0.0
        self._silent = 0.0

    def look(self) -> float:
        """Ask, and say for how many seconds no answer has come so far; to be called about once an interval."""
        now = time.monotonic()
        if self._asked:
            self._silent += min(now - self._looked_at, self._most)
        else:
            self._silent = 0.0
            self._asked = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                self._asked = False  # closed: the worker has ended
        self._looked_at = now
        return self._silent

    def _answer(self) -> None:
        self._asked = False

    def holder(self, run_ids: Collection[uuid.UUID]) -> Holder:
        """Which of these runs the loop's thread is executing at the moment, and where."""
        frame = sys._current_frames().get(self._thread)
        summary = traceback.extract_stack(frame) if frame is not None else []
        users = [line for line in summary if not line.filename.startswith(_OURS) and not _packaged(line.filename)]
        innermost = (users or summary)[-1:]
        where = ", ".join(f"{line.filename}:{line.lineno} in {line.name}" for line in innermost)
        return Holder(_run_of(frame, {str(run_id): run_id for run_id in run_ids}), where)


def _packaged(filename: str) -> bool:
    return filename.startswith("<") or any(place in filename for place in _PACKAGES)


def _run_of(frame: FrameType | None, wanted: dict[str, uuid.UUID]) -> uuid.UUID | None:
    while frame is not None:
        config: Any = frame.f_locals.get("config")
        metadata = config.get("metadata") if isinstance(config, dict) else None
        if isinstance(metadata, dict) and (found := wanted.get(str(metadata.get("run_id")))) is not None:
            return found
        frame = frame.f_back
    return None
