"""A collector of traces (OTLP over HTTP) in the test's process, and the receiver of webhooks on its other paths."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Span:
    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was sent to it; also the receiver of webhooks, on other paths."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    #: Webhooks: their headers, and their bodies.
    posts: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    #: Set: takes what is sent, and answers nobody before it is cleared.
    hangs: threading.Event = field(default_factory=threading.Event)

    def named(self, *names: str) -> list[Span]:
        return [span for span in self.spans if span.name in names]

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
            )
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {item.key: item.value for item in span.attributes}
                    attributes = {
                        key: getattr(value, value.WhichOneof("value") or "string_value")
                        for key, value in values.items()
                    }
                    self.spans.append(
                        Span(
                            service,
                            span.name,
                            span.kind,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.status.code == 2,
                            attributes,
                        )
                    )


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                while collector.hangs.is_set():
                    time.sleep(0.01)
                collector.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            else:
                collector.bodies.append(body)
                collector.posts.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.hangs.clear()
        server.shutdown()
        thread.join()
        server.server_close()
