"""What Lambda does with asynchronous invocations of one function, without Lambda: who runs it says how (``carry_out``).

Events are accepted at once, or refused as while the API throttles (``throttled``). At most ``concurrency`` are carried out at
a time; the others wait and are tried again after pauses that grow, until they are too old. Some may be lost (``lose``). It keeps a record
of all of it.
"""

from __future__ import annotations

import heapq
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Invocation:
    """One, and how it ended: with the worker's report, or (None) by being killed."""

    event: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    report: dict[str, Any] | None = None

    @property
    def empty(self) -> bool:
        """It had nothing to do."""
        counts = ("succeeded", "failed", "interrupted", "handed_off", "lost")
        return self.report is not None and not any(self.report[name] for name in counts)


class LambdaEdge:
    """Asynchronous invocations of one function.

    Args:
        concurrency: how many may run at once; None for any number.
        retry: the first pause of an event that found no room, and the longest (seconds).
        max_age: after which such an event is dropped (seconds).
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        retry: tuple[float, float] = (0.1, 2.0),
        max_age: float = 6.0,
        lose: Callable[[], bool] = lambda: False,
    ) -> None:
        self.concurrency = concurrency
        self.throttled = False
        self.refused = 0
        #: accepted, and never heard of again
        self.lost = 0
        #: times that an event found no room, and events that were dropped for it
        self.crowded = 0
        self.too_old = 0
        self.peak = 0
        self.invocations: list[Invocation] = []
        self._retry = retry
        self._max_age = max_age
        self._lose = lose
        self._numbers = itertools.count()
        #: when, number, accepted, next pause, event
        self._waiting: list[tuple[float, int, float, float, dict[str, Any]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._dispatching = threading.Thread(target=self._dispatch, name="lambda", daemon=True)
        self._dispatching.start()

    def carry_out(self, invocation: Invocation) -> dict[str, Any] | None:
        """Do what the function does, in a thread; its report, or None if it was killed."""
        raise NotImplementedError

    def accept(self, event: dict[str, Any]) -> bool:
        """Take an event; false if it is refused."""
        with self._changed:
            if self.throttled or self._closing:
                self.refused += 1
                return False
            if self._lose():
                self.lost += 1
                return True
            now = time.monotonic()
            heapq.heappush(self._waiting, (now, next(self._numbers), now, self._retry[0], event))
            self._changed.notify()
            return True

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:
        """As boto3's client does it, for workers in this process."""
        assert (FunctionName, InvocationType) == ("worker", "Event")
        if not self.accept(json.loads(Payload)):
            raise RuntimeError("TooManyRequestsException")

    @property
    def running(self) -> int:
        return sum(invocation.ended is None for invocation in self.invocations)

    @property
    def idle(self) -> bool:
        """Nothing runs, and nothing will."""
        with self._changed:
            return not self._waiting and self.running == 0

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._dispatching.join(30)
        for thread in self._threads:
            thread.join(30)

    def _dispatch(self) -> None:
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                if not self._waiting or self._waiting[0][0] > now:
                    self._changed.wait(self._waiting[0][0] - now if self._waiting else None)
                    continue
                _, number, accepted, pause, event = heapq.heappop(self._waiting)
                if self.concurrency is None or self.running < self.concurrency:
                    self._begin(Invocation(event))
                elif now - accepted > self._max_age:
                    self.too_old += 1
                else:
                    self.crowded += 1
                    again = (now + pause, number, accepted, min(2 * pause, self._retry[1]), event)
                    heapq.heappush(self._waiting, again)

    def _begin(self, invocation: Invocation) -> None:
        self.invocations.append(invocation)
        self.peak = max(self.peak, self.running)

        def run() -> None:
            try:
                invocation.report = self.carry_out(invocation)
            finally:
                with self._changed:
                    invocation.ended = time.monotonic()

        thread = threading.Thread(target=run, name=f"invocation-{len(self.invocations)}", daemon=True)
        self._threads.append(thread)
        thread.start()
