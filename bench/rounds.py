"""Rounds: in each of them every server is started fresh and does all workloads, another one first each time.

So the noise of a machine that is busy with other things falls on all alike, and figures of one round can be compared. A
wrong answer spoils one workload of one visit and nothing else; it is kept in place of the figures, and what the server has
printed beside the results.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from official_server import DidNotStartError

from bench import RESULTS
from bench.client import Client, NotServedError, WrongAnswerError
from bench.servers import Contestant, Serving, visited
from bench.workloads import Figure, Visit, Workload

#: Seconds after which a workload is given up.
PATIENCE = 180.0


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


def play(contestants: Sequence[Contestant], workloads: Sequence[Workload], rounds: int, scale: float) -> list[Report]:
    """All visits of all rounds; says what it does. The official server is left out if it does not start."""
    reports = []
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in [*contestants[first:], *contestants[:first]]:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                try:
                    reports.append(_visit(contestant, Path(folder), workloads, number + 1, scale))
                except DidNotStartError as error:
                    print(f"round {number + 1}, {contestant.name}: left out. {error}", flush=True)
    return reports


def _visit(contestant: Contestant, folder: Path, workloads: Sequence[Workload], number: int, scale: float) -> Report:
    load, began = os.getloadavg()[0], time.monotonic()
    with visited(contestant, folder) as serving:
        report = Report(contestant.name, number, load, time.monotonic() - began)
        print(f"round {number}, {contestant.name}: started in {report.started:.1f} s, load {load:.1f}", flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(serving, workloads, scale, report))
        if report.failed:
            RESULTS.mkdir(parents=True, exist_ok=True)
            shutil.copy(serving.log, RESULTS / f"{contestant.name}-{number}.log")
    return report


async def measure(serving: Serving, workloads: Sequence[Workload], scale: float, report: Report) -> None:
    """Do the workloads one after the other, and fill in the report."""
    client = Client(serving.url)
    visit = Visit(client, serving.memory, scale)
    try:
        for workload in workloads:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    report.figures[workload.name] = list(await workload.measure(visit))
            except* NotServedError:
                report.not_served.append(workload.name)
            except* (WrongAnswerError, OSError, EOFError) as errors:
                report.failed[workload.name] = _sentence(errors)
            says = report.failed.get(workload.name) or f"{time.monotonic() - began:.1f} s"
            print(f"    {workload.name}: {'not served' if workload.name in report.not_served else says}", flush=True)
    finally:
        await client.aclose()


def _sentence(errors: BaseException) -> str:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return f"{type(errors).__name__}: {errors}"
