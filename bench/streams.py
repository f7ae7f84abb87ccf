"""Workloads of streams: how soon the first event is there, how many follow in a second, how soon a client has caught up.

Times begin when the request is sent and are taken when the client has read an event, so they hold all of the way: request,
queue, worker, event log, stream.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from bench.client import Frame, Tally, WrongAnswerError
from bench.workloads import Figure, Visit, at_once, latencies, loop, named

#: Tokens in a stream whose rate is taken.
MANY = 1000
#: Supersteps of a run whose pace is taken.
STEPS = 20
#: Requests that do not count, where one is over in no time: statements are prepared in them.
WARM = 5
#: Streams that have nothing to say, and the runs that they belong to (a server executes ten at once).
IDLE_STREAMS, SLEEPERS = 100, 4


def _tokens(count: int, **more: Any) -> dict[str, Any]:
    return {"assistant_id": "tokens", "input": {"tokens": count}, "stream_mode": ["messages-tuple"], **more}


async def first_event(visit: Visit) -> list[Figure]:
    """From the request until ``metadata`` and until the first token; by one client, and by 16 at once."""
    figures: list[Figure] = []
    for workers, often in ((1, 10), (16, 3)):
        threads = [await visit.thread() for _ in range(workers)]
        metadata: list[float] = []
        token: list[float] = []

        async def run(worker: int, threads: list[str] = threads, into: Any = (metadata, token)) -> None:
            began = time.perf_counter()
            frames = await visit.stream(_tokens(10), thread=threads[worker])
            into[0].append(named(frames, b"metadata", 1)[0].at - began)
            into[1].append(named(frames, b"messages")[0].at - began)

        await at_once(workers, 1, run)  # connections and pools grow in the first requests
        metadata.clear()
        token.clear()
        await at_once(workers, visit.times(often), run)
        figures += latencies(f"c{workers} metadata", metadata) + latencies(f"c{workers} first token", token)
    return figures


async def events_per_second(visit: Visit) -> list[Figure]:
    """Tokens per second inside one stream, and of 8 and 32 streams together."""
    tokens = visit.times(MANY)
    threads = [await visit.thread() for _ in range(32)]
    await visit.stream(_tokens(tokens), thread=threads[0])
    rates = [_rate(await visit.stream(_tokens(tokens), thread=threads[0])) for _ in range(visit.times(3))]
    figures = [Figure("1 stream", statistics.median(rates), "events/s", more_is_better=True)]
    for streams, each in ((8, tokens), (32, visit.times(MANY // 2))):
        together: list[Frame] = []

        async def run(worker: int, together: list[Frame] = together, each: int = each) -> None:
            together += await visit.stream(_tokens(each), thread=threads[worker])

        await at_once(streams, 1, run)
        figures.append(Figure(f"{streams} streams", _rate(together), "events/s", more_is_better=True))
    return figures


async def tokens(visit: Visit) -> list[Figure]:
    """1,000 tokens of a model that never lets others have a turn: until the first is read, and the rate of one stream and of 8."""
    body = _tokens(visit.times(MANY))
    body["input"]["breathless"] = True

    async def stream() -> Tally:
        found = await visit.client.tally("POST", "/runs/stream", body, b"messages")
        if found.count < body["input"]["tokens"]:
            raise WrongAnswerError(f"{found.count} of {body['input']['tokens']} tokens came")
        return found

    await stream()
    alone = [await stream() for _ in range(visit.times(5))]
    together: list[Tally] = []

    async def run(worker: int) -> None:
        if time.perf_counter() - began <= visit.seconds(6.0) or not together:
            together.append(await stream())

    cpu, began = visit.cpu(), time.perf_counter()
    await at_once(8, visit.times(2), run)
    lasted, events = time.perf_counter() - began, sum(each.count for each in together)
    return [
        Figure("c1 first token", 1000 * statistics.median(each.first - each.began for each in alone), "ms"),
        Figure("c1 in the stream", statistics.median(map(_pace, alone)), "events/s", more_is_better=True),
        Figure("c8 first token", 1000 * statistics.median(each.first - each.began for each in together), "ms"),
        Figure("c8 all", events / lasted, "events/s", more_is_better=True),
        Figure("c8 cpu", 1e6 * (visit.cpu() - cpu) / events, "ms/1,000 events"),
    ]


def _pace(counted: Tally) -> float:
    """Events per second between the first and the last; what comes at once counts as a millisecond."""
    return (counted.count - 1) / max(counted.last - counted.first, 1e-3)


async def supersteps(visit: Visit) -> list[Figure]:
    """Runs of 20 supersteps on a thread, each of which is a checkpoint: the pace of their ``updates``, and runs of 8 clients."""
    given: dict[str, Any] = {"assistant_id": "steps", "input": {"steps": STEPS}}
    body = {**given, "stream_mode": ["updates"]}
    threads = [await visit.thread() for _ in range(8)]
    await visit.stream(body, thread=threads[0])
    rates, costs = [], []
    for _ in range(visit.times(6)):
        frames = await visit.stream(body, thread=threads[0])
        rates.append(_rate(frames, b"updates", STEPS))
        updates = named(frames, b"updates", STEPS)
        costs.append((updates[-1].at - updates[0].at) / (STEPS - 1))

    async def run(worker: int, number: int) -> None:
        answer = await visit.client.json("POST", f"/threads/{threads[worker]}/runs/wait", given)
        if answer.get("step") != STEPS:
            raise WrongAnswerError(f"a run of {STEPS} supersteps said {answer!r:.300}")

    return [
        Figure("cost of one", 1000 * statistics.median(costs), "ms"),
        Figure("updates of 1 run", statistics.median(rates), "events/s", more_is_better=True),
        *(await loop(visit, 8, 160, 4.0, run)).figures("c8 runs", "run", rate=True),
    ]


async def resume(visit: Visit) -> list[Figure]:
    """From ``Last-Event-ID: 0-0`` to the first and to the last of the events of a run that is over."""
    tokens = visit.times(MANY)
    thread = await visit.thread()
    run = await visit.client.json("POST", f"/threads/{thread}/runs", _tokens(tokens, stream_resumable=True))
    path = f"/threads/{thread}/runs/{run['run_id']}"
    await visit.client.json("GET", f"{path}/join")
    first, last = [], []
    for _ in range(visit.times(15) + WARM):
        began = time.perf_counter()
        stream = visit.client.events("GET", f"{path}/stream", headers={"Last-Event-ID": "0-0"})
        frames = named([frame async for frame in stream], b"messages")
        if len(frames) < tokens:
            raise WrongAnswerError(f"{len(frames)} of {tokens} tokens came again")
        first.append(frames[0].at - began)
        last.append(frames[-1].at - began)
    return [
        Figure("first event", 1000 * statistics.median(first[WARM:]), "ms"),
        Figure(f"last of {tokens} events", 1000 * statistics.median(last[WARM:]), "ms"),
    ]


async def idle_streams(visit: Visit) -> list[Figure]:
    """What 100 streams that say nothing cost: memory, and how soon another run's first event is there meanwhile."""
    streams, thread = visit.times(IDLE_STREAMS), await visit.thread()
    await visit.stream(_tokens(10), thread=thread)
    sleepers = [await visit.thread() for _ in range(SLEEPERS)]
    body = {"assistant_id": "sleepy", "input": {"seconds": 120}}
    runs = [await visit.client.json("POST", f"/threads/{sleeper}/runs", body) for sleeper in sleepers]
    paths = [f"/threads/{run['thread_id']}/runs/{run['run_id']}" for run in runs]
    before = visit.memory()
    listening = [asyncio.create_task(_listen(visit, paths[number % SLEEPERS])) for number in range(streams)]
    try:
        for path in paths:
            await _running(visit, path)
        token = []
        for _ in range(visit.times(7)):
            began = time.perf_counter()
            frames = await visit.stream(_tokens(10), thread=thread)
            token.append(named(frames, b"messages")[0].at - began)
        after = visit.memory()
        if gone := sum(task.done() for task in listening):
            raise WrongAnswerError(f"{gone} of {streams} streams have ended although their runs go on")
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for path in paths:
            await visit.client.json("POST", f"{path}/cancel?wait=1")
    return [
        Figure("memory before", before, "MiB"),
        Figure(f"memory with {streams}", after, "MiB"),
        *latencies("first token meanwhile", token),
    ]


async def _listen(visit: Visit, path: str) -> None:
    async with aclosing(visit.client.events("GET", f"{path}/stream")) as frames:  # type: ignore[type-var]
        async for _ in frames:
            pass


async def _running(visit: Visit, path: str) -> None:
    async with asyncio.timeout(30):
        while (await visit.client.json("GET", path))["status"] != "running":
            await asyncio.sleep(0.05)


def _rate(frames: Sequence[Frame], name: bytes = b"messages", count: int | None = None) -> float:
    """Events of this name per second, from the first ``metadata``, which says that a run has begun, to the last of them."""
    counted = named(frames, name, count)
    began = min(frame.at for frame in named(frames, b"metadata"))
    return len(counted) / max(max(frame.at for frame in counted) - began, 1e-6)
