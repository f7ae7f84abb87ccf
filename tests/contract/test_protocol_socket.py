"""The thread protocol over a WebSocket, against the real ``dev`` command: what comes in which order, what is refused, how it ends."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from dev_server import DevServer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from workload import assert_invariants

from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.timeout(180)

PATIENCE = 60.0
LIMIT = Settings(database_uri="postgresql://nowhere").max_body_bytes
NO_COMMAND = "Protocol commands must include an integer id and string method."


class Socket:
    """A client that keeps what comes and is not what it waits for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self._number = 0

    async def send(self, method: str, params: Any = None) -> int:
        self._number += 1
        await self.connection.send(json.dumps({"id": self._number, "method": method, "params": params or {}}))
        return self._number

    async def next(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), PATIENCE))
        self.frames.append(frame)
        return frame

    async def until(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not good(frame := await self.next()):
            pass
        return frame

    async def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        number = await self.send(method, params)
        return await self.until(lambda frame: frame.get("id") == number)

    async def result(self, method: str, params: Any = None) -> dict[str, Any]:
        answer = await self.ask(method, params)
        assert answer["type"] == "success", answer
        found: dict[str, Any] = answer["result"]
        return found

    async def refusal(self, method: str, params: Any = None) -> tuple[str, str]:
        answer = await self.ask(method, params)
        assert answer["type"] == "error", answer
        return answer["error"], answer["message"]

    async def over(self) -> dict[str, Any]:
        """The last event of a run, of a socket that has the channel ``lifecycle``."""
        return await self.until(
            lambda frame: (
                frame.get("method") == "lifecycle"
                and not frame["params"]["namespace"]
                and frame["params"]["data"]["event"] != "running"
            )
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == "event"]


Open = Callable[..., AbstractAsyncContextManager[Socket]]


@pytest.fixture
def opened(sample_server: DevServer) -> Open:
    return lambda thread_id=None, **options: open_socket(sample_server, thread_id, **options)


@asynccontextmanager
async def open_socket(server: DevServer, thread_id: str | None = None, **options: Any) -> AsyncIterator[Socket]:
    path = f"/threads/{thread_id or uuid.uuid4()}/stream/events"
    async with connect(f"ws://127.0.0.1:{server.port}{path}", max_size=None, **options) as connection:
        yield Socket(connection)


async def test_what_is_no_command(opened: Open) -> None:
    frames: list[tuple[str | bytes, Any, str]] = [
        ("{", None, "Protocol commands must be valid JSON."),
        (b"\xff\xfe", None, "Protocol commands must be valid JSON."),
        ("[]", None, NO_COMMAND),
        ("null", None, NO_COMMAND),
        ('{"id":1}', 1, NO_COMMAND),
        ('{"id":"x","method":"a"}', "x", NO_COMMAND),
        ("[" * 300 + "]" * 300, None, "Invalid JSON in request body: nested deeper than 200 levels"),
    ]
    async with opened() as socket:
        for frame, echoed, message in frames:
            await socket.connection.send(frame)
            answer = {"type": "error", "id": echoed, "error": "invalid_argument", "message": message}
            assert await socket.next() == answer
        await socket.connection.send(b'{"id":3,"method":"nope"}')
        assert (await socket.next())["error"] == "unknown_command"


async def test_refusals(opened: Open) -> None:
    async with opened() as socket:
        for method in ("subscription.subscribe", "subscription.reconnect"):
            no_channels = f"{method} requires a non-empty channels array."
            assert await socket.refusal(method, {"channels": []}) == ("invalid_argument", no_channels)
            unsupported = f"{method} received an unsupported channel."
            assert await socket.refusal(method, {"channels": ["bad"]}) == ("invalid_argument", unsupported)
        no_since = ("invalid_argument", "subscription.reconnect requires a non-negative integer since.")
        assert await socket.refusal("subscription.reconnect", {"channels": ["values"]}) == no_since
        for named in ("x", str(uuid.uuid4())):
            unknown = ("no_such_subscription", f"Unknown subscription: {named}")
            assert await socket.refusal("subscription.unsubscribe", {"subscription_id": named}) == unknown
        no_run = ("no_such_run", "No active run is bound to this thread.")
        assert await socket.refusal("agent.getTree") == no_run
        for _ in range(100):
            await socket.send("subscription.subscribe", {"channels": ["tools"]})
        error, message = await socket.refusal("subscription.subscribe", {"channels": ["tools"]})
        assert (error, "at most 100" in message) == ("invalid_argument", True)


async def test_a_run_its_question_and_its_tree(opened: Open) -> None:
    async with opened() as socket:
        subscribed = await socket.ask("subscription.subscribe", {"channels": ["lifecycle", "input", "values"]})
        assert subscribed["result"]["replayed_events"] == 0
        assert subscribed["meta"] == {"applied_through_seq": 0}
        await socket.send("run.start", {"assistant_id": "ask_below", "input": {}})
        answer = await socket.next()
        assert (answer["type"], answer["meta"]) == ("success", {"applied_through_seq": 0})
        last = await socket.over()
        assert last["params"]["data"]["event"] == "interrupted"
        (asked,) = [event for event in socket.events if event["method"] == "input.requested"]
        assert asked["params"]["data"]["payload"] == {"question": "below"}
        tree = (await socket.result("agent.getTree"))["tree"]
        assert (tree["namespace"], tree["status"], tree["graph_name"]) == ([], "interrupted", "ask_below")
        assert [(child["graph_name"], child["status"]) for child in tree["children"]] == [("child", "interrupted")]

        number = await socket.send(
            "input.respond",
            {
                "namespace": asked["params"]["namespace"],
                "interrupt_id": asked["params"]["data"]["interrupt_id"],
                "response": 7,
            },
        )
        answer = await socket.next()
        assert (answer["id"], answer["result"]) == (number, {}), "before any event of its run"
        assert answer["meta"]["applied_through_seq"] == last["seq"]
        assert (await socket.over())["params"]["data"]["event"] == "completed"
        assert (await socket.result("agent.getTree"))["tree"]["status"] == "completed"
        assert socket.events[-2]["params"]["data"]["log"] == ["before", "before", "below: 7"]
        numbers = [event["seq"] for event in socket.events]
        assert numbers == sorted(set(numbers))
        values = (await socket.result("state.get", {"namespace": []}))["values"]
        assert values["log"] == ["before", "before", "below: 7"]


async def test_subscriptions_add_up_and_end(opened: Open) -> None:
    thread_id = str(uuid.uuid4())
    async with opened(thread_id) as socket:
        one = await socket.result("subscription.subscribe", {"channels": ["lifecycle"]})
        await socket.result("run.start", {"assistant_id": "counting", "input": {"count": 2}})
        await socket.over()
        assert {event["method"] for event in socket.events} == {"lifecycle"}

        before = len(socket.events)
        two = await socket.result("subscription.subscribe", {"channels": ["custom", "lifecycle"]})
        assert two["replayed_events"] > 0
        # what it has not been sent yet, before the answer
        assert [event["method"] for event in socket.events[before:]] == ["custom", "custom"]
        assert socket.frames[-1]["result"] == two

        assert await socket.result("subscription.unsubscribe", {"subscription_id": one["subscription_id"]}) == {}
        assert await socket.result("subscription.unsubscribe", {"subscription_id": two["subscription_id"]}) == {}
        before = len(socket.events)
        await socket.result("run.start", {"assistant_id": "counting", "input": {"count": 1}})
        three = await socket.result("subscription.reconnect", {"channels": ["tasks"], "since": 2**53})
        assert three["replayed_events"] == 0
        assert len(socket.events) == before


async def test_another_socket_goes_on_after_an_event(opened: Open) -> None:
    thread_id, channels = str(uuid.uuid4()), ["values", "updates", "custom", "lifecycle", "tasks", "checkpoints"]
    async with opened(thread_id) as socket:
        await socket.result("subscription.subscribe", {"channels": channels})
        await socket.result("run.start", {"assistant_id": "counting", "input": {"count": 5}})
        await socket.over()
        events = socket.events
    for cut in range(0, len(events), 3):
        async with opened(thread_id) as socket:
            answer = await socket.ask("subscription.subscribe", {"channels": channels, "since": events[cut]["seq"]})
            assert socket.events == events[cut + 1 :]
            assert answer["result"]["replayed_events"] == len(socket.events)


async def test_who_does_not_read_holds_nobody_up(opened: Open, sample_server: DevServer) -> None:
    """Megabytes for a client that takes nothing for a while: the run ends, others read on, and nothing is missing afterwards."""
    thread_id, large = str(uuid.uuid4()), "x" * 1_000_000
    channels = {"channels": ["values", "lifecycle"]}
    async with opened(thread_id, max_queue=1) as slow, opened(thread_id) as quick:
        await slow.result("subscription.subscribe", channels)
        await quick.result("subscription.subscribe", channels)
        for _ in range(3):
            await quick.result("run.start", {"assistant_id": "line", "input": {"kind": large}})
            await quick.over()
        async with httpx.AsyncClient(base_url=sample_server.url, timeout=PATIENCE) as http:
            assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"
        for _ in range(3):
            await slow.over()
        assert slow.events == quick.events
        assert sum(event["method"] == "values" for event in slow.events) >= 12


async def test_how_it_is_closed(opened: Open, sample_server: DevServer) -> None:
    async with opened("no-uuid") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4422
    async with opened() as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.ask("x" * (LIMIT + 1))
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{sample_server.port}/threads/{uuid.uuid4()}/commands"):
            pass
    assert refused.value.response.status_code in (403, 404)
    async with httpx.AsyncClient(base_url=sample_server.url) as http:
        assert (await http.get(f"/threads/{uuid.uuid4()}/stream/events")).status_code == 405


@pytest.mark.slow
async def test_clients_come_back_after_the_server(dev_servers: Any, sample_server: DevServer) -> None:
    """The server leaves in the midst of a run and says so; whoever comes back to it with its last number misses nothing."""
    server: DevServer = dev_servers(sample_server.config)
    thread_id, channels = str(uuid.uuid4()), ["values", "lifecycle"]
    async with open_socket(server, thread_id) as socket:
        await socket.result("subscription.subscribe", {"channels": channels})
        await socket.result("run.start", {"assistant_id": "pause", "input": {"seconds": 1.5}})
        await socket.until(lambda frame: frame.get("method") == "values" and "before" in frame["params"]["data"]["log"])
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.until(lambda _: False)
        seen = socket.events
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    await stopping
    await asyncio.to_thread(server.start)
    async with open_socket(server, thread_id) as socket:
        await socket.send("subscription.subscribe", {"channels": channels, "since": seen[-1]["seq"]})
        assert (await socket.over())["params"]["data"]["event"] == "completed"
        numbers = [event["seq"] for event in (*seen, *socket.events)]
        assert numbers == sorted(set(numbers))
        values = [event["params"]["data"] for event in socket.events if event["method"] == "values"]
        assert values[-1]["log"] == ["before", "waited"]


async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    # no traceback at all would be too much to ask: other tests' runs fail at this server too
    for trouble in ("A socket failed", "never retrieved", "Unexpected error"):
        assert trouble not in sample_server.output
