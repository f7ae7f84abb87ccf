"""The Lambda Runtime API (version 2018-06-01) for one execution environment, as a local HTTP server.

The runtime client in the function's process polls ``/invocation/next`` and posts to ``/response`` or ``/error``. Both
ways to answer are supported: a buffered body, and a streamed one (``Lambda-Runtime-Function-Response-Mode:
streaming`` with chunked transfer encoding and error trailers).

This module does not import LocalStack, so that runtime clients can be tested against it alone.
"""

import base64
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API_PREFIX = "/2018-06-01/runtime/"
MAX_BUFFERED_RESPONSE = 6 * 1024 * 1024 + 100  # Lambda's limit: 6,291,556 bytes
MAX_STREAMED_RESPONSE = 200 * 1024 * 1024
ERROR_TYPE, ERROR_BODY = "lambda-runtime-function-error-type", "lambda-runtime-function-error-body"
_END = object()


def error_payload(error_type: str, message: str) -> bytes:
    """An error in the shape that Lambda returns to the one who invoked the function."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


@dataclass
class Invocation:
    """One event on its way through a function, and its response, which may be read while it is still written."""

    request_id: str
    payload: bytes
    timeout_s: float
    function_arn: str = ""
    trace_id: str = ""
    content_type: str = ""  # of the response
    streamed: bool = False
    error: bytes | None = None  # the error's JSON body; in a stream it may follow after some chunks
    started_at: float = 0.0
    deadline: float = 0.0  # in time.time(), known once the runtime has taken the event
    accepted: threading.Event = field(default_factory=threading.Event)  # the response has begun
    done: threading.Event = field(default_factory=threading.Event)
    body: bytearray = field(default_factory=bytearray)
    connection: socket.socket | None = None  # on which a streamed response comes
    _chunks: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)

    def write(self, chunk: bytes) -> None:
        if chunk and not self.done.is_set():
            self.body += chunk
            self._chunks.put(chunk)
            self.accepted.set()

    def finish(self, error: bytes | None = None) -> None:
        """Ends the invocation; only the first call counts."""
        if not self.done.is_set():
            self.error = error
            self.done.set()
            self.accepted.set()
            self._chunks.put(_END)

    def hang_up(self) -> None:
        """Takes no more of a streamed response. Lambda is not known to do so; a runtime client should notice all the same."""
        if self.connection is not None:
            self.connection.shutdown(socket.SHUT_RDWR)

    def chunks(self):
        """Yields the response's parts as they arrive."""
        while (chunk := self._chunks.get()) is not _END:
            yield chunk


class RuntimeApi:
    """Serves one function process; ``address`` is what AWS_LAMBDA_RUNTIME_API must be set to."""

    def __init__(self):
        self.ready = threading.Event()  # the runtime has polled, or its start has failed
        self.init_error: bytes | None = None
        self.current: Invocation | None = None
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        handler = type("Handler", (_RequestHandler,), {"api": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def submit(self, invocation: Invocation) -> Invocation:
        self.current = invocation
        self._queue.put(invocation)
        return invocation

    def next_invocation(self) -> Invocation | None:
        self.ready.set()
        return self._queue.get()

    def fail_start(self, error: bytes) -> None:
        if not self.ready.is_set():
            self.init_error = error
            self.ready.set()

    def close(self) -> None:
        self._queue.put(None)  # wakes a waiting poll, which is answered with 410 Gone
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a killed process leaves broken connections behind


class _RequestHandler(BaseHTTPRequestHandler):
    api: RuntimeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path != API_PREFIX + "invocation/next":
            self._reply(404)
            return
        invocation = self.api.next_invocation()
        if invocation is None:
            self._reply(410)
            return
        invocation.started_at = time.time()
        invocation.deadline = invocation.started_at + invocation.timeout_s
        self._reply(
            200,
            invocation.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                "Lambda-Runtime-Trace-Id": invocation.trace_id,
            },
        )

    def do_POST(self):
        parts = self.path.removeprefix(API_PREFIX).split("/")
        if parts == ["init", "error"]:
            self.api.fail_start(b"".join(self._body_parts()))
            self._reply(202, b'{"status":"OK"}')
            return
        invocation = self.api.current
        if len(parts) != 3 or parts[0] != "invocation" or invocation is None or invocation.request_id != parts[1]:
            for _ in self._body_parts():
                pass
            self._reply(400, error_payload("InvalidRequestID", "Invalid request ID"))
            return
        if parts[2] == "error":
            invocation.finish(error=b"".join(self._body_parts()))
        else:
            self._take_response(invocation)
        self._reply(202, b'{"status":"OK"}')

    def _take_response(self, invocation: Invocation) -> None:
        invocation.content_type = self.headers.get("Content-Type", "")
        invocation.streamed = self.headers.get("Lambda-Runtime-Function-Response-Mode", "").lower() == "streaming"
        limit = MAX_STREAMED_RESPONSE if invocation.streamed else MAX_BUFFERED_RESPONSE
        invocation.connection = self.connection if invocation.streamed else None
        trailers: dict[str, str] = {}
        try:
            if not invocation.streamed:
                body = b"".join(self._body_parts(trailers))
                if len(body) > limit:
                    message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
                    invocation.finish(error=error_payload("Function.ResponseSizeTooLarge", message))
                    return
                invocation.write(body)
            else:
                for chunk in self._body_parts(trailers):
                    if len(invocation.body) + len(chunk) > limit:
                        invocation.finish(error=error_payload("Function.ResponseSizeTooLarge", str(limit)))
                        return
                    invocation.write(chunk)
        except (OSError, ValueError):
            invocation.finish(error=error_payload("Runtime.TruncatedResponse", "The response ended early"))
            return
        error = None
        if ERROR_TYPE in trailers:
            try:
                error = base64.b64decode(trailers.get(ERROR_BODY, "")) or None
            except ValueError:
                error = None
            error = error or error_payload(trailers[ERROR_TYPE], "")
        invocation.finish(error=error)

    def _body_parts(self, trailers: dict[str, str] | None = None):
        """Yields the request's body, chunk by chunk if it is chunked, and fills in the trailers after it."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunk = self.rfile.read(size)
            if len(chunk) < size:
                raise ValueError("The connection was closed inside a chunk")
            self.rfile.readline()
            yield chunk
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            if trailers is not None:
                trailers[name.strip().lower()] = value.strip()

    def _reply(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the process was killed while it waited
