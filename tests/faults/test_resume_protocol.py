"""R18 for protocol v2: a thread's events, cut at every one of them, with subgraphs, while its run goes on and afterwards.

Whoever comes back with ``since`` gets each of the others exactly once, with the number and the id that everybody else has for
it, and always the end of the run.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest
import redis
from dev_server import PATIENCE, DevServer
from figures import Figures, sizes
from protocol_client import ProtocolThread, ends_a_run

pytestmark = pytest.mark.timeout(120)

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
