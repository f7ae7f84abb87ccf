"""What a server is while it is measured, and on which processors it runs.

Where there are two processors or more, a server has the first one to itself, and the client shares the others with the
databases, which elsewhere are machines of their own. Without a way to say so (macOS) nothing is pinned.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import psutil

from bench import ROOT

PROJECT = ROOT / "bench" / "project"
DATABASES = frozenset({"postgres", "valkey-server"})


@dataclass(frozen=True)
class Serving:
    """A server that answers."""

    url: str
    #: What was started; its children are part of it.
    pid: int
    #: What it prints.
    log: Path
    #: Postgres and Redis that it shares with nobody for now, if there are any.
    database_uri: str | None = None
    redis_uri: str | None = None

    def memory(self) -> float:
        """MiB that its processes hold, without those of its databases."""
        return sum(process.memory_info().rss for process in tree(self.pid, databases=False)) / 2**20

    def cpu(self) -> float:
        """CPU seconds of its processes so far, of those that have ended too, without its databases."""
        return cpu_seconds(tree(self.pid, databases=False))


@dataclass(frozen=True)
class Contestant:
    """A server that can be started, on an empty folder or on what its last start has left there."""

    name: str
    start: Callable[[Path], AbstractContextManager[Serving]]
    #: Where its packages are.
    packages: Sequence[str]
    #: What makes the databases empty that are not in the folder, before a visit and after it.
    make_empty: Callable[[], None] = lambda: None

    python: str = platform.python_version()

    def versions(self) -> dict[str, str]:
        """Of its Python, and of what matters of its packages."""
        found = distributions(path=list(self.packages))
        packages = {each.name: each.version for each in found if _matters(each.name)}
        return {"python": self.python, **dict(sorted(packages.items()))}


_BROUGHT_ALONG = {
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "asyncpg",
    "psycopg",
    "redis",
    "orjson",
}


def _matters(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(("langgraph", "langhost", "aegra", "langchain-core")) or lower in _BROUGHT_ALONG


def processors() -> list[int]:
    """Those that may be shared out; none if that cannot be said or there is but one."""
    if sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return allowed if len(allowed) > 1 else []


@contextmanager
def visited(contestant: Contestant, folder: Path) -> Iterator[Serving]:
    """The contestant on its processor, and this process on the others."""
    allowed = processors()
    pin([psutil.Process()], allowed[:1])  # what is started here inherits it
    try:
        with contestant.start(folder) as serving:
            pin([psutil.Process(), *tree(serving.pid, databases=True)], allowed[1:])
            yield serving
    finally:
        pin([psutil.Process()], allowed)


def tree(pid: int, *, databases: bool) -> list[psutil.Process]:
    """A process with all below it: those that are databases, or the others."""
    found = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                if (process.name() in DATABASES) is databases:
                    found.append(process)
    return found


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Of these, and of their children that have ended."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])
    return used


def machine_seconds() -> float:
    """CPU seconds that the machine has been busy since it was started."""
    times = psutil.cpu_times()
    busy = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in busy)


def pin(processes: Iterable[psutil.Process], cpus: Sequence[int]) -> None:
    """All threads of these; those to come inherit it. Nothing if there are no processors to share out."""
    if not cpus or sys.platform != "linux":
        return
    for process in processes:
        with suppress(FileNotFoundError):
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), cpus)
