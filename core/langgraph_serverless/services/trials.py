"""Who is to blame when a worker dies: runs that have one attempt left are tried one after the other.

A worker that dies takes all of its runs with it, and usually one of them did it. If those that have lost as many workers as
that one went together into their last attempt as well, all would be given up. So in one worker such runs start one at a time,
each after the one before has lasted for the time of a lease. What dies at its trial is what did it, most likely; those that
have passed and are taken along are recognised by the checkpoints they have saved since (``requeue_expired``), and spared.

Decides only; claiming is the worker's part.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from langgraph_serverless.settings import Settings


class Trials:
    """The trials of one worker."""

    def __init__(self, settings: Settings) -> None:
        #: Number of the last attempt; None if there is no other than the first.
        self.last_attempt = settings.max_attempts if settings.max_attempts > 1 else None
        self._lasts = settings.lease_duration
        self._look_again_after = settings.sweep_interval
        self._next_look = 0.0

    def may_begin(self, running: Iterable[tuple[int, float]]) -> bool:
        """Whether to look for a run to try; ``running`` has the attempt and the start of each run of this worker."""
        now = time.monotonic()
        return (
            self.last_attempt is not None
            and now >= self._next_look
            and not any(attempt >= self.last_attempt and now - began < self._lasts for attempt, began in running)
        )

    def looked(self, *, found: bool) -> None:
        # such runs appear by sweeps only, so there is no need to ask the database more often
        self._next_look = 0.0 if found else time.monotonic() + self._look_again_after
