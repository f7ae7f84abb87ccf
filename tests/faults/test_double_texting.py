"""Double texting against a reference model (R15): services on a real Postgres do what ``reference_model.py`` says, step by step.

hypothesis draws the steps: runs are made with every strategy, claimed, ended, given back, cancelled, deleted; workers die with
their leases and are swept later, and those that have lost a run go on writing. Some steps happen two at once; then what comes
out must be that of one order or the other. After every step all rows are compared.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import hypothesis
import pytest
from cluster import PROJECT
from figures import Figures, sizes
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from langgraph.checkpoint.base import empty_checkpoint
from reference_model import ATTEMPTS, Model

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import (
    CancelAction,
    ClaimedRun,
    MultitaskStrategy,
    RunOutcome,
    RunRequest,
    RunStatus,
)
from langgraph_serverless.errors import ConflictError, LeaseLostError, NotFoundError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.execution.runner import Execution, RunSignals
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.invariants import INVARIANTS, find_broken
from langgraph_serverless.persistence.queue import HeartbeatConnection, QueueRepository
from langgraph_serverless.queue.heartbeat import Heartbeat
from langgraph_serverless.services.settling import Settler
from langgraph_serverless.settings import Settings

#: Steps of one history. Short ones find as much, and are easier to read.
LENGTH = 40
LONG = 3600.0
LATER = 1000
THREADS = 2

STATE: Any = """
    SELECT t.thread_id, t.status,
        ARRAY(SELECT jsonb_build_array(run_id, r.status, resuming, cancel_action, attempt, handoffs)
            FROM lgs.run r WHERE r.thread_id = t.thread_id ORDER BY created_at, run_id) AS runs,
        ARRAY(SELECT (metadata ->> 'run_id')::uuid
            FROM checkpoints c WHERE c.thread_id = t.thread_id::text ORDER BY checkpoint_id) AS saved
    FROM lgs.thread t"""
CRASH = "UPDATE lgs.run SET lease_expires_at = now() - interval '1 second' WHERE lease_token = %s"
PASS = """UPDATE lgs.run SET available_at = available_at - make_interval(secs => %(seconds)s),
    created_at = created_at - make_interval(secs => %(seconds)s)"""


class Services:
    """The real thing, in the words of the model."""

    def __init__(self, database_uri: str) -> None:
        settings = Settings(database_uri=database_uri, redis_uri="", stream_keepalive=0.02, max_attempts=ATTEMPTS)
        self._loop = asyncio.new_event_loop()
        self.container: WorkerContainer = self.run(self._open(settings))
        self._queue = QueueRepository(self.container.database)
        self._beats, self._beating = HeartbeatConnection(database_uri, timeout=30), asyncio.Lock()
        heartbeat = Heartbeat(self._beats.beat, interval=LONG, duration=LONG)  # never started: who beats is a step
        self._settler = Settler(
            settings=settings,
            queue=self._queue,
            heartbeat=heartbeat,
            log=None,
            bell=self.container.bell,
            courier=None,
        )
        self.clear()

    async def _open(self, settings: Settings) -> WorkerContainer:
        registry = GraphRegistry.load(read_project(PROJECT))
        container = WorkerContainer(settings, registry=registry, manifest=await build_manifest(registry))
        await container.assistants.ensure_defaults()
        return container

    def run(self, coroutine: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    def clear(self) -> None:
        self.threads = [new_id() for _ in range(THREADS)]
        self.runs: dict[int, uuid.UUID] = {}
        self.keys: dict[uuid.UUID, int] = {}
        self.waiting: list[tuple[int, asyncio.Task[Any]]] = []

    def close(self) -> None:
        self._beats.close()
        self.run(self.container.aclose())
        self._loop.close()

    async def execute(self, statement: Any, parameters: Any = None) -> list[Any]:
        async with self.container.database.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    # -- what clients do -----------------------------------------------------------------------------------------

    async def create(self, on: int, key: int, strategy: str, if_missing: str, delay: int) -> Any:
        request = RunRequest(
            assistant_id="steps",
            multitask_strategy=MultitaskStrategy(strategy),
            if_not_exists=if_missing,
            after_seconds=delay,
        )
        run = await self.container.runs.create(ANONYMOUS, request, thread_id=self.threads[on])
        self.runs[key], self.keys[run.run_id] = run.run_id, key
        return key

    async def cancel(self, on: int, keys: list[int], action: str, wait: bool) -> Any:
        ids = [self.runs[key] for key in keys if key in self.runs]
        done = await self.container.runs.cancel(ANONYMOUS, self.threads[on], ids, CancelAction(action), "test")
        cancelled = {self.keys[run_id] for run_id in done}
        if wait:
            self.waiting += [(key, self._loop.create_task(self._over(key))) for key in cancelled]
        return cancelled

    async def _over(self, key: int) -> bytes:
        return b"".join([part async for part in self.container.streams.wait_until_over([self.runs[key]])])

    async def cancel_all(self, status: str, action: str) -> Any:
        done = await self.container.runs.cancel_by_status(ANONYMOUS, status, CancelAction(action), "test")
        return {self.keys[run_id] for run_id in done}

    async def delete_run(self, on: int, key: int) -> Any:
        await self.container.runs.delete(ANONYMOUS, self.threads[on], self.runs.get(key) or new_id())
        return "ok"

    async def delete_thread(self, on: int) -> Any:
        await self.container.threads.delete(ANONYMOUS, self.threads[on])
        return "ok"

    # -- what workers do -----------------------------------------------------------------------------------------

    async def claim(self, owner: str, limit: int, on_trial: bool) -> list[ClaimedRun]:
        return list(
            await self._queue.claim(owner=owner, limit=limit, lease=LONG, last_attempt=ATTEMPTS, on_trial=on_trial)
        )

    async def settle(self, claimed: ClaimedRun, status: str, thread_status: str) -> Any:
        outcome = RunOutcome(status=RunStatus(status), thread_status=thread_status, values={}, write_values=True)
        ended = await self._settler.settle(claimed, RunSignals(), Execution(outcome=outcome))
        return "rollback" if ended.rollback else ended.status.value

    async def obey(self, claimed: ClaimedRun) -> Any:
        async with self._beating:
            answers = await asyncio.to_thread(self._beats.beat, [claimed.lease], LONG)
        if claimed.lease.run_id not in answers:
            return "lost"
        request = answers[claimed.lease.run_id]
        if request is None:
            return "ok"
        signals = RunSignals()
        signals.cancel(request)
        rollback = request.action is CancelAction.ROLLBACK
        outcome = RunOutcome(status=RunStatus.INTERRUPTED, values={}, write_values=True, rollback=rollback)
        ended = await self._settler.settle(claimed, signals, Execution(outcome=outcome))
        return "rollback" if ended.rollback else ended.status.value

    async def give_back(self, claimed: ClaimedRun) -> Any:
        await self._settler.hand_off(claimed, RunSignals())
        return "ok"

    async def save(self, claimed: ClaimedRun, number: int) -> Any:
        saver = FencedSaver(await self.container.database.pool(), claimed.lease)
        config: Any = {"configurable": {"thread_id": str(claimed.run.thread_id), "checkpoint_ns": ""}}
        metadata: Any = {"source": "loop", "step": number, "run_id": str(claimed.run.run_id)}
        await saver.aput(config, empty_checkpoint(), metadata, {})
        return "ok"

    async def crash(self, claimed: ClaimedRun) -> Any:
        await self.execute(CRASH, (claimed.lease.token,))
        return "ok"

    async def sweep(self) -> Any:
        report = await self.container.queue.sweep()
        return report.requeued, report.buried

    # -- comparing -----------------------------------------------------------------------------------------------

    async def state(self) -> Any:
        return {
            self.threads.index(row["thread_id"]): (
                row["status"],
                [(self.keys[uuid.UUID(run_id)], *rest) for run_id, *rest in row["runs"]],
                [self.keys[run_id] for run_id in row["saved"]],
            )
            for row in await self.execute(STATE)
        }

    async def broken(self) -> dict[str, Any]:
        """Invariants that do not hold."""
        limits: Any = {"worker": False, "pending_seconds": LONG, "sweep_seconds": LONG, "limit": 5}
        async with self.container.database.connection() as connection:
            found = {each.number: await find_broken(connection, each, **limits) for each in INVARIANTS}
        return {number: rows for number, rows in found.items() if rows}


async def answer(doing: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await doing
    except ConflictError:
        return "409"
    except NotFoundError:
        return "404"
    except LeaseLostError:
        return "lost"


threads = st.integers(0, THREADS - 1)
picks = st.integers(0, 5)
actions = st.sampled_from(["interrupt", "rollback"])
creations = st.tuples(
    st.just("create"),
    threads,
    st.sampled_from(["enqueue", "interrupt", "rollback", "reject"]),
    st.sampled_from(["create", "create", "reject"]),
    st.sampled_from([0, 0, 0, LATER]),
)
cancels = st.tuples(st.just("cancel"), threads, st.lists(picks, min_size=1, max_size=3), actions, st.booleans())
deletions = st.tuples(st.sampled_from(["delete_run", "delete_run", "delete_thread"]), threads, picks)
claims = st.tuples(st.just("claim"), st.sampled_from("AB"), st.integers(1, 3), st.booleans())
ends = st.tuples(
    st.just("settle"), picks, st.sampled_from([("success", "idle"), ("success", "interrupted"), ("error", "error")])
)
work = st.tuples(st.sampled_from(["obey", "give_back", "save", "save"]), picks)
steps_of_clients = creations | creations | cancels | deletions
steps_of_workers = claims | ends | work
WORK = ("settle", "obey", "give_back", "save", "crash")
CANCELS = ("cancel", "cancel_all")


class DoubleTexting(RuleBasedStateMachine):
    """One history, on services that all histories share."""

    services: ClassVar[Services]
    steps: ClassVar[int] = 0
    at_once: ClassVar[int] = 0
    #: The first history that went another way; what happens at once cannot be repeated, so hypothesis cannot show it.
    found: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.claims: list[tuple[int, int, int, ClaimedRun]] = []  # thread, run, which of its leases
        self.made: dict[int, list[int]] = {on: [] for on in range(THREADS)}
        self.numbers = itertools.count(1)
        self.history: list[Any] = []
        self.services.clear()

    # -- the steps -----------------------------------------------------------------------------------------------

    @rule(drawn=creations)
    def creates(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(drawn=claims)
    def claims_runs(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(drawn=ends)
    def ends_run(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(drawn=work)
    def works(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(drawn=work)
    def goes_on(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(drawn=st.tuples(st.just("crash"), picks), swept=st.booleans())
    def dies(self, drawn: Any, swept: bool) -> None:
        self.one(drawn)
        if swept:
            self.one(("sweep",))

    @rule()
    def sweeps(self) -> None:
        self.one(("sweep",))

    @rule(drawn=cancels)
    def cancels_runs(self, drawn: Any) -> None:
        self.one(drawn)

    @rule(
        drawn=st.tuples(st.just("cancel_all"), st.sampled_from(["pending", "running", "all"]), actions) | deletions,
        later=st.booleans(),
    )
    def rare(self, drawn: Any, later: bool) -> None:
        if later:  # what was delayed is due now
            self.services.run(self.services.execute(PASS, {"seconds": LATER}))
            self.model.later(LATER)
        else:
            self.one(drawn)

    @rule(one=steps_of_clients | steps_of_workers, two=steps_of_clients | steps_of_workers)
    def two_at_once(self, one: Any, two: Any) -> None:
        steps = [self.step(one, alone=False), self.step(two, alone=False)]
        self.history.append("these two at once")
        with self.noting():
            answers = list(self.services.run(_together([doing for _, doing in steps])))
            self.settle_for([(0, 1), (1, 0)], [expected for expected, _ in steps], answers)
        type(self).at_once += 1

    def one(self, drawn: Any) -> None:
        expected, doing = self.step(drawn)
        with self.noting():
            self.settle_for([(0,)], [expected], [self.services.run(answer(doing))])

    @contextmanager
    def noting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            type(self).found = self.found or "\n".join([*map(str, self.history), f"{error!r}", str(error)])
            raise

    def settle_for(self, orders: list[Any], expected: list[Callable[[Model, Any], Any]], answers: list[Any]) -> None:
        """Go on with the first order of the steps that gives these answers and these rows."""
        actual, tried = self.services.run(self.services.state()), []
        for order in orders:
            model = copy.deepcopy(self.model)
            told: list[Any] = [None] * len(answers)
            for index in order:
                told[index] = expected[index](model, answers[index])
            if (told, model.state()) == (self.visible(answers), actual):
                self.model = model
                break
            tried.append((told, model.state()))
        else:
            models = "\n".join(f"not {told} {state}" for told, state in tried)
            raise AssertionError(f"is {self.visible(answers)} {actual}\n{models}")
        for claimed in itertools.chain.from_iterable(each for each in answers if isinstance(each, list)):
            key = self.services.keys[claimed.run.run_id]
            on = self.services.threads.index(claimed.run.thread_id)
            self.claims.append((on, key, claimed.lease.epoch, claimed))
        self.counted(len(answers))

    def counted(self, steps: int = 1) -> None:
        type(self).steps += steps

    def visible(self, answers: list[Any]) -> list[Any]:
        return [sorted(map(self.as_claimed, each)) if isinstance(each, list) else each for each in answers]

    def as_claimed(self, claimed: ClaimedRun) -> Any:
        cancel = claimed.cancel and claimed.cancel.action.value
        key = self.services.keys[claimed.run.run_id]
        return key, claimed.attempt, claimed.handoffs, claimed.continued, cancel

    # -- from what was drawn to what is done ---------------------------------------------------------------------

    def step(self, drawn: Any, *, alone: bool = True) -> Any:
        """What the model says, given the model and the real answer, and the real thing to do."""
        name, *rest = drawn
        held = [each for each in self.claims if self.model.held(*each[:3])]
        # what cannot be done is replaced, so that histories get somewhere; what is drawn must not depend on what came out
        if name == "sweep" and not any(run.dead for run in (self.model.held(*each[:3]) for each in held) if run):
            name, rest = "crash", [1]
        if name in WORK and not (held if rest[0] else self.claims):
            name, rest = "claim", ["A", 1, False]
        if name == "claim" and not self.model.claimable(rest[2]):
            rest[2] = not rest[2]
        if (name == "claim" and not self.model.claimable(rest[2])) or (name in CANCELS and not self.live()):
            name, rest = "create", [len(self.history) % THREADS, "enqueue", "create", 0]
        self.history.append((name, *rest))
        services = self.services
        if name == "create":
            on, strategy, if_missing, delay = rest
            key = next(self.numbers)
            self.made[on].append(key)
            arguments = (on, key, strategy, if_missing, delay)
            return (lambda model, _: model.create(*arguments)), services.create(*arguments)
        if name == "claim":
            owner, limit, on_trial = rest
            return self.claiming(limit, on_trial, alone), services.claim(owner, limit, on_trial)
        if name == "cancel":
            on, places, action, wait = rest
            made = self.model.threads[on].live() if on in self.model.threads and min(places) else self.made[on]
            keys = [made[place % len(made)] for place in places if made]
            return (lambda model, _: model.cancel(on, keys, action)), services.cancel(on, keys, action, wait)
        if name == "delete_run":
            on, place = rest
            key = self.made[on][-1 - place % len(self.made[on])] if self.made[on] else 0
            return (lambda model, _: model.delete_run(on, key)), services.delete_run(on, key)
        if name == "delete_thread":
            return (lambda model, _: model.delete_thread(rest[0])), services.delete_thread(rest[0])
        if name in {"cancel_all", "sweep"}:
            return (lambda model, _: getattr(model, name)(*rest)), getattr(services, name)(*rest)
        # the others are a worker's, which may have lost its run
        leases = held if rest[0] else self.claims
        on, key, lease, claimed = leases[-1 - rest[0] % len(leases)]
        if name == "settle":
            return (lambda model, _: model.settle(on, key, lease, *rest[1])), services.settle(claimed, *rest[1])
        more = [next(self.numbers)] if name == "save" else []
        return (lambda model, _: getattr(model, name)(on, key, lease)), getattr(services, name)(claimed, *more)

    def claiming(self, limit: int, on_trial: bool, alone: bool) -> Any:
        """A claim passes by what somebody else has locked; alone it takes all there is."""

        def expected(model: Model, answers: Any) -> Any:
            found = model.claimable(on_trial)
            taken = [self.services.keys[claimed.run.run_id] for claimed in answers]
            if not set(taken) <= set(found) or (alone and len(taken) != min(limit, len(found))):
                return f"of {found}"
            return sorted(model.claim(key, found[key]) for key in taken)

        return expected

    # -- always --------------------------------------------------------------------------------------------------

    @invariant()
    def who_waits_for_the_end_of_a_run_hears_of_it_then(self) -> None:
        for key, waiting in self.services.waiting:
            if waiting.done():
                assert waiting.result().strip() == b"{}"
                assert not self.is_live(key), f"run {key} goes on"

    def live(self) -> list[int]:
        return [key for thread in self.model.threads.values() for key in thread.live()]

    def is_live(self, key: int) -> bool:
        return key in self.live()

    def teardown(self) -> None:
        services = self.services
        over = [waiting for key, waiting in services.waiting if not self.is_live(key)]
        if over:
            services.run(asyncio.wait_for(asyncio.gather(*over), 30))
        for _, waiting in services.waiting:
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                services.run(waiting)
        with self.noting():
            assert services.run(services.broken()) == {}
        services.run(services.execute("DELETE FROM lgs.run; DELETE FROM lgs.thread; DELETE FROM checkpoints"))


async def _together(doing: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*map(answer, doing))


@pytest.fixture
def services(databases: Any) -> Iterator[Services]:
    uri = databases.create()
    made = Services(uri)
    try:
        yield made
    finally:
        made.close()
        databases.drop(uri)


@sizes(timeout=1800, steps=(500, 10_000))
def test_services_do_what_the_model_says(services: Services, size: Any, seed: int, figures: Figures) -> None:
    class Machine(DoubleTexting):
        steps = at_once = 0
        found = ""

    Machine.services = services
    settings = hypothesis.settings(
        max_examples=max(1, size.steps // (2 * LENGTH)),
        stateful_step_count=LENGTH,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    rounds = itertools.count(seed)
    while Machine.steps < size.steps:
        try:
            run_state_machine_as_test(hypothesis.seed(next(rounds))(Machine), settings=settings)
        except Exception as error:
            pytest.fail(Machine.found or repr(error))
    figures("R15", steps=Machine.steps, divergences=0, at_once=Machine.at_once, seed=seed)
