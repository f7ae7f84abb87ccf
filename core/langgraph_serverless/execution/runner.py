"""Executes one claimed run and says how it ended; writes nothing to the run or its thread itself.

The graph runs in the caller's task, with a saver whose writes are fenced by the lease. Signals end it early::

    drain    stop at the next superstep boundary: ``HandedOff``
    cancel   stop at the next await: an ``interrupted`` (or rolled back) outcome
    lost     stop at the next await: ``LeaseLostError``; nothing of it may be written any more
    abandon  stop at the next await: ``HandedOff`` if the run may start its superstep again, else ``LeaseLostError``

A run that had begun under an earlier lease goes on from its newest checkpoint with input ``None``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import EmptyInputError, GraphDrained
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import Command

from langgraph_serverless import tracing
from langgraph_serverless.domain import run_errors
from langgraph_serverless.domain.encryption import require_readable
from langgraph_serverless.domain.events import ERROR, METADATA, Event
from langgraph_serverless.domain.ports import EventAppender, Unsaved
from langgraph_serverless.domain.progress import Progress
from langgraph_serverless.domain.runs import CancelAction, CancelRequest, ClaimedRun, Lease, RunOutcome, RunStatus
from langgraph_serverless.domain.serialization import dump_json, to_json
from langgraph_serverless.domain.threads import ThreadStatus
from langgraph_serverless.errors import EncryptionError, LeaseLostError, UnavailableError
from langgraph_serverless.execution.breakpoints import stopped_at_breakpoint
from langgraph_serverless.execution.continuing import remaining_input
from langgraph_serverless.execution.control import Control
from langgraph_serverless.execution.current_node import failed_node
from langgraph_serverless.execution.graph_input import graph_config
from langgraph_serverless.execution.graph_output import GraphOutput, declared, thread_interrupts
from langgraph_serverless.execution.graph_stream import GraphStream
from langgraph_serverless.execution.in_flight import with_note
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.node_clock import NodeClock
from langgraph_serverless.execution.node_spans import with_spans
from langgraph_serverless.execution.sink import EventSink
from langgraph_serverless.redaction import redacted
from langgraph_serverless.telemetry import logger

#: How long a graph may take to be opened once more, for the state that a failure has left (seconds).
LAST_LOOK = 30.0


class HandedOff(Exception):
    """The run stopped before its end and can be given back to the queue."""


@dataclass(slots=True)
class RunSignals:
    """How the outside reaches a run. Only to be used on the run's own event loop."""

    control: Control = field(default_factory=Control)
    cancel_action: CancelAction | None = None
    cancel_reason: str | None = None
    lost: bool = False
    released: bool = False
    task: asyncio.Task[Any] | None = None
    #: Takes the time of the run's nodes, if somebody wants to know.
    clock: NodeClock | None = None
    #: When the graph has said something for the first time, by the monotonic clock.
    first_event: float | None = None
    #: What is to be written before the run is given back, or with its end.
    unsaved: Unsaved | None = None
    #: Whether the run's lease cannot have run out yet.
    held: Callable[[], bool] = lambda: True

    def drain(self) -> None:
        self.control.request_drain("hand-off")

    def cancel(self, request: CancelRequest) -> None:
        """Stop because of this request, which comes again with every heartbeat; a rollback overrides an interrupt."""
        first = self.cancel_action is None
        self.cancel_action, self.cancel_reason = request.action, request.reason
        if first:
            self._stop()

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._stop()

    def release(self) -> None:
        """Stop without waiting for the boundary; the superstep in flight will be repeated."""
        if not self.released:
            self.released = True
            self._stop()

    def _stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a run ended."""

    outcome: RunOutcome
    #: To be appended after the outcome has been written, before the end marker.
    closing: tuple[Event, ...] = ()


class SaverFactory(Protocol):
    """Makes the saver of one lease, and what says what it has still to write."""

    async def __call__(self, claimed: ClaimedRun) -> tuple[BaseCheckpointSaver[Any], Unsaved]: ...


class GraphRunner:
    """Executes runs of one project's graphs."""

    def __init__(
        self,
        registry: GraphRegistry,
        *,
        saver: SaverFactory,
        store: Callable[[str], Awaitable[BaseStore]],
        log: EventAppender | None,
        progress: Callable[[ClaimedRun], Awaitable[Progress]],
        note_nodes: Callable[[Lease, Sequence[str]], Awaitable[None]],
        last_attempt: int,
        run_timeout: float,
        mask_errors: bool,
    ) -> None:
        self._registry = registry
        self._saver = saver
        self._store = store
        self._log = log
        self._progress = progress
        self._note_nodes = note_nodes
        self._last_attempt = last_attempt
        #: Seconds from the first start of a run.
        self.run_timeout = run_timeout
        self._mask = mask_errors

    async def execute(self, claimed: ClaimedRun, signals: RunSignals) -> Execution:
        """Run to the end.

        Raises:
            HandedOff: stopped early on request; the caller gives the run back.
            LeaseLostError: the run belongs to somebody else.
            UnavailableError: the database is out of reach; the run's lease will expire.
        """
        sink = EventSink(self._log, claimed.lease, on_lost=signals.lose, held=signals.held, about=claimed.about)
        if not claimed.continued:
            opening = {"run_id": str(claimed.run.run_id), "attempt": claimed.attempt}
            await sink.emit(Event(METADATA, dump_json(opening)))
        if claimed.cancel is not None:
            signals.cancel(claimed.cancel)
        _require_lease(claimed, signals)
        attempt = _Attempt(claimed)
        # a task of its own, so that a signal stops the graph and nothing that is done about it afterwards
        task = asyncio.create_task(self._in_graph(attempt, signals, sink), name=f"graph-{claimed.run.run_id}")
        signals.task = task
        try:
            await asyncio.wait([task])
            if signals.released and task.cancelled() and attempt.stream is not None:
                await attempt.stream.broken_off()
        finally:
            signals.task = None
            signals.first_event = attempt.stream.first_event if attempt.stream is not None else None
            if not task.done():  # this task itself has been cancelled, by nobody's signal
                task.cancel()
            await sink.drain()
        if signals.lost:
            _retrieve(task)
            raise LeaseLostError(f"run {claimed.run.run_id} belongs to another worker")
        if task.cancelled():
            if signals.cancel_action is None:
                raise HandedOff("released")
            return self._cancelled(attempt, signals, await self._state(attempt))
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, GraphDrained):
            raise HandedOff(str(error)) from error
        if isinstance(error, LeaseLostError | UnavailableError):
            raise error
        return await self._failed(attempt, error)

    async def _in_graph(self, attempt: _Attempt, signals: RunSignals, sink: EventSink) -> Execution:
        claimed, run = attempt.claimed, attempt.claimed.run
        require_readable(run.kwargs)
        saver = await self._open_saver(attempt, signals)
        if claimed.attempt > 1 or claimed.handoffs > 0:
            attempt.progress = await self._progress(claimed)
            signals.control.continues(str(run.run_id))
        value, resuming = remaining_input(attempt.progress, claimed, saver.serde)
        attempt.config = graph_config(claimed, resuming=resuming)
        if claimed.attempt >= self._last_attempt:
            attempt.config = with_note(attempt.config, claimed, partial(self._note_nodes, claimed.lease))
        if signals.clock is not None:
            attempt.config = signals.clock.in_config(attempt.config)
        if tracing.active():
            attempt.config = with_spans(attempt.config)
        attempt.store = await self._store(claimed.lease.tenant)
        output = GraphOutput()
        async with (
            self._limit(attempt, signals) as timeout,
            self._registry.graph(
                claimed.graph_id,
                access_context="threads.create_run",
                config=attempt.config,
                store=attempt.store,
                checkpointer=saver,
                context=run.kwargs.get("context") or None,
            ) as graph,
        ):
            if signals.cancel_action is None:
                if isinstance(value, Command) and value.resume is not None:
                    await _require_state(attempt)
                logger.info("run begun", extra=claimed.about | {"action": "run_begun", "resuming": resuming})
                if not (attempt.progress.own and await stopped_at_breakpoint(graph, saver, run)):
                    attempt.stream = GraphStream(
                        claimed,
                        attempt.progress,
                        control=signals.control,
                        sink=sink,
                        output=output,
                        mask=self._mask,
                    )
                    await attempt.stream.follow(graph, value, attempt.config)
            # from here on a cancel is only noted: the graph has ended and its outcome is being read
            signals.task = None
            timeout.reschedule(None)
            return await self._finished(graph, attempt, output, signals)

    async def _open_saver(self, attempt: _Attempt, signals: RunSignals) -> BaseCheckpointSaver[Any]:
        saver, signals.unsaved = await self._saver(attempt.claimed)
        attempt.saver = saver
        return saver

    @asynccontextmanager
    async def _limit(self, attempt: _Attempt, signals: RunSignals) -> AsyncIterator[asyncio.Timeout]:
        """The time that the run has left; over all its attempts, and with what its factory takes."""
        left = self.run_timeout - attempt.claimed.age
        cancelled = signals.cancel_action is not None  # a cancel only has to be carried out
        if left <= 0 and not cancelled:
            attempt.timed_out = True
            raise TimeoutError
        timeout = asyncio.timeout(None if cancelled else left)
        try:
            async with timeout:
                yield timeout
        finally:
            attempt.timed_out = timeout.expired()

    async def _finished(
        self, graph: Pregel[Any, Any, Any, Any], attempt: _Attempt, output: GraphOutput, signals: RunSignals
    ) -> Execution:
        """The outcome of a graph that stopped by itself, or that was not started because it had been cancelled."""
        state = await graph.aget_state({"configurable": {"thread_id": str(attempt.claimed.run.thread_id)}})
        if signals.cancel_action is not None:
            return self._cancelled(attempt, signals, state)
        values = to_json(state.values) if state.values else (to_json(output.values) if output.seen else None)
        interrupts = to_json(state.interrupts)
        # unseen: nothing has been written, as it stopped at once or had nothing to do
        answer = to_json(output.values) if output.seen else None if interrupts else declared(graph, values)
        if isinstance(answer, dict):
            answer.pop("__interrupt__", None)  # of some tasks only
        if interrupts and isinstance(answer, dict | None):
            answer = {**(answer or {}), "__interrupt__": interrupts}
        return Execution(
            outcome=RunOutcome(
                status=RunStatus.SUCCESS,
                output=answer,
                thread_status=(ThreadStatus.INTERRUPTED if state.next else ThreadStatus.IDLE).value,
                values=values,
                write_values=True,
                interrupts=thread_interrupts(state),
            )
        )

    async def _failed(self, attempt: _Attempt, failure: BaseException) -> Execution:
        """The outcome of a graph that raised or took too long, with the state that it had reached."""
        claimed, timed_out = attempt.claimed, attempt.timed_out
        state = await self._state(attempt)
        error = run_errors.timed_out(self.run_timeout) if timed_out else run_errors.describe(failure, mask=self._mask)
        logger.error(
            "run failed: %s",
            error["error"],
            exc_info=failure,
            extra=claimed.about | {"action": "run_failed", "node": failed_node(failure)},
        )
        values = to_json(state.values) if state is not None and state.values else None
        # what cannot be decrypted now stays as it is, for when it can be
        nothing: dict[str, Any] | None = None if isinstance(failure, EncryptionError) else {}
        outcome = RunOutcome(
            status=RunStatus.TIMEOUT if timed_out else RunStatus.ERROR,
            output={"__error__": error},
            thread_status=ThreadStatus.ERROR.value,
            values=values,
            write_values=values is not None,
            interrupts=thread_interrupts(state) if state is not None else nothing,
            error=error,
            last_error=redacted(repr(failure)),
            last_node=", ".join(dict.fromkeys(state.next)) or None if state is not None else None,
        )
        closing = attempt.stream.closing("failed", error["message"]) if attempt.stream is not None else ()
        return Execution(outcome=outcome, closing=(*closing, Event(ERROR, dump_json(error))))

    def _cancelled(self, attempt: _Attempt, signals: RunSignals, state: Any) -> Execution:
        values = to_json(state.values) if state is not None and state.values else None
        waiting = state is not None and bool(state.next)
        return Execution(
            outcome=RunOutcome(
                status=RunStatus.INTERRUPTED,
                output=values,
                thread_status=(ThreadStatus.INTERRUPTED if waiting else ThreadStatus.IDLE).value,
                values=values,
                write_values=values is not None,
                interrupts=thread_interrupts(state) if state is not None else {},
                error=run_errors.cancelled(signals.cancel_reason),
                rollback=signals.cancel_action is CancelAction.ROLLBACK,
            ),
            closing=attempt.stream.closing("interrupted") if attempt.stream is not None else (),
        )

    async def _state(self, attempt: _Attempt) -> Any | None:
        """The thread's state after a failure; None if the graph itself cannot be opened any more."""
        claimed = attempt.claimed
        try:
            saver = attempt.saver or (await self._saver(claimed))[0]
            async with (
                asyncio.timeout(LAST_LOOK),
                self._registry.graph(
                    claimed.graph_id,
                    access_context="threads.read",
                    config=attempt.config,
                    store=attempt.store,
                    checkpointer=saver,
                ) as graph,
            ):
                return await graph.aget_state({"configurable": {"thread_id": str(claimed.run.thread_id)}})
        except (LeaseLostError, UnavailableError):
            raise
        except Exception as error:
            # a factory that fails must not hide why the run has failed
            logger.warning("no state after the failure: %r", error, extra=claimed.about | {"action": "no_state"})
            return None


@dataclass(slots=True)
class _Attempt:
    """What one execution has opened so far."""

    claimed: ClaimedRun
    config: Any = None
    saver: BaseCheckpointSaver[Any] | None = None
    store: BaseStore | None = None
    timed_out: bool = False
    progress: Progress = field(default_factory=Progress)
    stream: GraphStream | None = None


def _require_lease(claimed: ClaimedRun, signals: RunSignals) -> None:
    """Refuse to begin what has been taken or called back meanwhile."""
    if signals.lost:
        raise LeaseLostError(f"run {claimed.run.run_id} belongs to another worker")
    if signals.released:
        raise HandedOff("released")


async def _require_state(attempt: _Attempt) -> None:
    """Refuse to resume what has never begun; LangGraph would start it without an input."""
    config: RunnableConfig = {"configurable": {"thread_id": str(attempt.claimed.run.thread_id)}}
    if attempt.saver is None or await attempt.saver.aget_tuple(config) is None:
        raise EmptyInputError("There is nothing to resume: the thread has no state yet.")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at a task's error, so that asyncio does not complain about one that nobody is interested in."""
    if not task.cancelled():
        task.exception()
