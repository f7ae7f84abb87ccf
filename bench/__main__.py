"""``python -m bench``: measure, print the table, keep everything as JSON under ``.data/bench``.

The exit code is 1 if a server gave a wrong answer, whatever the figures are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import RESULTS, ROOT
from bench.catalogue import WORKLOADS
from bench.rounds import Report, play
from bench.servers import Contestant, ours, processors, reference
from bench.table import Row, rows, table
from bench.workloads import Workload


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        print(*(f"{workload.name:<14} {workload.about}" for workload in WORKLOADS), sep="\n")
        return 0
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that cannot keep its bytecode starts slowly
    workloads = _chosen(arguments.only)
    contestants = [ours()]
    if not arguments.alone:
        if arguments.reference is not None and arguments.reference.exists():
            contestants.append(reference(arguments.reference))
        else:
            print("The official server is not installed (no .venv-compat): ours is measured alone.")
    if not processors():
        print("Nothing is pinned to a processor: server and client may be in each other's way.")
    began = time.strftime("%Y%m%d-%H%M%S")
    reports = play(contestants, workloads, arguments.rounds, arguments.scale)
    found = rows(reports)
    print(f"\nmedian of {arguments.rounds} rounds (least..most); a ratio above 1 means that ours is better\n")
    print(table(found))
    print(f"\nkept: {_keep(began, contestants, reports, found).relative_to(ROOT)}")
    for report in reports:
        for workload, how in report.failed.items():
            print(f"round {report.round}, {report.server}, {workload} went wrong: {how}", file=sys.stderr)
    return 1 if any(report.failed for report in reports) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Speed of this server beside the official one.")
    parser.add_argument("--reference", type=Path, help="the command `langgraph` of the official server")
    parser.add_argument("--alone", action="store_true", help="do not start the official server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="some workloads")
    parser.add_argument("--scale", type=float, default=1.0, help="0.2 does a fifth of everything, for a quick look")
    parser.add_argument("--list", action="store_true", help="show the workloads")
    return parser.parse_args()


def _chosen(only: str) -> Sequence[Workload]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(names) - {workload.name for workload in WORKLOADS}:
        raise SystemExit(f"No such workload: {', '.join(sorted(unknown))}. --list shows them.")
    return [workload for workload in WORKLOADS if not names or workload.name in names]


def _keep(began: str, contestants: Sequence[Contestant], reports: Sequence[Report], found: Sequence[Row]) -> Path:
    """Everything that was measured, and on what."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{began}.json"
    content = {
        "machine": {
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "pinned": bool(processors()),
            "python": platform.python_version(),
        },
        "versions": {contestant.name: contestant.versions() for contestant in contestants},
        "reports": [asdict(report) for report in reports],
        "rows": [asdict(row) for row in found],
    }
    path.write_text(json.dumps(content, indent=1))
    return path


if __name__ == "__main__":
    sys.exit(main())
