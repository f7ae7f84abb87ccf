"""Traces: spans around what the server does, one trace from a request through the queue to nodes and webhooks.

Switched on by ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``); then ``start`` loads OpenTelemetry's SDK, which
reads all other ``OTEL_*`` variables itself. Otherwise nothing of it is loaded, nothing is sent to anybody, a span costs a microsecond,
and a client's ``traceparent`` is still passed on: with its runs, to their webhooks, and as ``trace_id`` in the log.

The state is the process's, like the logger's, because OpenTelemetry's is: what instruments a user's code looks for it there. Nothing here
ever raises: a trace that cannot be written must not cost a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Protocol

from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.telemetry import logger

#: How long the end of an invocation, and that of a process, may wait for the exporter (seconds).
FLUSH_SECONDS = 0.5
LAST_FLUSH_SECONDS = 3.0

#: Texts, numbers and flags by name.
Attributes = Mapping[str, Any]


class Span(Protocol):
    """What is known of something that is going on."""

    def name(self, name: str) -> None: ...

    def set(self, **attributes: Any) -> None: ...

    def fail(self, error_type: str) -> None:
        """It has failed; the class of an error, never its text, which may hold what users have said."""


class Backend(Protocol):
    """What makes spans; see ``otel``."""

    def span(
        self, name: str, kind: str, parent: TraceContext | None, attributes: Attributes
    ) -> AbstractContextManager[Span]: ...

    def enter(self, name: str, attributes: Attributes) -> Any: ...

    def leave(self, entered: Any, error_type: str | None) -> None: ...

    def current(self) -> TraceContext | None: ...

    def flush(self, seconds: float) -> None: ...


class _Nothing:
    """The span of a process that makes none, and the block around it."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def name(self, name: str) -> None:
        pass

    def set(self, **attributes: Any) -> None:
        pass

    def fail(self, error_type: str) -> None:
        pass


_NOTHING = _Nothing()
_backend: Backend | None = None
#: What the one who asks has said about its trace, where we make no spans ourselves.
_received: ContextVar[TraceContext | None] = ContextVar("trace_context", default=None)


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether these variables ask for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in ("", "otlp"):
        return False
    return any(environ.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT", "").strip() for name in ("", "TRACES_"))


def start(service: str, environ: Mapping[str, str]) -> None:
    """Make spans from now on, if the environment asks for it; once per process, later calls change nothing.

    Args:
        service: the part of the server that this process is, unless ``OTEL_SERVICE_NAME`` says something else.
    """
    global _backend  # noqa: PLW0603 - see above
    if _backend is not None or not wanted(environ):
        return
    try:
        _backend = import_module("langgraph_serverless.otel").open_backend(service)
    except ImportError as error:
        logger.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed: no traces (%s). "
            "Install langgraph-serverless[otel], or build with --otel",
            error,
            extra={"action": "tracing_off"},
        )
    except Exception:
        logger.exception("no traces: OpenTelemetry could not be started", extra={"action": "tracing_off"})


def active() -> bool:
    """Whether this process makes spans."""
    return _backend is not None


def span(
    name: str, *, kind: str = "internal", parent: TraceContext | None = None, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """Around something that the server does; below ``parent``, or below the span that is current.

    Args:
        kind: ``server``, ``client``, ``producer``, ``consumer`` or ``internal``.
    """
    if _backend is not None:
        return _backend.span(name, kind, parent, attributes or {})
    return _NOTHING if parent is None else _passed_on(parent)


@contextmanager
def _passed_on(parent: TraceContext) -> Iterator[Span]:
    token = _received.set(parent)
    try:
        yield _NOTHING
    finally:
        _received.reset(token)


def enter(name: str, attributes: Attributes) -> Any:
    """Begin a span where no block can be put around what it is about: the current one, and parent of those that follow until ``leave``."""
    return _backend.enter(name, attributes) if _backend is not None else None


def leave(entered: Any, error_type: str | None = None) -> None:
    """End what ``enter`` has begun."""
    if _backend is not None and entered is not None:
        _backend.leave(entered, error_type)


def current() -> TraceContext | None:
    """What to tell those who go on with this: the current span, or else what the client has said."""
    return _backend.current() if _backend is not None else _received.get()


def of_new_run(run_id: object, thread_id: object, graph_id: str) -> TraceContext | None:
    """What a new run's worker is to know."""
    if _backend is None:
        return _received.get()
    ids = {"langgraph.run_id": str(run_id), "langgraph.thread_id": str(thread_id), "langgraph.graph_id": graph_id}
    with _backend.span(f"create run {graph_id}", "producer", None, ids):
        return _backend.current()


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Send what has ended, before this process stands still or ends; waits so long at most."""
    if _backend is not None:
        _backend.flush(seconds)
