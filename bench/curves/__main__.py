"""``python -m bench.curves``: measure what grows, and put tables and pictures into the guide (``--dry`` only prints).

Each part has databases of its own, which are gone at the end. The exit code is 1 if one could not be measured, and the others
are published all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import psycopg
import redis
import uvloop
from official_server import DidNotStartError

from bench import ROOT
from bench.client import WrongAnswerError
from bench.curves import FIGURES, GUIDE, PICTURES, storage, streams, threads, workers
from bench.curves.guide import publish
from bench.curves.part import Part
from bench.curves.site import Site
from bench.databases import DatabasesError, databases

Measure = Callable[[Site, float], Awaitable[Part]]
PARTS: dict[str, Measure] = {
    "workers": workers.measure,
    "streams": streams.measure,
    "threads": threads.measure,
    "storage": storage.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.curves", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), metavar="NAME,NAME", help="some of: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 does a tenth of everything, for a quick look")
    parser.add_argument("--dry", action="store_true", help="write no file, only print")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that cannot keep its bytecode starts slowly
    found, failed = [], []
    for name in names:
        began = time.monotonic()
        try:
            found.append(measured(PARTS[name], arguments.scale))
        except (
            WrongAnswerError,
            DidNotStartError,
            DatabasesError,
            OSError,
            EOFError,
            psycopg.Error,
            redis.RedisError,
            ExceptionGroup,
        ) as error:
            failed.append(name)
            print(f"{name} could not be measured: {error!r}", file=sys.stderr, flush=True)
            continue
        print(f"\n{name}, in {time.monotonic() - began:.0f} s\n\n{found[-1].markdown()}", flush=True)
    if not arguments.dry:
        written = publish(found, _machine(arguments.scale), guide=GUIDE, pictures=PICTURES, figures=FIGURES)
        print("\nwritten:", *(path.relative_to(ROOT) for path in written))
    return 1 if failed else 0


def measured(measure: Measure, scale: float) -> Part:
    """One part, on fresh databases."""
    with tempfile.TemporaryDirectory(prefix="curves-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root has another user run Postgres
        with databases(folder) as made:
            made.make_empty("curves")
            site = Site(folder, f"postgresql://{made.postgres('curves')}", made.redis(0), made.processes[0])
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_awaited(measure, site, scale))


async def _awaited(measure: Measure, site: Site, scale: float) -> Part:
    return await measure(site, scale)


def _machine(scale: float) -> dict[str, object]:
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "langgraph": version("langgraph"),
        "scale": scale,
    }


if __name__ == "__main__":
    sys.exit(main())
