"""The scheduler's tick: due crons, expired leases, threads and items whose time is over, a bell that nobody heard.

Any number of schedulers may tick at once, late or twice. A cron is claimed with its row lock and its run is made in the
transaction that moves its date on, so each of its times makes exactly one run; the times that were missed while no
scheduler ticked collapse into one. What goes wrong with one cron, or in one part of the tick, is logged and counted and
stops nothing else; nor does what takes long, as each part has its time. A database that is out of reach ends the tick.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from langgraph_serverless import tracing
from langgraph_serverless.domain.crons import next_run_date, run_request
from langgraph_serverless.domain.encryption import encrypting_for, require_readable, scope_of
from langgraph_serverless.domain.ports import Bell
from langgraph_serverless.errors import ProjectError, ServerError, UnavailableError
from langgraph_serverless.persistence import sweeps
from langgraph_serverless.persistence.crons import CronRepository, DueCron
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.store import StoreRepository
from langgraph_serverless.persistence.system import SystemRepository
from langgraph_serverless.services.priorities import Place, PriorityService
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.services.run_making import CreatedRun
from langgraph_serverless.services.run_permits import RunPermit
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.webhooks import WebhookService
from langgraph_serverless.telemetry import logger

T = TypeVar("T")


class Nap(Protocol):
    """See ``queue.nap``."""

    async def goes_on(self) -> bool: ...

    async def begin(self, seconds: float | None) -> bool: ...


#: Crons that one tick looks at; the next tick goes on.
MOST_CRONS = 1000
#: How long after its time a cron is still tried: if it fails without having been refused, or if its end has passed.
PATIENCE = timedelta(minutes=10)
#: Until a tick tries crons again whose thread or assistant was locked (seconds). Most locks are held for milliseconds, and the next
#: tick may be a minute away.
LOCKED_PAUSE = 0.25
#: Rows that one statement of a sweep removes, and statements per tick.
BATCH = 200
MOST_BATCHES = 25
#: Threads whose histories are cut down in one transaction; each may have thousands of checkpoints.
HISTORIES = 20
#: Seconds of a tick after which it begins with no further cron, and with no second batch of a sweep. The function has 55 for all of
#: it, and one question to the priority handler may take 25.
CRONS_UNTIL, SWEEPS_UNTIL = 25.0, 35.0
#: A priority handler that has not answered for so long (seconds), and has none, is not asked again in this tick: as it may cost a
#: cron's run its place in the queue, but not its time.
HANGS_AFTER = 2.0
#: How long the project's authorisation may take about one cron (seconds). One that hangs fails the cron, for this tick.
HANDLER_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick did."""

    crons_fired: int
    #: Crons that were due and made no run: refused (their date has moved on), failed, or with a thread or an assistant that
    #: somebody else had locked (the next tick tries both again; what goes on failing moves on after ``PATIENCE``).
    crons_failed: int
    #: How late the latest of the fired ones was, by the database's clock.
    crons_late_seconds: float
    #: Runs taken back from workers that were lost.
    leases_expired: int
    #: Runs given up after their last attempt.
    runs_buried: int
    threads_purged: int
    #: Threads of which only the newest checkpoints have been kept.
    threads_pruned: int
    items_swept: int
    #: Left over from workers: receivers that were down, senders that died, runs that no worker had.
    webhooks_delivered: int
    webhooks_failed: int
    #: Delivered or given up a week ago: forgotten.
    webhooks_swept: int
    #: Idempotency keys whose time was over.
    keys_swept: int
    #: Runs that were waiting for a worker, and for which the bell was rung.
    bells_rung: int
    #: Parts of the tick that failed as a whole.
    failures: int
    #: The database was not asked, as an earlier tick had found that nothing was to be done yet.
    napped: bool = False

    @classmethod
    def of_a_nap(cls) -> TickReport:
        """Nothing was done."""
        numbers: dict[str, Any] = {field.name: 0 for field in fields(cls)}
        return cls(**{**numbers, "napped": True})

    @property
    def rows_swept(self) -> int:
        """Threads, items, webhooks and keys whose time was over."""
        return self.threads_purged + self.items_swept + self.webhooks_swept + self.keys_swept


@dataclass(frozen=True, slots=True)
class _Ready:
    """A cron about whose run the project's handlers have been asked."""

    due: DueCron
    permit: RunPermit | None
    place: Place | None
    #: They say no.
    refusal: ServerError | None = None


@dataclass(slots=True)
class _Crons:
    """What a tick does to crons, counted as it goes on."""

    fired: int = 0
    failed: int = 0
    late_seconds: float = 0.0


class SchedulerService:
    """Work that nobody asks for."""

    def __init__(
        self,
        database: Database,
        runs: RunService,
        queue: QueueService,
        bell: Bell,
        webhooks: WebhookService,
        *,
        priorities: PriorityService | None = None,
        item_sweep_interval: float | None = None,
        nap: Nap | None = None,
    ) -> None:
        self._database = database
        self._runs = runs
        self._queue = queue
        self._bell = bell
        self._webhooks = webhooks
        self._priorities = priorities
        self._nap = nap
        self._crons = CronRepository()
        self._items = StoreRepository()
        self._system = SystemRepository()
        #: minutes; None: at every tick
        self._item_sweep_interval = item_sweep_interval

    async def tick(self, now: datetime | None = None) -> TickReport:
        """Do everything once; ``now`` replaces the database's time for crons, in tests.

        Raises:
            UnavailableError: if the database is out of reach.
        """
        if self._nap is not None and await self._nap.goes_on():
            return TickReport.of_a_nap()
        began = time.monotonic()
        until = began + SWEEPS_UNTIL
        # first, as it takes no time, and a run that has lost its worker stands still
        leases = await self._part("leases", self._queue.sweep)
        crons = await self._part("crons", lambda: self._fire_crons(now, began + CRONS_UNTIL))
        threads = await self._part("threads", lambda: self._in_batches(sweeps.purge_threads, until))
        histories = await self._part("histories", lambda: self._prune(until))
        items = await self._part("items", lambda: self._in_batches(self._sweep_items, until))
        outbox = await self._part("outbox", lambda: self._in_batches(sweeps.forget_webhooks, until))
        keys = await self._part("keys", lambda: self._in_batches(sweeps.forget_keys, until))
        # after the crons' transactions have been committed, and for every run whose own ring was lost
        waiting = await self._part("bell", self._ring)
        # last, as receivers may be slow
        webhooks = await self._part("webhooks", self._webhooks.deliver_due)
        report = TickReport(
            crons_fired=crons.fired if crons else 0,
            crons_failed=crons.failed if crons else 0,
            crons_late_seconds=crons.late_seconds if crons else 0.0,
            leases_expired=leases.requeued if leases else 0,
            runs_buried=leases.buried if leases else 0,
            threads_purged=threads or 0,
            threads_pruned=histories or 0,
            items_swept=items or 0,
            bells_rung=waiting or 0,
            webhooks_delivered=webhooks.delivered if webhooks else 0,
            webhooks_failed=webhooks.failed + webhooks.dead if webhooks else 0,
            webhooks_swept=outbox or 0,
            keys_swept=keys or 0,
            failures=[crons, leases, threads, histories, items, outbox, keys, waiting, webhooks].count(None),
        )
        if did := {name: value for name, value in asdict(report).items() if value}:
            logger.info("tick", extra={"action": "tick", **did})
        if self._nap is not None and not report.failures:
            await self._part("nap", self._begin_nap)
        return report

    async def _begin_nap(self) -> bool:
        assert self._nap is not None
        async with self._database.connection() as connection:
            seconds = await self._system.seconds_until_work(connection)
        return await self._nap.begin(seconds)

    async def _part(self, name: str, work: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await work()
        except UnavailableError:
            raise
        except Exception:
            logger.exception("part of the scheduler's tick failed", extra={"action": "tick_failed", "part": name})
            return None

    async def _fire_crons(self, now: datetime | None, until: float) -> _Crons:
        did = _Crons()
        failed: set[uuid.UUID] = set()
        locked = await self._fire_free_crons(did, failed, now, until)
        if locked and time.monotonic() < until:
            await asyncio.sleep(LOCKED_PAUSE)
            locked = await self._fire_free_crons(did, failed, now, until)
        did.failed += len(failed | locked)
        return did

    async def _fire_free_crons(
        self, did: _Crons, failed: set[uuid.UUID], now: datetime | None, until: float
    ) -> set[uuid.UUID]:
        """All that are due, but for those that ``failed``, which grows; the ones that somebody else has locked."""
        locked: set[uuid.UUID] = set()
        ready: dict[uuid.UUID, _Ready] = {}
        unplaced = self._priorities is None or not self._priorities.active
        for _ in range(MOST_CRONS):
            if time.monotonic() >= until:
                logger.warning("crons are left to the next tick", extra={"action": "crons_left"})
                break
            due: DueCron | None = None
            try:
                async with self._database.transaction() as connection:
                    due = await self._crons.claim_due(connection, now=now, skipped=failed | locked)
                    if due is None:
                        break
                    if not due.free:
                        locked.add(due.cron.cron_id)
                        continue
                    require_readable(due.cron.payload)
                    known = ready.get(due.cron.cron_id)
                    if known is not None and known.due.cron != due.cron:
                        known = None  # changed since the handlers have been asked
                    asked = known is not None or (unplaced and not self._runs.asks)
                    if asked:
                        with encrypting_for(scope_of(due.cron.payload)):
                            created, was_refused = await self._fire(connection, due, known)
                if not asked:  # without the cron's lock; then it is claimed anew, by us or by another scheduler
                    permit, refusal = await self._permit(due)
                    began = time.monotonic()
                    place = None if unplaced or refusal is not None else await self._place(due, permit)
                    unplaced = unplaced or (place is None and time.monotonic() - began > HANGS_AFTER)
                    ready[due.cron.cron_id] = _Ready(due, permit, place, refusal)
                    continue
            except Exception as error:
                if due is None:
                    raise
                failed.add(due.cron.cron_id)
                await self._failed(due, error)
                continue
            did.failed += was_refused
            if created is not None:
                did.fired += 1
                did.late_seconds = max(did.late_seconds, (due.now - due.due_at).total_seconds())
                await self._announce(created)
        return locked

    async def _failed(self, due: DueCron, error: Exception) -> None:
        """A cron could not be dealt with. All of it was rolled back and its date stays, for a while.

        If the database is what is missing, the claim of the next cron says so.
        """
        cron, about = due.cron, {"cron_id": str(due.cron.cron_id), "due_at": due.due_at.isoformat()}
        logger.error("cron failed: %s", error, extra={"action": "cron_failed", **about}, exc_info=error)
        if isinstance(error, UnavailableError) or due.now - due.due_at < PATIENCE:
            return
        try:
            following = next_run_date(
                schedule=cron.schedule, timezone=cron.timezone, end_time=cron.end_time, after=due.now
            )
        except ServerError:
            following = None  # a schedule that cannot be read has no next time; a change of it gives it one
        async with self._database.connection() as connection:
            await self._crons.put_off(connection, cron.cron_id, due.due_at, following)
        outcome = {"action": "cron_given_up", **about, "next_run_date": following and following.isoformat()}
        logger.error("cron given up: it has failed for %s", PATIENCE, extra=outcome)

    async def _permit(self, due: DueCron) -> tuple[RunPermit | None, ServerError | None]:
        """What the creator may run, or why not; neither if nobody is asked."""
        if not self._runs.asks:
            return None, None
        try:
            request = run_request(due.cron, due.due_at)
            async with asyncio.timeout(HANDLER_PATIENCE):
                return await self._runs.permit(due.creator, request, thread_id=due.cron.thread_id), None
        except (UnavailableError, ProjectError):
            raise  # nobody has said no
        except ServerError as error:
            return None, error

    async def _place(self, due: DueCron, permit: RunPermit | None) -> Place | None:
        assert self._priorities is not None
        try:
            request = permit.request if permit is not None else run_request(due.cron, due.due_at)
        except ServerError:
            return None  # the run will be refused with it
        (place,) = await self._priorities.places(due.creator, [(request, due.cron.thread_id)])
        return place

    async def _announce(self, created: CreatedRun) -> None:
        try:
            await self._runs.announce([created])
        except Exception:
            # the run is there, and the tick rings for whatever waits
            logger.exception("cron's run not announced", extra={"action": "announce", "run_id": created.run.run_id})

    async def _fire(self, connection: Connection, due: DueCron, ready: _Ready | None) -> tuple[CreatedRun | None, bool]:
        """Make the run of a due cron, if there is one to make, and move its date on; the run, and whether it was refused."""
        cron = due.cron
        # a time up to the end counts although its tick is later, as every tick is; but nobody expects it hours after the end
        over = cron.end_time is not None and cron.end_time < max(due.due_at, due.now - PATIENCE)
        wanted = not over and not due.fired
        created = await self._create_run(connection, due, ready) if wanted else None
        following = (
            None
            if over
            else next_run_date(schedule=cron.schedule, timezone=cron.timezone, end_time=cron.end_time, after=due.now)
        )
        await self._crons.move(connection, cron.cron_id, following)
        return created, wanted and created is None

    async def _create_run(self, connection: Connection, due: DueCron, ready: _Ready | None) -> CreatedRun | None:
        cron = due.cron
        fields = {"cron_id": str(cron.cron_id), "due_at": due.due_at.isoformat()}
        permit, place = (ready.permit, ready.place) if ready is not None else (None, None)
        try:
            if ready is not None and ready.refusal is not None:
                raise ready.refusal
            # a savepoint: a refused run leaves nothing behind, and the date can still be moved
            with tracing.span("fire cron", attributes={"langgraph.cron_id": fields["cron_id"]}):
                async with connection.transaction():
                    created = await self._runs.create_within(
                        connection,
                        due.creator,
                        permit.request if permit is not None else run_request(cron, due.due_at),
                        thread_id=cron.thread_id,
                        place=place,
                        permit=permit,
                    )
        except UnavailableError:
            raise
        except ServerError as error:
            # the assistant is gone, the thread is busy and the strategy is reject, its creator may not do this any longer: trying
            # again would not help
            logger.warning("cron refused: %s", error, extra={"action": "cron_refused", **fields})
            return None
        run_id = str(created.run.run_id)
        # nobody has asked for it: its own id is the one that its lines share
        about = {"action": "cron_fired", "run_id": run_id, "request_id": run_id, **fields}
        logger.info("cron fired", extra=about)
        return created

    async def _in_batches(self, sweep: Callable[[Connection, int], Awaitable[int]], until: float) -> int:
        removed = 0
        for _ in range(MOST_BATCHES):
            async with self._database.connection() as connection:
                count = await sweep(connection, BATCH)
            removed += count
            if count < BATCH or time.monotonic() >= until:
                break
        return removed

    async def _sweep_items(self, connection: Connection, limit: int) -> int:
        return await self._items.sweep(connection, limit, interval=self._item_sweep_interval)

    async def _prune(self, until: float) -> int:
        pruned = 0
        for _ in range(MOST_BATCHES):
            async with self._database.transaction() as connection:
                count = await sweeps.prune_expired(connection, HISTORIES)
            pruned += count
            if count < HISTORIES or time.monotonic() >= until:
                break
        return pruned

    async def _ring(self) -> int:
        waiting = await self._queue.runnable()
        if waiting:
            await self._bell.ring(waiting, again=True)
        return waiting
