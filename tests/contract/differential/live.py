"""What ``make compat`` runs: both servers on clean copies of the sample project, all cases, the table, the page.

    python live.py LANGGRAPH [--record]

``LANGGRAPH`` is the command of the official development server in an environment of its own; it is only ever asked over
HTTP. The exit code is 1 if answers differ that are not in ``differences.json``, or if entries there have no use. With
``--record`` the answers of the official server become the recorded ones, else it is said where they are not these any more.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from case_files import load_cases, load_differences, load_recorded, record
from comparison import Deliberate, judge
from conversation import ask_all
from parity import PAGE, ROOT, page, printed, table

sys.path.insert(0, str(ROOT / "tests" / "support"))
from dev_server import DevServer
from official_server import AT_ONCE, DidNotStartError, official

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "differential"


@contextmanager
def ours(folder: Path) -> Iterator[str]:
    """The address of our server, with databases of its own."""
    server = DevServer(PROJECT / "langgraph.json", folder / "data")
    try:
        yield server.start().url
    finally:
        server.close()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("langgraph", help="the command of the official server")
    parser.add_argument("--record", action="store_true", help="keep the answers of the official server")
    arguments = parser.parse_args()
    cases = load_cases()
    with tempfile.TemporaryDirectory(prefix="compat-") as name:
        folder = Path(name)
        with official(arguments.langgraph, PROJECT, folder) as reference_server, ours(folder) as our_url:
            reference, answers = await asyncio.gather(
                ask_all(reference_server.url, cases, at_once=AT_ONCE), ask_all(our_url, cases, at_once=AT_ONCE)
            )
    entries = load_differences()
    deliberate = Deliberate(entries)
    verdicts = [
        verdict for case in cases for verdict in judge(case, reference[case["name"]], answers[case["name"]], deliberate)
    ]
    for verdict in verdicts:
        print(*verdict.left, sep="\n", end="\n" if verdict.left else "")
    if arguments.record:
        changed = record(reference)
        print(f"{len(changed)} recorded answers are new or changed", *changed, sep="\n    ")
    elif changed := [name for name, said in load_recorded().items() if reference.get(name, said) != said]:
        print("answered otherwise than recorded (RECORD=1 keeps these answers):", *changed, sep="\n    ")
    if deliberate.unused:
        print("differences that are no longer there:", *deliberate.unused, sep="\n    ")
    print(printed(table(verdicts)))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(verdicts, entries))
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 1 if deliberate.unused or any(verdict.left for verdict in verdicts) else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except DidNotStartError as error:
        sys.exit(str(error))
