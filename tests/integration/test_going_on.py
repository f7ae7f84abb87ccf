"""Runs that are handed on in the midst of subgraphs, fan-outs, questions and breakpoints: as if they had not been."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import ClaimedRun, Durability, Run, RunRequest, StreamMode
from langgraph_serverless.execution.runner import HandedOff, RunSignals
from langgraph_serverless.persistence.queue import QueueRepository

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "going_on" / "langgraph.json"
QUICK = {"heartbeat_interval": 0.1, "lease_duration": 1.5, "poll_interval": 0.2, "sweep_interval": 0.2}


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
async def container(worker_on: MakeContainer, journal: Path) -> WorkerContainer:
    return await worker_on(PROJECT, **QUICK)


DURABILITIES = tuple(Durability)


async def new_thread(container: WorkerContainer) -> uuid.UUID:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    return thread_id


async def carried_out(container: WorkerContainer, request: RunRequest, thread_id: uuid.UUID) -> tuple[Run, Any]:
    """A run and its result, with a worker that takes on what it hands on."""
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
    async with asyncio.timeout(PATIENCE):
        while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
            await asyncio.sleep(0.01)
    return run, result


async def handoffs(container: WorkerContainer, run: Run) -> tuple[int, int]:
    async with container.database.connection() as connection:
        cursor = await connection.execute("SELECT handoffs, attempt FROM lgs.run WHERE run_id = %s", (run.run_id,))
        row = await cursor.fetchone()
    assert row is not None
    return row["handoffs"], row["attempt"]


def begun(journal: Path, *runs: Run) -> list[str]:
    """What has begun in these runs, in order."""
    lines = [line.split() for line in journal.read_text().splitlines()]
    return [name for run_id, name in lines if run_id in {str(run.run_id) for run in runs}]


def given(graph: str, *drains: str, durability: Durability, **more: Any) -> RunRequest:
    return RunRequest(assistant_id=graph, input={"log": [], "drains": drains}, durability=durability, **more)


async def every(case: Callable[..., Awaitable[None]], *parameters: Iterable[Any]) -> None:
    """All cases at the same time, so that they share the waiting."""
    cases = list(itertools.product(DURABILITIES, *parameters))
    for which, failure in zip(
        cases, await asyncio.gather(*itertools.starmap(case, cases), return_exceptions=True), strict=True
    ):
        if failure is not None:
            failure.add_note(f"in the case {which}")
            raise failure


async def test_a_subgraph_with_its_own_checkpointer_is_not_skipped(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability, at: str) -> None:
        thread_id = await new_thread(container)
        # the second run finds the subgraph's checkpoints of the first
        await carried_out(container, given("lasting", durability=durability), thread_id)
        run, result = await carried_out(container, given("lasting", at, durability=durability), thread_id)
        assert result.status == "success"
        assert begun(journal, run) == ["a", "s1", "s2", "z"]
        assert await handoffs(container, run) == (0 if at == "z" else 1, 1)

    async with working(container):
        await every(case, ["a", "s1", "s2", "z"])


async def test_nor_is_one_within_another_subgraph(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability, at: str) -> None:
        thread_id = await new_thread(container)
        await carried_out(container, given("within", durability=durability), thread_id)
        run, result = await carried_out(container, given("within", at, durability=durability), thread_id)
        assert result.status == "success"
        assert begun(journal, run) == ["a", "m1", "s1", "s2", "m2", "z"]
        assert await handoffs(container, run) == (0 if at == "z" else 1, 1)

    async with working(container):
        await every(case, ["a", "m1", "s1", "s2", "m2", "z"])


async def test_nothing_is_repeated_in_a_fan_out_of_subgraphs(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability, drains: tuple[str, ...]) -> None:
        thread_id = await new_thread(container)
        plain, expected = await carried_out(container, given("fanned", durability=durability), thread_id)
        thread_id = await new_thread(container)
        run, result = await carried_out(container, given("fanned", *drains, durability=durability), thread_id)
        assert Counter(begun(journal, run)) == Counter(begun(journal, plain))
        assert result.output["log"] == expected.output["log"]
        passed, attempt = await handoffs(container, run)
        assert passed >= 2
        assert attempt == 1

    async with working(container):
        await every(case, [("a", "i1", "n1", "i3", "z"), ("i2", "n2", "z"), ("side", "sent", "i1", "i2")])


async def test_an_answer_is_given_to_one_question(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability, at: str, by_id: bool) -> None:
        thread_id = await new_thread(container)
        asked, result = await carried_out(container, given("asking", at, durability=durability), thread_id)
        [question] = result.output["__interrupt__"]
        assert question["value"] == "one 0?"
        answer = {question["id"]: "yes"} if by_id else "yes"
        first = RunRequest(
            assistant_id="asking", command={"resume": answer, "update": {"log": ["said yes"]}}, durability=durability
        )
        answered, result = await carried_out(container, first, thread_id)
        assert [entry["value"] for entry in result.output["__interrupt__"]] == ["two 0?"], "nobody has answered it"
        assert await handoffs(container, answered) == (1, 1)
        second = RunRequest(assistant_id="asking", command={"resume": {"ok": False}}, durability=durability)
        last, result = await carried_out(container, second, thread_id)
        log = result.output["log"]
        assert (log.count("one=yes"), log.count("two={'ok': False}"), log.count("said yes")) == (1, 1, 1)
        assert max(Counter(begun(journal, asked, answered, last)).values()) == 1

    async with working(container):
        await every(case, ["one", "mid"], [False, True])


async def test_a_breakpoint_in_a_subgraph_holds(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability, graph: str, at: str) -> None:
        thread_id = await new_thread(container)
        run, result = await carried_out(container, given(graph, at, durability=durability), thread_id)
        assert sorted(begun(journal, run)) == ["a", "i1", "o1", "o2", "o3", "sent", "side"], "nobody had agreed to more"
        # beside "i1" the other branch may have begun its last superstep
        assert at == "i1" or (await handoffs(container, run))[0] >= 1
        on, result = await carried_out(container, RunRequest(assistant_id=graph, durability=durability), thread_id)
        assert begun(journal, on) == ["i2", "i3", "z"]
        assert result.status == "success"

    async with working(container):
        await every(case, ["breaking", "halting"], ["a", "i1", "o1", "o2"])


async def test_a_question_waits_while_another_branch_is_handed_on(container: WorkerContainer, journal: Path) -> None:
    async def case(durability: Durability) -> None:
        thread_id = await new_thread(container)
        run, result = await carried_out(container, given("waiting", "i1", "i2", durability=durability), thread_id)
        assert [entry["value"] for entry in result.output["__interrupt__"]] == ["ask 0?"]
        assert await handoffs(container, run) == (2, 1)
        request = RunRequest(assistant_id="waiting", command={"resume": "fine"}, durability=durability)
        on, result = await carried_out(container, request, thread_id)
        assert "ask=fine" in result.output["log"]
        assert max(Counter(begun(journal, run, on)).values()) == 1

    async with working(container):
        await every(case)


async def test_the_limit_of_supersteps_counts_over_hand_offs(container: WorkerContainer) -> None:
    async def case(durability: Durability, limit: int) -> None:
        """Six supersteps, and those of the subgraph, which has a count of its own."""
        ends = []
        for drains in ((), ("a", "z", "s1")):
            asked = {"log": [], "drains": drains, "laps": 3}
            request = RunRequest(
                assistant_id="lasting", input=asked, durability=durability, config={"recursion_limit": limit}
            )
            run, result = await carried_out(container, request, await new_thread(container))
            assert (await handoffs(container, run))[0] == len(drains)
            ends.append((result.status, result.error, result.output.get("log")))
        assert ends[0] == ends[1]
        assert ends[0][0] == ("success" if limit == 7 else "error")

    async with working(container):
        await every(case, [6, 7])


async def test_finished_tasks_of_a_function_are_not_repeated(worker_on: MakeContainer, journal: Path) -> None:
    """An entrypoint is one superstep: it does not drain, but is released, and goes on behind what is finished."""
    container = await worker_on(PROJECT, **QUICK, shutdown_grace=0.05)
    runs = []
    for durability in (Durability.SYNC, Durability.ASYNC):
        request = RunRequest(assistant_id="calling", input=5, durability=durability)
        runs.append(await container.runs.create(ANONYMOUS, request, thread_id=await new_thread(container)))
    async with working(container), asyncio.timeout(PATIENCE):
        while not journal.exists() or min(begun(journal, run).count("t2") for run in runs) < 1:
            await asyncio.sleep(0.01)
    async with working(container), asyncio.timeout(PATIENCE):
        for run in runs:
            while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
                await asyncio.sleep(0.01)
            assert (result.status, result.output) == ("success", [0, 1, 2, 3, 4])
            again = Counter(begun(journal, run))
            assert (again["t0"], again["t1"], again["t4"]) == (1, 1, 1)
            assert sum(again.values()) <= 6, "the one that was in flight"
            assert await handoffs(container, run) == (1, 1)


async def test_a_second_question_of_a_node_is_asked_after_a_crash(container: WorkerContainer, journal: Path) -> None:
    """Its first answer is stored with the thread as well as with the node: it must not be taken for the second."""
    thread_id = await new_thread(container)
    async with working(container):
        asked, result = await carried_out(container, given("twice", durability=Durability.SYNC), thread_id)
    assert [entry["value"] for entry in result.output["__interrupt__"]] == ["ask 0?"]
    answer = RunRequest(assistant_id="twice", command={"resume": "yes"}, durability=Durability.SYNC)
    run = await container.runs.create(ANONYMOUS, answer, thread_id=thread_id)
    [claimed] = await QueueRepository(container.database).claim(owner="lost", limit=1, lease=30)
    await container.runner.execute(claimed, RunSignals())  # and dies before it can say that it came to a question
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE run_id = %s", (run.run_id,))
    async with working(container), asyncio.timeout(PATIENCE):
        while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
            await asyncio.sleep(0.01)
    assert [entry["value"] for entry in result.output["__interrupt__"]] == ["ask 1?"]
    assert not journal.exists() or begun(journal, asked, run) == []


async def test_a_command_is_neither_lost_nor_repeated_with_a_lease(container: WorkerContainer, journal: Path) -> None:
    """A run that answers a question is released before it begins, or in the midst of the node that has taken the answer."""
    told: list[dict[str, Any]] = [{}, {"update": {"log": ["told"]}}]
    cases = list(itertools.product(DURABILITIES, [False, True], told, [False, True]))

    async def asked(durability: Durability, back: bool) -> tuple[uuid.UUID, dict[str, Any] | None]:
        """A thread with a question, and perhaps the checkpoint of one that has been answered already."""
        thread_id = await new_thread(container)
        _, result = await carried_out(container, given("slow", durability=durability), thread_id)
        assert [entry["value"] for entry in result.output["__interrupt__"]] == ["ask?"]
        if not back:
            return thread_id, None
        async with container.database.connection() as connection:
            newest = "SELECT max(checkpoint_id) AS checkpoint_id FROM checkpoints WHERE thread_id = %s"
            checkpoint = await (await connection.execute(newest, (str(thread_id),))).fetchone()
        answer = RunRequest(assistant_id="slow", command={"resume": "yes"}, durability=durability)
        await carried_out(container, answer, thread_id)
        return thread_id, checkpoint

    async with working(container):
        threads = await asyncio.gather(*(asked(durability, back) for durability, _, _, back in cases))
    queue = QueueRepository(container.database)

    async def released(claimed: ClaimedRun, begins: bool) -> None:
        signals = RunSignals()
        execution = asyncio.create_task(container.runner.execute(claimed, signals))
        while begins and (not journal.exists() or not begun(journal, claimed.run)):
            await asyncio.sleep(0.01)
        signals.release()
        with pytest.raises(HandedOff):
            await execution
        await queue.hand_off(claimed.lease)

    runs: list[Run] = []
    for (thread_id, checkpoint), (durability, _, more, _) in zip(threads, cases, strict=True):
        command = {"resume": "yes", **more}
        request = RunRequest(assistant_id="slow", command=command, durability=durability, checkpoint=checkpoint)
        runs.append(await container.runs.create(ANONYMOUS, request, thread_id=thread_id))
    claims = {claimed.run.run_id: claimed for claimed in await queue.claim(owner="left", limit=len(runs), lease=60)}
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for run, (_, begins, _, _) in zip(runs, cases, strict=True):
            group.create_task(released(claims[run.run_id], begins))
    async with working(container), asyncio.timeout(PATIENCE):
        for run, case in zip(runs, cases, strict=True):
            while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
                await asyncio.sleep(0.01)
            assert result.output["log"] == [*(["told"] if case[2] else []), "ask=yes"], case


EVERYTHING = tuple(StreamMode(mode) for mode in ("values", "updates", "custom", "tasks", "checkpoints", "debug"))


async def test_a_stream_shows_no_seam(worker_on: MakeContainer, journal: Path) -> None:
    """Nothing is sent twice, and nothing taken for a repeat that is none: also of subgraphs in subgraphs."""
    container = await worker_on(PROJECT, **QUICK | {"lease_duration": PATIENCE})

    async def events(
        graph: str, *drains: str, durability: Durability, modes: Sequence[StreamMode] = EVERYTHING
    ) -> Counter[str]:
        thread_id = await new_thread(container)
        await carried_out(container, given(graph, durability=durability), thread_id)
        request = given(graph, *drains, durability=durability, stream_mode=modes, stream_subgraphs=True)
        run, result = await carried_out(container, request, thread_id)
        assert result.status == "success"
        assert (await handoffs(container, run))[0] == len(drains)
        seen: Counter[str] = Counter()
        assert container.event_hub is not None
        async with asyncio.timeout(PATIENCE), aclosing(container.event_hub.read(run.run_id, "0-0")) as batches:
            async for event in (event async for batch in batches for event in batch):
                if event.is_end:
                    return seen
                if event.name != "events":  # these tell of callbacks, as they are
                    seen[said(event)] += 1
        raise AssertionError("no end marker")

    async def case(durability: Durability, graph: str, drains: tuple[str, ...]) -> None:
        plain, seen = [await events(graph, *at, durability=durability) for at in ((), drains)]
        assert seen == plain, (seen - plain, plain - seen)

    async with working(container):
        await every(case, ["within"], [("s1",), ("s2", "m2")])
        await every(case, ["fanned"], [("n2",)])
        modes = (*EVERYTHING, StreamMode.EVENTS)
        plain, seen = [await events("within", *at, durability=Durability.ASYNC, modes=modes) for at in ((), ("s1",))]
        assert seen == plain, (seen - plain, plain - seen)


UUIDS = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def said(event: Event) -> str:
    """An event without what is different each time."""
    data = json.loads(event.data)
    name, data = UUIDS.sub("", event.name), data.get("payload", data)
    for part in data.values():
        if isinstance(part, dict):
            part.pop("drains", None)
    if "metadata" in data and "values" in data:
        data = [data["metadata"]["source"], data["metadata"]["step"], data["next"], data["values"].get("log")]
    elif "input" in data or "result" in data:
        data = [data["name"], "result" in data]
    elif name.startswith("values"):
        data = data.get("log")
    elif name == "metadata":
        data = ""
    return f"{name} {data}"
