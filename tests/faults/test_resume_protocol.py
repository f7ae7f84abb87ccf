"""R18 for protocol v2: a thread's events, cut at every one of them, with subgraphs, while its run goes on and afterwards.

Whoever comes back with ``since`` gets each of the others exactly once, with the number and the id that everybody else has for
it, and always the end of the run.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import redis
from cluster import Cluster
from dev_server import PATIENCE, ROOT, DevServer
from figures import Figures, sizes
from protocol_client import ProtocolThread, ends_a_run

pytestmark = pytest.mark.timeout(120)

DIFFERENTIAL = ROOT / "tests" / "fixtures" / "projects" / "differential" / "langgraph.json"
#: Laps of the graph that give about 200 events; of a legacy run, which is translated, half as many.
LAPS = {"protocol": 5, "legacy": 3}
MODES = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints"]


def laps(number: int) -> dict[str, Any]:
    return {"messages": [], "lap": 0, "laps": number, "seconds": 0.01}


async def begin(server: DevServer, kind: str) -> ProtocolThread:
    """A thread with a run that has just been made, by the protocol or by the endpoint that clients without it use."""
    thread = ProtocolThread(server.url)
    config = {"recursion_limit": 1000}
    if kind == "protocol":
        await thread.start("laps", laps(LAPS[kind]), config=config)
        return thread
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        body = {"assistant_id": "laps", "input": laps(LAPS[kind]), "config": config, "if_not_exists": "create"}
        body |= {"stream_mode": MODES, "stream_subgraphs": True}
        (await client.post(f"/threads/{thread.thread_id}/runs", json=body)).raise_for_status()
    return thread


@sizes(timeout=900, samples=(6, 10_000))
async def test_cut_at_every_event(sample_server: DevServer, size: Any, figures: Figures, seed: int) -> None:
    """One client reads one event per connection while the run goes on; others are cut anywhere when it is over."""
    chance = random.Random(seed)
    counted = {"events": 0, "cuts": 0, "gaps": 0, "repeats": 0, "without_end": 0}

    async def follow(kind: str) -> None:
        thread = await begin(sample_server, kind)
        live = await thread.until_over()
        whole = await thread.events(len(live))
        cuts = len(live)
        places = chance.sample(range(1, len(whole)), min(size.samples, len(whole) - 1))
        received = [live]
        for place in places:
            before = await thread.events(place)
            received.append(before + await thread.events(len(whole) - place, since=before[-1]["seq"]))
            cuts += 1
        ids = {event["event_id"] for event in whole}
        for events in received:
            found = [event["event_id"] for event in events]
            counted["gaps"] += len(ids - set(found))
            counted["repeats"] += len(found) - len(set(found))
            counted["without_end"] += not ends_a_run(events[-1])
        counted["events"] += len(whole)
        counted["cuts"] += cuts
        assert all(events == whole for events in received), kind
        assert len(whole) >= {"protocol": 200, "legacy": 90}[kind]
        assert len(ids) == len(whole)
        assert any(len(event["params"]["namespace"]) == 2 for event in whole)
        assert [event["seq"] for event in whole] == sorted({event["seq"] for event in whole})

    async with asyncio.TaskGroup() as group:
        for kind in LAPS:
            group.create_task(follow(kind))
    figures("R18 v2", **counted, seed=seed)
    assert (counted["gaps"], counted["repeats"], counted["without_end"]) == (0, 0, 0)


async def test_what_is_no_longer_kept_comes_as_the_state(sample_server: DevServer) -> None:
    """The time of a run's events is over, or all of Redis was emptied: the state, how the run ended, and never silence."""
    thread = ProtocolThread(sample_server.url)
    run_id = await thread.start("laps", laps(1))
    whole = await thread.until_over()
    end = whole[-1]
    state = [event for event in whole if event["method"] == "values" and not event["params"]["namespace"]][-1]

    def forget(pattern: str) -> None:
        with redis.Redis.from_url(sample_server.redis_uri) as store:
            assert store.delete(*store.keys(pattern)) > 0

    forget(f"*{run_id}*")
    for since in (1, whole[5]["seq"], whole[-2]["seq"]):
        values, over = await thread.events(2, since=since)
        assert (values["seq"], over["seq"]) == (end["seq"] - 1, end["seq"])
        assert values["params"]["data"] == state["params"]["data"]
        assert (over["event_id"], over["params"]["data"]) == (end["event_id"], end["params"]["data"])
    # who has had the end has had all, and goes on with the next run
    await thread.start("laps", laps(1))
    following = await thread.until_over(since=end["seq"])
    assert following[0]["seq"] == end["seq"] + 1
    assert following[0]["params"]["data"]["event"] == "running"
    last = following[-1]["seq"]

    forget(f"*{thread.thread_id}*")
    forget(f"*{following[0]['event_id'].split(':')[1]}*")
    values, over = await thread.events(2, since=last - 3)
    assert (values["seq"], over["seq"]) == (last - 2, last - 1)
    assert over["event_id"] == following[-1]["event_id"]
    await thread.start("laps", laps(1))
    later = await thread.until_over(since=last)
    assert ends_a_run(later[-1])
    assert all(event["seq"] > last for event in later)
    assert await thread.until_over() == later


async def test_numbers_of_another_thread_leave_nobody_in_silence(sample_server: DevServer) -> None:
    thread = ProtocolThread(sample_server.url)
    await thread.start("laps", laps(1))
    await thread.until_over()
    values, over = await thread.events(2, since=10_000)
    assert (values["method"], ends_a_run(over)) == ("values", True)


@dataclass
class Readers:
    """One client listens all the time, one is cut off after every few events, and one comes when all is over."""

    thread: ProtocolThread
    chance: random.Random
    steady: list[dict[str, Any]] = field(default_factory=list)
    interrupted: list[dict[str, Any]] = field(default_factory=list)
    late: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.thread.listen(self.steady))
            group.create_task(self._come_back())
        await self.thread.listen(self.late)

    async def _come_back(self) -> None:
        since = 0
        while not self.interrupted or not ends_a_run(self.interrupted[-1]):
            await self.thread.listen(self.interrupted, since=since, most=self.chance.randrange(1, 9))
            since = self.interrupted[-1]["seq"]

    async def have_more(self) -> None:
        """Until a few more events have come."""
        seen = len(self.steady) + self.chance.randrange(20, 60)
        async with asyncio.timeout(PATIENCE):
            while len(self.steady) < seen and not self.late:
                await asyncio.sleep(0.02)

    def have_the_same(self, *, lost: bool, laps: int) -> dict[str, int]:
        """Each event has one number, one id and one content for all of them; what was counted."""
        known = {event["seq"]: event for event in self.steady}
        repeats = 0
        for events in (self.steady, self.interrupted, self.late):
            assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
            assert all(known[event["seq"]] == event for event in events)
            assert events[-1] == self.steady[-1]
            repeats += len(events) - len({event["event_id"] for event in events})
        assert repeats == 0
        # what is left of the log is told to whoever comes, from its first event on
        assert self.late == self.steady[len(self.steady) - len(self.late) :]
        assert lost or self.interrupted == self.steady == self.late
        values = [event for event in self.steady if event["method"] == "values" and not event["params"]["namespace"]]
        assert values[-1]["params"]["data"]["lap"] == laps
        missed = len(self.steady) - len(self.interrupted)
        return {"events": len(self.steady), "missed": missed, "late": len(self.late), "repeats": repeats}


async def test_redis_forgets_a_run_that_goes_on(sample_server: DevServer, seed: int) -> None:
    readers = Readers(ProtocolThread(sample_server.url), random.Random(seed))
    reading = asyncio.create_task(readers.read())
    run_id = await readers.thread.start("laps", laps(6), config={"recursion_limit": 1000})
    await readers.have_more()
    with redis.Redis.from_url(sample_server.redis_uri) as store:
        store.delete(*store.keys(f"*{run_id}*"), *store.keys(f"*{readers.thread.thread_id}*"))
    await reading
    readers.have_the_same(lost=True, laps=6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cluster", [DIFFERENTIAL], indirect=True)
async def test_everybody_has_the_same_events(cluster: Cluster, figures: Figures, seed: int) -> None:
    """Workers hand a run on and are killed, and Redis forgets everything."""
    chance = random.Random(seed)
    numbers = {"handoff": ("HANDOFFS", 20), "kill": ("KILLS", 10), "loss": ("LOSSES", 5)}
    faults = [fault for fault, (name, most) in numbers.items() for _ in range(int(os.environ.get(name, most)))]
    chance.shuffle(faults)
    number = 3 + 3 * len(faults)
    readers = Readers(ProtocolThread(cluster.url), chance)

    async def do(fault: str) -> None:
        if fault == "loss":
            with redis.Redis.from_url(cluster.environ["REDIS_URI"]) as store:
                store.delete(*store.keys(f"{cluster.environ['REDIS_KEY_PREFIX']}*"))
        for worker in cluster.workers:
            if worker.running and fault != "loss":
                worker.kill() if fault == "kill" else worker.process.terminate()

    async with cluster.supervised(1, MAX_RUN_ATTEMPTS="100"):
        reading = asyncio.create_task(readers.read())
        await readers.thread.start("laps", laps(number), config={"recursion_limit": 10_000})
        for fault in faults:
            await readers.have_more()
            await do(fault)
        await reading
    counted = readers.have_the_same(lost="loss" in faults, laps=number)
    said = " ".join(f"{faults.count(fault)} {fault}" for fault in numbers)
    figures("R18 v2 faults", faults=said, **counted, seed=seed)
