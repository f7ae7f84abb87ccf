"""Requests that take the user's code: the threads function hands them to the state function and answers as that one does.

Both are the real applications behind Mangum. Only Lambda itself is a stand-in: a server that boto3 calls instead.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mangum import Mangum

from langgraph_serverless import function_client
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.function_client import CORRELATION
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

FIXTURES = Path(__file__).parents[1] / "fixtures"
PROJECT = FIXTURES / "projects" / "states" / "langgraph.json"
EVENT = json.loads((FIXTURES / "events" / "rest_get_ok.json").read_text())
NAME = "stack-state"

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Function:
    """An application behind Mangum on a thread and a loop of its own, as Lambda has it."""

    def __init__(self, container: ApiContainer, *resources: str) -> None:
        self._container = container
        self._app = create_app(container, resources)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        results: list[dict[str, Any]] = []

        def answer() -> None:
            with asyncio.Runner() as runner:
                asyncio.set_event_loop(runner.get_loop())
                results.append(Mangum(self._app, lifespan="off")(event, None))
                runner.run(self._container.aclose())
                self._container.__dict__.pop("database", None)  # the next invocation has another loop
                self._container.__dict__.pop("threads", None)
                self._container.__dict__.pop("store", None)

        thread = threading.Thread(target=answer)
        thread.start()
        thread.join()
        return results[0]


@dataclass
class StandIn:
    """What the stand-in for Lambda does when it is called, and has been asked."""

    handler: Handler | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    waits: bool = False


@pytest.fixture
def lambda_(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn()

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            stand_in.paths.append(self.path)
            event = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stand_in.asked.append(event)
            if stand_in.waits:
                stand_in.release.wait(30)
            answer = {} if stand_in.handler is None else stand_in.handler(event)
            body = json.dumps(answer).encode()
            self.send_response(stand_in.status)
            for name, value in {**stand_in.headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                assert stand_in.waits  # whoever did not want to wait has left

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests read ``asked``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield stand_in
    stand_in.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def threads_function(settings: Settings) -> Function:
    return Function(
        ApiContainer(settings.replace(state_function_name=NAME), manifest=Manifest(hash="", graphs={})), "threads"
    )


@pytest.fixture
def state_function(settings: Settings) -> Function:
    registry = GraphRegistry.load(read_project(PROJECT))
    return Function(StateContainer(settings, registry=registry), "state", "threads", "store")


def post_thread(body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """API Gateway's event."""
    event = copy.deepcopy(EVENT)
    given = {"content-type": "application/json", **headers}
    event |= {"httpMethod": "POST", "path": "/threads", "resource": "/threads", "body": json.dumps(body)}
    event["headers"] |= given
    event["multiValueHeaders"] |= {name: [value] for name, value in given.items()}
    event["queryStringParameters"] = event["multiValueQueryStringParameters"] = None
    return event


SUPERSTEPS = [{"updates": [{"values": {"log": ["é"], "topic": "t"}, "as_node": "a"}]}]


async def test_supersteps_are_written_by_the_state_function(
    lambda_: StandIn, threads_function: Function, state_function: Function, database_uri: str
) -> None:
    lambda_.handler = state_function
    thread_id = str(uuid.uuid4())
    body = {"thread_id": thread_id, "metadata": {"graph_id": "log"}, "supersteps": SUPERSTEPS}
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    event = post_thread(
        body, Origin="https://ui", **{"X-Request-Id": "mine", "traceparent": trace, "baggage": "user=x"}
    )
    answer = threads_function(event)
    thread = json.loads(answer["body"])
    assert (answer["statusCode"], thread["thread_id"]) == (200, thread_id)
    assert thread["values"] == {"log": ["é"], "topic": "t"}
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["headers"]["access-control-allow-origin"] == "*"
    assert not answer["multiValueHeaders"]  # no header twice, although both functions write it
    (asked,) = lambda_.asked
    assert asked.pop(CORRELATION) == {"request_id": "mine", "trace": {"traceparent": trace}}
    assert asked == event
    assert lambda_.paths == [f"/2015-03-31/functions/{NAME}/invocations"]
    async with await psycopg.AsyncConnection.connect(database_uri) as connection:
        cursor = await connection.execute("SELECT count(*) FROM checkpoints WHERE thread_id = %s", [thread_id])
        assert await cursor.fetchone() == (1,)


async def test_statuses_and_errors_are_passed_on(
    lambda_: StandIn, threads_function: Function, state_function: Function
) -> None:
    lambda_.handler = state_function
    failed = threads_function(post_thread({"supersteps": SUPERSTEPS}))
    assert failed["statusCode"] == 201
    assert "problems updating the state" in json.loads(failed["body"])["detail"]
    lambda_.handler = lambda _: {
        "statusCode": 418,
        "headers": {"x-one": "1"},
        "multiValueHeaders": {"set-cookie": ["a=1", "b=2"]},
        "body": "/w==",
        "isBase64Encoded": True,
    }
    odd = threads_function(post_thread({"supersteps": SUPERSTEPS}))
    assert (odd["statusCode"], odd["body"], odd["isBase64Encoded"]) == (418, "/w==", True)
    assert odd["headers"]["x-one"] == "1"
    assert odd["multiValueHeaders"] == {"set-cookie": ["a=1", "b=2"]}


async def test_nothing_else_is_forwarded(lambda_: StandIn, threads_function: Function) -> None:
    assert threads_function(post_thread({}))["statusCode"] == 200
    assert threads_function(post_thread({"supersteps": []}))["statusCode"] == 200
    wrong = threads_function(post_thread({"supersteps": [{"updates": 1}]}))
    assert wrong["statusCode"] == 422
    assert not lambda_.asked


async def test_without_a_state_function_the_field_is_named(lambda_: StandIn, settings: Settings) -> None:
    alone = Function(ApiContainer(settings, manifest=Manifest(hash="", graphs={})), "threads")
    refused = alone(post_thread({"supersteps": SUPERSTEPS}))
    assert refused["statusCode"] == 422
    assert json.loads(refused["body"])["detail"].startswith("'supersteps' ")
    assert not lambda_.asked


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"x-amzn-errortype": "TooManyRequestsException"}, (503, "cannot be started")),
        (404, {"x-amzn-errortype": "ResourceNotFoundException"}, (502, "cannot be invoked")),
        (200, {"x-amz-function-error": "Unhandled"}, (502, "has failed")),
        (200, {}, (502, "not a response")),
    ],
)
async def test_what_goes_wrong_is_an_error_of_the_server(
    lambda_: StandIn,
    threads_function: Function,
    status: int,
    headers: dict[str, str],
    expected: tuple[int, str],
) -> None:
    lambda_.status, lambda_.headers = status, headers
    answer = threads_function(post_thread({"supersteps": SUPERSTEPS}))
    assert (answer["statusCode"], len(lambda_.asked)) == (expected[0], 1)
    assert expected[1] in json.loads(answer["body"])["detail"]


async def test_a_function_that_hangs_is_given_up_and_not_asked_again(
    lambda_: StandIn, threads_function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert function_client.CONNECT_TIMEOUT + function_client.READ_TIMEOUT < 29
    monkeypatch.setattr(function_client, "READ_TIMEOUT", 0.2)
    lambda_.waits = True
    answer = threads_function(post_thread({"supersteps": SUPERSTEPS}))
    assert answer["statusCode"] == 502
    assert "not answered in time" in json.loads(answer["body"])["detail"]
    assert len(lambda_.asked) == 1


async def test_lambda_out_of_reach(
    lambda_: StandIn, threads_function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    answer = threads_function(post_thread({"supersteps": SUPERSTEPS}))
    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "1")


def test_a_store_of_the_projects_own_is_asked_by_the_state_function(settings: Settings, lambda_: StandIn) -> None:
    registry = GraphRegistry.load(read_project(FIXTURES / "projects" / "own_store" / "langgraph.json"))
    manifest = Manifest.of({}, store=registry.project.store_settings)
    lambda_.handler = Function(StateContainer(settings, registry=registry, manifest=manifest), "state", "store")
    store = Function(ApiContainer(settings.replace(state_function_name=NAME), manifest=manifest), "store")

    def ask(method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        event = post_thread(body)
        event |= {"httpMethod": method, "path": path, "resource": path, "queryStringParameters": query or None}
        event["multiValueQueryStringParameters"] = {name: [value] for name, value in query.items()} or None
        answer = store(event)
        return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else None

    item = {"namespace": ["far"], "key": "k"}
    assert ask("PUT", "/store/items", {**item, "value": {"a": 1}}) == (204, None)
    status, found = ask("GET", "/store/items", namespace="far", key="k")
    assert (status, found["value"]) == (200, {"a": 1})
    assert ask("POST", "/store/namespaces", {"prefix": ["far"]}) == (200, {"namespaces": [["far"]]})
    assert [each["key"] for each in ask("POST", "/store/items/search", {"namespace_prefix": ["far"]})[1]["items"]] == [
        "k"
    ]
    assert ask("DELETE", "/store/items", item) == (204, None)
    assert ask("GET", "/store/items", namespace="far", key="k") == (200, None)
    assert len(lambda_.asked) == 6
