"""Rounds: in each of them every server is started fresh and does all workloads, another one first each time.

So the noise of a machine that is busy with other things falls on all alike, and figures of one round can be compared. What goes
wrong spoils one workload of one visit and nothing else; it is kept in place of the figures, and what the server has
printed beside the results.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import uvloop

from bench import RESULTS
from bench.client import Client, NotServedError
from bench.databases import counters
from bench.launch import until_first_run
from bench.servers import Contestant, Serving, cpu_seconds, machine_seconds, visited
from bench.workloads import Figure, Visit, Workload

#: Seconds after which a workload is given up.
PATIENCE = 120.0


@dataclass
class Report:
    """What one server came to in one round."""

    server: str
    round: int
    #: The machine's load average before the server was started.
    load: float
    #: Seconds from the start of the command until it answered.
    started: float
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    #: Workloads that the server has no path for.
    not_served: list[str] = field(default_factory=list)
    #: Workloads that went wrong, and how.
    failed: dict[str, str] = field(default_factory=dict)
    #: Processors that others have kept busy meanwhile, on average.
    others: float = 0.0
    #: How long (seconds) the visit took.
    lasted: float = 0.0


def play(
    contestants: Sequence[Contestant],
    workloads: Sequence[Workload],
    rounds: int,
    scale: float,
    databases: Sequence[psutil.Process] = (),
) -> list[Report]:
    """All visits of all rounds; says what it does. Of a server that does not start there is a report without figures.

    Args:
        databases: what works for the servers besides them, and is no stranger.
    """
    reports = []
    for number in range(rounds):
        first, began = number % len(contestants), time.monotonic()
        due = [workload for workload in workloads if not (workload.once and number)]
        for contestant in [*contestants[first:], *contestants[:first]]:
            try:
                reports.append(_visit(contestant, due, number + 1, scale, databases))
            # one server that does not start, whyever, must not lose what others have come to
            except Exception as error:
                print(f"round {number + 1}, {contestant.name}: left out. {error}", flush=True)
                reports.append(
                    Report(contestant.name, number + 1, os.getloadavg()[0], 0.0, failed={"start": _sentence(error)})
                )
        print(f"round {number + 1}: {time.monotonic() - began:.0f} s", flush=True)
    return reports


def _visit(
    contestant: Contestant,
    workloads: Sequence[Workload],
    number: int,
    scale: float,
    databases: Sequence[psutil.Process],
) -> Report:
    report = Report(contestant.name, number, os.getloadavg()[0], 0.0)
    contestant.make_empty()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        starts: list[Figure] = []
        if any(workload.name == "start" for workload in workloads):
            with _started(contestant, folder, report, starts, "on nothing"):
                pass
        with _started(contestant, folder, report, starts, "on data") as serving:
            print(
                f"round {number}, {contestant.name}: started in {report.started:.1f} s, load {report.load:.1f}",
                flush=True,
            )
            began, mine, machine = time.monotonic(), _mine(serving, databases), machine_seconds()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(serving, workloads, scale, report, starts))
            report.lasted = time.monotonic() - began
            strangers = machine_seconds() - machine - (_mine(serving, databases) - mine)
            report.others = max(0.0, strangers / report.lasted)
        print(f"    in all {report.lasted:.0f} s; others kept {report.others:.2f} processors busy", flush=True)
        if report.failed:
            RESULTS.mkdir(parents=True, exist_ok=True)
            shutil.copy(serving.log, RESULTS / f"{contestant.name}-{number}.log")
    contestant.make_empty()
    return report


def _mine(serving: Serving, databases: Sequence[psutil.Process]) -> float:
    """CPU seconds of everything that is measured or measures."""
    below = [each for process in databases for each in process.children(recursive=True)]
    return serving.cpu() + cpu_seconds([*databases, *below]) + time.process_time()


@contextmanager
def _started(
    contestant: Contestant, folder: Path, report: Report, starts: list[Figure], what: str
) -> Iterator[Serving]:
    began = time.perf_counter()
    with visited(contestant, folder) as serving:
        report.started = time.perf_counter() - began
        until_first_run(int(serving.url.rpartition(":")[2]))
        starts.append(Figure(f"{what}, answers", report.started, "s"))
        starts.append(Figure(f"{what}, first run", time.perf_counter() - began, "s"))
        yield serving


async def measure(
    serving: Serving, workloads: Sequence[Workload], scale: float, report: Report, starts: Sequence[Figure] = ()
) -> None:
    """Do the workloads one after the other, and fill in the report."""
    client = Client(serving.url)
    asked = None
    if serving.database_uri and serving.redis_uri:
        asked = partial(counters, serving.database_uri, serving.redis_uri)
    visit = Visit(client, serving.memory, scale, serving.cpu, asked, starts)
    try:
        for workload in workloads:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    report.figures[workload.name] = list(await workload.measure(visit))
            except* NotServedError:
                report.not_served.append(workload.name)
            # a server may answer anything, and a figure that is missing hides no other
            except* Exception as errors:
                report.failed[workload.name] = _sentence(errors)
            says = report.failed.get(workload.name) or f"{time.monotonic() - began:.1f} s"
            print(f"    {workload.name}: {'not served' if workload.name in report.not_served else says}", flush=True)
    finally:
        await client.aclose()


def _sentence(errors: BaseException) -> str:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return f"{type(errors).__name__}: {errors}"
