"""R18 for the streams of runs: cut at every event, in every mode, with subgraphs, while the run goes on and afterwards.

Whoever comes back with the id of the last event gets each of the others exactly once, and the stream ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from cluster import Cluster
from cut_streams import Part, Received, missing_and_repeated, read_part, read_resuming
from dev_server import PATIENCE, DevServer
from figures import Figures, sizes
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from tcp_proxy import TcpProxy
from workload import RECONNECTING, assert_invariants

pytestmark = [pytest.mark.timeout(120), *(pytest.mark.filterwarnings(warning) for warning in RECONNECTING)]

#: How many laps of the graph give about 200 events in each mode.
LAPS = {
    "values": 42,
    "updates": 51,
    "messages": 36,
    "messages-tuple": 52,
    "custom": 68,
    "tasks": 27,
    "checkpoints": 26,
    "debug": 14,
    "events": 9,
}
#: And of several modes at once.
TOGETHER = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints", "debug"]


@dataclass
class Run:
    """A resumable run of about 200 events, begun by a client that was cut off after the first of them."""

    server: DevServer
    modes: list[str]
    laps: int
    thread_id: str
    run_id: str
    first: Received

    @property
    def path(self) -> str:
        return f"/threads/{self.thread_id}/runs/{self.run_id}/stream"

    async def part(self, last: str, most: int | None = None, query: str = "") -> Part:
        return await read_part(self.server.url, f"{self.path}{query}", most=most, headers={"Last-Event-ID": last})


def request(modes: list[str], laps: int, seconds: float) -> dict[str, Any]:
    return {
        "assistant_id": "laps",
        "input": {"messages": [], "lap": 0, "laps": laps, "seconds": seconds},
        "stream_mode": modes,
        "stream_subgraphs": True,
        "stream_resumable": True,
        "config": {"recursion_limit": 1000},
        "durability": "exit",
    }


async def begin(server: DevServer, modes: list[str], laps: int, seconds: float = 0.01) -> Run:
    async with server.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
    body = json.dumps(request(modes, laps, seconds)).encode()
    path = f"/threads/{thread_id}/runs/stream"
    (first,) = (await read_part(server.url, path, method="POST", body=body, most=1)).events
    assert first.event == "metadata"
    return Run(server, modes, laps, thread_id, json.loads(first.data)["run_id"], first)


async def has_ended_well(client: LangGraphClient, run: Run, whole: list[Received]) -> None:
    """The stream is the whole of a run that has succeeded."""
    assert (await client.runs.get(run.thread_id, run.run_id))["status"] == "success"
    state = await client.threads.get_state(run.thread_id)
    assert state["values"]["lap"] == run.laps
    assert [event.event for event in whole].count("metadata") == 1
    assert {event.event.partition("|")[0].partition("/")[0] for event in whole} == {
        "metadata",
        *(mode.removesuffix("-tuple") for mode in run.modes),
    }
    assert run.modes == ["events"] or any("|round:" in event.event for event in whole) or run.modes == ["messages"]
    if "values" in run.modes:
        last = [event for event in whole if event.event == "values"][-1]
        assert json.loads(last.data) == state["values"]
    ids = [tuple(map(int, event.id.split("-"))) for event in whole]
    assert ids == sorted(set(ids))


@sizes(timeout=900, samples=(4, 10_000))
async def test_cut_at_every_event(sample_server: DevServer, size: Any, figures: Figures, seed: int) -> None:
    """One client reads one event per connection while the run goes on; others are cut anywhere when it is over."""
    chance = random.Random(seed)
    counted = {"events": 0, "cuts": 0, "gaps": 0, "repeats": 0}

    async def follow(modes: list[str], laps: int) -> None:
        run = await begin(sample_server, modes, laps)
        live = await read_resuming(sample_server.url, run.path, begin=run.first.id)
        received = [run.first, *live.events]
        whole = (await run.part("-1")).events
        gaps, repeats = missing_and_repeated(received, whole)
        cuts = 1 + live.cuts
        places = chance.sample(range(len(whole)), min(size.samples, len(whole)))
        for place in places:
            before, after = await run.part("0", most=place), None
            after = await run.part(before.events[-1].id if place else "0-0")
            more, again = missing_and_repeated(before.events + after.events, whole)
            assert after.ended
            assert before.events + after.events == whole
            gaps, repeats, cuts = gaps + more, repeats + again, cuts + 1
        counted["events"] += len(whole)
        counted["cuts"] += cuts
        counted["gaps"] += gaps
        counted["repeats"] += repeats
        assert (gaps, repeats) == (0, 0), modes
        assert received == whole, modes
        assert len(whole) >= 200, modes
        await has_ended_well(client, run, whole)
        print(modes, len(whole), cuts)

    async with sample_server.client() as client:
        kinds = [*(([mode], laps) for mode, laps in LAPS.items()), (TOGETHER, 5)]
        async with asyncio.TaskGroup() as group:
            for modes, laps in kinds:
                group.create_task(follow(modes, laps))
    figures("R18 v1", modes=f"{len(LAPS)}+{len(TOGETHER)} together", **counted, seed=seed)


async def ended(client: LangGraphClient, run: Run) -> dict[str, Any]:
    """The values of the run's thread, once it is over."""
    async with asyncio.timeout(PATIENCE):
        values = await client.runs.join(run.thread_id, run.run_id)
    assert isinstance(values, dict)
    return values


async def test_every_word_for_the_beginning_and_positions_at_the_end(sample_server: DevServer) -> None:
    run = await begin(sample_server, ["updates", "custom"], 2)
    whole = (await run.part("-1")).events
    assert [event.event.partition("|")[0] for event in whole].count("updates") == 8
    for word in ("0", "0-0", "-1"):
        again = await run.part(word)
        assert (again.events, again.ended) == (whole, True)
    assert await run.part(whole[-1].id) == Part([], ended=True)
    only = await run.part(whole[3].id, query="?stream_mode=custom")
    assert only.events == [event for event in whole[4:] if event.event.startswith("custom")]
    # over several connections, of one mode
    last, parts = "0-0", []
    while (part := await run.part(last, most=2, query="?stream_mode=updates&stream_mode=values")).events:
        parts += part.events
        last = part.events[-1].id
        if part.ended:
            break
    assert parts == [event for event in whole if event.event.startswith("updates")]


@pytest.mark.parametrize("modes", [["updates"], ["messages-tuple", "custom"]], ids="+".join)
async def test_what_is_no_longer_kept_comes_as_the_state(sample_server: DevServer, modes: list[str]) -> None:
    """Its time is over, or Redis was emptied: the state, whatever the client asks for, and never silence."""
    run = await begin(sample_server, modes, 2)
    async with sample_server.client() as client:
        values = await ended(client, run)
    before = (await run.part("-1")).events
    with redis.Redis.from_url(sample_server.redis_uri) as store:
        assert store.delete(*store.keys(f"*{run.run_id}*")) > 0
    for last in ("-1", "0", "0-0", before[0].id, before[-1].id):
        for query in ("", f"?stream_mode={modes[0]}"):
            part = await run.part(last, query=query)
            assert part.ended
            (state,) = part.events
            assert state.event == "values"
            assert json.loads(state.data) == values


async def test_a_question_is_told_to_those_who_come_too_late(sample_server: DevServer) -> None:
    async with sample_server.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
        body: dict[str, Any] = {"input": {"log": []}, "stream_mode": ["updates"], "stream_resumable": True}
        run_id = (await client.runs.create(thread_id, "ask", **body))["run_id"]
        values = await client.runs.join(thread_id, run_id)
    with redis.Redis.from_url(sample_server.redis_uri) as store:
        assert store.delete(*store.keys(f"*{run_id}*")) > 0
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    (state,) = (await read_part(sample_server.url, path, headers={"Last-Event-ID": "-1"})).events
    (asked,), (asks,) = values.pop("__interrupt__"), (told := json.loads(state.data)).pop("__interrupt__")
    assert (asks["id"], asks["value"]) == (asked["id"], {"question": "ask"})
    assert told == values


async def test_the_python_sdk_comes_back_by_itself(
    sample_server: DevServer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Its own reconnecting, with what a proxy leaves of each connection: some bytes, so mostly a part of an event."""
    monkeypatch.setattr("langgraph_sdk._async.http._reconnect_delay", lambda *_, **__: 0.01)
    chance = random.Random(seed)
    left: dict[int, int] = {}

    def rule(data: bytes, from_client: bool, connection: int) -> int | None:
        if from_client or connection > 30:
            return None
        left.setdefault(connection, chance.randrange(1000, 6000))
        left[connection] -= len(data)
        return None if left[connection] > 0 else len(data) + left[connection]

    host, _, port = sample_server.url.removeprefix("http://").partition(":")
    async with TcpProxy.to(host, int(port)) as proxy, sample_server.client() as direct:
        thread_id = (await direct.threads.create())["thread_id"]
        proxy.rule = rule
        async with get_client(url=f"http://127.0.0.1:{proxy.port}", api_key=None) as client:
            body = request(["values", "updates", "custom"], 6, 0.01)
            seen = [event async for event in client.runs.stream(thread_id, body.pop("assistant_id"), **body)]
        run_id = seen[0].data["run_id"]
        whole = [event async for event in direct.runs.join_stream(thread_id, run_id, last_event_id="-1")]
        state = await direct.threads.get_state(thread_id)
    assert proxy.cuts >= 5
    assert [(event.id, event.event, event.data) for event in seen] == [
        (event.id, event.event, event.data) for event in whole
    ]
    assert [event.data for event in seen if event.event == "values"][-1] == state["values"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "asked to leave"])
async def test_a_stream_goes_on_with_the_next_worker(cluster: Cluster, end: str) -> None:
    """Read one event per connection. A crash shows as another ``metadata`` with the next attempt, a hand-off in nothing."""
    worker = cluster.worker()
    body = {
        "assistant_id": "marathon",
        "input": {"name": "r", "laps": 2, "seconds": 0.05, "log": []},
        "stream_mode": ["values", "updates", "custom"],
        "stream_subgraphs": True,
        "stream_resumable": True,
        "durability": "sync",
    }
    async with cluster.client() as client:
        thread_id = (await client.threads.create())["thread_id"]
        path = f"/threads/{thread_id}/runs/stream"
        first = await read_part(cluster.url, path, method="POST", body=json.dumps(body).encode(), most=1)
        run_id = json.loads(first.events[0].data)["run_id"]
        path = f"/threads/{thread_id}/runs/{run_id}/stream"
        early = await read_part(cluster.url, path, headers={"Last-Event-ID": "-1"}, most=12)
        following = asyncio.create_task(read_resuming(cluster.url, path, begin=early.events[-1].id))
        cluster.worker()
        if end == "killed":
            worker.kill()
        else:
            worker.process.terminate()
        received = early.events + (await following).events
        whole = (await read_part(cluster.url, path, headers={"Last-Event-ID": "-1"})).events
        values = (await client.threads.get(thread_id))["values"]
    assert received == whole
    ids = [tuple(map(int, event.id.split("-"))) for event in whole]
    assert ids == sorted(set(ids))
    attempts = [json.loads(event.data)["attempt"] for event in whole if event.event == "metadata"]
    assert attempts == ([1, 2] if end == "killed" else [1])
    assert whole[-1].event == "values"
    assert json.loads(whole[-1].data) == values
    places = [json.loads(event.data)["at"] for event in whole if event.event.startswith("custom")]
    assert len(set(places)) == 2 * 10
    repeated = len(places) - len(set(places))
    assert repeated <= (5 if end == "killed" else 0), "more than the superstep in flight"
    await assert_invariants(cluster.database_uri, worker=True)


async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    for trouble in ("could not be executed", "A stream failed", "A wait failed", "never retrieved", "request failed"):
        assert trouble not in sample_server.output
