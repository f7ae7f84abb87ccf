"""Threads of which only the newest checkpoints are kept: what LangGraph needs to go on stays, everything else goes."""

from __future__ import annotations

import operator
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import psycopg
import pytest
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.domain.threads import Ttl, TtlStrategy
from langgraph_serverless.persistence.checkpoints import Saver
from langgraph_serverless.settings import Settings

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
KEEP = TtlStrategy.KEEP_LATEST


def joined(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(word for write in writes for word in write)]


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    notes: dict[str, int]


class Deltas(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=4)]
    rest: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=3)]
    plain: dict[str, int]


def ask(state: Log) -> Log:
    return {"log": [str(interrupt("what?"))]}


below = StateGraph(Log).add_node("below", ask).add_edge(START, "below")
asking = (
    StateGraph(Log)
    .add_node("first", lambda state: {"log": ["first"], "notes": {"n": len(state["log"])}})
    .add_node("child", below.compile())
    .add_edge(START, "first")
    .add_edge("first", "child")
)
remembering = (
    StateGraph(Log)
    .add_node(
        "child", StateGraph(Log).add_node("n", lambda _: {"log": ["n"]}).add_edge(START, "n").compile(checkpointer=True)
    )
    .add_edge(START, "child")
)
deltas = (
    StateGraph(Deltas)
    .add_node("a", lambda state: {"log": [f"a{len(state['log'])}"], "plain": {"n": len(state["log"])}})
    .add_node("b", lambda _: {"rest": ["b"]})
    .add_edge(START, "a")
    .add_edge("a", "b")
)


class Bench:
    def __init__(self, container: SchedulerContainer, database: psycopg.AsyncConnection[Any]) -> None:
        self.container, self.database = container, database

    async def thread(self, **options: Any) -> uuid.UUID:
        return (await self.container.threads.create(ANONYMOUS, **options)).thread_id

    async def graph(self, graph: StateGraph[Any, Any, Any, Any]) -> Any:
        return graph.compile(checkpointer=Saver(await self.container.database.pool()))

    async def prune(self, *threads: uuid.UUID) -> int:
        return await self.container.threads.prune(ANONYMOUS, threads, KEEP)

    async def rows(self, thread_id: uuid.UUID) -> list[int]:
        counts = []
        for table in TABLES:
            query = f"SELECT count(*) AS n FROM {table} WHERE thread_id = %s"
            row = await (await self.database.execute(query, [str(thread_id)])).fetchone()  # type: ignore[arg-type]
            counts.append(row["n"])
        return counts

    async def garbage(self, thread_id: uuid.UUID) -> list[Any]:
        """Blobs and writes that no checkpoint has."""
        query = """
            SELECT 'blob' AS kind, channel FROM checkpoint_blobs b WHERE thread_id = %(thread)s AND NOT EXISTS (
                SELECT 1 FROM checkpoints c WHERE c.thread_id = b.thread_id AND c.checkpoint_ns = b.checkpoint_ns
                  AND c.checkpoint -> 'channel_versions' ->> b.channel = b.version)
            UNION ALL
            SELECT 'write', channel FROM checkpoint_writes w WHERE thread_id = %(thread)s AND NOT EXISTS (
                SELECT 1 FROM checkpoints c WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns
                  AND c.checkpoint_id = w.checkpoint_id)"""
        return await (await self.database.execute(query, {"thread": str(thread_id)})).fetchall()

    async def namespaces(self, thread_id: uuid.UUID) -> list[str]:
        query = "SELECT checkpoint_ns FROM checkpoints WHERE thread_id = %s ORDER BY checkpoint_ns"
        return [row["checkpoint_ns"] for row in await (await self.database.execute(query, [str(thread_id)])).fetchall()]


@pytest.fixture
async def bench(settings: Settings, clean_database: None) -> AsyncIterator[Bench]:
    container = SchedulerContainer(settings, manifest=Manifest(hash="", graphs={}))
    connecting = psycopg.AsyncConnection.connect(
        settings.database_uri, autocommit=True, row_factory=psycopg.rows.dict_row
    )
    async with await connecting as database:
        yield Bench(container, database)
    await container.aclose()


def config(thread_id: uuid.UUID) -> dict[str, Any]:
    return {"configurable": {"thread_id": str(thread_id)}}


async def test_an_interrupted_thread_goes_on_from_what_is_kept(bench: Bench) -> None:
    pruned, whole = await bench.thread(), await bench.thread()
    graph = await bench.graph(asking)
    for thread_id in (pruned, whole):
        await graph.ainvoke({"log": ["one"]}, config(thread_id))
        await graph.ainvoke(Command(resume="yes"), config(thread_id))
        await graph.ainvoke({"log": ["two"]}, config(thread_id))
    before = await graph.aget_state(config(pruned), subgraphs=True)
    rows = await bench.rows(pruned)
    assert await bench.prune(pruned) == 1

    after = await graph.aget_state(config(pruned), subgraphs=True)
    assert (after.values, after.next, after.config) == (before.values, before.next, before.config)
    assert after.parent_config is None
    assert [task.state.values for task in after.tasks] == [task.state.values for task in before.tasks]
    assert after.interrupts == before.interrupts
    # the root, and the call of the subgraph that is waiting; the one of the first round is over
    root, call = await bench.namespaces(pruned)
    assert (root, call.partition(":")[0]) == ("", "child")
    assert all(now < then for now, then in zip(await bench.rows(pruned), rows, strict=True))
    assert await bench.rows(whole) == rows
    assert await bench.garbage(pruned) == []

    for thread_id in (pruned, whole):
        await graph.ainvoke(Command(resume="again"), config(thread_id))
    states = [await graph.aget_state(config(thread_id)) for thread_id in (pruned, whole)]
    assert states[0].values == states[1].values
    assert states[0].values["log"][-1] == "again"
    assert await bench.prune(pruned) == 1
    assert await bench.namespaces(pruned) == [""]
    assert (await graph.aget_state(config(pruned))).values == states[0].values
    again = await bench.rows(pruned)
    assert await bench.prune(pruned) == 1
    assert await bench.rows(pruned) == again


async def test_a_subgraph_with_a_memory_keeps_its_newest(bench: Bench) -> None:
    thread_id = await bench.thread()
    graph = await bench.graph(remembering)
    for _ in range(3):
        await graph.ainvoke({"log": ["in"]}, config(thread_id))
    assert await bench.prune(thread_id) == 1
    assert await bench.namespaces(thread_id) == ["", "child"]
    before = await graph.aget_state({"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "child"}})
    await graph.ainvoke({"log": ["in"]}, config(thread_id))
    after = await graph.aget_state({"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "child"}})
    assert len(after.values["log"]) > len(before.values["log"]) > 4


@pytest.mark.parametrize("durability", ["sync", "exit"])
async def test_delta_channels_can_be_rebuilt(bench: Bench, durability: str) -> None:
    graph = await bench.graph(deltas)
    threads = []
    for rounds in range(1, 10):
        thread_id = await bench.thread()
        for number in range(rounds):
            await graph.ainvoke({"log": [f"{number}"], "rest": ["r"]}, config(thread_id), durability=durability)
        threads.append(thread_id)
    histories = [[state async for state in graph.aget_state_history(config(thread_id))] for thread_id in threads]
    assert await bench.prune(*threads) == len(threads)
    fewer = 0
    for thread_id, before in zip(threads, histories, strict=True):
        after = [state async for state in graph.aget_state_history(config(thread_id))]
        # what is left is as it was, however far it goes back
        assert [state.values for state in after] == [state.values for state in before[: len(after)]]
        assert 1 <= len(after) <= len(before)
        fewer += len(after) < len(before)
        assert await bench.garbage(thread_id) == []
        await graph.ainvoke({"log": ["more"], "rest": []}, config(thread_id))
        newest = await graph.aget_state(config(thread_id))
        assert newest.values["log"][:-1] == [*before[0].values["log"], "more"]
    assert fewer >= 4


async def test_busy_and_missing_threads_are_passed_over(bench: Bench) -> None:
    busy, settled = await bench.thread(), await bench.thread()
    graph = await bench.graph(asking)
    for thread_id in (busy, settled):
        await graph.ainvoke({"log": []}, config(thread_id))
    rows = await bench.rows(busy)
    await bench.database.execute("UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s", [busy])
    assert await bench.prune(busy, settled, uuid.uuid4(), settled) == 1
    assert await bench.rows(busy) == rows
    assert await bench.rows(settled) != rows
    assert await bench.prune() == 0
    await bench.database.execute("UPDATE lgs.thread SET status = 'idle' WHERE thread_id = %s", [busy])


async def test_a_tick_prunes_threads_whose_time_is_over(bench: Bench) -> None:
    graph = await bench.graph(asking)
    threads = [await bench.thread(ttl=Ttl(strategy=KEEP, minutes=60)) for _ in range(25)]
    for thread_id in threads[:2]:
        await graph.ainvoke({"log": []}, config(thread_id))
    rows = await bench.rows(threads[0])
    assert (await bench.container.scheduler.tick()).threads_pruned == 0
    await bench.database.execute("UPDATE lgs.thread SET expires_at = now() WHERE thread_id <> %s", [threads[1]])
    assert (await bench.container.scheduler.tick()).threads_pruned == 24
    assert await bench.rows(threads[0]) < rows
    assert await bench.rows(threads[1]) == rows
    assert (await bench.container.scheduler.tick()).threads_pruned == 0
    left = await bench.container.threads.get(ANONYMOUS, threads[0])
    assert left.expires_at is not None
    assert (left.expires_at - left.created_at).total_seconds() > 3590


async def test_a_time_to_live_starts_anew_with_each_use(bench: Bench) -> None:
    thread_id, plain = await bench.thread(ttl=Ttl(strategy=KEEP, minutes=60)), await bench.thread()

    async def expiry(change: str) -> Any:
        await bench.database.execute("UPDATE lgs.thread SET expires_at = now() WHERE thread_id = %s", [thread_id])
        await bench.database.execute(f"UPDATE lgs.thread SET {change}")  # type: ignore[arg-type]
        query = "SELECT extract(epoch FROM expires_at - now()) AS s FROM lgs.thread WHERE thread_id = %s"
        row: Any = await (await bench.database.execute(query, [thread_id])).fetchone()
        return round(row["s"] / 60)

    assert await expiry("status = 'busy'") == 60
    assert await expiry("status = 'busy', updated_at = clock_timestamp()") == 0
    assert await expiry("status = 'idle'") == 60
    assert await expiry("state_updated_at = clock_timestamp()") == 60
    assert await expiry("metadata = '{}'") == 0
    assert (await bench.container.threads.get(ANONYMOUS, plain)).expires_at is None


async def test_threads_are_made_with_the_time_to_live_of_the_project(settings: Settings, bench: Bench) -> None:
    graph = GraphManifest(graph_id="g", description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
    manifest = Manifest.of({"g": graph}, thread_ttl=Ttl(strategy=KEEP, minutes=30))
    assert Manifest.from_json(manifest.to_json()) == manifest
    container = SchedulerContainer(settings, manifest=manifest)
    await container.assistants.ensure_defaults()

    async def made(thread_id: uuid.UUID) -> tuple[Any, Any]:
        thread = await container.threads.get(ANONYMOUS, thread_id)
        return thread.ttl_strategy, thread.ttl_minutes

    plain = await container.threads.create(ANONYMOUS)
    assert await made(plain.thread_id) == (KEEP, 30)
    own = await container.threads.create(ANONYMOUS, ttl=Ttl(strategy=TtlStrategy.DELETE, minutes=5))
    assert await made(own.thread_id) == (TtlStrategy.DELETE, 5)
    copied = await container.threads.copy(ANONYMOUS, own.thread_id)
    assert await made(copied.thread_id) == (KEEP, 30)
    with_run = uuid.uuid4()
    await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="g", if_not_exists="create", after_seconds=3600), thread_id=with_run
    )
    assert await made(with_run) == (KEEP, 30)
    kept = await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id="g", on_completion="keep", after_seconds=3600), thread_id=None
    )
    assert await made(kept.thread_id) == (KEEP, 30)
    hidden = await container.runs.create(ANONYMOUS, RunRequest(assistant_id="g", after_seconds=3600), thread_id=None)
    assert await made(hidden.thread_id) == (None, None)
    await container.aclose()
