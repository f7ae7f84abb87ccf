"""Our checkpoint saver against LangGraph's own tests of savers, against the stock saver on the same rows, and what it writes."""

from __future__ import annotations

import asyncio
import operator
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict

import pytest
from figures import Figures, sizes
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import TASKS
from langgraph.graph import END, START, StateGraph
from worker_container import MakeContainer

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence.checkpoints import Saver
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
LONG = "x" * 5000

MakeSaver = Callable[..., Any]


@pytest.fixture
async def container(worker_on: MakeContainer) -> WorkerContainer:
    return await worker_on(PROJECT)


@pytest.fixture
async def fenced(container: WorkerContainer) -> AsyncIterator[MakeSaver]:
    """Makes savers of one run that is held."""
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    queue = QueueRepository(container.database)
    await container.runs.create(ANONYMOUS, RunRequest(assistant_id="steps", input={}), thread_id=thread_id)
    [claimed] = await queue.claim(owner="test", limit=1, lease=600)
    pool = await container.database.pool()
    made: list[FencedSaver] = []

    def make(**options: Any) -> FencedSaver:
        made.append(FencedSaver(pool, claimed.lease, **options))
        return made[-1]

    yield make
    for saver in made:
        saver.unsaved.close()
    async with container.database.connection() as connection:
        await connection.execute("DELETE FROM lgs.run WHERE run_id = %s", (claimed.run.run_id,))
        await connection.execute("DELETE FROM lgs.thread WHERE thread_id = %s", (thread_id,))
        for table in TABLES:  # of threads that only savers know
            await connection.execute(
                f"DELETE FROM {table} WHERE thread_id NOT IN (SELECT thread_id::text FROM lgs.thread)"
            )


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    text: str
    left: int


def steps(checkpointer: BaseCheckpointSaver[Any]) -> Any:
    """A graph that goes round as often as its input says, and leaves its long text as it is."""
    graph = StateGraph(State)
    graph.add_node("step", lambda state: {"log": [f"at {state['left']}"], "left": state["left"] - 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] > 0 else END)
    return graph.compile(checkpointer=checkpointer)


def on(thread_id: str, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread_id, **more}}


async def written(container: WorkerContainer, table: str, thread_id: str) -> int:
    async with container.database.connection() as connection:
        cursor = await connection.execute(f"SELECT count(*) AS rows FROM {table} WHERE thread_id = %s", (thread_id,))
        row = await cursor.fetchone()
    assert row is not None
    return int(row["rows"])


@pytest.mark.parametrize("kind", ["plain", "sync", "async"])
async def test_langgraphs_own_tests_of_savers_pass(container: WorkerContainer, fenced: MakeSaver, kind: str) -> None:
    pool = await container.database.pool()

    async def make() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        yield Saver(pool) if kind == "plain" else fenced(durability=Durability(kind))

    report = await validate(checkpointer_test(name=f"ours, {kind}")(make))
    assert report.passed_all_base(), {name: result.failures for name, result in report.results.items()}
    assert all(result.passed is not False for result in report.results.values()), report.results


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_the_stock_saver_reads_what_ours_has_written_and_the_other_way_round(
    container: WorkerContainer, fenced: MakeSaver, durability: Any
) -> None:
    thread_id = str(new_id())
    ours = fenced(durability=Durability(durability), new_thread=thread_id)
    stock = AsyncPostgresSaver(await container.database.pool())  # type: ignore[arg-type]
    value = await steps(ours).ainvoke({"log": [], "text": LONG, "left": 3}, on(thread_id), durability=durability)
    # from memory, and then from the database
    remembered = [state async for state in steps(ours).aget_state_history(on(thread_id))]
    await ours.unsaved.flush()
    histories = [
        [state async for state in steps(saver).aget_state_history(on(thread_id))]
        for saver in (stock, Saver(await container.database.pool()), fenced())
    ]
    assert histories == [remembered] * 3
    assert remembered[0].values == value
    # the stock saver goes on, then ours again
    value = await steps(stock).ainvoke({"log": ["theirs"], "left": 1}, on(thread_id))
    assert (await steps(fenced()).aget_state(on(thread_id))).values == value
    again = fenced(durability=Durability(durability))
    value = await steps(again).ainvoke({"log": ["ours"], "left": 1}, on(thread_id), durability=durability)
    assert value["text"] == LONG
    await again.unsaved.flush()
    read = [(await steps(saver).aget_state(on(thread_id))).values for saver in (stock, fenced(), again)]
    assert read == [value] * 3
    # from a checkpoint in the past, with a long text that is kept as a row of its own
    fork = await steps(fenced()).ainvoke(None, remembered[-2].config if durability != "exit" else remembered[0].config)
    assert fork["text"] == LONG
    assert (await steps(stock).aget_state(on(thread_id))).values == fork


async def test_values_that_stay_are_written_once(container: WorkerContainer, fenced: MakeSaver) -> None:
    thread_id = str(new_id())
    saver = fenced(durability=Durability.ASYNC)
    await steps(saver).ainvoke({"log": [], "text": LONG, "left": 10}, on(thread_id))
    await saver.unsaved.flush()
    later = fenced(durability=Durability.ASYNC)
    await steps(later).ainvoke({"log": [], "left": 10}, on(thread_id))
    await later.unsaved.flush()
    async with container.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT channel, count(*) AS rows FROM checkpoint_blobs WHERE thread_id = %s GROUP BY channel", (thread_id,)
        )
        rows = {row["channel"]: row["rows"] for row in await cursor.fetchall()}
        cursor = await connection.execute(
            "SELECT max(length(checkpoint::text)) AS longest FROM checkpoints WHERE thread_id = %s", (thread_id,)
        )
        row = await cursor.fetchone()
    assert rows["text"] == 1
    assert row is not None
    assert row["longest"] < len(LONG)


class Delta(TypedDict):
    log: Annotated[
        list[str], DeltaChannel(lambda state, writes: [*state, *(item for write in writes for item in write)])
    ]
    left: int


def deltas(checkpointer: BaseCheckpointSaver[Any]) -> Any:
    graph = StateGraph(Delta)
    graph.add_node("step", lambda state: {"log": [f"at {state['left']}"], "left": state["left"] - 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] > 0 else END)
    return graph.compile(checkpointer=checkpointer)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_delta_channels(container: WorkerContainer, fenced: MakeSaver, durability: Any) -> None:
    """Over several runs, read in the midst by another saver as after a hand-off, and from a checkpoint in the past."""
    thread_id = str(new_id())
    stock = AsyncPostgresSaver(await container.database.pool())  # type: ignore[arg-type]
    expected: list[str] = []
    for run in range(3):
        saver = fenced(durability=Durability(durability), new_thread=None if run else thread_id)
        value = await deltas(saver).ainvoke({"log": [f"run {run}"], "left": 2}, on(thread_id), durability=durability)
        expected += [f"run {run}", "at 2", "at 1"]
        assert value["log"] == expected
        assert (await deltas(saver).aget_state(on(thread_id))).values["log"] == expected
        await saver.unsaved.flush()
        for other in (stock, fenced()):
            assert (await deltas(other).aget_state(on(thread_id))).values["log"] == expected
    # stopped before each step, by a saver each: what a hand-off does
    for left in (2, 1):
        saver = fenced(durability=Durability(durability))
        value = {"log": ["handed"], "left": 2} if left == 2 else None
        await deltas(saver).ainvoke(value, on(thread_id), durability=durability, interrupt_after=["step"])
        await saver.unsaved.flush()
    expected += ["handed", "at 2", "at 1"]
    newest = await deltas(fenced()).aget_state(on(thread_id))
    assert newest.values["log"] == expected
    history = [state async for state in deltas(fenced()).aget_state_history(on(thread_id))]
    assert [state.values.get("log") for state in history] == [
        state.values.get("log") async for state in deltas(stock).aget_state_history(on(thread_id))
    ]
    past = next(state for state in history if state.values.get("log") == expected[:9] and not state.next)
    saver = fenced(durability=Durability(durability))
    value = await deltas(saver).ainvoke({"log": ["forked"], "left": 1}, past.config, durability=durability)
    assert value["log"] == [*expected[:9], "forked", "at 1"]
    await saver.unsaved.flush()
    assert (await deltas(stock).aget_state(on(thread_id))).values["log"] == value["log"]


async def test_a_run_of_a_few_steps_is_written_with_its_end(container: WorkerContainer, fenced: MakeSaver) -> None:
    thread_id = str(new_id())
    saver = fenced(durability=Durability.EXIT, new_thread=thread_id)
    statements = counted(saver)
    await steps(saver).ainvoke({"log": [], "text": LONG, "left": 5}, on(thread_id), durability="exit")
    assert (await steps(saver).aget_state(on(thread_id))).values["left"] == 0
    assert statements == []
    assert await written(container, "checkpoints", thread_id) == 0
    taken = await saver.unsaved.take()
    assert taken is not None
    again = await saver.unsaved.take()
    assert again is not None
    assert again["save_rows"].obj.keys() == taken["save_rows"].obj.keys()
    saver.unsaved.written()
    assert await saver.unsaved.take() is None


async def test_each_superstep_is_one_statement(container: WorkerContainer, fenced: MakeSaver) -> None:
    thread_id = str(new_id())
    saver = fenced(durability=Durability.SYNC, new_thread=thread_id)
    statements = counted(saver)
    await steps(saver).ainvoke({"log": [], "text": "", "left": 20}, on(thread_id), durability="sync")
    # a machine that stands still between a task's end and its checkpoint makes one more
    assert 20 < len(statements) <= 30
    assert await written(container, "checkpoints", thread_id) == 22


def counted(saver: FencedSaver) -> list[str]:
    """The statements of a saver, from now on."""
    seen: list[str] = []
    save, read = saver._save, saver._read

    async def saving(*arguments: Any) -> bool:
        seen.append("save")
        return await save(*arguments)

    async def reading(*arguments: Any) -> Any:
        seen.append("read")
        return await read(*arguments)

    saver.unsaved._write = saving
    saver._read = reading  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("durability", [Durability.SYNC, Durability.ASYNC])
async def test_a_task_that_has_ended_is_saved_before_its_siblings(
    container: WorkerContainer, fenced: MakeSaver, durability: Durability
) -> None:
    thread_id = str(new_id())
    saver = fenced(durability=durability, new_thread=thread_id)

    async def slow(_: Any) -> dict[str, Any]:
        query = "SELECT 1 FROM checkpoint_writes WHERE thread_id = %s AND task_path LIKE '%%fast%%'"
        async with asyncio.timeout(30):
            while True:
                async with container.database.connection() as connection:
                    if await (await connection.execute(query, (thread_id,))).fetchone():
                        return {"log": ["slow"]}
                await asyncio.sleep(0.002)

    graph = StateGraph(State)
    graph.add_node("fast", lambda _: {"log": ["fast"]})
    graph.add_node("slow", slow)
    graph.add_edge(START, "fast")
    graph.add_edge(START, "slow")
    value = {"log": [], "text": "", "left": 0}
    result = await graph.compile(checkpointer=saver).ainvoke(value, on(thread_id), durability=durability.value)
    assert sorted(result["log"]) == ["fast", "slow"]


async def test_what_an_asynchronous_commit_has_lost_is_written_again(
    container: WorkerContainer, fenced: MakeSaver
) -> None:
    """As after a crash of Postgres, which keeps of such commits all up to some moment."""
    thread_id = str(new_id())
    saver = fenced(durability=Durability.ASYNC, new_thread=thread_id)
    graph = steps(saver)
    await graph.ainvoke({"log": [], "text": LONG, "left": 4}, on(thread_id), durability="async")
    await saver.unsaved.flush()
    rows = {table: await written(container, table, thread_id) for table in TABLES}
    assert all(rows.values())
    for table in TABLES:
        async with container.database.connection() as connection:
            await connection.execute(f"DELETE FROM {table} WHERE thread_id = %s", (thread_id,))
    # the next flush finds out
    await graph.aupdate_state(on(thread_id), {"left": 7})
    await saver.unsaved.flush()
    assert await written(container, "checkpoints", thread_id) == rows["checkpoints"] + 1
    assert (await steps(fenced()).aget_state(on(thread_id))).values["text"] == LONG
    # the run's end does as well, though it has nothing of its own to save
    await graph.aupdate_state(on(thread_id), {"left": 8})
    await saver.unsaved.flush()
    for table in TABLES:
        async with container.database.connection() as connection:
            await connection.execute(f"DELETE FROM {table} WHERE thread_id = %s", (thread_id,))
    with pytest.raises(UnavailableError):
        await end_with(container, saver)
    await end_with(container, saver)
    saver.unsaved.written()
    assert (await steps(fenced()).aget_state(on(thread_id))).values["left"] == 8


class Large(TypedDict):
    blob: bytes
    items: list[str]
    text: str
    left: int


@sizes(timeout=900, megabytes=(1, 5), steps=(200, 2000))
async def test_large_states_and_long_histories_come_back(
    container: WorkerContainer, fenced: MakeSaver, size: SimpleNamespace, figures: Figures
) -> None:
    """Values of megabytes that change now and then, over many supersteps; each is kept once."""
    change = size.steps // 4

    def step(state: Large) -> dict[str, Any]:
        left = state["left"] - 1
        if left % change:
            return {"left": left}
        return {"left": left, "blob": bytes([left % 251]) * size.megabytes * 10**6, "items": [f"{left}"] * 1000}

    graph = StateGraph(Large)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["left"] > 0 else END)
    thread_id = str(new_id())
    saver = fenced(durability=Durability.ASYNC, new_thread=thread_id)
    given = {"blob": b"", "items": [], "text": "t" * 10**6 * size.megabytes, "left": size.steps}
    config = {**on(thread_id), "recursion_limit": size.steps + 5}
    began = time.monotonic()
    value = await graph.compile(checkpointer=saver).ainvoke(given, config, durability="async")
    await saver.unsaved.flush()
    took = time.monotonic() - began
    began = time.monotonic()
    reader = graph.compile(checkpointer=Saver(await container.database.pool()))
    assert (await reader.aget_state(on(thread_id))).values == value
    lefts, before = [], None
    while page := [state async for state in reader.aget_state_history(on(thread_id), limit=100, before=before)]:
        lefts += [state.values["left"] for state in page if "left" in state.values]
        assert all(state.values.get("text", given["text"]) == given["text"] for state in page)
        before = page[-1].config
    read = time.monotonic() - began
    assert lefts == list(range(size.steps + 1))
    async with container.database.connection() as connection:
        query = "SELECT sum(length(blob)) AS bytes, count(*) AS rows FROM checkpoint_blobs WHERE thread_id = %s"
        row = await (await connection.execute(query, (thread_id,))).fetchone()
    assert row is not None
    figures("R23", megabytes=size.megabytes, checkpoints=size.steps + 2, per_superstep=took / size.steps, history=read)
    # the text, once more in the input, and four times the value
    assert row["bytes"] < 6.5 * size.megabytes * 10**6


async def test_other_threads_are_written_at_once_and_never_remembered(
    container: WorkerContainer, fenced: MakeSaver
) -> None:
    """A node may read and write threads of which its run is not the only writer."""
    own, other = str(new_id()), str(new_id())
    saver = fenced(durability=Durability.ASYNC, thread_id=own, new_thread=own)
    stock = AsyncPostgresSaver(await container.database.pool())  # type: ignore[arg-type]
    await steps(saver).ainvoke({"log": [], "text": LONG, "left": 2}, on(other), durability="async")
    assert await written(container, "checkpoints", other) == 4
    assert await saver.unsaved.take() is None
    assert (await steps(saver).aget_state(on(other))).values["left"] == 0
    await steps(stock).aupdate_state(on(other), {"left": 7})
    state = await steps(saver).aget_state(on(other))
    assert state.values == {"log": ["at 2", "at 1"], "text": LONG, "left": 7}


async def test_what_is_put_while_the_database_answers_is_the_newest(fenced: MakeSaver) -> None:
    first, later = empty_checkpoint(), empty_checkpoint()
    config = on(str(new_id()), checkpoint_ns="")
    await fenced().aput(config, first, {}, {})
    saver = fenced(durability=Durability.ASYNC)
    read = saver._read

    async def slow(config: Any) -> Any:
        found = await read(config)
        await saver.aput(config, later, {}, {})
        return found

    saver._read = slow  # type: ignore[method-assign]
    assert (await saver.aget_tuple(config)).config["configurable"]["checkpoint_id"] == first["id"]
    saver._read = read  # type: ignore[method-assign]
    assert (await saver.aget_tuple(config)).config["configurable"]["checkpoint_id"] == later["id"]


TABLES = ("checkpoints", "checkpoint_writes", "checkpoint_blobs")


async def end_with(container: WorkerContainer, saver: FencedSaver) -> None:
    """Write what is left as the statement does that ends a run."""
    taken = await saver.unsaved.take()
    assert taken is not None
    if not await saver._save(taken, False):
        raise UnavailableError("gone")


async def test_a_lost_lease_is_told_at_the_next_put_and_at_the_end(
    container: WorkerContainer, fenced: MakeSaver
) -> None:
    thread_id = str(new_id())
    saver = fenced(durability=Durability.ASYNC, new_thread=thread_id)
    lost = saver._lease.__class__(run_id=saver._lease.run_id, token=uuid.uuid4(), epoch=1)
    saver._lease = lost
    with pytest.raises(LeaseLostError):
        await steps(saver).ainvoke({"log": [], "text": "", "left": 200}, on(thread_id))
    with pytest.raises(LeaseLostError):
        await saver.unsaved.take()
    assert await written(container, "checkpoints", thread_id) == 0


async def test_checkpoints_of_an_old_form_have_what_was_sent_with_them(
    container: WorkerContainer, fenced: MakeSaver
) -> None:
    """Before its fourth form a checkpoint kept what was sent with ``Send`` in the writes of its parent."""
    thread_id = str(new_id())
    stock = AsyncPostgresSaver(await container.database.pool())  # type: ignore[arg-type]
    first: Any = {
        "v": 3,
        "id": str(uuid6(clock_seq=-1)),
        "ts": "2025",
        "channel_values": {},
        "channel_versions": {},
        "versions_seen": {},
    }
    second = {**first, "id": str(uuid6(clock_seq=-1)), "channel_versions": {"left": "1"}}
    config = await stock.aput(on(thread_id, checkpoint_ns=""), first, {"step": 0}, {})  # type: ignore[typeddict-item]
    await stock.aput_writes(config, [(TASKS, "sent")], "task")
    await stock.aput(config, second, {"step": 1}, {})  # type: ignore[typeddict-item]
    expected = await stock.aget_tuple(on(thread_id))
    assert expected is not None
    assert expected.checkpoint["channel_values"][TASKS] == ["sent"]
    for saver in (fenced(), Saver(await container.database.pool())):
        assert await saver.aget_tuple(on(thread_id)) == expected
        assert await saver.aget_tuple(on(thread_id)) == expected
        assert [found async for found in saver.alist(on(thread_id), limit=1)] == [expected]
