"""Workloads of what a server needs: memory, time to start, and what a run asks of its databases."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from bench.client import NotServedError, WrongAnswerError
from bench.workloads import Figure, Visit

#: Runs whose requests are counted.
RUNS = 60
#: Postgres tells what an idle session has done after ten seconds at the latest.
TOLD = 10.5
#: For how long (seconds) an idle server is watched, so that what it does anyhow can be taken off.
IDLE = 8.0


async def start(visit: Visit) -> list[Figure]:
    """From the start of the command until it answers, and until it has answered a run; on nothing, and on what that has left."""
    if not visit.starts:
        raise NotServedError("no start was measured")
    return list(visit.starts)


async def memory(visit: Visit) -> list[Figure]:
    """What the server's processes hold (RSS) when they have executed one run, without databases."""
    await visit.client.json("POST", "/runs/wait", {"assistant_id": "echo", "input": {"text": "x"}})
    return [Figure("idle", visit.memory(), "MiB")]


async def memory_after(visit: Visit) -> list[Figure]:
    """The same after all other workloads."""
    return [Figure("after", visit.memory(), "MiB")]


async def counts(visit: Visit) -> list[Figure]:
    """60 background runs on as many threads: what each asked of Postgres and Redis, less what the idle server does in that time."""
    if visit.counters is None:
        raise NotServedError("it has no databases of its own")
    paths = [f"/threads/{await visit.thread()}/runs" for _ in range(visit.times(RUNS) + 3)]
    for path in paths[:3]:
        await _run(visit, path)
    await asyncio.sleep(visit.seconds(TOLD))
    first = await asyncio.to_thread(visit.counters)
    await asyncio.sleep(visit.seconds(IDLE))
    second = await asyncio.to_thread(visit.counters)
    runs = [(path, (await visit.client.json("POST", path, _BODY))["run_id"]) for path in paths[3:]]
    await visit.client.json("GET", f"{runs[-1][0]}/{runs[-1][1]}/join")
    await asyncio.sleep(visit.seconds(TOLD))
    third = asdict(await asyncio.to_thread(visit.counters))
    before, idle = asdict(first), asdict(second)
    share = (third["at"] - idle["at"]) / (idle["at"] - before["at"])
    per_run = {
        name: max(0.0, third[name] - idle[name] - share * (idle[name] - before[name])) / (len(paths) - 3)
        for name in third
    }
    for path, run in runs:
        if (status := (await visit.client.json("GET", f"{path}/{run}"))["status"]) != "success":
            raise WrongAnswerError(f"a run was {status!r} when they had been counted")
    seconds = idle["at"] - before["at"]
    return [
        # what is less than a tenth comes of counting
        Figure("commits", round(per_run["commits"], 1), "/run"),
        Figure("rollbacks", round(per_run["rollbacks"], 1), "/run"),
        Figure("write-ahead log", round(per_run["wal"] / 1024, 1), "kB/run"),
        Figure("Redis commands", round(per_run["commands"], 1), "/run"),
        Figure("Redis round trips", round(per_run["reads"], 1), "/run"),
        Figure("idle commits", (idle["commits"] - before["commits"]) / seconds, "/s"),
        Figure("idle Redis commands", (idle["commands"] - before["commands"]) / seconds, "/s"),
    ]


_BODY = {"assistant_id": "echo", "input": {"text": "x"}}


async def _run(visit: Visit, path: str) -> None:
    run = await visit.client.json("POST", path, _BODY)
    await visit.client.json("GET", f"{path}/{run['run_id']}/join")
