"""Keeps a worker's leases alive, whatever its graphs do to the event loop.

A thread of its own, on a connection of its own, extends all leases of the worker in one statement every ``interval``
seconds and passes on what the database answered: nothing for a lease means it is lost, an action means that a cancel has
been recorded. A database that does not answer is asked again every second; a lease that has not been confirmed for half its
duration is given up as lost, so that this worker has stopped before another one may start. For the same reason a claim whose
answer took that long to arrive is not kept at all.

It never decides anything and never touches the event loop: callbacks are called in this thread.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.runs import CancelRequest, Lease

logger = logging.getLogger(__name__)

#: Extends leases; an entry for each that is held. Raises if the database does not answer.
Beat = Callable[[Sequence[Lease], float], Mapping[uuid.UUID, CancelRequest | None]]
RETRY_S = 1.0


@dataclass(slots=True)
class _Held:
    lease: Lease
    confirmed_at: float
    on_lost: Callable[[], None]
    on_cancel: Callable[[CancelRequest], None]
    about: Mapping[str, Any]


class Heartbeat:
    """The heartbeat thread of one worker."""

    def __init__(
        self, beat: Beat, *, interval: float, duration: float, close: Callable[[], None] | None = None
    ) -> None:
        self._beat = beat
        self._interval = interval
        self._duration = duration
        self._close = close or (lambda: None)
        self._held: dict[uuid.UUID, _Held] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread; leases that are still held run out."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def nudge(self) -> None:
        """Beat now instead of at the next interval: somebody says that a cancel has been recorded."""
        self._wake.set()

    def hold(
        self,
        lease: Lease,
        *,
        since: float,
        on_lost: Callable[[], None],
        on_cancel: Callable[[CancelRequest], None],
        about: Mapping[str, Any] | None = None,
    ) -> bool:
        """Keep a lease that has been claimed; false if it is too old to begin with.

        Args:
            since: the monotonic time when the claim was sent: it was given no earlier than that.
            about: what the log says about its run.
        """
        if time.monotonic() - since > self._duration / 2:
            return False
        with self._lock:
            self._held[lease.token] = _Held(
                lease, since, on_lost, on_cancel, about or {"run_id": str(lease.run_id), "lease": lease.name}
            )
        return True

    def release(self, lease: Lease) -> None:
        """Stop extending a lease; its run was settled, handed on or lost."""
        with self._lock:
            self._held.pop(lease.token, None)

    def _run(self) -> None:
        pause = self._interval
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping.is_set():
                break
            pause = self._beat_once()
        self._close()

    def _beat_once(self) -> float:
        """One round; returns the seconds until the next one."""
        with self._lock:
            held = list(self._held.values())
        if not held:
            return self._interval
        began = time.monotonic()
        try:
            answers = self._beat([entry.lease for entry in held], self._duration)
        except Exception as error:
            logger.warning("heartbeat failed: %s", error, extra={"action": "heartbeat_failed", "leases": len(held)})
            for entry in held:
                if began - entry.confirmed_at > self._duration / 2:
                    self._lose(entry)
            return min(RETRY_S, self._interval)
        for entry in held:
            if entry.lease.run_id not in answers:
                self._lose(entry)
                continue
            # the lease was extended no earlier than when we asked
            entry.confirmed_at = began
            request = answers[entry.lease.run_id]
            if request is not None:
                entry.on_cancel(request)
        return self._interval

    def _lose(self, entry: _Held) -> None:
        with self._lock:
            # released meanwhile: it was settled by this worker, not lost
            if self._held.pop(entry.lease.token, None) is None:
                return
        logger.warning("lease lost", extra={"action": "lease_lost", **entry.about})
        entry.on_lost()
