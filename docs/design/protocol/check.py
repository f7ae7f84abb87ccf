"""Checks the model with Spin: that the protocol keeps its promises, and that the model would notice if it did not.

``make model`` runs everything (some minutes), ``python docs/design/protocol/check.py --quick`` a part of a few seconds.
Each mutation takes one safeguard away, and the error that it leads to has to be found; README.md explains them.
Needs ``spin`` and a C compiler; ends with 2 and says so if one is missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("lease.pml")
NONE = {"CRASHES": 0, "DROPS": 0, "HANDOFFS": 0, "FLUSHES": 0}
ONE_RUN = {"ONE_RUN": 1}
#: One search may take this many seconds, and megabytes.
LONGEST, MOST_MEMORY = 900, 6000
STUCK = "acceptance cycle"
#: As Spin prints `holds(r, t)`.
OWNER = r"token\[r\]==t"


@dataclass(frozen=True)
class Case:
    """One search."""

    name: str
    defines: dict[str, int]
    #: Part of the error that must be found; None if there must be none.
    error: str | None = None
    liveness: bool = False
    quick: bool = False


def case(name: str, *parts: dict[str, int] | str, error: str | None = None, **options: bool) -> Case:
    defines = dict(NONE)
    for part in parts:
        defines |= {part: 1} if isinstance(part, str) else part
    return Case(name, defines, error, **options)


FAULTS = {"CRASHES": 1, "DROPS": 1, "HANDOFFS": 1}
SHORT = {"STEPS": 1}
MIDDLE = {"STEPS": 2}
CASES = [
    case("one run, no fault but zombies", ONE_RUN, MIDDLE, quick=True),
    case("one run; crash, lost answer, hand-off", ONE_RUN, MIDDLE, FAULTS),
    case(
        "one run; three attempts, hand-off, FLUSHALL", ONE_RUN, MIDDLE, {"MAX_ATTEMPTS": 3, "HANDOFFS": 1, "FLUSHES": 1}
    ),
    case("two runs, no fault but zombies", SHORT),
    case("one run ends, in fair executions", ONE_RUN, SHORT, "ONE_WORKER", liveness=True),
    case("settle, hand_off: no token", ONE_RUN, SHORT, "NO_FENCE", error=OWNER),
    case("put_checkpoint: no fence", ONE_RUN, SHORT, "NO_CHECKPOINT_FENCE", error=OWNER),
    case("put_checkpoint: looks, then writes", ONE_RUN, SHORT, "CHECK_THEN_WRITE", error=OWNER),
    case("stream: no fence", ONE_RUN, MIDDLE, "NO_STREAM_FENCE", error="newest_event"),
    case("hand_off costs an attempt", ONE_RUN, SHORT, "HANDOFF_IS_ATTEMPT", {"HANDOFFS": 1}, error="expired_leases"),
    case("cancel: a message, no column", ONE_RUN, SHORT, "NO_CANCEL_COLUMN", error="acked"),
    case("settle ignores a cancel", ONE_RUN, SHORT, "SETTLE_OVER_CANCEL", error="acked", quick=True),
    case("cancelled: tried for ever", ONE_RUN, SHORT, "CANCELS_TRIED_FOR_EVER", error="dry"),
    case("every run: tried for ever", ONE_RUN, SHORT, "UNBOUNDED_ATTEMPTS", error="dry"),
    case("delete keeps the epoch", ONE_RUN, SHORT, "DELETE_IN_SAME_EPOCH", error="closed"),
    case("claim: no order", SHORT, "NO_ORDER", error="status"),
    case("claim: no order, no index", SHORT, "NO_ORDER", "NO_UNIQUE_INDEX", error="status"),
    case("heartbeat renews after a loss", ONE_RUN, SHORT, "RENEW_AFTER_LOSS", {"DROPS": 1}, error=STUCK, liveness=True),
    case("nobody sweeps", ONE_RUN, SHORT, "NO_SWEEPER", {"CRASHES": 1}, error="status"),
    case("bell only, no polling", ONE_RUN, SHORT, "NO_POLLING", error="status"),
    case("stream refuses at once (not promised)", ONE_RUN, MIDDLE, "STRONG_STREAM", error="claims"),
]


@dataclass(frozen=True)
class Result:
    """What a search found."""

    as_expected: bool
    found: str
    states: str
    depth: str
    seconds: float


def check(tried: Case) -> Result:
    began = time.monotonic()
    defines = [f"-D{name}={value}" for name, value in tried.defines.items()]
    flags = ["-DNFAIR=3"] if tried.liveness else ["-DSAFETY"]
    search = ["./pan", "-m2000000", *(["-a", "-f"] if tried.liveness else [])]
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONGEST, check=False)
            if done.returncode:
                sys.exit(f"{tried.name}: {' '.join(command)} failed\n{done.stdout}{done.stderr}")
            return done.stdout

        run("spin", "-a", *defines, *(["-DLIVENESS"] if tried.liveness else []), str(MODEL))
        run("cc", "-O1", "-w", "-DCOLLAPSE", f"-DMEMLIM={MOST_MEMORY}", *flags, "-o", "pan", "pan.c")
        said = run(*search)
    error = re.search(r"pan:\d+: (.*)", said)
    complete = "Search not completed" not in said
    found = error[1] if error else "no error" if complete else "not completed"
    states, depth = re.search(r"(\d+) states, stored", said), re.search(r"depth reached (\d+)", said)
    as_expected = bool(re.search(tried.error, found)) if tried.error else not error and complete
    return Result(
        as_expected, found, states[1] if states else "?", depth[1] if depth else "?", time.monotonic() - began
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    cases = [each for each in CASES if each.quick or not parser.parse_args().quick]
    missing = [tool for tool in ("spin", "cc") if shutil.which(tool) is None]
    if missing:
        print(
            f"The model cannot be checked: no {' and no '.join(missing)} on the PATH."
            " Spin 6.5 is a package of most systems (Debian: apt-get install spin); it needs a C compiler."
        )
        return 2
    wrong = 0
    with ThreadPoolExecutor(2) as threads:
        for tried, result in zip(cases, threads.map(check, cases), strict=True):
            wrong += not result.as_expected
            print(
                f"{'ok ' if result.as_expected else 'BAD'} {tried.name:42} {result.states:>9} states"
                f"  depth {result.depth:>4} {result.seconds:6.1f} s  {result.found}",
                flush=True,
            )
    print(f"{len(cases) - wrong} of {len(cases)} as expected")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
