"""SnapStart: what a function has made at its start is copied into many sandboxes.

A fork stands in for a restored snapshot: both have the memory of a process that has started. Unlike a fork, a snapshot does not
reseed ``random``, so that is looked at by itself; and what the Runtime API does is done by a server in this process.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import snapshot_restore_py
from awslambdaric import lambda_runtime_hooks_runner
from dev_server import PATIENCE, ROOT

from langgraph_serverless.domain.manifest import Manifest, canonical
from langgraph_serverless.function_snapshot import close_before_snapshot, reseed_after_restore

SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(snapshot_restore_py, "_before_snapshot_registry", [])
    monkeypatch.setattr(snapshot_restore_py, "_after_restore_registry", [])
    return lambda_runtime_hooks_runner


def test_restored_sandboxes_draw_different_numbers(hooks: Any) -> None:
    reseed_after_restore(SNAP_START)
    hooks.run_before_snapshot()
    snapshot, drawn = random.getstate(), set()
    for _ in range(3):
        random.setstate(snapshot)
        hooks.run_after_restore()
        drawn.add(random.random())
    assert len(drawn) == 3


def test_what_is_open_is_closed_before(hooks: Any) -> None:
    closed: list[bool] = []
    close_before_snapshot(lambda: closed.append(True), SNAP_START)
    hooks.run_before_snapshot()
    assert closed == [True]


def test_without_snapshots_nothing_is_registered(hooks: Any) -> None:
    close_before_snapshot(lambda: None, {})
    reseed_after_restore({"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"})
    assert snapshot_restore_py.get_before_snapshot() == snapshot_restore_py.get_after_restore() == []


# -- what two clones of a started function have in common ----------------------------------------------------------------

CLONES = """
import importlib, json, os, sys
started = [importlib.import_module(f"langgraph_serverless_functions.{name}.handler") for name in ("runs", "worker")]
sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
print(json.dumps({"sockets": [name for name in sockets if name.startswith("socket:")]}), flush=True)

from langchain_core.utils.uuid import uuid7
from langgraph.checkpoint.base.id import uuid6
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.services.queue import QueueService

def names():
    import asyncio
    container = WorkerContainer(started[1].runtime.settings, registry=started[1].registry)
    async def make():
        return container.worker().worker_id, container.queue._owner
    with asyncio.Runner() as runner:
        worker, sweeper = runner.run(make())
    return {"worker": worker, "sweeper": sweeper, "run": str(new_id()), "checkpoint": str(uuid6()), "call": str(uuid7())}

for _ in range(2):
    if os.fork() == 0:
        print(json.dumps(names()), flush=True)
        os._exit(0)
    os.wait()
"""


def test_clones_of_a_started_process_share_no_name_and_no_connection(tmp_path: Path) -> None:
    (tmp_path / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    (tmp_path / "langgraph_manifest.json").write_text(canonical(Manifest.of({}).to_json()))
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}:{ROOT / 'core'}",
        # nobody is there, so a start that connects would fail
        "DATABASE_URI": "postgresql://127.0.0.1:1/none",
        "REDIS_URI": "redis://127.0.0.1:1",
        "LANGGRAPH_MANIFEST": str(tmp_path / "langgraph_manifest.json"),
        "LANGGRAPH_CONFIG": str(ROOT / "tests/fixtures/projects/run_path/langgraph.json"),
        **SNAP_START,
    }
    done = subprocess.run(
        [sys.executable, "-c", CLONES], env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    before, first, second = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    # an event loop wakes itself through a pair of sockets; there is one
    assert len(before["sockets"]) <= 4, before
    assert {name for name in first if first[name] == second[name]} == set()


# -- our own client of the Runtime API -----------------------------------------------------------------------------------

HANDLER = """
import os, snapshot_restore_py

def note(text):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(text + "\\n")

note("start")
snapshot_restore_py.register_before_snapshot(note, "first before")
snapshot_restore_py.register_before_snapshot(note, "second before")
snapshot_restore_py.register_after_restore(note, "after")
if os.environ.get("BROKEN"):
    getattr(snapshot_restore_py, os.environ["BROKEN"])(lambda: 1 / 0)

class Handler:
    app = staticmethod(lambda *_: None)
    async def app(self, scope, receive, send):
        raise NotImplementedError
    def run(self, coroutine):
        import asyncio
        self.loop = getattr(self, "loop", None) or asyncio.new_event_loop()
        return self.loop.run_until_complete(coroutine)
    def __call__(self, event, context):
        note("invoked")
        return event

handler = Handler()
"""


class RuntimeApi(ThreadingHTTPServer):
    """Takes a snapshot, restores it, has one event and then no more."""

    daemon_threads = True

    def __init__(self) -> None:
        calls = self.calls = list[tuple[str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.append((self.path.removeprefix("/2018-06-01/runtime"), ""))
                again = calls.count(("/invocation/next", "")) > 1
                self.send_response(410 if again else 200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "1")
                self.send_header("Lambda-Runtime-Deadline-Ms", "9999999999999")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                error = self.headers.get("Lambda-Runtime-Function-Error-Type", "")
                calls.append((self.path.removeprefix("/2018-06-01/runtime"), error))
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quietly."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def runtime_api() -> Iterator[RuntimeApi]:
    server = RuntimeApi()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("broken", "calls", "notes"),
    [
        (
            "",
            [("/restore/next", ""), ("/invocation/next", ""), ("/invocation/1/response", ""), ("/invocation/next", "")],
            ["start", "second before", "first before", "after", "invoked"],
        ),
        ("register_before_snapshot", [("/init/error", "Runtime.BeforeSnapshotError")], ["start"]),
        (
            "register_after_restore",
            [("/restore/next", ""), ("/restore/error", "Runtime.AfterRestoreError")],
            ["start", "second before", "first before", "after"],
        ),
    ],
)
def test_the_streaming_runtime_has_a_snapshot_taken(
    runtime_api: RuntimeApi, tmp_path: Path, broken: str, calls: list[Any], notes: list[str]
) -> None:
    (tmp_path / "sample.py").write_text(HANDLER)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}:{ROOT / 'core'}",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.server_port}",
        "_HANDLER": "sample.handler",
        "NOTES": str(tmp_path / "notes"),
        "BROKEN": broken,
        **SNAP_START,
    }
    command = [sys.executable, "-m", "langgraph_serverless.lambda_runtime"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode != 0) is bool(broken), done.stderr
    assert runtime_api.calls == calls
    assert (tmp_path / "notes").read_text().split("\n")[:-1] == notes
