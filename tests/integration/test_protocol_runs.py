"""Protocol runs through a real worker: what is in their logs, also when they are handed on, crash, ask, fail or are cancelled."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import Field
from worker_container import MakeContainer, working

from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.events import Event, is_gap
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.protocol_records import slim
from langgraph_serverless.domain.runs import CancelAction, Durability, Run, RunRequest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.execution.runner import HandedOff, RunSignals
from langgraph_serverless.persistence.queue import QueueRepository

PROJECTS = Path(__file__).parent.parent / "fixtures" / "projects"
PROJECT = PROJECTS / "going_on" / "langgraph.json"
DIFFERENTIAL = PROJECTS / "differential" / "langgraph.json"
QUICK = {"heartbeat_interval": 0.1, "lease_duration": PATIENCE, "poll_interval": 0.2, "sweep_interval": 0.2}
UUIDS = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
async def container(worker_on: MakeContainer, journal: Path) -> WorkerContainer:
    return await worker_on(PROJECT, **QUICK)


async def new_thread(container: WorkerContainer) -> uuid.UUID:
    thread_id = new_id()
    async with container.database.connection() as connection:
        await connection.execute("INSERT INTO lgs.thread (thread_id) VALUES (%s)", (thread_id,))
    return thread_id


def asked_for(graph: str, *drains: str, **more: Any) -> RunRequest:
    more = {"input": {"log": [], "drains": drains}, "protocol": True, "stream_subgraphs": True, **more}
    return RunRequest(assistant_id=graph, **more)


async def carried_out(container: WorkerContainer, request: RunRequest, thread_id: uuid.UUID) -> tuple[Run, Any]:
    run = await container.runs.create(ANONYMOUS, request, thread_id=thread_id)
    async with asyncio.timeout(PATIENCE):
        while (result := await container.runs.result(run.run_id)) is None or not result.status.is_final:
            await asyncio.sleep(0.01)
    return run, result


async def entries(container: WorkerContainer, run: Run) -> list[Event]:
    """All that is in a run's log, but its end."""
    found: list[Event] = []
    assert container.event_hub is not None
    async with asyncio.timeout(PATIENCE), aclosing(container.event_hub.read(run.run_id, "0-0")) as batches:
        async for event in (event async for batch in batches for event in batch):
            if event.is_end:
                return found
            found.append(event)
    raise AssertionError("no end marker")


def read(events: Sequence[Event]) -> list[tuple[str, Any]]:
    """The records: name and data, without what is different each time."""
    said = []
    for event in events:
        if event.name in ("metadata", "error") or is_gap(event):
            continue
        method, *namespace = event.name.split("|")
        assert event.data.startswith(b'{"type":"event","method":"%s","params":{' % method.encode())
        record = json.loads(event.data)
        assert set(record) == {"type", "method", "params"}
        params = record["params"]
        assert set(params) - {"node"} == {"namespace", "timestamp", "data"}
        assert params["namespace"] == namespace
        said.append((UUIDS.sub("", event.name), json.loads(UUIDS.sub("", json.dumps(params["data"])))))
    return said


def brief(record: tuple[str, Any]) -> str:
    name, data = record
    if name.startswith("tasks"):
        data = [data["name"], "result" in data]
    elif name.startswith(("values", "updates")):
        data = data.get("log")
    elif name.startswith("checkpoints"):
        data.pop("parent_id", None)  # with durability "exit" only what is saved has a parent
    return f"{name} {data}"


async def handoffs(container: WorkerContainer, run: Run) -> int:
    async with container.database.connection() as connection:
        cursor = await connection.execute("SELECT handoffs FROM lgs.run WHERE run_id = %s", (run.run_id,))
        row = await cursor.fetchone()
    assert row is not None
    return int(row["handoffs"])


async def test_a_hand_off_leaves_no_seam(container: WorkerContainer) -> None:
    """Nothing is sent twice, and nothing is missing: also of subgraphs, and of those that had only just begun."""

    async def records(graph: str, *drains: str, durability: Durability) -> Counter[str]:
        thread_id = await new_thread(container)
        await carried_out(container, asked_for(graph, durability=durability), thread_id)
        run, result = await carried_out(container, asked_for(graph, *drains, durability=durability), thread_id)
        assert result.status == "success"
        assert await handoffs(container, run) == len(drains)
        log = await entries(container, run)
        assert [event.name for event in log].count("metadata") == 1
        return Counter(brief(record) for record in read(log))

    async def case(durability: Durability, graph: str, drains: tuple[str, ...]) -> None:
        plain, seen = [await records(graph, *at, durability=durability) for at in ((), drains)]
        assert any(name.startswith("lifecycle|") for name in plain)
        assert seen == plain, (graph, drains, durability, seen - plain, plain - seen)

    async with working(container):
        cases = [("within", ("s1",)), ("within", ("s2", "m2")), ("fanned", ("n2",)), ("fanned", ("side",))]
        await asyncio.gather(*(case(durability, *which) for durability in Durability for which in cases))


async def told(container: WorkerContainer, run: Run, what: bytes) -> None:
    """Wait until this is in the run's log."""
    assert container.event_hub is not None
    async with asyncio.timeout(PATIENCE), aclosing(container.event_hub.read(run.run_id, "0-0")) as batches:
        async for batch in batches:
            if any(what in event.data for event in batch):
                return


@pytest.mark.parametrize("at", ["s1", "z"])
async def test_after_a_crash_it_is_told_anew_where_the_run_goes_on(container: WorkerContainer, at: str) -> None:
    """Some of it may never have been sent, so nothing is kept back: a second attempt, its state first, and to the end."""
    plain = await container.runs.create(ANONYMOUS, asked_for("within"), thread_id=await new_thread(container))
    async with working(container):
        expected = read(await entries(container, plain))
    # with any other, what was done a moment before is done again
    request = asked_for("within", durability=Durability.SYNC)
    run = await container.runs.create(ANONYMOUS, request, thread_id=await new_thread(container))
    [claimed] = await QueueRepository(container.database).claim(owner="lost", limit=1, lease=PATIENCE)
    lost = asyncio.create_task(container.runner.execute(claimed, RunSignals()))
    await told(container, run, b'"payload":{"at":"%s"}' % at.encode())
    lost.cancel()
    await asyncio.wait([lost])
    async with container.database.connection() as connection:
        await connection.execute("UPDATE lgs.run SET lease_expires_at = now() WHERE run_id = %s", (run.run_id,))
    async with working(container):
        log = await entries(container, run)
    assert [json.loads(event.data)["attempt"] for event in log if event.name == "metadata"] == [1, 2]
    second = [event.name for event in log].index("metadata", 1)
    before, after = read(log[:second]), read(log[second:])
    assert any(map(is_gap, log)), "records may have gone with the worker"
    assert [data["log"] for name, data in after if name == "values"][-1] == [
        data["log"] for name, data in expected if name == "values"
    ][-1]
    assert after[0][0] == "values"
    done = {brief(record) for record in before if record[0].startswith("updates")}
    assert done
    assert not done & {brief(record) for record in after}, "what had been done is not done again"
    ends = [(name, data["event"]) for name, data in after if name.startswith("lifecycle")]
    assert Counter(event for _, event in ends) == ({"started": 2, "completed": 2} if at == "s1" else {})


async def test_a_question_is_asked_once_although_the_run_is_handed_on(container: WorkerContainer) -> None:
    """It waits in one branch while the other is handed on; the one who answers gets the rest."""

    async def case(durability: Durability) -> None:
        thread_id = await new_thread(container)
        run, result = await carried_out(container, asked_for("waiting", "i1", "i2", durability=durability), thread_id)
        assert await handoffs(container, run) == 2
        [interrupt] = result.output["__interrupt__"]
        log = await entries(container, run)
        [asked] = [json.loads(event.data)["params"] for event in log if event.name.startswith("input.requested")]
        assert asked["data"] == {"interrupt_id": interrupt["id"], "payload": "ask 0?"}
        assert [part.partition(":")[0] for part in asked["namespace"]] == ["other"]
        ends = {name: data["event"] for name, data in read(log) if name.startswith("lifecycle")}
        assert ends == {"lifecycle|other:": "interrupted", "lifecycle|sub:": "completed"}
        answer = {"resume": {interrupt["id"]: "fine"}}
        on, result = await carried_out(
            container, asked_for("waiting", input=None, command=answer, durability=durability), thread_id
        )
        assert "ask=fine" in result.output["log"]
        records = read(await entries(container, on))
        assert not [name for name, _ in records if name.startswith("input.requested")]
        assert ("lifecycle|other:", {"event": "completed", "graph_name": "other"}) in records

    async with working(container):
        await asyncio.gather(*(case(durability) for durability in Durability))


class Halting(BaseChatModel):
    """Stops in the midst of its first message for good."""

    halted: list[bool] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "halting"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="so "))
        if not self.halted:
            self.halted.append(True)
            await asyncio.Event().wait()
        yield ChatGenerationChunk(message=AIMessageChunk(content="be it"))


async def test_a_message_that_is_broken_off_by_a_release_ends(worker_on: MakeContainer) -> None:
    model = Halting()

    async def say(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke("?")]}

    graph = StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").compile()
    container = await worker_on(GraphRegistry(read_project(DIFFERENTIAL), {"chat": graph}, None), **QUICK)
    thread_id = await new_thread(container)
    run = await container.runs.create(ANONYMOUS, asked_for("chat", input={"messages": []}), thread_id=thread_id)
    queue = QueueRepository(container.database)
    [claimed] = await queue.claim(owner="left", limit=1, lease=PATIENCE)
    signals = RunSignals()
    execution = asyncio.create_task(container.runner.execute(claimed, signals))
    await told(container, run, b'"text":"so "')
    signals.release()
    with pytest.raises(HandedOff):
        await execution
    await queue.hand_off(claimed.lease)
    async with working(container):
        said = [data for name, data in read(await entries(container, run)) if name == "messages"]
    kinds = [data["event"] for data in said]
    first = kinds.index("error")
    assert kinds[: first + 1] == ["message-start", "content-block-start", "content-block-delta", "error"]
    assert kinds[first + 1] == "message-start"
    assert kinds[-1] == "message-finish"
    assert kinds.count("error") == 1


async def test_a_cancelled_run_leaves_no_subgraph_open(container: WorkerContainer) -> None:
    async with working(container):
        thread_id = await new_thread(container)
        run = await container.runs.create(ANONYMOUS, asked_for("lasting"), thread_id=thread_id)
        await told(container, run, b'"event":"started"')
        await container.runs.cancel(ANONYMOUS, thread_id, [run.run_id], CancelAction.INTERRUPT, "enough")
        log = await entries(container, run)
        result = await container.runs.result(run.run_id)
    assert result is not None
    if result.status == "interrupted":  # it may have come to its end meanwhile
        events = [data["event"] for name, data in read(log) if name.startswith("lifecycle")]
        assert events[-1] in ("interrupted", "completed")
        assert events.count("started") == events.count("interrupted") + events.count("completed")


#: Graphs of the project whose answers are compared with the official server's, and what they are given. Not that whose model gives two
#: messages one id: in a protocol run they have ids of their own, so both are kept.
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
LOG = {"log": ["in"]}
KINDS: dict[str, Any] = {
    "chat_deep": CHAT,
    "chat_static": CHAT,
    "chat_below": CHAT,
    "chat_broken": CHAT,
    "tools": CHAT,
    "kinds": {},
    "model_state": {"name": "x"},
    "typed": {"question": "q"},
    "entry": {"number": 2},
    "customs": LOG,
    "nested": LOG,
    "fan_out": LOG,
    "spreading": LOG,
    "ask_two": LOG,
    "ask_deep": LOG,
    "ask_twice": LOG,
    "ask_sent": LOG,
    "stops_below": LOG,
    "fail_below": LOG,
    "retrying": LOG,
    "jumps": LOG,
    "calling": LOG,
}


async def test_a_run_leaves_what_it_leaves_otherwise(worker_on: MakeContainer) -> None:
    """Status, output, the thread's values and its error: but for the form of what models say."""
    container = await worker_on(DIFFERENTIAL, **QUICK)

    async def left(graph: str, *, protocol: bool) -> Any:
        thread_id = await new_thread(container)
        run, result = await carried_out(container, asked_for(graph, input=KINDS[graph], protocol=protocol), thread_id)
        async with container.database.connection() as connection:
            query = "SELECT status, channel_values, interrupts, error FROM lgs.thread WHERE thread_id = %s"
            thread = await (await connection.execute(query, (thread_id,))).fetchone()
        assert thread is not None
        if protocol and result.status == "success":
            states = [data for name, data in read(await entries(container, run)) if name == "values"]
            output = {key: value for key, value in result.output.items() if key != "__interrupt__"}
            shown = {key: states[-1][key] for key in output}
            assert shown == json.loads(UUIDS.sub("", json.dumps(slim(output)))), "the last state has the output"
        asked = sorted(json.dumps(entry["value"]) for task in thread["interrupts"].values() for entry in task)
        return plainly([result.status, result.output, {**thread, "interrupts": asked}])

    async with working(container):
        plain, seen = [
            await asyncio.gather(*(left(graph, protocol=protocol) for graph in KINDS)) for protocol in (False, True)
        ]
    assert dict(zip(KINDS, seen, strict=True)) == dict(zip(KINDS, plain, strict=True))


def plainly(value: Any) -> Any:
    """Without ids that are drawn anew, and messages by what they say."""
    if isinstance(value, list):
        return [plainly(item) for item in value]
    if not isinstance(value, dict):
        return UUIDS.sub("", value) if isinstance(value, str) else value
    if "content" in value and "type" in value:
        content = value["content"]
        blocks = content if isinstance(content, list) else [content]
        texts = [block.get("text", "") if isinstance(block, dict) else block for block in blocks]
        calls = [(call["name"], call["args"]) for call in value.get("tool_calls") or ()]
        return {"type": value["type"], "text": "".join(texts), "calls": calls}
    return {UUIDS.sub("", key): plainly(item) for key, item in value.items()}
