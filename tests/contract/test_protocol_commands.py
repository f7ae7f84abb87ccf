"""``POST /threads/{id}/commands`` as clients see it: envelopes, runs, answers to questions, states, and what is refused.

Answers are the official server's, word for word, where it has any; ``CASES`` were recorded from it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from dev_server import DevServer
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

PATIENCE = 60.0
NO_COMMAND = "Protocol commands must include an integer id and string method."
ENVELOPES: dict[str, Any] = {
    "[]": None,
    "1": None,
    "null": None,
    '"x"': None,
    '{"id":1}': 1,
    '{"method":"x"}': None,
    '{"id":"x","method":"run.start"}': "x",
    '{"id":1.5,"method":"nope"}': 1.5,
    '{"id":true,"method":"nope"}': True,
    '{"id":null,"method":"nope"}': None,
    '{"id":[1],"method":"nope"}': [1],
    '{"id":1,"method":5}': 1,
}
NO_ASSISTANT = ("invalid_argument", "run.start requires an assistant_id.")
NO_ACTIVE_RUN = ("no_such_run", "No active run is bound to this thread.")
NO_ID = ("invalid_argument", "input.respond requires an interrupt_id.")
NOBODY_ASKS = ("no_such_run", "No interrupted run is bound to this thread.")
NO_CHANNELS = ("invalid_argument", "subscription.subscribe requires a non-empty channels array.")
CASES: list[tuple[str, Any, tuple[str, str]]] = [
    ("nope.x", {}, ("unknown_command", "Unknown protocol command: nope.x")),
    ("", [], ("unknown_command", "Unknown protocol command: ")),
    ("run.start", None, NO_ASSISTANT),
    ("run.start", [], NO_ASSISTANT),
    ("run.start", "x", NO_ASSISTANT),
    ("run.start", {"assistant_id": 5}, NO_ASSISTANT),
    ("run.start", {"assistant_id": ""}, NO_ASSISTANT),
    (
        "run.start",
        {"assistant_id": "line", "langsmith_tracer": 5},
        ("invalid_argument", "langsmith_tracer must be an object."),
    ),
    (
        "run.start",
        {"assistant_id": "line", "langsmith_tracer": {"project_name": 5}},
        ("invalid_argument", "langsmith_tracer.project_name must be a string."),
    ),
    (
        "run.start",
        {"assistant_id": "line", "config": {"configurable": {"checkpoint_id": "nope"}}},
        ("invalid_argument", "Invalid config.configurable.checkpoint_id: 'nope'."),
    ),
    (
        "run.start",
        {"assistant_id": str(uuid.UUID(int=7))},
        ("unknown_error", "404: Thread or assistant not found."),
    ),
    ("input.respond", None, NO_ID),
    ("input.respond", {"response": 1}, NO_ID),
    ("input.respond", {"interrupt_id": 5, "response": 1}, NO_ID),
    ("input.respond", {"responses": 5}, NO_ID),
    ("input.respond", {"responses": []}, ("invalid_argument", "input.respond requires at least one response.")),
    (
        "input.respond",
        {"responses": [5]},
        ("invalid_argument", "input.respond responses entries must be objects."),
    ),
    (
        "input.respond",
        {"responses": [{}]},
        ("invalid_argument", "input.respond responses entries require an interrupt_id."),
    ),
    (
        "input.respond",
        {"interrupt_id": "bad", "namespace": 5},
        ("invalid_argument", "input.respond requires namespace to be a list of strings."),
    ),
    ("input.respond", {"interrupt_id": "bad", "response": 1}, NOBODY_ASKS),
    ("agent.getTree", {}, NO_ACTIVE_RUN),
    ("subscription.reconnect", {"channels": ["values"], "since": 0}, NO_ACTIVE_RUN),
    ("subscription.subscribe", {}, NO_CHANNELS),
    (
        "subscription.subscribe",
        {"channels": ["bad"]},
        ("invalid_argument", "subscription.subscribe received an unsupported channel."),
    ),
    (
        "subscription.unsubscribe",
        {},
        ("invalid_argument", "subscription.unsubscribe requires a subscription_id."),
    ),
    ("subscription.unsubscribe", {"subscription_id": "x"}, ("no_such_subscription", "Unknown subscription: x")),
]


class Commands:
    """Sends commands to one server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, thread_id: str, method: str, params: Any = None, **headers: str) -> dict[str, Any]:
        command = {"id": 7, "method": method} | ({} if params is None else {"params": params})
        response = await self.http.post(f"/threads/{thread_id}/commands", json=command, headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert answer["id"] == 7
        return answer

    async def result(self, thread_id: str, method: str, params: Any = None, **headers: str) -> dict[str, Any]:
        answer = await self.send(thread_id, method, params, **headers)
        assert answer["type"] == "success", answer
        assert answer["meta"] == {"applied_through_seq": 0}
        found: dict[str, Any] = answer["result"]
        return found

    async def refusal(self, thread_id: str, method: str, params: Any = None, **headers: str) -> tuple[str, str]:
        answer = await self.send(thread_id, method, params, **headers)
        assert answer["type"] == "error", answer
        return answer["error"], answer["message"]

    async def settled(self, thread_id: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                thread: dict[str, Any] = (await self.http.get(f"/threads/{thread_id}")).json()
                if thread.get("status") not in (None, "busy"):
                    return thread
                await asyncio.sleep(0.02)

    async def asking(self, graph: str, **params: Any) -> tuple[str, dict[str, str]]:
        """A thread on which a run of this graph has stopped to ask, and the ids of its questions."""
        thread_id = str(uuid.uuid4())
        await self.result(thread_id, "run.start", {"assistant_id": graph, "input": {}, **params})
        interrupts = (await self.settled(thread_id))["interrupts"]
        asked = [interrupt for task in interrupts.values() for interrupt in task]
        return thread_id, {_question(interrupt["value"]): interrupt["id"] for interrupt in asked}

    async def runs(self, thread_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get(f"/threads/{thread_id}/runs")).json()
        return found


def _question(value: Any) -> str:
    return str(value["question"] if isinstance(value, dict) else value)


@pytest.fixture
async def commands(sample_server: DevServer) -> AsyncIterator[Commands]:
    async with httpx.AsyncClient(base_url=sample_server.url, timeout=PATIENCE) as http:
        yield Commands(http)


async def test_what_is_no_command(commands: Commands) -> None:
    path = f"/threads/{uuid.uuid4()}/commands"
    for body, echoed in ENVELOPES.items():
        response = await commands.http.post(path, content=body)
        answer = {"type": "error", "id": echoed, "error": "invalid_argument", "message": NO_COMMAND}
        assert (response.status_code, response.json()) == (400, answer), body
    for body in ("", "{", "{}{}", "\udcff"):
        response = await commands.http.post(path, content=body.encode("utf-8", "surrogatepass"))
        assert (response.status_code, response.json()) == (400, {"detail": "Invalid JSON body"}), body
    assert (await commands.http.get(path)).status_code == 405


async def test_refusals(commands: Commands) -> None:
    for method, params, refusal in CASES:
        assert await commands.refusal(str(uuid.uuid4()), method, params) == refusal, (method, params)
    started = await commands.refusal("no-uuid", "run.start", {"assistant_id": "line"})
    assert started == ("unknown_error", "422: Invalid thread ID")
    assert await commands.refusal("no-uuid", "input.respond", {"interrupt_id": "x"}) == NOBODY_ASKS
    error, message = await commands.refusal(str(uuid.uuid4()), "x" * 100_000, {})
    assert error == "unknown_command"
    assert len(message) < 300


@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("run.start", {"assistant_id": "line", "config": 5}, "config"),
        ("run.start", {"assistant_id": "line", "config": {"recursion_limit": "x"}}, "recursion_limit"),
        ("run.start", {"assistant_id": "line", "metadata": []}, "metadata"),
        ("run.start", {"assistant_id": "li\0ne"}, "assistant_id"),
        ("input.respond", {"interrupt_id": "x", "update": 5}, "update"),
        ("input.respond", {"interrupt_id": "x", "goto": {"x": 1}}, "goto"),
        ("state.get", {"namespace": "x"}, "namespace"),
        ("state.get", {"keys": [5]}, "keys"),
        ("state.listCheckpoints", {"limit": 0}, "limit"),
        ("state.listCheckpoints", {"limit": 10**30}, "limit"),
        ("state.fork", {"checkpoint_id": "x"}, "checkpoint_id"),
    ],
)
async def test_a_wrong_field_is_named(commands: Commands, method: str, params: Any, field: str) -> None:
    error, message = await commands.refusal(str(uuid.uuid4()), method, params)
    assert error == "invalid_argument"
    assert field in message


async def test_a_run_is_started_as_the_protocol_says(commands: Commands) -> None:
    thread_id = str(uuid.uuid4())
    given = {"tags": ["x"], "metadata": {"cm": 1}, "configurable": {"foo": 1, "__event_streaming_v2": False}}
    params = {"assistant_id": "line", "input": {"kind": "x"}, "metadata": {"m": 1}, "config": given}
    ignored = {"multitask_strategy": "reject", "stream_mode": "values", "after_seconds": 60, "if_not_exists": "reject"}
    started = await commands.result(
        thread_id, "run.start", params | ignored | {"langsmith_tracer": {"project_name": "p"}}
    )
    thread = await commands.settled(thread_id)
    assert thread["values"] == {"log": ["a", "b", "c"], "kind": "x"}
    (run,) = await commands.runs(thread_id)
    assert run["run_id"] == started["run_id"]
    assert {**run["metadata"], "cm": 1, "m": 1} == run["metadata"]
    kwargs = run["kwargs"]
    assert run["multitask_strategy"] == "enqueue"
    assert (kwargs["resumable"], kwargs["subgraphs"]) == (True, True)
    modes = ["values", "updates", "messages", "tools", "lifecycle", "custom", "tasks", "checkpoints"]
    assert kwargs["stream_mode"] == modes
    assert kwargs["config"]["configurable"]["__event_streaming_v2"] is True
    assert kwargs["config"]["configurable"]["foo"] == 1


async def test_runs_wait_for_each_other(commands: Commands) -> None:
    thread_id = str(uuid.uuid4())
    await commands.result(thread_id, "run.start", {"assistant_id": "pause", "input": {"seconds": 0.3}})
    await commands.result(thread_id, "run.start", {"assistant_id": "line", "input": {}})
    assert (await commands.settled(thread_id))["values"]["log"] == ["before", "waited", "a", "b", "c"]


async def test_a_key_makes_one_run(commands: Commands) -> None:
    thread_id, key = str(uuid.uuid4()), str(uuid.uuid4())
    params = {"assistant_id": "ask", "input": {}}
    headers = {"Idempotency-Key": key}
    first = await commands.result(thread_id, "run.start", params, **headers)
    assert await commands.result(thread_id, "run.start", params, **headers) == first
    (asked,) = (await commands.settled(thread_id))["interrupts"].values()
    answer = {"interrupt_id": asked[0]["id"], "response": "once"}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    assert await commands.result(thread_id, "input.respond", answer, **headers) == {}
    await commands.settled(thread_id)
    # without the key it would be too late for this answer
    assert await commands.result(thread_id, "input.respond", answer, **headers) == {}
    assert len(await commands.runs(thread_id)) == 2


async def test_an_answer_with_everything(commands: Commands) -> None:
    thread_id, asked = await commands.asking("ask", metadata={"first": 1})
    sent = {
        "namespace": ["wherever"],
        "interrupt_id": asked["ask"],
        "response": "yes",
        "update": {"log": ["update"]},
        "goto": [{"node": "after", "input": {"log": []}}, "before"],
        "config": {"configurable": {"bar": 2}},
        "metadata": {"second": 2},
    }
    assert await commands.result(thread_id, "input.respond", sent) == {}
    thread = await commands.settled(thread_id)
    assert sorted(set(thread["values"]["log"])) == ["after", "ask: yes", "before", "update"] or thread["interrupts"]
    run, first = await commands.runs(thread_id)
    assert run["assistant_id"] == first["assistant_id"]
    assert run["metadata"]["first"] == 1
    assert run["metadata"]["second"] == 2
    assert run["kwargs"]["command"] == {
        "resume": {asked["ask"]: "yes"},
        "update": sent["update"],
        "goto": sent["goto"],
    }
    assert run["kwargs"]["config"]["configurable"]["bar"] == 2


async def test_one_of_many_answers_wins(commands: Commands, sample_server: DevServer) -> None:
    thread_id, asked = await commands.asking("ask")
    sent = [{"interrupt_id": asked["ask"], "response": f"answer {number}"} for number in range(8)]
    async with (
        await psycopg.AsyncConnection.connect(sample_server.database_uri, autocommit=True) as connection,
        connection.transaction(),
    ):
        # held, so that several are under way at once
        await connection.execute("SELECT 1 FROM lgs.thread WHERE thread_id = %s FOR UPDATE", (thread_id,))
        answering = asyncio.gather(*(commands.send(thread_id, "input.respond", params) for params in sent))
        async with asyncio.timeout(PATIENCE):
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'lgs.thread'"
            while (row := await (await connection.execute(waiting)).fetchone()) is None or row[0] < 2:
                await asyncio.sleep(0.02)
    answers = await answering
    won = [number for number, answer in enumerate(answers) if answer["type"] == "success"]
    assert len(won) == 1
    assert {answer["error"] for answer in answers if answer["type"] == "error"} == {"no_such_interrupt"}
    assert (await commands.settled(thread_id))["values"]["log"] == ["before", f"ask: answer {won[0]}", "after"]


async def test_questions_are_answered_one_by_one_or_together(commands: Commands) -> None:
    thread_id, asked = await commands.asking("ask_two")
    # the second does not wait for the run of the first
    await commands.result(thread_id, "input.respond", {"interrupt_id": asked["left"], "response": 1})
    await commands.result(thread_id, "input.respond", {"interrupt_id": asked["right"], "response": 2})
    assert (await commands.settled(thread_id))["values"]["log"] == ["left: 1", "right: 2", "after"]
    thread_id, asked = await commands.asking("ask_two")
    both = [{"interrupt_id": asked[name], "response": name.upper(), "namespace": []} for name in ("left", "right")]
    wrong = [*both, {"interrupt_id": "0" * 32, "response": 3}]
    error, _ = await commands.refusal(thread_id, "input.respond", {"responses": wrong})
    assert error == "no_such_interrupt"
    await commands.result(thread_id, "input.respond", {"responses": both})
    assert (await commands.settled(thread_id))["values"]["log"] == ["left: LEFT", "right: RIGHT", "after"]


async def test_a_node_asks_twice(commands: Commands) -> None:
    thread_id, asked = await commands.asking("ask_twice")
    first = {"interrupt_id": asked["first?"], "response": "one"}
    await commands.result(thread_id, "input.respond", first)
    (again,) = (await commands.settled(thread_id))["interrupts"].values()
    assert again[0]["value"] == "second?"
    assert (await commands.refusal(thread_id, "input.respond", first))[0] == "no_such_interrupt"
    await commands.result(thread_id, "input.respond", {"interrupt_id": again[0]["id"], "response": "two"})
    assert (await commands.settled(thread_id))["values"]["log"] == ["one two"]


async def test_nobody_answers_for_another_thread(commands: Commands) -> None:
    thread_id, asked = await commands.asking("ask")
    other, _ = await commands.asking("ask_two")
    answer = {"interrupt_id": asked["ask"], "response": "stolen"}
    error, message = await commands.refusal(other, "input.respond", answer)
    assert (error, message) == ("no_such_interrupt", f"Unknown or already-consumed interrupt: {asked['ask']}")
    assert await commands.refusal(str(uuid.uuid4()), "input.respond", answer) == NOBODY_ASKS
    await commands.result(thread_id, "input.respond", answer | {"response": "mine"})
    assert (await commands.settled(thread_id))["values"]["log"] == ["before", "ask: mine", "after"]


async def test_input_for_a_thread_that_asks_is_the_answer(commands: Commands) -> None:
    thread_id, asked = await commands.asking("ask")
    await commands.result(thread_id, "run.start", {"assistant_id": "ask", "input": "by the way"})
    assert (await commands.settled(thread_id))["values"]["log"] == ["before", "ask: by the way", "after"]
    late = await commands.refusal(thread_id, "input.respond", {"interrupt_id": asked["ask"], "response": "late"})
    assert late[0] == "no_such_interrupt"
    # a breakpoint asks nothing
    made = (await commands.http.post("/threads", json={})).json()["thread_id"]
    stopped = {"assistant_id": "line", "input": {}, "interrupt_before": ["b"]}
    await commands.http.post(f"/threads/{made}/runs/wait", json=stopped)
    await commands.result(made, "run.start", {"assistant_id": "line", "input": {"kind": "new"}})
    assert (await commands.settled(made))["values"]["log"] == ["a", "a", "b", "c"]


async def test_states_and_checkpoints(commands: Commands) -> None:
    thread_id = str(uuid.uuid4())
    error, message = await commands.refusal(thread_id, "state.get", {"namespace": []})
    assert (error, message) == ("unknown_error", f"404: Thread with ID {thread_id} not found")
    await commands.result(thread_id, "run.start", {"assistant_id": "line", "input": {"kind": "x"}})
    await commands.settled(thread_id)
    state = (await commands.http.get(f"/threads/{thread_id}/state")).json()
    found = await commands.result(thread_id, "state.get", {"namespace": []})
    assert found == {"values": state["values"], "checkpoint": {"id": state["checkpoint_id"], "ns": ""}}
    assert (await commands.result(thread_id, "state.get", {"keys": ["kind", "none"]}))["values"] == {"kind": "x"}
    error, _ = await commands.refusal(thread_id, "state.get", {"namespace": ["nowhere"]})
    assert error == "no_such_namespace"

    listed = (await commands.result(thread_id, "state.listCheckpoints"))["checkpoints"]
    assert [checkpoint["step"] for checkpoint in listed] == [3, 2, 1, 0, -1]
    assert listed[0]["id"] == state["checkpoint_id"]
    assert listed[0]["timestamp"] == state["created_at"]
    page = await commands.result(thread_id, "state.listCheckpoints", {"limit": 1, "before": listed[1]["id"]})
    assert [checkpoint["id"] for checkpoint in page["checkpoints"]] == [listed[2]["id"]]

    forked = await commands.result(thread_id, "state.fork", {"checkpoint_id": listed[2]["id"]})
    assert forked["thread_id"] == thread_id
    assert (await commands.settled(thread_id))["values"]["log"] == ["a", "b", "c"]
    assert (await commands.result(thread_id, "state.listCheckpoints", {"limit": 1}))["checkpoints"][0]["id"] != listed[
        0
    ]["id"]
    missing = str(uuid.uuid4())
    refusal = await commands.refusal(thread_id, "state.fork", {"checkpoint_id": missing})
    assert refusal == ("no_such_checkpoint", f"Unknown checkpoint: {missing}")
    elsewhere, _ = await commands.asking("ask")
    error, _ = await commands.refusal(elsewhere, "state.fork", {"checkpoint_id": listed[2]["id"]})
    assert error == "no_such_checkpoint"
    error, message = await commands.refusal(thread_id, "input.inject", {"namespace": [], "message": {}})
    assert error == "not_supported"


async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    for trouble in ("could not be executed", "never retrieved", "Unexpected error"):
        assert trouble not in sample_server.output
