"""What clients see of a run while it goes on: its stream, and waiting for it.

The event log carries both. The run's row is looked at only when the log is silent: if the run is over and the log does not
say so (it was emptied, or out of reach when the run ended), readers get what the row has: a ``values`` event or the error,
explicitly, never silence (P11). So nothing here fails because Redis does, and an idle stream holds no connection to Postgres.

Batches are sequences of events that were ready together; an empty one asks for a keep-alive. End markers are not passed on.
Once a response has begun, errors can only be told in the stream itself, so these iterators tell them and end.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from langgraph_serverless.domain.cursors import FROM_NOW_ON, FROM_THE_START, mode_filter, parse_last_event_id
from langgraph_serverless.domain.events import ERROR, Event, end_marker, is_gap, output_of, state_in
from langgraph_serverless.domain.ports import EventReader
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import CancelAction
from langgraph_serverless.domain.serialization import dump_json
from langgraph_serverless.errors import GoneError, NotFoundError, UnavailableError
from langgraph_serverless.persistence.runs import RunResult
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger

Batches = AsyncGenerator[Sequence[Event], None]


@dataclass(frozen=True, slots=True)
class Joined:
    """A stream, and how clients may come back to it.

    Args:
        cursor: where it begins, for a client that is cut off before its first event; None if that needs not be known.
    """

    with_ids: bool
    batches: Batches
    cursor: str | None = None


#: How long after a run has settled its end marker may still come (seconds).
GRACE = 1.0
#: Longest time between two looks at the row of a run whose log works.
LONGEST_PAUSE = 15.0
#: Between looks without a log: at first, and at most.
FIRST_POLL, LONGEST_POLL = 0.05, 1.0
#: Between attempts to cancel what a client has left, while the database is away (seconds).
ABANDONED_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

_RUN_NOT_FOUND = {"error": "HTTPException", "message": "404: Run not found"}
_FAULT = {"error": "InternalServerError", "message": "An internal error occurred"}


class StreamService:
    """Streams and waits, for the client that made the run and for those that join it."""

    def __init__(self, events: EventReader | None, runs: RunService, settings: Settings) -> None:
        self._events = events
        self._runs = runs
        self._keepalive = settings.stream_keepalive
        self._carries_over = settings.stream_carry_over

    # -- streaming -----------------------------------------------------------------------------------------------

    def stream(self, run_id: uuid.UUID, *, resumable: bool) -> Joined:
        """A run's own stream, from its first event."""
        batches = self._told(self._stream(run_id, FROM_THE_START))
        return Joined(resumable or self._carries_over, batches, FROM_THE_START if self._carries_over else None)

    async def join_stream(
        self,
        caller: Principal,
        thread_id: uuid.UUID | None,
        run_id: uuid.UUID,
        *,
        last_event_id: str | None = None,
        modes: frozenset[str] | None = None,
    ) -> Joined:
        """The stream of a run that somebody else may have made.

        Without ``last_event_id`` it begins now. With it, a resumable run's begins after that event, also for a while after
        the run has ended; and so does every run's where streams are carried over.
        """
        run = await self._runs.find(caller, thread_id, run_id)
        if run is not None:
            resumable = bool(run.kwargs.get("resumable"))
            over = run.status.is_final
        else:
            left = await self._runs.result(run_id)
            if left is None or not left.hidden:
                return Joined(False, _listed([Event(ERROR, dump_json(_RUN_NOT_FOUND))]))
            # a finished stateless run: only resumable events have ids, so a client that has one may go on
            resumable = over = True
        after, cursor = FROM_NOW_ON, None
        resumable = resumable or self._carries_over
        if resumable and last_event_id is not None:
            parsed = parse_last_event_id(last_event_id)
            if parsed is None:
                return Joined(True, _listed())
            after = parsed
        elif self._carries_over and not over:
            cursor = await self._now(run_id)
            after = cursor or FROM_NOW_ON
        if not over:
            batches = self._stream(run_id, after)
        elif after == FROM_NOW_ON:
            return Joined(resumable, _listed())
        else:
            batches = self._replay(run_id, after)
        return Joined(resumable, self._told(_filtered(batches, modes)), cursor)

    async def _now(self, run_id: uuid.UUID) -> str | None:
        """The id of what has been emitted last; None if that is not known, or nothing comes after it."""
        try:
            return await self._events.newest(run_id) if self._events is not None else None
        except UnavailableError:
            return None

    async def require_kept(self, run_id: uuid.UUID) -> None:
        """Refuse to follow a run, made by the same request before, of which nothing is left.

        Raises:
            GoneError: it has been deleted or rolled back, or its time is over, as a stateless run's soon is.
        """
        if await self._runs.result(run_id) is None:
            raise GoneError(
                f"This request has been carried out before, as run {run_id}, of which nothing is kept any longer."
                " Another 'Idempotency-Key' makes a new run"
            )

    async def _stream(self, run_id: uuid.UUID, after: str) -> Batches:
        """Events of a live run up to its end, and what the row says if the log does not."""
        batches = self._events.read(run_id, after) if self._events is not None else self._no_log()
        async with aclosing(self._follow(run_id, batches)) as followed:
            async for batch in _without_markers(followed):
                yield batch

    async def _replay(self, run_id: uuid.UUID, after: str) -> Batches:
        """What the log still has of a run that is over; the state it left, if the log has nothing or does not end."""
        if self._events is not None and await self._log_exists(run_id):
            async with aclosing(cast(Batches, self._events.read(run_id, after))) as batches:
                async for batch in _without_markers(batches):
                    if not batch:
                        break  # the end came while the log was out of reach, or the client is ahead of it
                    yield batch
                else:
                    return
        result = await self._runs.result(run_id)
        if result is not None:
            yield [_snapshot(result, current=True)]

    async def _log_exists(self, run_id: uuid.UUID) -> bool:
        try:
            return self._events is not None and await self._events.exists(run_id)
        except UnavailableError:
            return False  # the snapshot is the answer then

    async def _told(self, batches: Batches) -> Batches:
        """Turns a failure into the stream's last event."""
        async with aclosing(batches):
            try:
                async for batch in batches:
                    yield batch
            except Exception:
                logger.exception("A stream failed", extra={"action": "stream"})
                yield [Event(ERROR, dump_json(_FAULT))]

    # -- waiting -------------------------------------------------------------------------------------------------

    async def wait(self, run_id: uuid.UUID) -> AsyncGenerator[bytes, None]:
        """Newlines while the run goes on, then its output as JSON."""
        async with aclosing(self._wait_for_end(run_id)) as waiting:
            async for piece in waiting:
                yield piece if isinstance(piece, bytes) else output_of(piece)

    async def wait_until_over(self, run_ids: Sequence[uuid.UUID]) -> AsyncGenerator[bytes, None]:
        """Newlines while one of these runs goes on, then ``{}``: the answer to a cancel that waits."""
        for run_id in run_ids:
            async with aclosing(self._wait_for_end(run_id)) as waiting:
                async for piece in waiting:
                    if isinstance(piece, bytes):
                        yield piece
        yield b"{}"

    async def join(
        self, caller: Principal, thread_id: uuid.UUID | None, run_id: uuid.UUID
    ) -> AsyncGenerator[bytes, None]:
        """The same for a run that somebody else may have made; of a finished run, what its thread has come to."""
        run = await self._runs.find(caller, thread_id, run_id)
        if run is not None and not run.status.is_final:
            return self.wait(run_id)
        result = await self._runs.result(run_id)
        if result is None or not (run is not None or result.hidden):
            return _pieces(dump_json({"__error__": _RUN_NOT_FOUND}))
        return _pieces(dump_json(result.output if result.hidden else result.thread_output))

    async def _wait_for_end(self, run_id: uuid.UUID) -> AsyncGenerator[bytes | Event, None]:
        batches = self._events.end(run_id) if self._events is not None else self._no_log()
        try:
            async with aclosing(self._follow(run_id, batches)) as followed:
                async for batch in followed:
                    yield batch[-1] if batch else b"\n"
        except Exception:
            logger.exception("A wait failed", extra={"action": "wait"})
            yield end_marker(status="error", output={"__error__": _FAULT})

    # -- following -----------------------------------------------------------------------------------------------

    async def _follow(self, run_id: uuid.UUID, batches: AsyncIterator[Sequence[Event]]) -> Batches:
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
                if looks.due(connected=self._events is not None and self._events.connected):
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
            yield [end_marker(status="interrupted", output={"__error__": _RUN_NOT_FOUND})]
        else:
            yield [_snapshot(result), end_marker(status=result.status.value, output=dump_json(result.output))]

    async def _look(self, run_id: uuid.UUID) -> tuple[bool, RunResult | None]:
        """Whether the run is over, and what it left; None if it is gone."""
        try:
            result = await self._runs.result(run_id)
        except UnavailableError:
            return False, None  # neither log nor row: keep waiting, the client is kept alive meanwhile
        return result is None or result.status.is_final, result

    async def _no_log(self) -> Batches:
        """Empty batches at which to look at the row, in a deployment without Redis."""
        pause = FIRST_POLL
        while True:
            await asyncio.sleep(min(pause, self._keepalive))
            yield ()
            pause = min(pause * 1.5, LONGEST_POLL)

    # -- leaving -------------------------------------------------------------------------------------------------

    async def cancel_abandoned(self, caller: Principal, thread_id: uuid.UUID, run_id: uuid.UUID) -> None:
        """Cancel a run whose client has gone; for ``on_disconnect: cancel``.

        Nobody else will, so a database that is away is asked again for a while.
        """
        about = {"action": "cancel_abandoned", "run_id": str(run_id)}
        for pause in (*ABANDONED_PAUSES, None):
            try:
                await self._runs.cancel(caller, thread_id, [run_id], CancelAction.INTERRUPT, "the client disconnected")
            except NotFoundError:
                return  # it has ended by itself
            except UnavailableError as error:
                if pause is None:
                    logger.error("an abandoned run goes on: %s", error, extra=about)
                    return
                logger.warning("cannot cancel an abandoned run yet: %s", error, extra=about)
                await asyncio.sleep(pause)
            else:
                return


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


def _snapshot(result: RunResult, *, current: bool = False) -> Event:
    """What a run has come to, in place of its events; ``current``: what its thread has come to since."""
    if result.error is not None and not current:
        return Event(ERROR, dump_json(result.error))
    values = result.thread_values if current and not result.hidden else result.output
    return Event("values", dump_json(values))


async def _for_a_while(batches: AsyncIterator[Sequence[Event]], seconds: float) -> Batches:
    """What comes within this time; ``batches`` cannot be used afterwards."""
    until = asyncio.get_running_loop().time() + seconds
    while seconds:
        try:
            async with asyncio.timeout_at(until):
                batch = await anext(batches)
        except (TimeoutError, StopAsyncIteration):
            return
        yield batch


async def _filtered(batches: Batches, modes: frozenset[str] | None) -> Batches:
    wanted = mode_filter(modes) if modes is not None else None
    async with aclosing(batches):
        async for batch in batches:
            if not batch or wanted is None:
                yield batch
            elif kept := [event for event in batch if wanted(event)]:
                yield kept


async def _without_markers(batches: AsyncIterator[Sequence[Event]]) -> Batches:
    """What clients get; if events may be missing, the state that the run left comes last."""
    gap = False
    before: Event | None = None
    async for batch in batches:
        events = []
        for event in batch:
            if is_gap(event):
                gap = True
            elif not event.is_end:
                events.append(event)
            elif gap and (state := state_in(event)) is not None:
                # with the id of the marker right before the end: whoever goes on after it has the state
                events.append(Event("values", state, before.id if before is not None and is_gap(before) else ""))
            before = event
        if events or not batch:
            yield events


async def _listed(*batches: Sequence[Event]) -> Batches:
    for batch in batches:
        yield batch


async def _pieces(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
