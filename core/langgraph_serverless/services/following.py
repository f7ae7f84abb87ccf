"""Following one run to its end, whatever becomes of its log.

The event log carries streams and waits. The run's row is looked at only when the log is silent: if the run is over and the log
does not say so (it was emptied, or out of reach when the run ended), readers get what the row has: a ``values`` event or the
error, explicitly, never silence (P11). So an idle stream holds no connection to Postgres.

Batches are the log's own, markers included; an empty one asks for a keep-alive. The last event is an end marker.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

from langgraph_serverless.domain.events import DELAYED, ERROR, Event, end_marker
from langgraph_serverless.domain.ports import EventReader
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.event_loop import within
from langgraph_serverless.persistence.runs import RunResult
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.settings import Settings

Batches = AsyncGenerator[Sequence[Event], None]

#: How long after a run has settled its end marker may still come (seconds).
GRACE = 1.0
#: Longest time between two looks at the row of a run whose log works.
LONGEST_PAUSE = 15.0
#: Meanwhile a client is sent nothing, and a database behind a network that drops everything never answers (seconds).
LONGEST_LOOK = 2.0
#: Between looks without a log: at first, and at most.
FIRST_POLL, LONGEST_POLL = 0.05, 1.0

#: What is told of a run that is not there (any more).
RUN_NOT_FOUND = {"error": "HTTPException", "message": "404: Run not found"}


#: What is told of a failure that is ours.
FAULT = {"error": "InternalServerError", "message": "An internal error occurred"}


class RunFollower:
    """Follows runs; the log may be None, in a deployment without Redis."""

    def __init__(self, events: EventReader | None, runs: RunService, settings: Settings) -> None:
        self._events = events
        self._runs = runs
        self._keepalive = settings.stream_keepalive

    def follow(self, run_id: uuid.UUID, after: str, *, hurry: asyncio.Event | None = None) -> Batches:
        """Everything after this event, up to the end marker; one is made from the row if the run is over without it.

        Args:
            hurry: set by whoever has reason to believe that the run is over; the row is looked at with the next empty batch.
        """
        batches = self._events.read(run_id, after) if self._events is not None else self._no_log()
        return self._follow(run_id, batches, hurry or asyncio.Event())

    def end(self, run_id: uuid.UUID) -> Batches:
        """Nothing but the end marker (and what stands for the events before it, if it is made from the row)."""
        batches = self._events.end(run_id) if self._events is not None else self._no_log()
        return self._follow(run_id, batches, asyncio.Event())

    async def _follow(
        self, run_id: uuid.UUID, batches: AsyncIterator[Sequence[Event]], hurry: asyncio.Event
    ) -> Batches:
        """The log's batches up to an end marker; one is made from the row if the run is over without it."""
        looks = _Looks(self._keepalive)
        heard_at = time.monotonic()
        result: RunResult | None = None
        async with aclosing(cast(Batches, batches)):
            async for batch in batches:
                if batch:
                    heard_at = time.monotonic()
                    yield batch
                    if batch[-1].is_end:
                        return
                    continue
                connected = self._events is not None and self._events.connected
                if batch is not DELAYED and (hurry.is_set() or looks.due(connected=connected)):
                    hurry.clear()
                    over, result = await self._look(run_id)
                    if over:
                        break
                # without a log, looks are more frequent than keep-alives need to be
                if time.monotonic() - heard_at >= self._keepalive * 0.9:
                    heard_at = time.monotonic()
                    yield ()
            # the worker closes the log right after it has settled the run
            async for batch in _for_a_while(batches, 0 if self._events is None else GRACE):
                if batch:
                    yield batch
                    if batch[-1].is_end:
                        return
        if result is None:  # rolled back or deleted
            yield [end_marker(status="interrupted", output={"__error__": RUN_NOT_FOUND})]
        else:
            yield [*snapshot(result), end_marker(status=result.status.value, output=dump_json(result.output))]

    async def _look(self, run_id: uuid.UUID) -> tuple[bool, RunResult | None]:
        """Whether the run is over, and what it left; None if it is gone."""
        try:
            result = await within(LONGEST_LOOK, self._runs.result(run_id))
        except (UnavailableError, TimeoutError):
            return False, None  # neither log nor row: keep waiting, the client is kept alive meanwhile
        return result is None or result.status.is_final, result

    async def _no_log(self) -> Batches:
        """Empty batches at which to look at the row, in a deployment without Redis."""
        pause = FIRST_POLL
        while True:
            await asyncio.sleep(min(pause, self._keepalive))
            yield ()
            pause = min(pause * 1.5, LONGEST_POLL)


class _Looks:
    """When to look at the row: soon after the log falls silent, then ever less often; at each tick without a log."""

    def __init__(self, first: float) -> None:
        self._pause = min(first, LONGEST_PAUSE)
        self._next = time.monotonic()

    def due(self, *, connected: bool) -> bool:
        now = time.monotonic()
        if connected and now < self._next:
            return False
        self._next = now + self._pause
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        return True


class Instead(Event):
    """A state in place of events that are not there any more; whatever modes a client has asked for, it is told."""

    __slots__ = ()


def snapshot(result: RunResult, *, current: bool = False) -> list[Event]:
    """What a run has come to, in place of its events; ``current``: what its thread has come to since, and how the run failed."""
    failed = result.status in {RunStatus.ERROR, RunStatus.TIMEOUT}
    error = [Event(ERROR, dump_json(result.error))] if failed else []
    if failed and (result.hidden or not current):
        return error
    values = result.thread_state if current and not result.hidden else result.output
    return [Instead("values", dump_json(values)), *error]


async def _for_a_while(batches: AsyncIterator[Sequence[Event]], seconds: float) -> Batches:
    """What comes until there was nothing for this long; ``batches`` cannot be used afterwards.

    What a slow client takes to be sent a batch does not count.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while seconds:
        try:
            async with asyncio.timeout_at(until):
                batch = await anext(batches)
        except (TimeoutError, StopAsyncIteration):
            return
        yield batch
        if batch:
            until = loop.time() + seconds
