"""Workloads of runs that are waited for: the whole way of a run, from the request to its answer."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from bench.client import WrongAnswerError
from bench.workloads import Figure, Visit, latencies, loop

#: Runs that are created one after the other and left to themselves.
BACKGROUND = 300
#: Runs that sleep for a second, and how many of them a server executes at once.
SLEEPERS = 50
#: Characters that are carried through three supersteps.
BIG = 100_000


async def wait(visit: Visit) -> list[Figure]:
    """``runs/wait`` of a graph of one node, without a thread and on one of each worker's own; by one client, and by 16 at once."""
    figures: list[Figure] = []
    threads = [await visit.thread() for _ in range(16)]
    for name, paths in (
        ("stateless", ["/runs/wait"] * 16),
        ("thread", [f"/threads/{thread}/runs/wait" for thread in threads]),
    ):

        async def run(worker: int, number: int, paths: list[str] = paths) -> None:
            text = f"text {number}"
            answer = await visit.client.json("POST", paths[worker], {"assistant_id": "echo", "input": {"text": text}})
            if answer.get("reply") != text:
                raise WrongAnswerError(f"the reply to {text!r} is {answer!r:.300}")

        figures += (await loop(visit, 1, 200, 3.0, run)).figures(f"{name} c1", "run", rate=False)
        many = await loop(visit, 16, 800, 3.5, run)
        figures += [*latencies(f"{name} c16", many.took), *many.figures(f"{name} c16", "run", rate=True)]
    return figures


async def drain(visit: Visit) -> list[Figure]:
    """300 background runs on as many threads: from the first POST until the last has ended, and what each costs the server."""
    many = visit.times(BACKGROUND)
    gate = asyncio.Semaphore(16)
    paths = [""] * many

    async def make(number: int) -> None:
        async with gate:
            paths[number] = f"/threads/{await visit.thread()}/runs"

    async def post(number: int) -> None:
        async with gate:
            body = {"assistant_id": "echo", "input": {"text": f"text {number}"}}
            paths[number] += "/" + (await visit.client.json("POST", paths[number], body))["run_id"]

    await asyncio.gather(*map(make, range(many)))
    cpu, began = visit.cpu(), time.perf_counter()
    await asyncio.gather(*map(post, range(many)))
    created = time.perf_counter()
    # when the last one has ended nearly all have, so asking for that one alone is little work
    await _over(visit, paths[-1])
    used, ended = visit.cpu() - cpu, time.perf_counter()
    for path in paths[:-1]:
        if await _over(visit, path):
            used, ended = visit.cpu() - cpu, time.perf_counter()
    return [
        Figure("runs", many / (ended - began), "runs/s", more_is_better=True),
        Figure("runs cpu", 1000 * used / many, "ms/run"),
        Figure("created", many / (created - began), "runs/s", more_is_better=True),
    ]


async def _over(visit: Visit, path: str) -> bool:
    """Return once the run has ended well; whether that had to be waited for."""
    waited = False
    while (status := (await visit.client.json("GET", path))["status"]) in {"pending", "running"}:
        waited = True
        await asyncio.sleep(0.02)
    if status != "success":
        raise WrongAnswerError(f"a run has ended with {status!r}")
    return waited


async def idle_start(visit: Visit) -> list[Figure]:
    """A background run on a server that has had nothing to do: from the POST until its node begins, and until ``join`` answers."""
    starts, answers, joins = [], [], []
    stop = time.monotonic() + visit.seconds(10.0)
    pause = random.Random(8)  # not in step with whatever looks once a second
    for number in range(visit.times(12) + 1):
        path = f"/threads/{await visit.thread()}"
        await asyncio.sleep((0.3 + 0.7 * pause.random()) * min(1.0, 5 * visit.scale))
        asked, began = time.time(), time.perf_counter()
        run = await visit.client.json("POST", f"{path}/runs", {"assistant_id": "echo", "input": {"text": "x"}})
        answered = time.perf_counter()
        await visit.client.json("GET", f"{path}/runs/{run['run_id']}/join")
        joined = time.perf_counter()
        state = await visit.client.json("GET", f"{path}/state")
        if number:  # the first one grows pools
            starts.append(state["values"]["node_ts"] - asked)
            answers.append(answered - began)
            joins.append(joined - began)
        if starts and time.monotonic() > stop:
            break
    return [
        *latencies("node begins", starts),
        Figure("created p50", 1000 * statistics.median(answers), "ms"),
        Figure("joined p50", 1000 * statistics.median(joins), "ms"),
    ]


async def sleepers(visit: Visit) -> list[Figure]:
    """50 runs that sleep for a second, waited for by as many clients at once; a server executes ten at a time."""
    seconds = min(1.0, 5 * visit.scale)

    async def one(_: int) -> None:
        answer = await visit.client.json(
            "POST", "/runs/wait", {"assistant_id": "sleepy", "input": {"seconds": seconds}}
        )
        if answer.get("seconds") != 0:
            raise WrongAnswerError(f"a run of {seconds} s said {answer!r:.300}")

    many = visit.times(SLEEPERS)
    cpu, began = visit.cpu(), time.perf_counter()
    await asyncio.gather(*map(one, range(many)))
    return [
        Figure("all", time.perf_counter() - began, "s"),
        Figure("all cpu", 1000 * (visit.cpu() - cpu) / many, "ms/run"),
    ]


async def big_state(visit: Visit) -> list[Figure]:
    """``runs/wait`` on a thread that carries 100 kB through three supersteps, and the reading of its state."""
    path = f"/threads/{await visit.thread()}"

    async def run(worker: int, number: int) -> None:
        answer = await visit.client.json(
            "POST", f"{path}/runs/wait", {"assistant_id": "bigstate", "input": {"size": BIG}}
        )
        if len(answer["blob"]) != BIG or answer["touched"] != 2:
            raise WrongAnswerError(f"{len(answer['blob'])} of {BIG} characters came back")

    async def read(worker: int, number: int) -> None:
        if len((await visit.client.json("GET", f"{path}/state"))["values"]["blob"]) != BIG:
            raise WrongAnswerError("the state is not what was written")

    return [
        *(await loop(visit, 1, 50, 3.0, run)).figures("run", "run", rate=False),
        *(await loop(visit, 1, 100, 2.0, read)).figures("state", "read", rate=False),
    ]
