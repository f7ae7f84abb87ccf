"""The stream function as Lambda runs it: its own process under the wrapper script, given events by an emulator of the Runtime API.

``Function`` invokes it in as many sandboxes as there are requests at once, and ends what takes longer than it may, as Lambda
does. ``Gateway`` is what API Gateway and function URLs do in front: HTTP requests become events, and an answer is passed on
while it is written; it is cut off where the function breaks it off.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dev_server import PATIENCE, ROOT

MODULE = ROOT / "infra/localstack/process_executor/src/process_executor/runtime_api.py"
WRAPPER = ROOT / "functions/stream/streaming_runtime"
DELIMITER = b"\0" * 8


def emulator() -> ModuleType:
    """The Runtime API of the LocalStack kit, loaded from its place (it is installed in LocalStack's environment only)."""
    name = "process_executor_runtime_api"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, MODULE)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Sandbox:
    """One process of the function, or of another one under the managed client, which is in the place of ours then."""

    def __init__(
        self, handler: str, root: Path, environ: Mapping[str, str], log: Path, *, wrapper: Path | None = WRAPPER
    ) -> None:
        self.log = log
        self.api = emulator().RuntimeApi()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*filter(None, [wrapper]), sys.executable, "-m", "awslambdaric", handler],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    "PATH": os.environ["PATH"],
                    "AWS_LAMBDA_FUNCTION_NAME": "stream",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
                    "AWS_LAMBDA_RUNTIME_API": self.api.address,
                    "LAMBDA_TASK_ROOT": str(root),
                    "_HANDLER": handler,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environ,
                },
            )
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def _watch(self) -> None:
        code = self.process.wait()
        error = emulator().error_payload("Runtime.ExitError", f"exit status {code}")
        self.api.fail_start(error)
        if self.api.current is not None:
            self.api.current.finish(error=error)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def started(self) -> Sandbox:
        assert self.api.ready.wait(PATIENCE), self.output
        assert self.api.init_error is None, self.api.init_error
        return self

    def invoke(self, event: Any, timeout: float = 60, trace: str = "") -> Any:
        """An invocation that has begun; its answer comes in ``chunks()``, and ``done`` says when it is over."""
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        invocation = emulator().Invocation(
            str(uuid.uuid4()), payload, timeout, "arn:aws:lambda:x:1:function:stream", trace
        )
        return self.api.submit(invocation)

    def close(self) -> int:
        """The Runtime API goes, and the process is to end by itself; what it says at its end."""
        self.api.close()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._watching.join(PATIENCE)


class Function:
    """Sandboxes that are started when there are more requests than idle ones."""

    def __init__(self, handler: str, root: Path, environ: Mapping[str, str], folder: Path, *, timeout: float) -> None:
        self.timeout = timeout
        self.invocations: list[Any] = []
        self._made = lambda number: Sandbox(handler, root, environ, folder / f"stream{number}.output")
        self._idle: list[Sandbox] = []
        self.sandboxes: list[Sandbox] = []

    def warm(self, count: int) -> None:
        for _ in range(count):
            self.sandboxes.append(self._made(len(self.sandboxes)))
        for sandbox in self.sandboxes[-count:]:
            self._idle.append(sandbox.started())

    def invoke(self, event: dict[str, Any]) -> Any:
        try:
            sandbox = self._idle.pop()
        except IndexError:
            self.warm(1)
            sandbox = self._idle.pop()
        invocation = sandbox.invoke(event, self.timeout)
        self.invocations.append(invocation)
        threading.Thread(target=self._attend, args=(sandbox, invocation), daemon=True).start()
        return invocation

    def _attend(self, sandbox: Sandbox, invocation: Any) -> None:
        if invocation.done.wait(self.timeout):
            self._idle.append(sandbox)
        else:
            invocation.finish(error=emulator().error_payload("Sandbox.Timedout", "Task timed out"))
            sandbox.process.kill()

    def close(self) -> None:
        for sandbox in self.sandboxes:
            sandbox.process.kill()
            sandbox.close()


def rest_event(
    target: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a function gets from a REST API."""
    parts = urlsplit(target)
    sent = {"Host": "api.example", **(headers or {})}
    return {
        "resource": "/{proxy+}",
        "path": parts.path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": parse_qs(parts.query) or None,
        "pathParameters": {"proxy": parts.path.strip("/")},
        "body": None if body is None else base64.b64encode(body).decode(),
        "isBase64Encoded": body is not None,
        "requestContext": {"identity": {"sourceIp": "10.0.0.1"}, "stage": "v1", "requestId": "from-the-gateway"},
    }


def url_event(
    target: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What it gets from its own URL."""
    parts = urlsplit(target)
    sent = {name.lower(): value for name, value in {"Host": "url.example", **(headers or {})}.items()}
    cookie = sent.pop("cookie", "")
    return {
        "version": "2.0",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": sent,
        **({"cookies": cookie.split("; ")} if cookie else {}),
        **({} if body is None else {"body": base64.b64encode(body).decode()}),
        "isBase64Encoded": body is not None,
        "requestContext": {
            "http": {"method": method, "path": parts.path, "sourceIp": "10.0.0.1"},
            "stage": "$default",
            "requestId": "from-the-url",
        },
    }


def answer_of(invocation: Any) -> tuple[dict[str, Any], bytes]:
    """The whole answer: what comes before the delimiter, and the body."""
    assert invocation.done.wait(PATIENCE)
    metadata, delimiter, body = bytes(invocation.body).partition(DELIMITER)
    assert len(delimiter) == len(DELIMITER), invocation.error
    return json.loads(metadata), body


class Gateway:
    """Streams and waits go to the function, every other request to the server behind."""

    def __init__(self, function: Function, server: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0)) or None
                last = urlsplit(self.path).path.rsplit("/", 1)[-1]
                if last in ("stream", "wait", "join", "events", "commands"):
                    _pass_on(self, function.invoke(rest_event(self.path, self.command, body, dict(self.headers))))
                else:
                    _ask(self, server, body)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                """Quietly."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._serving.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._serving.join(PATIENCE)


def _pass_on(handler: BaseHTTPRequestHandler, invocation: Any) -> None:
    chunks: Iterator[bytes] = invocation.chunks()
    head = b""
    for chunk in chunks:
        head += chunk
        if DELIMITER in head:
            break
    metadata, _, body = head.partition(DELIMITER)
    handler.close_connection = True
    with suppress(OSError):  # a client that has gone is nothing that Lambda hears of
        if not metadata:
            handler.send_error(502)
            return
        document = json.loads(metadata)
        handler.send_response(document["statusCode"])
        for name, value in document["headers"].items():
            handler.send_header(name, value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chain([body] if body else [], chunks):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if invocation.error is None:
            handler.wfile.write(b"0\r\n\r\n")


def _ask(handler: BaseHTTPRequestHandler, server: str, body: bytes | None) -> None:
    connection = HTTPConnection(urlsplit(server).netloc)
    try:
        connection.request(handler.command, handler.path, body, dict(handler.headers))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    handler.send_response(answer.status)
    handler.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def bundle(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """A folder like the one that is deployed, with the handlers of this checkout."""
    folder.mkdir(parents=True)
    (folder / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    (folder / "langgraph_manifest.json").write_text(json.dumps(manifest))
    return folder


def arrivals(invocation: Any) -> list[tuple[float, bytes]]:
    """When each part of an answer came."""
    return [(time.time(), chunk) for chunk in invocation.chunks()]
