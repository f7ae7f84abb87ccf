"""Keeps a worker's leases alive, whatever its graphs do to the event loop.

A thread of its own, on a connection of its own, extends all leases of the worker in one statement every ``interval``
seconds and passes on what the database answered: nothing for a lease means it is lost, an action means that a cancel has
been recorded. A database that does not answer is asked again every second; a lease that has not been confirmed for half its
duration is given up as lost, so that this worker has stopped before another one may start. For the same reason a claim whose
answer took that long to arrive is not kept at all.

It does not keep a worker's runs alive whose event loop is dead (``LoopWatch``). A lease whose run is over its time, and does not end, is
given up. If a node has held the loop for longer than any may, or is to be cancelled or over its time while it does, so is
everything: other runs go back to the queue, that of the node keeps its attempt, and the process has to end (``on_stall``).

Callbacks are called in this thread; they must not block.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.runs import CancelRequest, Lease
from langgraph_serverless.queue.loop_watch import LoopWatch

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
    #: The monotonic time when its run must have ended.
    ends_at: float
    cancelled: bool = False


class Heartbeat:
    """The heartbeat thread of one worker."""

    def __init__(
        self,
        beat: Beat,
        *,
        interval: float,
        duration: float,
        close: Callable[[], None] | None = None,
        give_back: Callable[[Lease], object] | None = None,
        stall_limit: float = math.inf,
        on_stall: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            give_back: returns a run to the queue without counting its attempt.
            stall_limit: for how long a node may hold the event loop (seconds).
            on_stall: ends the process, whose event loop nobody can use any more.
        """
        self._beat = beat
        self._interval = interval
        self._duration = duration
        self._close = close or (lambda: None)
        self._give_back = give_back
        self._stall_limit = stall_limit
        self._on_stall = on_stall
        self._watch: LoopWatch | None = None
        self._told = False
        self._held: dict[uuid.UUID, _Held] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, and watch the running event loop if there is something to be done about one that does not turn."""
        if self._on_stall is not None:
            self._watch = LoopWatch(interval=self._interval)
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
        time_left: float = math.inf,
    ) -> bool:
        """Keep a lease that has been claimed; false if it is too old to begin with.

        Args:
            since: the monotonic time when the claim was sent: it was given no earlier than that.
            about: what the log says about its run.
            time_left: seconds that its run may take from then on.
        """
        if time.monotonic() - since > self._duration / 2:
            return False
        with self._lock:
            about = about or {"run_id": str(lease.run_id), "lease": lease.name}
            # it may be late by as much as it takes to notice that it is, and to write it down
            ends_at = since + time_left + self._duration
            self._held[lease.token] = _Held(lease, since, on_lost, on_cancel, about, ends_at)
        return True

    def holds(self, lease: Lease) -> bool:
        """Whether the lease cannot have run out yet, as far as this process knows.

        For writes that the database does not judge: a worker that has stood still is told the truth by its own clock before
        its heartbeat has asked anybody.
        """
        with self._lock:
            entry = self._held.get(lease.token)
        return entry is not None and time.monotonic() - entry.confirmed_at < self._duration

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
            try:
                pause = self._beat_once()
            except Exception:
                # nobody foresaw it; without this thread every run of the worker would be lost, and the worker not know
                logger.exception("heartbeat failed", extra={"action": "heartbeat_failed"})
                pause = min(RETRY_S, self._interval)
        self._close()

    def _beat_once(self) -> float:
        """One round; returns the seconds until the next one."""
        self._guard()
        with self._lock:
            held = list(self._held.values())
        if not held:
            return self._interval
        began = time.monotonic()
        try:
            answers = self._beat([entry.lease for entry in held], self._duration)
        except Exception as error:
            logger.warning("heartbeat failed: %s", error, extra={"action": "heartbeat_failed", "leases": len(held)})
            # as it is now: what has hung for so long that the lease may be over after another try is not tried again
            failed = time.monotonic()
            for entry in held:
                if failed - entry.confirmed_at > self._duration / 2:
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
                entry.cancelled = True
                entry.on_cancel(request)
        return self._interval

    def _guard(self) -> None:
        """Give up what nobody could end otherwise."""
        silent = self._watch.look() if self._watch is not None else 0.0
        now = time.monotonic()
        with self._lock:
            held = list(self._held.values())
        over = {entry.lease.run_id for entry in held if now > entry.ends_at}
        if silent >= self._duration:
            self._stalled(held, over, silent)
        else:
            self._told = False
        for entry in held:
            if entry.lease.run_id in over:
                self._lose(entry, "the run is over its time and does not end")

    def _stalled(self, held: Sequence[_Held], over: Set[uuid.UUID], silent: float) -> None:
        assert self._watch is not None
        holder = self._watch.holder({entry.lease.run_id for entry in held})
        guilty = next((entry for entry in held if entry.lease.run_id == holder.run_id), None)
        about = {**(guilty.about if guilty is not None else {}), "where": holder.where, "seconds": round(silent, 1)}
        if not self._told:
            self._told = True
            logger.warning("a node holds the event loop", extra={"action": "loop_stalled", **about})
        if silent < self._stall_limit and (guilty is None or not (guilty.cancelled or guilty.lease.run_id in over)):
            return
        logger.error("the event loop is held for too long: the worker ends", extra={"action": "loop_given_up", **about})
        for entry in held:
            if guilty is not None and entry is not guilty:
                self._return(entry)
            self._lose(entry, "the event loop is held by a node")
        if self._on_stall is not None:
            self._on_stall()

    def _return(self, entry: _Held) -> None:
        if self._give_back is None:
            return
        try:
            self._give_back(entry.lease)
        except Exception as error:
            # then its lease runs out
            logger.warning("not given back: %s", error, extra={"action": "give_back_failed", **entry.about})

    def _lose(self, entry: _Held, why: str = "") -> None:
        with self._lock:
            # released meanwhile: it was settled by this worker, not lost
            if self._held.pop(entry.lease.token, None) is None:
                return
        logger.warning("lease lost%s", f": {why}" if why else "", extra={"action": "lease_lost", **entry.about})
        entry.on_lost()
