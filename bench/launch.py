"""A server's command as a subprocess: started in a session of its own, asked until it answers, ended with the ``with`` block.

Nothing is known of a contestant but its command, the variables that it reads and its answers; this process's variables that could
change what is measured are kept from it. Only the session that was started here is ever signalled.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dev_server import FOREIGN
from official_server import DidNotStartError

#: Longest time (seconds) until a server answers, and until it has ended when told to.
PATIENCE = 90.0
_GRACE = 15.0


@contextmanager
def launched(
    command: Sequence[str | Path], port: int, log: Path, *, cwd: Path, environ: Mapping[str, str], health: str = "/ok"
) -> Iterator[int]:
    """The process's number, once ``health`` was answered with 200.

    Raises:
        DidNotStartError: it ended, or does not answer; with what it has printed.
    """
    own = {name: value for name, value in os.environ.items() if not any(word in name for word in FOREIGN)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**own, "NO_COLOR": "1", "LANGSMITH_TRACING": "false", **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while ask(port, "GET", health)[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DidNotStartError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)  # on the processor of the server, so not more often
        yield process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            break
    with suppress(ProcessLookupError):  # what it has started and did not wait for
        os.killpg(process.pid, signal.SIGKILL)


def until_first_run(port: int) -> None:
    """Return once a run was answered.

    Raises:
        DidNotStartError: none was in time.
    """
    deadline = time.monotonic() + PATIENCE
    body = {"assistant_id": "echo", "input": {"text": "first"}}
    while True:
        status, answer = ask(port, "POST", "/runs/wait", body, patience=30)
        if status == 200 and isinstance(answer, dict) and answer.get("reply") == "first":
            return
        if time.monotonic() > deadline:
            raise DidNotStartError(f"no run is answered: {status} {answer!r:.300}")
        time.sleep(0.02)


def ask(port: int, method: str, path: str, body: Any = None, *, patience: float = 5) -> tuple[int, Any]:
    """Status and answer, or 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text
