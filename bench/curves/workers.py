"""Workers: runs per second drained by one, two and four of them, of runs that only cost CPU and of runs that wait.

The runs are created while the workers stand still (stopped as a process, so that none of them has a head start), and what counts is
from the moment they go on until the last run has ended, by Postgres' clock. CPU is counted over the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.client import Client, WrongAnswerError
from bench.curves.part import Part, Picture, Table
from bench.curves.site import Process, Site, post_runs, until_over

JOBS = 10
COUNTS = (1, 2, 4)
#: For how long (seconds) a run that waits does so: as one that waits for a model, only shorter.
WAITS = 0.5
SHORT = {"assistant_id": "counter", "input": {"steps": 1}}
WAITING = {"assistant_id": "sleepy", "input": {"seconds": WAITS}}


@dataclass(frozen=True)
class Drained:
    """What so many workers came to."""

    workers: int
    rate: float
    #: CPU per run, in milliseconds: of the workers, of Postgres.
    worker_ms: float
    postgres_ms: float
    #: Processors that workers and Postgres kept busy.
    busy: float


async def measure(site: Site, scale: float) -> Part:
    """Both kinds of runs, with each number of workers."""
    short, waiting = [], []
    with site.serve() as api:
        for count in COUNTS:
            with site.workers(count, JOBS) as workers:
                ran, waited = await look(site, api, workers, scale)
                short.append(ran)
                waiting.append(waited)
    return part(short, waiting)


async def look(site: Site, api: Process, workers: Sequence[Process], scale: float) -> tuple[Drained, Drained]:
    """Both kinds of runs, by these workers."""
    count = len(workers)
    client = Client(api.url)
    try:
        await drained(site, client, workers, SHORT, max(4, round(20 * count * scale)))  # warms up
        return (
            await drained(site, client, workers, SHORT, max(count, round(600 * scale))),
            await drained(site, client, workers, WAITING, max(count, round(80 * count * scale))),
        )
    finally:
        await client.aclose()


def part(short: Sequence[Drained], waiting: Sequence[Drained]) -> Part:
    """Tables and picture."""
    head = (
        "workers",
        "runs/s",
        "times one worker",
        "worker CPU per run, ms",
        "Postgres CPU per run, ms",
        "processors busy",
    )
    ideal = JOBS / WAITS
    return Part(
        "workers",
        [
            Table(("runs that wait for nothing", *head[1:]), [_row(one, short[0]) for one in short]),
            Table((f"runs that wait {WAITS} s", *head[1:]), [_row(one, waiting[0]) for one in waiting]),
        ],
        {
            "workers": Picture(
                "Runs per second drained by workers",
                "workers (10 runs at once each)",
                "runs/s",
                {
                    "runs that wait for nothing": [(one.workers, one.rate) for one in short],
                    f"runs that wait {WAITS} s": [(one.workers, one.rate) for one in waiting],
                    "all that slots allow": [(one.workers, ideal * one.workers) for one in waiting],
                },
            )
        },
    )


def _row(one: Drained, first: Drained) -> list[str | float | None]:
    return [
        f"{one.workers} workers" if one.workers > 1 else "1 worker",
        one.rate,
        one.rate / first.rate,
        one.worker_ms,
        one.postgres_ms,
        one.busy,
    ]


async def drained(
    site: Site, client: Client, workers: Sequence[Process], body: Mapping[str, Any], runs: int
) -> Drained:
    """Have so many runs executed.

    Raises:
        WrongAnswerError: one did not end well.
    """
    for worker in workers:
        worker.process.suspend()
    try:
        threads = await post_runs(client, body, runs)
        cpu, postgres = sum(worker.cpu() for worker in workers), site.postgres_cpu()
        (start,) = site.rows("SELECT clock_timestamp() AS now")
    finally:
        for worker in workers:
            worker.process.resume()
    await until_over(site)
    cpu, postgres = sum(worker.cpu() for worker in workers) - cpu, site.postgres_cpu() - postgres
    query = (
        "SELECT count(*) AS count, extract(epoch FROM max(finished_at) - %s)::float8 AS seconds"
        " FROM lgs.run WHERE thread_id = ANY(%s::uuid[]) AND status = 'success'"
    )
    (found,) = await asyncio.to_thread(site.rows, query, (start["now"], threads))
    if found["count"] != runs:
        raise WrongAnswerError(f"{runs - found['count']} of {runs} runs have not ended well")
    seconds = found["seconds"]
    return Drained(len(workers), runs / seconds, 1000 * cpu / runs, 1000 * postgres / runs, (cpu + postgres) / seconds)
