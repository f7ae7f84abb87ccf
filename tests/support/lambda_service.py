"""A deployment's worker function without Lambda: what it does of Lambda's part is to invoke, to freeze and to kill.

``deployed`` is a pytest fixture: ``deployed(limit=4)`` is a cluster whose API and workers ring for a worker function, and the
service that invokes it (``lambda_edge.py``), in sandboxes that are processes of their own. Nothing else keeps runs going: there
is no worker that waits.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cluster import PROJECT, Cluster, served
from dev_server import PATIENCE, SHORT_LEASES, until
from lambda_edge import Invocation, LambdaEdge

#: Of a client of AWS that must not find any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}


class _Sandbox:
    def __init__(self, environ: dict[str, str], log: Path) -> None:
        reading, writing = os.pipe()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "lambda_sandbox.py"), str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        self._answers = os.fdopen(reading)
        self.log = log

    def answer(self) -> dict[str, Any] | None:
        line = self._answers.readline()
        return json.loads(line) if line else None

    def invoke(self, limit: float, event: dict[str, Any]) -> dict[str, Any] | None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{limit} {json.dumps(event)}\n".encode())
            self.process.stdin.flush()
        except OSError:  # it was killed while it had nothing to do
            return None
        killer = threading.Timer(limit, self.process.kill)
        killer.start()
        try:
            return self.answer()
        finally:
            killer.cancel()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._answers.close()


class LambdaService(LambdaEdge):
    """Invokes the worker function; an HTTP server that boto3 takes for Lambda."""

    def __init__(self, folder: Path, limit: float, **options: Any) -> None:
        super().__init__(**options)
        self.limit = limit
        self.environ: dict[str, str] = {}
        self._folder = folder
        self._idle: list[_Sandbox] = []
        self._sandboxes: list[_Sandbox] = []
        self._busy: set[_Sandbox] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken = service.accept(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                body = b"" if taken else b'{"Type": "User", "message": "Rate Exceeded."}'
                self.send_response(202 if taken else 429)
                if not taken:
                    self.send_header("x-amzn-ErrorType", "TooManyRequestsException")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._serving.start()

    def warm(self, count: int) -> None:
        """Have so many sandboxes that have started already; of those that start on demand the limit counts from then."""
        made = [self._start() for _ in range(count)]
        for sandbox in made:
            assert sandbox.answer() is not None, sandbox.log.read_text()
        self._idle.extend(made)

    def kill_one(self, chance: random.Random) -> bool:
        """Kill a sandbox that is at work; whether there was one."""
        if not self._busy:
            return False
        chance.choice(sorted(self._busy, key=lambda sandbox: sandbox.process.pid)).process.kill()
        return True

    @property
    def output(self) -> str:
        return "\n".join(sandbox.log.read_text(errors="replace") for sandbox in self._sandboxes)

    def _start(self) -> _Sandbox:
        environ = {**os.environ, **self.environ}
        sandbox = _Sandbox(environ, self._folder / f"sandbox{len(self._sandboxes)}-{uuid.uuid4().hex[:4]}.output")
        self._sandboxes.append(sandbox)
        return sandbox

    def carry_out(self, invocation: Invocation) -> dict[str, Any] | None:
        try:
            sandbox = self._idle.pop()
        except IndexError:
            sandbox = self._start()
            if sandbox.answer() is None:
                return None
            invocation.began = time.monotonic()
        self._busy.add(sandbox)
        report = sandbox.invoke(self.limit, invocation.event)
        self._busy.discard(sandbox)
        if report is not None:
            self._idle.append(sandbox)
        return report

    def close(self) -> None:
        self._closing = True
        for sandbox in self._sandboxes:
            sandbox.process.kill()
        super().close()
        for sandbox in self._sandboxes:
            sandbox.close()
        self._server.shutdown()
        self._server.server_close()
        self._serving.join(PATIENCE)


Deploy = Callable[..., tuple[Cluster, LambdaService]]


@pytest.fixture
def deployed(databases: Any, redis_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Makes deployments; settings are variables of the environment."""
    with ExitStack() as stack:

        def deploy(
            *,
            limit: float,
            sandboxes: int = 2,
            project: Path = PROJECT,
            edge: Mapping[str, Any] | None = None,
            **environ: str,
        ) -> tuple[Cluster, LambdaService]:
            uri = databases.create()
            stack.callback(databases.drop, uri)
            service = LambdaService(tmp_path, limit, **(edge or {}))
            stack.callback(service.close)
            for name, value in CREDENTIALS.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", service.url)
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
            cluster = Cluster(
                {
                    "DATABASE_URI": uri,
                    "REDIS_URI": redis_uri,
                    "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
                    "LANGGRAPH_CONFIG": str(project),
                    "JOURNAL": str(tmp_path / "journal"),
                    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
                    "WORKER_FUNCTION_NAME": "worker",
                    **SHORT_LEASES,
                    **environ,
                },
                tmp_path,
            )
            service.environ = cluster.environ
            cluster.url = stack.enter_context(served(cluster.settings()))
            service.warm(sandboxes)
            return cluster, service

        yield deploy


def idle(service: LambdaService, *, patience: float = PATIENCE) -> None:
    """Wait until no invocation is running."""
    until(lambda: service.idle, "the last invocation to end", patience=patience)
