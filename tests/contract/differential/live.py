"""What ``make compat`` runs: both servers on clean copies of the sample project, all cases, the table, the page.

    python live.py LANGGRAPH [--record]

``LANGGRAPH`` is the command of the official development server in an environment of its own; it is only ever asked over
HTTP. The exit code is 1 if answers differ that are not in ``differences.json``, or if entries there have no use. With
``--record`` the answers of the official server become the recorded ones, else it is said where they are not these any more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from case_files import load_cases, load_differences, load_recorded, record
from comparison import Deliberate, judge
from conversation import ask_all
from parity import PAGE, ROOT, page, printed, table

sys.path.insert(0, str(ROOT / "tests" / "support"))
from dev_server import FOREIGN, DevServer, free_port

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "differential"
PATIENCE = 90.0
#: The official server looks for runs about once a second and executes ten at once.
AT_ONCE = 10


@contextmanager
def official(command: str, folder: Path) -> Iterator[str]:
    """The address of the official server on a copy of the project in ``folder``."""
    app = folder / "official"
    shutil.copytree(PROJECT, app, ignore=shutil.ignore_patterns(".langgraph_api", "__pycache__"))
    environ = {name: value for name, value in os.environ.items() if not any(word in name for word in FOREIGN)}
    environ |= {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--no-browser", "--no-reload", "--port", str(port), "--n-jobs-per-worker", str(AT_ONCE)]
    log = folder / "official.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(command).absolute(), "dev", *options],
            cwd=app,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The official server did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok").status_code == 200
    except httpx.TransportError:
        return False


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
        with official(arguments.langgraph, folder) as reference_url, ours(folder) as our_url:
            reference, answers = await asyncio.gather(
                ask_all(reference_url, cases, at_once=AT_ONCE), ask_all(our_url, cases, at_once=AT_ONCE)
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
    sys.exit(asyncio.run(main()))
