"""``python -m bench``: measure, print the tables, keep everything as JSON under ``.data/bench``; ``--publish`` shows it in the documents.

The exit code is 1 if a server gave a wrong answer, whatever the figures are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import RESULTS, ROOT, contestants
from bench.catalogue import WORKLOADS
from bench.databases import Databases, databases
from bench.machine import machine, versions
from bench.results import Results, now, publish, read
from bench.rounds import play
from bench.servers import Contestant, pin, processors
from bench.workloads import Workload

#: Commands of the peers where make puts them.
COMMANDS = {
    "reference": ROOT / ".venv-compat" / "bin" / "langgraph",
    "aegra": ROOT / ".venv-bench-aegra" / "bin" / "aegra",
    "langhost": ROOT / ".venv-bench-langhost" / "bin" / "langhost",
}


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        print(*(f"{workload.name:<14} {workload.about}" for workload in WORKLOADS), sep="\n")
        return 0
    if arguments.read is not None:
        results = read(arguments.read)
    else:
        results = _measured(arguments)
        kept = results.keep(RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json")
        print(f"\nkept: {kept.relative_to(ROOT)}")
    print(f"\n{results.shown()}")
    if arguments.publish:
        print("published:", *(path.relative_to(ROOT) for path in publish(results, arguments.what)))
    for report in results.reports:
        for workload, how in report.failed.items():
            print(f"round {report.round}, {report.server}, {workload} went wrong: {how}", file=sys.stderr)
    return 1 if any(report.failed for report in results.reports) else 0


def _measured(arguments: argparse.Namespace) -> Results:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that cannot keep its bytecode starts slowly
    workloads = _chosen(arguments.only)
    if not processors():
        print("Nothing is pinned to a processor: server and client may be in each other's way.")
    began, at = time.monotonic(), now()
    with tempfile.TemporaryDirectory(prefix="bench-databases-") as folder, databases(Path(folder)) as shared:
        pin(shared.processes, processors()[1:])
        those = _contestants(arguments, shared)
        print("measured:", *(each.name for each in those))
        reports = play(those, workloads, arguments.rounds, arguments.scale, shared.processes)
        used = versions(those, shared.versions())
    print(f"{arguments.rounds} round(s) took {(time.monotonic() - began) / 60:.1f} minutes")
    return Results(at, arguments.rounds, arguments.scale, machine(), used, reports)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Speed of this server beside others of the same API.")
    parser.add_argument(
        "--contestant", default="", metavar="NAME,NAME", help="some of ours, dev and the peers; default: all but dev"
    )
    parser.add_argument("--alone", action="store_true", help="ours only")
    for name, command in COMMANDS.items():
        parser.add_argument(f"--{name}", type=Path, default=command, help=f"the command of {name}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="some workloads")
    parser.add_argument("--scale", type=float, default=1.0, help="0.2 does a fifth of everything, for a quick look")
    parser.add_argument("--list", action="store_true", help="show the workloads")
    parser.add_argument("--publish", action="store_true", help="write result file, picture and the page's figures")
    parser.add_argument("--what", default="side-by-side", help="the name of the published result")
    parser.add_argument("--read", type=Path, metavar="FILE", help="show or publish what was measured before")
    return parser.parse_args()


def _chosen(only: str) -> Sequence[Workload]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(names) - {workload.name for workload in WORKLOADS}:
        raise SystemExit(f"No such workload: {', '.join(sorted(unknown))}. --list shows them.")
    return [workload for workload in WORKLOADS if not names or workload.name in names]


def _contestants(arguments: argparse.Namespace, shared: Databases) -> list[Contestant]:
    """Those that are asked for, of those that are installed."""
    named = [name.strip() for name in arguments.contestant.split(",") if name.strip()]
    wanted = ["ours"] if arguments.alone else named or ["ours", *COMMANDS]
    if unknown := set(wanted) - {"ours", "dev", *COMMANDS}:
        raise SystemExit(f"No such contestant: {', '.join(sorted(unknown))}.")
    found = []
    for name in wanted:
        if name in COMMANDS and not getattr(arguments, name).exists():
            print(f"{name} is not installed and left out: make bench-peers installs it.")
        elif name == "reference":
            found.append(contestants.reference(arguments.reference))
        elif name == "dev":
            found.append(contestants.dev())
        elif name == "ours":
            found.append(contestants.ours(shared))
        else:
            make = contestants.aegra if name == "aegra" else contestants.langhost
            found.append(make(getattr(arguments, name), shared))
    return found


if __name__ == "__main__":
    sys.exit(main())
