"""Our client of Lambda's Runtime API: a real process under the wrapper script, driven by an emulator of the other side.

The application is ``tests/fixtures/streaming_function/sample_handler.py``, plain ASGI; the stream function itself is in
``tests/faults/test_carry_over.py``.
"""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE, until
from streaming_function import Sandbox, answer_of, rest_event, url_event

from langgraph_serverless.lambda_runtime.context import LambdaContext
from langgraph_serverless.lambda_runtime.events import is_request, to_asgi, to_metadata
from langgraph_serverless.lambda_runtime.exchange import Ending, Exchange, Outcome
from langgraph_serverless.lambda_runtime.response import StreamedResponse

FIXTURE = Path(__file__).parents[1] / "fixtures" / "streaming_function"
STREAM_TYPE = "application/vnd.awslambda.http-integration-response"
BOTH = pytest.mark.parametrize("event_of", [rest_event, url_event])


def sandbox(folder: Path, **environ: str) -> Sandbox:
    (folder / "notes").touch()
    return Sandbox(
        "sample_handler.handler", FIXTURE, {"NOTES": str(folder / "notes"), **environ}, folder / "function.output"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("function")


@pytest.fixture(scope="module")
def function(folder: Path) -> Iterator[Sandbox]:
    """One process for most of the tests, as one sandbox serves many requests."""
    started = sandbox(folder).started()
    yield started
    assert started.close() == 0, started.output  # it ends by itself when the Runtime API goes
    assert "shut down" in (folder / "notes").read_text()
    assert "never retrieved" not in started.output, started.output
    assert "was destroyed" not in started.output, started.output


@pytest.fixture
def notes(function: Sandbox, folder: Path) -> Any:
    """What the function has noted since the test began."""
    assert function.invoke({}).done.wait(20)  # it is done with what came before
    before = len((folder / "notes").read_text())
    return lambda: (folder / "notes").read_text()[before:]


# -- answers ---------------------------------------------------------------------------------------------------------


@BOTH
def test_events_500_ms_apart_arrive_500_ms_apart(function: Sandbox, event_of: Any) -> None:
    invocation = function.invoke(event_of("/events?count=2&pause=0.5"))
    arrived: dict[bytes, float] = {}
    for chunk in invocation.chunks():
        arrived |= {line: time.time() for line in chunk.splitlines() if line.startswith(b"data: ")}
    (first, first_at), (second, second_at) = arrived.items()
    made = {line: float(line.removeprefix(b"data: ")) for line in arrived}
    assert made[second] - made[first] >= 0.5
    assert made[second] - first_at > 0.1, "the first came only when the second was almost there"
    assert second_at > made[second] > first_at
    metadata, _ = answer_of(invocation)
    assert invocation.streamed
    assert invocation.error is None
    assert invocation.content_type == STREAM_TYPE
    assert metadata == {"statusCode": 200, "headers": {"content-type": "text/event-stream; charset=utf-8"}}


@BOTH
def test_a_request_arrives_whole(function: Sandbox, event_of: Any) -> None:
    body = bytes(range(256)) * 5
    event = event_of("/echo/a?x=1&x=2&y=%20", "POST", body, {"X-Any": "thing", "Cookie": "a=1; b=2"})
    metadata, content = answer_of(function.invoke(event, trace="Root=1-5"))
    told = json.loads(content)
    assert metadata["statusCode"] == 200
    assert (told["path"], told["method"], told["query"]) == ("/echo/a", "POST", {"x": ["1", "2"], "y": [" "]})
    assert told["bytes"] == [1280, sum(body)]
    assert ["x-any", "thing"] in told["headers"]
    assert ["cookie", "a=1; b=2"] in told["headers"]
    assert told["trace"] == "Root=1-5"
    _, content = answer_of(function.invoke(event))
    assert json.loads(content)["trace"] is None


def test_one_loop_and_one_lifespan_for_all_requests(function: Sandbox) -> None:
    for _ in range(3):
        _, content = answer_of(function.invoke(rest_event("/echo")))
        told = json.loads(content)
        assert (told["lifespans"], told["state"]) == (1, "hello")


@BOTH
def test_binary_needs_no_base64_and_no_length(function: Sandbox, event_of: Any) -> None:
    metadata, content = answer_of(function.invoke(event_of("/binary")))
    assert content == bytes(range(256))
    assert metadata["headers"] == {"content-type": "application/octet-stream"}


def test_repeated_headers_and_cookies(function: Sandbox) -> None:
    metadata, _ = answer_of(function.invoke(rest_event("/cookies")))
    assert metadata["multiValueHeaders"] == {"set-cookie": ["a=1", "b=2"], "link": ["<x>", "<y>"]}
    metadata, _ = answer_of(function.invoke(url_event("/cookies")))
    assert metadata["cookies"] == ["a=1", "b=2"]
    assert metadata["headers"] == {"link": "<x>, <y>"}


@BOTH
def test_answers_without_a_body(function: Sandbox, event_of: Any) -> None:
    metadata, content = answer_of(function.invoke(event_of("/nothing")))
    assert (metadata, content) == ({"statusCode": 204, "headers": {}}, b"")
    metadata, content = answer_of(function.invoke(event_of("/binary", "HEAD")))
    assert (metadata["statusCode"], content) == (200, b"")


def test_the_head_of_a_stream_is_answered_at_once(function: Sandbox, notes: Any) -> None:
    invocation = function.invoke(rest_event("/silent", "HEAD"))
    assert answer_of(invocation) == ({"statusCode": 200, "headers": {"content-type": "text/plain"}}, b"")
    until(lambda: notes() == "waits\nhttp.disconnect\n200 complete\n", "the outcome")


def test_a_stream_without_events_has_a_body(function: Sandbox) -> None:
    for path, body in (("/events?count=0", b":\r\n"), ("/events?count=1", None)):
        _, content = answer_of(function.invoke(rest_event(path)))
        assert content == body or content.startswith(b"data: ")


def test_an_answer_may_be_larger_than_six_megabytes(function: Sandbox) -> None:
    assert len(answer_of(function.invoke(rest_event("/large")))[1]) == 8 * 2**20


def test_work_after_the_answer_is_done_before_the_next_event_is_asked_for(function: Sandbox, notes: Any) -> None:
    assert answer_of(function.invoke(rest_event("/afterwards")))[1] == b"done"
    answer_of(function.invoke(rest_event("/echo")))
    assert notes().startswith("worked on")


def test_the_end_of_an_answer_is_not_taken_for_the_clients_leaving(function: Sandbox, notes: Any) -> None:
    invocation = function.invoke(rest_event("/listens"))
    assert answer_of(invocation)[1] == b"data: 1\n\n"
    until(lambda: notes() == "all sent\n200 complete\n", "the outcome")
    assert invocation.error is None


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_what_the_application_does_not_answer_is_an_error_of_the_invocation(function: Sandbox) -> None:
    invocation = function.invoke(rest_event("/crash"))
    assert invocation.done.wait(20)
    error = json.loads(invocation.error)
    assert (error["errorType"], error["errorMessage"], invocation.streamed) == (
        "RuntimeError",
        "no answer at all",
        False,
    )
    assert any("sample_handler" in line for line in error["stackTrace"])
    invocation = function.invoke(b"no json")
    assert invocation.done.wait(20)
    assert json.loads(invocation.error)["errorType"] == "JSONDecodeError"
    assert answer_of(function.invoke(rest_event("/nothing")))[0]["statusCode"] == 204  # and it goes on


@pytest.mark.parametrize(
    ("path", "error_type", "sent"), [("/events?count=3&fails_at=2", "ValueError", 2), ("/half", "RuntimeError", 0)]
)
def test_an_error_after_the_first_byte_comes_behind_what_was_sent(
    function: Sandbox, path: str, error_type: str, sent: int
) -> None:
    invocation = function.invoke(rest_event(path))
    metadata, body = answer_of(invocation)
    assert (metadata["statusCode"], body.count(b"data:")) == (200, sent)
    assert json.loads(invocation.error)["errorType"] == error_type


def test_an_error_that_comes_behind_is_short_enough_for_trailers(function: Sandbox) -> None:
    invocation = function.invoke(rest_event("/deep"))
    assert answer_of(invocation)[1] == b"data: 1\n\n"
    assert len(invocation.error) < 4096 * 3 / 4 - 200  # as it is sent, in base64 and with names
    error = json.loads(invocation.error)
    assert (error["errorType"], set(error["errorMessage"])) == ("ValueError", {"\u20ac"})
    assert invocation.done.is_set()


def test_an_application_hears_that_nobody_takes_its_answer_any_more(function: Sandbox, notes: Any) -> None:
    for path, heard in (("/silent", "http.disconnect"), ("/beats", "refused: ClientGoneError")):
        invocation = function.invoke(rest_event(path))
        chunks = invocation.chunks()
        answer = b""
        while not answer.endswith((b"begun", b".")):
            answer += next(chunks)
        invocation.hang_up()
        until(lambda heard=heard: f"{heard}\n200 client_gone" in notes(), f"{path} to hear of it: {notes()}")


def test_other_events_are_given_to_the_handler(function: Sandbox) -> None:
    invocation = function.invoke({"ask": 1}, timeout=7)
    assert invocation.done.wait(20)
    answer = json.loads(bytes(invocation.body))
    assert answer["echo"] == {"ask": 1}
    assert 0 < answer["remaining"] <= 7000
    assert not invocation.streamed
    invocation = function.invoke({"fail": "no"})
    assert invocation.done.wait(20)
    assert json.loads(invocation.error)["errorMessage"] == "no"


@pytest.mark.parametrize(("at", "message"), [("import", "cannot be imported"), ("startup", "no database")])
def test_a_function_that_cannot_start_says_why(tmp_path: Path, at: str, message: str) -> None:
    broken = sandbox(tmp_path, FAILS_AT=at)
    assert broken.api.ready.wait(30)
    error = json.loads(broken.api.init_error)
    assert (error["errorType"], error["errorMessage"]) == ("RuntimeError", message)
    assert broken.close() == 1


# -- the end of the time -----------------------------------------------------------------------------------------------


def test_an_answer_is_broken_off_before_the_time_is_up(function: Sandbox, notes: Any) -> None:
    began = time.time()
    invocation = function.invoke(rest_event("/events?count=1000&pause=0.05"), timeout=2)
    _, body = answer_of(invocation)
    assert time.time() - began < 2, "Lambda would have ended it"
    assert json.loads(invocation.error)["errorType"] == "TimeIsUpError"
    assert body.endswith(b"\r\n\r\n")
    assert 3 < body.count(b"id: ") < 25  # from half of its time on, as the margin of a second is more than that
    until(lambda: notes() == "200 broken_off\n", "the outcome")


def test_a_large_event_is_sent_to_its_end_first(function: Sandbox) -> None:
    _, body = answer_of(function.invoke(rest_event("/large-events"), timeout=1.6))
    assert body.endswith(b"\n\n")
    assert body.count(b"first half") == body.count(b"id: ") > 1


def test_that_is_no_disconnect(function: Sandbox, notes: Any) -> None:
    assert answer_of(function.invoke(rest_event("/silent"), timeout=1))[1] == b"begun"
    until(lambda: notes() == "waits\ncancelled\n200 broken_off\n", "the outcome")


def test_an_application_that_has_not_answered_by_then_has_failed(function: Sandbox) -> None:
    invocation = function.invoke(rest_event("/hang"), timeout=1)
    assert invocation.done.wait(20)
    assert json.loads(invocation.error)["errorType"] == "TimeIsUpError"


@pytest.mark.parametrize("last", [False, True], ids=["in the midst", "at the end"])
async def test_a_client_that_takes_nothing_does_not_hold_the_function_up(last: bool) -> None:
    """What it has not taken is thrown away; otherwise Lambda would end the process with its time."""
    accepted: list[asyncio.StreamWriter] = []

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 2**24 + b"\n\n", "more_body": not last})

    server = await asyncio.start_server(take_nothing, "127.0.0.1", 0, limit=2**10)
    host, port = server.sockets[0].getsockname()
    response = StreamedResponse(f"{host}:{port}", "r")
    deadline = str(int((time.time() + PATIENCE) * 1000))
    context = LambdaContext({"lambda-runtime-aws-request-id": "r", "lambda-runtime-deadline-ms": deadline}, {})
    stopping = asyncio.Event()
    stopping.set()  # as if the time were almost over
    outcome = await Exchange(rest_event("/"), context, response, stopping).answer(app, margin=0.8)
    assert context.get_remaining_time_in_millis() > 0
    assert outcome == Outcome(200, Ending.BROKEN_OFF)
    assert not response.complete
    for writer in accepted:
        writer.transport.abort()
    server.close()
    await server.wait_closed()


def test_sigterm_breaks_off_and_ends_in_order(tmp_path: Path) -> None:
    busy, idle = sandbox(tmp_path), sandbox(tmp_path)
    invocation = busy.started().invoke(rest_event("/terminated"))
    assert answer_of(invocation)[1] == b"data: 1\n\n"
    assert json.loads(invocation.error)["errorType"] == "TimeIsUpError"
    idle.started().process.send_signal(signal.SIGTERM)
    assert [one.process.wait(30) for one in (busy, idle)] == [0, 0]
    assert (tmp_path / "notes").read_text().count("shut down") == 2
    busy.close()
    idle.close()


# -- events, without a process -------------------------------------------------------------------------------------------


def test_only_requests_are_requests() -> None:
    assert is_request(rest_event("/a"))
    assert is_request(url_event("/a"))
    for other in (
        {},
        {"source": "aws.events"},
        {"requestContext": {}},
        ["requestContext"],
        None,
        {"httpMethod": "GET"},
    ):
        assert not is_request(other)


def test_cookies_that_came_apart_are_put_together() -> None:
    event = rest_event("/a", headers={"X": "1"})
    event["multiValueHeaders"] |= {"Cookie": ["a=1", "b=2"], "Accept": ["text/html", "*/*"]}
    scope, body = to_asgi(event, None)
    assert body == b""
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1; b=2"]
    assert (b"accept", b"text/html, */*") in scope["headers"]


def test_what_is_of_one_connection_is_not_passed_on() -> None:
    headers = [
        (b"Connection", b"keep-alive"),
        (b"Content-Length", b"3"),
        (b"Location", b"/x"),
        (b"X", "é".encode("latin-1")),
    ]
    assert to_metadata(rest_event("/"), 201, headers) == {"statusCode": 201, "headers": {"location": "/x", "x": "é"}}


def test_the_context_says_what_handlers_ask_it() -> None:
    headers = {
        "lambda-runtime-aws-request-id": "r-1",
        "lambda-runtime-deadline-ms": str(int(time.time() * 1000) + 5000),
    }
    context = LambdaContext(headers, {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"})
    assert (context.aws_request_id, context.function_name, context.memory_limit_in_mb) == ("r-1", "f", 512)
    assert 0 < context.get_remaining_time_in_millis() <= 5000
    assert LambdaContext({"lambda-runtime-aws-request-id": "r"}, {}).get_remaining_time_in_millis() == 0
