"""What clients see of a run while it goes on: its stream, and waiting for it.

The event log carries both, and the run's row stands behind it (``following.py``), so nothing here fails because Redis does.

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
from langgraph_serverless.errors import AccessError, GoneError, NotFoundError, UnavailableError
from langgraph_serverless.services.following import FAULT, RUN_NOT_FOUND, Batches, Instead, RunFollower, snapshot
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import logger


@dataclass(frozen=True, slots=True)
class Joined:
    """A stream, and how clients may come back to it.

    Args:
        cursor: where it begins, for a client that is cut off before its first event; None if that needs not be known.
        thread_id: of a run that has not ended.
    """

    with_ids: bool
    batches: Batches
    cursor: str | None = None
    thread_id: uuid.UUID | None = None


#: Between attempts to cancel what a client has left, while the database is away (seconds).
ABANDONED_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class StreamService:
    """Streams and waits, for the client that made the run and for those that join it."""

    def __init__(self, events: EventReader | None, runs: RunService, settings: Settings) -> None:
        self._events = events
        self._runs = runs
        self._carries_over = settings.stream_carry_over
        self._keepalive = settings.stream_keepalive
        self._follower = RunFollower(events, runs, settings)

    # -- streaming -----------------------------------------------------------------------------------------------

    def stream(self, run_id: uuid.UUID, *, resumable: bool) -> Joined:
        """A run's own stream, from its first event."""
        batches = self._told(self._stream(run_id, FROM_THE_START))
        with_ids = resumable or self._carries_over
        return Joined(with_ids, batches, FROM_THE_START if with_ids else None)

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
        allowed = await self._runs.readable(caller, thread_id, run_id)
        try:
            run = await self._runs.look(thread_id, run_id, allowed)
        except NotFoundError as error:
            return Joined(False, _listed([Event(ERROR, dump_json(_no_thread(error)))]))
        if run is not None:
            resumable = bool(run.kwargs.get("resumable"))
            over = run.status.is_final
        else:
            left = await self._runs.result(run_id, allowed)
            if left is None or not left.hidden:
                return Joined(False, _listed([Event(ERROR, dump_json(RUN_NOT_FOUND))]))
            # a finished stateless run: only resumable events have ids, so a client that has one may go on
            resumable = over = True
        after, cursor = FROM_NOW_ON, None
        resumable = resumable or self._carries_over
        if resumable and last_event_id is not None:
            parsed = parse_last_event_id(last_event_id)
            if parsed is None:
                return Joined(True, _listed())
            after = parsed
        elif resumable and not over:
            cursor = await self._now(run_id)
            after = cursor or FROM_NOW_ON
        if not over:
            batches = self._stream(run_id, after)
        elif after == FROM_NOW_ON:
            return Joined(resumable, _listed())
        else:
            batches = self._replay(run_id, after)
        live = run.thread_id if run is not None and not over else None
        return Joined(resumable, self._told(_filtered(batches, modes, self._keepalive)), cursor, live)

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
        async with aclosing(self._follower.follow(run_id, after)) as followed:
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
            yield snapshot(result, current=True)

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
                yield [Event(ERROR, dump_json(FAULT))]

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
        """The same for a run that somebody else may have made; of a finished run, what its thread has come to.

        Raises:
            NotFoundError: there are handlers, and the caller sees no such thread.
        """
        allowed = await self._runs.readable(caller, thread_id, run_id)
        run = await self._runs.look(thread_id, run_id, allowed)
        if run is not None and not run.status.is_final:
            return self.wait(run_id)
        result = await self._runs.result(run_id, allowed)
        if result is None or not (run is not None or result.hidden):
            return _pieces(dump_json({"__error__": RUN_NOT_FOUND}))
        return _pieces(dump_json(result.output if result.hidden else result.thread_output))

    async def _wait_for_end(self, run_id: uuid.UUID) -> AsyncGenerator[bytes | Event, None]:
        try:
            async with aclosing(self._follower.end(run_id)) as followed:
                async for batch in followed:
                    yield batch[-1] if batch else b"\n"
        except Exception:
            logger.exception("A wait failed", extra={"action": "wait"})
            yield end_marker(status="error", output={"__error__": FAULT})

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
            except AccessError as error:
                logger.warning("an abandoned run goes on, as its reader may not cancel it: %s", error, extra=about)
                return
            except UnavailableError as error:
                if pause is None:
                    logger.error("an abandoned run goes on: %s", error, extra=about)
                    return
                logger.warning("cannot cancel an abandoned run yet: %s", error, extra=about)
                await asyncio.sleep(pause)
            else:
                return


async def _filtered(batches: Batches, modes: frozenset[str] | None, keepalive: float) -> Batches:
    wanted = mode_filter(modes) if modes is not None else None
    sent_at = time.monotonic()
    async with aclosing(batches):
        async for batch in batches:
            kept = batch
            if batch and wanted is not None:
                kept = [event for event in batch if isinstance(event, Instead) or wanted(event)]
            # what nobody here wants to see is silence too
            if kept or not batch or time.monotonic() - sent_at >= keepalive:
                sent_at = time.monotonic()
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
                events.append(Instead("values", state, before.id if before is not None and is_gap(before) else ""))
            before = event
        if events or not batch:
            yield events


def _no_thread(error: NotFoundError) -> dict[str, str]:
    return {"error": "HTTPException", "message": f"{error.status}: {error.detail}"}


async def _listed(*batches: Sequence[Event]) -> Batches:
    for batch in batches:
        yield batch


async def _pieces(*pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece
