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
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore

from langgraph_serverless.domain import run_errors
from langgraph_serverless.domain.events import ERROR, METADATA, Event
from langgraph_serverless.domain.ports import EventAppender
from langgraph_serverless.domain.runs import CancelAction, ClaimedRun, Lease, RunOutcome, RunStatus
from langgraph_serverless.domain.serialization import dump_json, to_json
from langgraph_serverless.domain.threads import ThreadStatus
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.execution.chunks import ChunkTranslator
from langgraph_serverless.execution.graph_input import graph_config, graph_input
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.sink import EventSink
from langgraph_serverless.telemetry import logger


class HandedOff(Exception):
    """The run stopped before its end and can be given back to the queue."""


@dataclass(slots=True)
class RunSignals:
    """How the outside reaches a run. Only to be used on the run's own event loop."""

    control: RunControl = field(default_factory=RunControl)
    cancel_action: CancelAction | None = None
    lost: bool = False
    released: bool = False
    task: asyncio.Task[Any] | None = None

    def drain(self) -> None:
        self.control.request_drain("hand-off")

    def cancel(self, action: CancelAction) -> None:
        # a rollback overrides an interrupt; the same action twice changes nothing
        if self.cancel_action in (None, CancelAction.INTERRUPT) and self.cancel_action is not action:
            first = self.cancel_action is None
            self.cancel_action = action
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
    """Makes the saver of one lease."""

    async def __call__(self, lease: Lease) -> BaseCheckpointSaver[Any]: ...


class GraphRunner:
    """Executes runs of one project's graphs."""

    def __init__(
        self,
        registry: GraphRegistry,
        *,
        saver: SaverFactory,
        store: Callable[[], Awaitable[BaseStore]],
        log: EventAppender | None,
        last_checkpoint: Callable[[uuid.UUID, uuid.UUID], Awaitable[str | None]],
        run_timeout: float,
        mask_errors: bool,
    ) -> None:
        self._registry = registry
        self._saver = saver
        self._store = store
        self._log = log
        self._last_checkpoint = last_checkpoint
        self._run_timeout = run_timeout
        self._mask = mask_errors

    async def execute(self, claimed: ClaimedRun, signals: RunSignals) -> Execution:
        """Run to the end.

        Raises:
            HandedOff: stopped early on request; the caller gives the run back.
            LeaseLostError: the run belongs to somebody else.
        """
        signals.task = asyncio.current_task()
        sink = EventSink(self._log, claimed.lease, on_lost=signals.lose)
        if not claimed.continued:
            opening = {"run_id": str(claimed.run.run_id), "attempt": claimed.attempt}
            await sink.emit(Event(METADATA, dump_json(opening)))
        if claimed.cancel_action is not None:
            signals.cancel_action = claimed.cancel_action
        try:
            execution = await self._in_graph(claimed, signals, sink)
        finally:
            await sink.drain()
        if signals.lost:
            raise LeaseLostError(f"run {claimed.run.run_id} belongs to another worker")
        return execution

    async def _in_graph(self, claimed: ClaimedRun, signals: RunSignals, sink: EventSink) -> Execution:
        run = claimed.run
        begun_at: str | None = None
        if claimed.attempt > 1 or claimed.handoffs > 0:
            begun_at = await self._last_checkpoint(run.thread_id, run.run_id)
        resuming = begun_at is not None
        saver = await self._saver(claimed.lease)
        store = await self._store()
        config = graph_config(claimed, checkpoint_id=None, resuming=resuming)
        output: _Output | None = None
        failure: BaseException | None = None
        timeout = asyncio.timeout(max(0.0, self._run_timeout - claimed.age))
        graph: Pregel[Any, Any, Any, Any] | None = None
        try:
            async with (
                timeout,
                self._registry.graph(
                    claimed.graph_id,
                    access_context="threads.create_run",
                    config=config,
                    store=store,
                    checkpointer=saver,
                    context=run.kwargs.get("context"),
                ) as graph,
            ):
                if signals.cancel_action is None:
                    output = _Output()
                    await self._stream(
                        graph, claimed, config, None if resuming else graph_input(run.kwargs), signals, sink, output
                    )
                return await self._finished(graph, claimed, output, signals)
        except GraphDrained as drained:
            raise HandedOff(str(drained)) from drained
        except asyncio.CancelledError:
            failure = self._after_stop(claimed, signals)
        except LeaseLostError:
            raise
        except TimeoutError as error:
            failure = error
        except Exception as error:
            failure = error
        return await self._failed(claimed, config, saver, store, failure, signals, timed_out=timeout.expired())

    def _after_stop(self, claimed: ClaimedRun, signals: RunSignals) -> BaseException | None:
        """A cancellation that a signal asked for; one from elsewhere goes on."""
        task = asyncio.current_task()
        if signals.lost:
            raise LeaseLostError(f"run {claimed.run.run_id} belongs to another worker")
        if signals.cancel_action is not None:
            if task is not None:
                task.uncancel()
            return None
        if signals.released:
            raise HandedOff("released")
        raise asyncio.CancelledError

    async def _stream(  # noqa: PLR0917 - private, called once
        self,
        graph: Pregel[Any, Any, Any, Any],
        claimed: ClaimedRun,
        config: Any,
        value: Any,
        signals: RunSignals,
        sink: EventSink,
        output: _Output,
    ) -> None:
        kwargs = claimed.run.kwargs
        modes = [mode for mode in kwargs["stream_mode"] if mode != "checkpoints" or not claimed.temporary]
        translator = ChunkTranslator(modes, subgraphs=kwargs["subgraphs"])
        arguments: dict[str, Any] = {
            "context": kwargs.get("context"),
            "stream_mode": translator.graph_modes,
            "interrupt_before": kwargs.get("interrupt_before"),
            "interrupt_after": kwargs.get("interrupt_after"),
            "durability": kwargs["durability"],
            "control": signals.control,
            "subgraphs": kwargs["subgraphs"],
        }
        if "events" in modes:
            async for event in graph.astream_events(value, config, version="v2", **arguments):
                for emitted in translator.graph_event(event, output.take):
                    await sink.emit(emitted)
            return
        async with aclosing(graph.astream(value, config, **arguments)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                namespace, mode, data = chunk if kwargs["subgraphs"] else ((), *chunk)
                if mode == "values" and not namespace:
                    output.take(data)
                for emitted in translator.events(mode, namespace, data):
                    await sink.emit(emitted)

    async def _finished(
        self, graph: Pregel[Any, Any, Any, Any], claimed: ClaimedRun, output: _Output | None, signals: RunSignals
    ) -> Execution:
        """The outcome of a graph that stopped by itself, or that was not started because it had been cancelled."""
        state = await graph.aget_state({"configurable": {"thread_id": str(claimed.run.thread_id)}})
        if signals.cancel_action is not None:
            return self._cancelled(claimed, signals, state)
        values = to_json(state.values) if state.values else (to_json(output.values) if output and output.seen else None)
        answer = to_json(output.values) if output and output.seen else values
        interrupts = to_json(state.interrupts)
        if isinstance(answer, dict):
            answer.pop("__interrupt__", None)
        if interrupts:
            answer = {**(answer or {}), "__interrupt__": interrupts} if isinstance(answer, dict | None) else answer
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

    async def _failed(  # noqa: PLR0917 - private, called once
        self,
        claimed: ClaimedRun,
        config: Any,
        saver: BaseCheckpointSaver[Any],
        store: BaseStore,
        failure: BaseException | None,
        signals: RunSignals,
        *,
        timed_out: bool,
    ) -> Execution:
        """The outcome of a graph that raised, took too long or was cancelled, with the state that it had reached."""
        state = await self._state(claimed, config, saver, store)
        if failure is None:
            return self._cancelled(claimed, signals, state)
        error = run_errors.timed_out(self._run_timeout) if timed_out else run_errors.describe(failure, mask=self._mask)
        logger.error(
            "run failed: %s",
            error["error"],
            exc_info=failure,
            extra={
                "action": "run_failed",
                "run_id": str(claimed.run.run_id),
                "thread_id": str(claimed.run.thread_id),
                "attempt": claimed.attempt,
                "graph_id": claimed.graph_id,
            },
        )
        values = to_json(state.values) if state is not None and state.values else None
        outcome = RunOutcome(
            status=RunStatus.TIMEOUT if timed_out else RunStatus.ERROR,
            output={"__error__": error},
            thread_status=ThreadStatus.ERROR.value,
            values=values,
            write_values=values is not None,
            interrupts=thread_interrupts(state) if state is not None else {},
            error=error,
            last_error=repr(failure),
        )
        return Execution(outcome=outcome, closing=(Event(ERROR, dump_json(error)),))

    def _cancelled(self, claimed: ClaimedRun, signals: RunSignals, state: Any) -> Execution:
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
                error=run_errors.cancelled(claimed.cancel_reason),
                rollback=signals.cancel_action is CancelAction.ROLLBACK,
            )
        )

    async def _state(
        self, claimed: ClaimedRun, config: Any, saver: BaseCheckpointSaver[Any], store: BaseStore
    ) -> Any | None:
        """The thread's state after a failure; None if the graph itself cannot be opened any more."""
        try:
            async with self._registry.graph(
                claimed.graph_id, access_context="threads.read", config=config, store=store, checkpointer=saver
            ) as graph:
                return await graph.aget_state({"configurable": {"thread_id": str(claimed.run.thread_id)}})
        except LeaseLostError:
            raise
        except Exception as error:
            logger.warning("no state after the failure: %r", error, extra={"run_id": str(claimed.run.run_id)})
            return None


class _Output:
    """The last values that the root graph has streamed."""

    def __init__(self) -> None:
        self.seen = False
        self.values: Any = None

    def take(self, values: Any) -> None:
        self.seen = True
        self.values = values


def thread_interrupts(state: Any) -> dict[str, Any]:
    """A thread's ``interrupts``: task id to what its interrupts ask."""
    return {
        task.id: [{"id": interrupt.id, "value": to_json(interrupt.value)} for interrupt in task.interrupts]
        for task in state.tasks
        if task.interrupts
    }
