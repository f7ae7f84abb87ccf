"""The official development server as a subprocess, a black box beside ours: ``make compat`` and ``make bench`` ask it over HTTP.

It runs on a copy of a project, as it keeps its state beside it, and ends with the ``with`` block that started it. Nothing is
known of it but its command and its answers (docs/adr/0002-dependencies.md).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from dev_server import FOREIGN, free_port

#: Longest time (seconds) until it answers.
PATIENCE = 90.0
#: It looks for runs about once a second and, told so, executes ten at once, as many as ours.
AT_ONCE = 10


class DidNotStartError(Exception):
    """The official server did not start."""


@dataclass(frozen=True)
class OfficialServer:
    """One that answers."""

    url: str
    pid: int
    #: What it prints.
    log: Path


@contextmanager
def official(command: str | Path, project: Path, folder: Path) -> Iterator[OfficialServer]:
    """The official server on a copy of ``project`` in ``folder``."""
    app = folder / "official"
    shutil.copytree(project, app, ignore=shutil.ignore_patterns(".langgraph_api", "__pycache__"))
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
                raise DidNotStartError(f"The official server did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.2)
        yield OfficialServer(url, process.pid, log)
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok").status_code == 200
    except httpx.TransportError:
        return False
