"""What a process needs that executes graphs.

``consume`` is the worker function's whole job; the laptop starts the same worker in a thread of its own (``laptop.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cached_property
from typing import Any

from langgraph_serverless.containers.graphs import GraphContainer
from langgraph_serverless.domain.runs import ClaimedRun, Durability
from langgraph_serverless.event_loop import end_process
from langgraph_serverless.execution.continuing import OnlyBegun
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.runner import GraphRunner
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.progress import ProgressRepository
from langgraph_serverless.persistence.queue import HeartbeatConnection, QueueRepository
from langgraph_serverless.persistence.write_behind import WriteBehind
from langgraph_serverless.queue.bell import BellListener
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.queue.slots import SlotBoard
from langgraph_serverless.services.courier import Courier
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.work_report import WorkReport
from langgraph_serverless.services.worker import Worker
from langgraph_serverless.settings import Settings

#: Threads for the synchronous nodes of one run; Python's default would let a handful of blocking graphs stall the rest.
THREADS_PER_JOB = 4

Beside = Callable[["WorkerContainer"], AbstractAsyncContextManager[Any]]


class WorkerContainer(GraphContainer):
    """Adds the runner and the worker."""

    @cached_property
    def database(self) -> Database:
        # it claims and settles for all tenants; what a run itself reads and writes is its tenant's (`_saver`, `graph_store`)
        return super().database.as_system()

    @cached_property
    def queue(self) -> QueueService:
        return QueueService(self.database, self.settings, self.event_log, groups=self.groups)

    @cached_property
    def runner(self) -> GraphRunner:
        queue = QueueRepository(self.database)
        return GraphRunner(
            self.registry,
            saver=self._saver,
            store=self.graph_store,
            log=self.event_log,
            progress=ProgressRepository(self.database).of,
            note_nodes=queue.note_nodes,
            last_attempt=self.settings.max_attempts,
            run_timeout=self.settings.run_timeout,
            mask_errors=self.settings.mask_errors,
        )

    async def _saver(self, claimed: ClaimedRun) -> tuple[FencedSaver, WriteBehind]:
        lease = claimed.lease
        # its process acts for everybody; the run's state is its tenant's
        pool = await self.database.for_tenant(lease.tenant).pool()
        saver = FencedSaver(
            pool,
            lease,
            self.serializer,
            # that of a run that cannot be decrypted is not known, and it saves nothing
            durability=Durability(claimed.run.kwargs.get("durability", Durability.SYNC)),
            careful=claimed.attempt > 1,
            thread_id=str(claimed.run.thread_id),
            new_thread=None if claimed.has_checkpoints else str(claimed.run.thread_id),
            # a run's first lease has nothing to go on from
            on_read=OnlyBegun(lease.run_id) if lease.epoch > 1 else None,
        )
        return saver, saver.unsaved

    def worker(self, ticket: str = "") -> Worker:
        """A new worker; its heartbeat has a connection of its own. ``ticket`` is what its function was invoked with."""
        settings = self.settings
        beats = HeartbeatConnection(settings.database_address, timeout=settings.lease_duration / 4)
        heartbeat = Heartbeat(
            beats.beat,
            interval=settings.heartbeat_interval,
            duration=settings.lease_duration,
            close=beats.close,
            give_back=beats.hand_off,
            stall_limit=settings.stall_limit,
            on_stall=end_process,
        )
        redis, prefix = self.redis, settings.redis_key_prefix
        return Worker(
            settings=settings,
            queue=QueueRepository(self.database, self.groups),
            sweeper=self.queue,
            runner=self.runner,
            heartbeat=heartbeat,
            log=self.event_log,
            bell=self.bell,
            ears=BellListener(redis, prefix) if redis is not None else None,
            courier=Courier(self.webhooks),
            slots=SlotBoard(redis, prefix) if redis is not None and settings.worker_function_name else None,
            ticket=ticket,
        )


def use_threads_for(settings: Settings) -> ThreadPoolExecutor:
    """Give the running event loop enough threads for synchronous nodes."""
    executor = ThreadPoolExecutor(settings.n_jobs_per_worker * THREADS_PER_JOB, thread_name_prefix="node")
    asyncio.get_running_loop().set_default_executor(executor)
    return executor


async def consume(
    settings: Settings,
    *,
    deadline: Callable[[], float],
    idle_grace: float | None,
    registry: GraphRegistry | None = None,
    ticket: str = "",
    beside: Beside = nullcontext,
    **options: Any,
) -> WorkReport:
    """Consume the queue until shortly before the deadline or until there is nothing to do.

    Args:
        deadline: seconds until the process is killed.
        idle_grace: seconds to stay without a run; None for ever, also if there is none at all.
        registry: the project's graphs, when the process has loaded them already.
        ticket: what the function was invoked with, if a ring has invoked it.
        beside: what else there is while the worker works, made of its container.
    """
    container = WorkerContainer(settings, registry=registry, **options)
    threads = use_threads_for(settings)
    try:
        async with beside(container):
            report = await container.worker(ticket).work(remaining=deadline, idle_grace=idle_grace)
        sent = container.webhooks.sent
        report.webhooks_delivered, report.webhooks_failed = sent.delivered, sent.failed + sent.dead
        return report
    finally:
        await container.aclose()
        # a node that still blocks is left behind with its thread; the next invocation gets threads of its own
        threads.shutdown(wait=False, cancel_futures=True)
