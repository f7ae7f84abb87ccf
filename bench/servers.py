"""The servers that are compared, each started fresh for a visit and ended after it.

Where there are two processors or more, a server has the first one to itself, and the client shares the others with the
databases, which elsewhere are machines of their own. Without a way to say so (macOS) nothing is pinned.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import psutil
from dev_server import DevServer
from official_server import official

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

    def memory(self) -> float:
        """MiB that its processes hold, without those of its databases."""
        return sum(process.memory_info().rss for process in _tree(self.pid, databases=False)) / 2**20


@dataclass(frozen=True)
class Contestant:
    """A server that can be started on an empty folder."""

    name: str
    start: Callable[[Path], AbstractContextManager[Serving]]
    #: Where its packages are.
    packages: Sequence[str]

    def versions(self) -> dict[str, str]:
        """Of what of LangGraph is in it."""
        found = distributions(path=list(self.packages))
        return {each.name: each.version for each in found if each.name.startswith("langgraph")}


@contextmanager
def _ours(folder: Path) -> Iterator[Serving]:
    server = DevServer(PROJECT / "langgraph.json", folder / "data")
    try:
        process = server.start().process
        assert process is not None, "it has just been started"
        yield Serving(server.url, process.pid, server.log)
    finally:
        server.close()


def ours() -> Contestant:
    """This server as ``langgraph-serverless dev`` starts it, on Postgres and Valkey of its own."""
    return Contestant("ours", _ours, sys.path)


def reference(command: Path) -> Contestant:
    """The official development server, whose state is in memory."""

    @contextmanager
    def start(folder: Path) -> Iterator[Serving]:
        with official(command, PROJECT, folder) as server:
            yield Serving(server.url, server.pid, server.log)

    return Contestant("reference", start, [str(path) for path in command.parents[1].glob("lib/python*/site-packages")])


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
    _pin(os.getpid(), allowed[:1])  # what is started here inherits it
    try:
        with contestant.start(folder) as serving:
            for process in [psutil.Process(), *_tree(serving.pid, databases=True)]:
                _pin(process.pid, allowed[1:])
            yield serving
    finally:
        _pin(os.getpid(), allowed)


def _tree(pid: int, *, databases: bool) -> list[psutil.Process]:
    root = psutil.Process(pid)
    found = []
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            if (process.name() in DATABASES) is databases:
                found.append(process)
    return found


def _pin(pid: int, cpus: list[int]) -> None:
    """All threads of a process; those to come inherit it."""
    if cpus and sys.platform == "linux":
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)
