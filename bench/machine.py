"""On what was measured: processors, kernel, memory, versions. No names of machines or users."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.servers import Contestant, processors


def machine() -> dict[str, object]:
    """What a reader has to know of it."""
    return {
        "cpu": _cpu(),
        "processors": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "kernel": platform.release(),
        "pinned": bool(processors()),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def versions(contestants: Sequence[Contestant], databases: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Of the databases that all share, of the client, and of every contestant's packages."""
    client = {"python": platform.python_version()}
    return {"databases": dict(databases), "client": client} | {each.name: each.versions() for each in contestants}
