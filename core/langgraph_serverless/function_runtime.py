"""What every function shares: settings with their secrets, logs, metrics, and one event loop for the life of the process.

Promises that pools and clients opened in one invocation are usable in the next: they are bound to the loop they were
opened in, so all invocations of a process run in the same one (between them it stands still, as the sandbox does). Handlers
of requests serve both runtimes: called by the managed one they return the whole answer, ``lambda_runtime`` has it streamed.
Relies on the handler being called from one thread, one event at a time, as Lambda does. Never imports langgraph, and
never opens a connection to a database: the container does at its first use. Secrets are fetched at cold start
(``function_secrets``).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit

from langgraph_serverless import function_snapshot, tracing
from langgraph_serverless.domain.runs import correlation
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.event_loop import run_to_end
from langgraph_serverless.function_client import CORRELATION
from langgraph_serverless.function_secrets import SecretReader
from langgraph_serverless.lean_imports import lean_imports
from langgraph_serverless.redaction import redacted
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import Context, JsonFormatter, saying

if TYPE_CHECKING:
    from mangum.types import ASGI

    from langgraph_serverless.lambda_runtime.exchange import Exchange
    from langgraph_serverless.lambda_runtime.lifespan import Lifespan

#: Takes the event, the context, and what else whoever calls it has.
LambdaHandler = Callable[..., Any]
Pause = Callable[[], Coroutine[Any, Any, None]]
#: What another function of the stack asks, without the API.
Question = Callable[[Any], Coroutine[Any, Any, dict[str, Any]]]

METRICS_NAMESPACE = "LangGraphServerless"
#: The container's service behind a resource, where the names differ.
SERVICES = {"stream": "streams"}


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Settings of a function: addresses from the environment or the secret it names, paths inside the bundle.

    Raises:
        SettingsError: with every problem found, secrets that cannot be read among them.
    """
    resolved, addresses = SecretReader(environ).read_all()
    bundle = Path(environ.get("LAMBDA_TASK_ROOT", "."))
    for name in ("LANGGRAPH_CONFIG", "LANGGRAPH_MANIFEST"):
        if resolved.get(name):
            resolved[name] = str(bundle / resolved[name])
    settings = Settings.from_env(resolved, log_json=True)
    # a variable of another name may have won
    return settings.replace(
        addresses={name: one for name, one in addresses.items() if getattr(settings, name) == one.current}
    )


class FunctionRuntime:
    """One process of one function. Build it when the handler's module is imported, and keep it."""

    def __init__(self, service: str, environ: Mapping[str, str] | None = None) -> None:
        self.settings = load_settings(os.environ if environ is None else environ)
        self.logger = Logger(service=service, level=self.settings.log_level, json_serializer=_json_line)
        self.metrics = Metrics(namespace=METRICS_NAMESPACE, service=service)
        # ``template.yaml`` names functions after their stack: those of several in one account are told apart
        deployment, _, name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "").rpartition("-")
        if deployment and name == service:
            self.metrics.set_default_dimensions(deployment=deployment)
        tracing.start(service, os.environ if environ is None else environ)
        self._runner = asyncio.Runner()
        self._entered: list[AbstractAsyncContextManager[Any]] = []
        function_snapshot.reseed_after_restore()
        # a warm invocation has often nothing to report, and Powertools would say so each time
        warnings.filterwarnings("ignore", "No application metrics to publish")
        logging.getLogger("langgraph_serverless")
        copy_config_to_registered_loggers(self.logger, include={"langgraph_serverless"})
        for handler in logging.getLogger("langgraph_serverless").handlers:
            handler.addFilter(Context())
        if os.environ.get("AWS_LAMBDA_FUNCTION_NAME"):
            _correlate_others()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The process's event loop."""
        return self._runner.get_loop()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine to its end in the process's loop."""
        return run_to_end(self.loop, coroutine)

    def enter(self, context: AbstractAsyncContextManager[Any]) -> None:
        """Enters it for the life of the process."""
        self._entered.append(context)  # nobody else keeps it
        self.run(context.__aenter__())

    def close(self) -> None:
        """Ends the loop. Only tests need it: a sandbox is never told that it ends."""
        self._runner.close()

    def count(self, **numbers: int) -> None:
        """Adds counts of what has happened to the invocation's metrics; they leave as one log line (EMF) at its end.

        What has not happened is left out: CloudWatch charges a metric for the hours in which it is told.
        """
        self.tell(**{name: value for name, value in numbers.items() if value})

    def tell(self, **numbers: int) -> None:
        """The same for how many there are of something, none of which is also worth telling."""
        for name, value in numbers.items():
            self.metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)

    def measure(self, **seconds: Sequence[float]) -> None:
        """The same for times; CloudWatch makes percentiles of many values of one name."""
        for name, values in seconds.items():
            for value in values:
                self.metrics.add_metric(name=name, unit=MetricUnit.Seconds, value=round(value, 4))

    def instrument(self, handler: LambdaHandler, *, correlation_id_path: str | None = None) -> LambdaHandler:
        """The handler with its request id in every log line, its metrics, cold starts among them, published, and its spans sent."""
        logged = self.logger.inject_lambda_context(handler, correlation_id_path=correlation_id_path, clear_state=True)
        published: LambdaHandler = self.metrics.log_metrics(logged, capture_cold_start_metric=True)
        return _flushing(published) if tracing.active() else published

    def serve(
        self,
        app: ASGI,
        questions: Mapping[str, Question] | None = None,
        *,
        rest: Pause | None = None,
        wake: Pause | None = None,
        starts: bool = False,
    ) -> HttpHandler:
        """A handler that answers API Gateway's events with an ASGI application, and the events of other functions.

        Args:
            questions: what to call for an event that is no request but has this key; it gets the key's value.
            rest: called after each request, as the process stands still then.
            wake: called before each request.
            starts: the application has a start-up, which is waited for before the first request.
        """
        return HttpHandler(self, app, questions or {}, rest, wake, starts=starts)


class HttpHandler:
    """Requests by an application, questions of other functions by what is given for them.

    An event that is neither, as those that keep functions warm, is answered with a word that says so.
    """

    def __init__(
        self,
        runtime: FunctionRuntime,
        app: ASGI,
        questions: Mapping[str, Question],
        rest: Pause | None,
        wake: Pause | None,
        *,
        starts: bool = False,
    ) -> None:
        from mangum import Mangum  # noqa: PLC0415 - background functions have no use for it

        self.app: Any = app
        self.run = runtime.run
        self._runtime = runtime
        self._questions = questions
        self._rest, self._wake = rest, wake
        asyncio.set_event_loop(runtime.loop)  # Mangum looks for the thread's current loop, here and at each request
        # the streaming runtime starts an application by itself; Mangum would do so for every request
        self._starting = _lifespan(app) if starts else None
        self._adapter = Mangum(app if self._starting is None else self._starting.with_state(app), lifespan="off")
        path = correlation_paths.API_GATEWAY_REST  # function URLs have it there too
        self._collected = runtime.instrument(self._collect, correlation_id_path=path)
        self._streamed = runtime.instrument(self._stream, correlation_id_path=path)

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        """The whole answer, as the managed runtime wants it."""
        return self._collected(event, context)

    def stream(self, event: dict[str, Any], context: Any, exchange: Exchange) -> None:
        """The answer to a request piece by piece; see ``lambda_runtime``."""
        self._streamed(event, context, exchange)

    def _collect(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        for key, answer in self._questions.items():
            if key in event:  # API Gateway writes its events itself, so no client can send one with this key
                return self._answer(key, answer, event)
        if "requestContext" not in event:
            self._runtime.logger.info("An event that is no request", extra={"action": "ignored"})
            return {"ignored": "This function answers requests of API Gateway"}
        asyncio.set_event_loop(self._runtime.loop)
        self._pause(self._wake)
        if self._starting is not None and not self._starting.started:
            self.run(self._starting.start())
        try:
            response: dict[str, Any] = self._adapter(event, context)
        finally:
            self._pause(self._rest)
        self._count(response["statusCode"])
        return response

    def _answer(self, key: str, answer: Question, event: dict[str, Any]) -> dict[str, Any]:
        asking = event.get(CORRELATION) or {}
        request_id, trace = asking.get("request_id"), TraceContext.from_json(asking.get("trace"))
        with saying(correlation(request_id, trace)), tracing.span(f"answer {key}", kind="server", parent=trace):
            return self.run(answer(event[key]))  # type: ignore[no-any-return]

    def _stream(self, event: dict[str, Any], context: Any, exchange: Exchange) -> None:
        self._pause(self._wake)
        try:
            outcome = self.run(exchange.answer(self.app, margin=self._runtime.settings.stream_deadline_margin))
        finally:
            self._pause(self._rest)
        self._count(outcome.status)
        # Lambda counts an answer that is broken off as an error, so these must be told from others
        if outcome.ending == "broken_off":
            self._runtime.count(StreamsCarriedOver=1)
            self._runtime.logger.info("An answer goes on in another invocation", extra={"action": "carried_over"})
        elif outcome.ending == "client_gone":
            self._runtime.count(StreamsAbandoned=1)

    def _pause(self, what: Pause | None) -> None:
        if what is not None:
            self.run(what())

    def _count(self, status: int) -> None:
        if status >= 500:
            self._runtime.count(ServerErrors=1)


def _lifespan(app: ASGI) -> Lifespan:
    from langgraph_serverless.lambda_runtime.lifespan import Lifespan  # noqa: PLC0415 - only the user's own application has one

    return Lifespan(app)


def _json_line(entry: dict[str, Any]) -> str:
    """As Powertools writes it, without secrets."""
    return redacted(json.dumps(entry, default=str, separators=(",", ":"), ensure_ascii=False))


def _flushing(handler: LambdaHandler) -> LambdaHandler:
    """The handler; what it has traced is sent before the process stands still, and is waited for no longer than is said there."""

    @functools.wraps(handler)
    def flushing(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        finally:
            tracing.flush()

    return flushing


def _correlate_others() -> None:
    """Lines of the user's code and of libraries as JSON, with what goes on where they are written; their levels stay as they are."""
    for handler in logging.getLogger().handlers:  # Lambda's own
        handler.addFilter(Context())
        handler.setFormatter(JsonFormatter())


def http_handler(
    name: str,
    container_type: Callable[[Settings], Any] | None = None,
    *,
    resource: str = "",
    also: Sequence[str] = (),
    questions: Callable[[Any], Mapping[str, Question]] = lambda _: {},
) -> HttpHandler:
    """The handler of an API function that serves one resource's routes; see ``http.app.create_app`` for their names.

    Args:
        name: the function's, and that of its resource unless that is given.
        also: further resources, for requests that other functions forward to this one (``http/forwarding.py``).
        questions: of the container, what it answers other functions besides requests (``FunctionRuntime.serve``).
    """
    runtime, resource = FunctionRuntime(name), resource or name
    service = SERVICES.get(resource, resource)
    with lean_imports():
        from langgraph_serverless.containers.api import ApiContainer  # noqa: PLC0415 - background functions have their own
        from langgraph_serverless.http.app import create_app  # noqa: PLC0415

        container = (container_type or ApiContainer)(runtime.settings)
        app = create_app(container, resources=(resource, *also))
        if container_type is None:
            getattr(container, service)
    # Made now, with what it imports: a cold start has more CPU than the first request. Nothing is opened by it. Not above
    # where that imports the user's code.
    getattr(container, service)
    function_snapshot.close_before_snapshot(lambda: runtime.run(container.aclose()))
    manifest = container.catalog.manifest
    has_app = manifest.http.app is not None
    if has_app or manifest.auth is not None:
        from langgraph_serverless.http.in_process import serving  # noqa: PLC0415 - for code of the project's own

        runtime.enter(serving(container))
    return runtime.serve(app, questions(container), rest=container.rest, wake=container.wake, starts=has_app)
