"""OpenTelemetry's SDK behind ``tracing``; loaded by it, and only in processes that make spans.

Spans leave in batches on a thread of the SDK's, by OTLP over HTTP (protobuf). If the collector hangs or is gone they are dropped
after the SDK's own retries, and nothing else happens. A provider that was set up before, by the user's project or by AWS's layer, is used
as it is. Ours is the global one, so that what instruments the user's code writes into the same trace.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from langgraph_serverless import __version__
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.tracing import Attributes

_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS = {kind.name.lower(): kind for kind in trace.SpanKind}
_ENTERED = contexts.create_key("langgraph_serverless.entered")


def open_backend(service: str) -> OtelBackend:
    """With the process's provider, or with one made for it from the environment."""
    provider: Any = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        about = {"service.version": __version__}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            about["service.name"] = f"langgraph-serverless-{service}"
        # its own end at exit would wait for a collector that is gone
        provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return OtelBackend(provider)


@dataclass(slots=True)
class _Entered:
    """A span that began without a block around it."""

    span: trace.Span
    before: contexts.Context
    ended: bool = False


class _Span:
    """A span of the SDK's in the words of ``tracing``."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, **attributes: Any) -> None:
        self._span.set_attributes(attributes)

    def fail(self, error_type: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(trace.StatusCode.ERROR)


class OtelBackend:
    """Makes spans with a provider."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("langgraph_serverless", __version__)
        self._ended = False
        self._flushing: threading.Thread | None = None

    @contextmanager
    def span(self, name: str, kind: str, parent: TraceContext | None, attributes: Attributes) -> Iterator[_Span]:
        above = _PROPAGATOR.extract(parent.headers, contexts.Context()) if parent is not None else None
        # an error's text may hold what users have said, so the SDK must not write it down
        with self._tracer.start_as_current_span(
            name,
            context=above,
            kind=_KINDS[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _Span(span)
            except BaseException as error:
                if isinstance(error, Exception):
                    _Span(span).fail(type(error).__name__)
                raise
            finally:
                self._ended = True

    def enter(self, name: str, attributes: Attributes) -> _Entered:
        before = contexts.get_current()
        # whoever ended the last one may have done so in another context than this, which has it as the current one still
        while isinstance(last := before.get(_ENTERED), _Entered) and last.ended:
            before = last.before
        span = self._tracer.start_span(name, context=before, attributes=attributes)
        entered = _Entered(span, before)
        contexts.attach(trace.set_span_in_context(span, contexts.set_value(_ENTERED, entered, before)))
        return entered

    def leave(self, entered: _Entered, error_type: str | None) -> None:
        if error_type is not None:
            _Span(entered.span).fail(error_type)
        entered.span.end()
        entered.ended = self._ended = True

    def current(self) -> TraceContext | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return TraceContext.from_json(carrier)

    def flush(self, seconds: float) -> None:
        # one that hangs is left alone: it goes on with the next invocation, or not
        if not self._ended or (self._flushing is not None and self._flushing.is_alive()):
            return
        self._ended = False
        flush = getattr(self._provider, "force_flush", None)
        if flush is None:
            return
        # on a thread, since the SDK's own limit is not kept by an exporter that waits for an answer
        self._flushing = threading.Thread(target=flush, name="flush-traces", daemon=True)
        self._flushing.start()
        self._flushing.join(seconds)
