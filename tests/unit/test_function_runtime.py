"""What every function shares: settings from secrets, one event loop for all invocations, log lines with request ids."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from moto import mock_aws

from langgraph_serverless.errors import SettingsError
from langgraph_serverless.function_runtime import FunctionRuntime, load_settings
from langgraph_serverless.lambda_runtime.exchange import Ending, Outcome

EVENT = json.loads((Path(__file__).parents[1] / "fixtures" / "events" / "rest_get_ok.json").read_text())
ENVIRON = {"DATABASE_URI": "postgresql://db/app", "LAMBDA_TASK_ROOT": "/var/task"}


@dataclass
class Context:
    """The part of Lambda's context that Powertools reads."""

    function_name: str = "stack-system"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:stack-system"
    aws_request_id: str = "0d6f3b0c-0000-4000-8000-000000000001"


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[None]:
    """A function's runtime takes over the package's logger; other tests want it as it was."""
    logger = logging.getLogger("langgraph_serverless")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield


def in_a_thread(function: Any) -> Any:
    """Calls ``function`` where no event loop runs, as the Lambda runtime does (pytest's own loop is in this thread)."""
    results: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def test_an_address_may_come_from_a_secret_or_a_parameter(aws: None) -> None:
    boto3.client("secretsmanager").create_secret(Name="app/db", SecretString="postgresql://secret/app")
    boto3.client("ssm").put_parameter(Name="/app/redis", Value="redis://secret", Type="SecureString")
    settings = load_settings({"DATABASE_URI_SECRET": "app/db", "REDIS_URI_PARAMETER": "/app/redis"})
    assert (settings.database_uri, settings.redis_uri) == ("postgresql://secret/app", "redis://secret")
    assert settings.log_json


def test_a_direct_address_wins_and_nothing_is_fetched() -> None:
    assert load_settings({**ENVIRON, "DATABASE_URI_SECRET": "app/db"}).database_uri == "postgresql://db/app"


def test_every_secret_that_cannot_be_read_is_named(aws: None) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"DATABASE_URI_SECRET": "gone/db", "REDIS_URI_SECRET": "gone/redis"})
    assert "DATABASE_URI_SECRET names 'gone/db'" in str(raised.value)
    assert "REDIS_URI_SECRET names 'gone/redis'" in str(raised.value)


def test_paths_are_those_of_the_bundle() -> None:
    settings = load_settings({**ENVIRON, "LANGGRAPH_CONFIG": "project/langgraph.json", "LANGGRAPH_MANIFEST": "m.json"})
    assert settings.config_path == Path("/var/task/project/langgraph.json")
    assert settings.manifest_path == Path("/var/task/m.json")


def test_a_connection_of_one_invocation_is_usable_in_the_next() -> None:
    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    servers: list[asyncio.Server] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not connections:
            servers.append(await asyncio.start_server(echo, "127.0.0.1", 0))
            connections.append(await asyncio.open_connection(*servers[0].sockets[0].getsockname()))
        reader, writer = connections[0]
        writer.write(b"still here\n")
        body = await reader.readline()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    async def close() -> None:
        connections[0][1].close()
        await connections[0][1].wait_closed()
        servers[0].close()
        await servers[0].wait_closed()

    def three_invocations() -> list[str]:
        with closing(FunctionRuntime("system", ENVIRON)) as runtime:
            handler = runtime.serve(app)
            bodies = [handler(EVENT, Context())["body"]]
            runtime.run(asyncio.sleep(0))  # a background function's way into the same loop
            bodies += [handler(EVENT, Context())["body"] for _ in range(2)]
            runtime.run(close())
            return bodies

    assert in_a_thread(three_invocations) == ["still here\n"] * 3


def test_log_lines_carry_the_request_and_errors_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        runtime.logger.info("%s %s", scope["path"], scope["query_string"].decode())
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    # a service name of its own: Powertools keeps a logger, and the stdout it saw first, per service
    with closing(FunctionRuntime("system-with-errors", ENVIRON)) as runtime:
        response = in_a_thread(lambda: runtime.serve(app)(EVENT, Context()))
    assert response["statusCode"] == 503
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    logged = next(line for line in lines if line.get("message") == "/ok check_db=1")
    assert logged["correlation_id"] == EVENT["requestContext"]["requestId"]
    assert logged["function_request_id"] == Context().aws_request_id
    assert logged["service"] == "system-with-errors"
    published = next(line for line in lines if "ServerErrors" in line)
    assert published["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "LangGraphServerless"


def test_questions_of_other_functions_are_no_requests() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def answer(question: Any) -> dict[str, Any]:
        return {"double": question * 2}

    with closing(FunctionRuntime("state-with-questions", ENVIRON)) as runtime:
        handler = in_a_thread(lambda: runtime.serve(app, {"how_much": answer}))
        assert in_a_thread(lambda: handler({"how_much": 21}, Context())) == {"double": 42}
        # what a client sends is inside API Gateway's event
        sent = {**EVENT, "body": '{"how_much": 21}', "queryStringParameters": {"how_much": "21"}}
        assert in_a_thread(lambda: handler(sent, Context()))["statusCode"] == 404


def test_after_each_request_the_process_is_put_to_rest_and_other_events_are_told_so() -> None:
    rests: list[int] = []
    wakes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if len(rests) == 1:
            raise RuntimeError("no answer")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def rest() -> None:
        rests.append(len(rests))

    async def wake() -> None:
        wakes.append(len(rests))

    def invocations() -> None:
        with closing(FunctionRuntime("system-at-rest", ENVIRON)) as runtime:
            handler = runtime.serve(app, rest=rest, wake=wake)
            assert handler(EVENT, Context())["statusCode"] == 200
            assert handler(EVENT, Context())["statusCode"] == 500
            assert "ignored" in handler({"source": "aws.events"}, Context())  # what keeps functions warm

    in_a_thread(invocations)
    assert rests == wakes == [0, 1]


def test_an_answer_in_pieces_is_collected_for_the_managed_runtime() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with closing(FunctionRuntime("stream-collected", ENVIRON)) as runtime:
        answer = in_a_thread(lambda: runtime.serve(app)(EVENT, Context()))
    assert (answer["statusCode"], answer["body"]) == (200, "data: 0\n\ndata: 1\n\ndata: 2\n\n")
    assert answer["isBase64Encoded"] is False


@pytest.mark.parametrize(
    ("outcome", "metric"),
    [
        (Outcome(200, Ending.BROKEN_OFF), "StreamsCarriedOver"),
        (Outcome(200, Ending.CLIENT_GONE), "StreamsAbandoned"),
        (Outcome(503, Ending.COMPLETE), "ServerErrors"),
        (Outcome(200, Ending.COMPLETE), None),
    ],
)
def test_how_streamed_answers_end_is_counted(
    capsys: pytest.CaptureFixture[str], outcome: Outcome, metric: str | None
) -> None:
    class Answered:
        async def answer(self, app: Any, *, margin: float) -> Outcome:
            assert margin == runtime.settings.stream_deadline_margin
            return outcome

    service = f"stream-{outcome.status}-{outcome.ending}"
    with closing(FunctionRuntime(service, ENVIRON)) as runtime:
        handler = in_a_thread(lambda: runtime.serve(lambda *_: None))  # type: ignore[arg-type, return-value]
        in_a_thread(lambda: handler.stream(EVENT, Context(), Answered()))
    published = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    names = {name for line in published for name in line} & {"StreamsCarriedOver", "StreamsAbandoned", "ServerErrors"}
    assert names == ({metric} if metric else set())
