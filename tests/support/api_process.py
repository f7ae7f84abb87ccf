"""An API process beside a cluster's own API, for tests that kill it or give it other settings: ``api_main.py`` on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cluster import Cluster
from dev_server import free_port, until


@contextmanager
def api_process(cluster: Cluster, **environ: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address and the process, once it serves."""
    port, log = free_port(), cluster.folder / "api.output"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "api_main.py"), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **cluster.environ, **environ},
            start_new_session=True,
        )

    def serves() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/ok").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(serves, "the API process")
        yield url, process
    finally:
        process.kill()
        process.wait()
