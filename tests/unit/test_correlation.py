"""What connects lines and spans with the request that they come of."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_serverless import tracing
from langgraph_serverless.domain.run_kwargs import request_id_of
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.execution.current_node import failed_node
from langgraph_serverless.http.middleware import Observed, RequestCounter
from langgraph_serverless.telemetry import Context, said, saying

TRACE, SPAN = "ab" * 16, "cd" * 8
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "taken"),
    [
        (PARENT, PARENT),
        (f" {PARENT} ", PARENT),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", PARENT),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (PARENT.upper(), None),
        ("", None),
        (None, None),
        ({"a": 1}, None),
        (PARENT + "\n" + PARENT, None),
    ],
)
def test_a_parent_is_well_formed_or_none(parent: Any, taken: str | None) -> None:
    found = TraceContext.of(parent, "vendor=1")
    assert (found.traceparent if found else None) == taken
    if found is not None:
        assert (found.trace_id, found.tracestate) == (TRACE, "vendor=1")
        assert TraceContext.from_json(found.headers) == found


@given(st.text(), st.text())
def test_nothing_that_a_client_sends_breaks_it_or_gets_through(parent: str, state: str) -> None:
    TraceContext.of(parent, state)
    found = TraceContext.of(PARENT, state)
    assert found is not None
    assert len(found.tracestate) <= 512
    assert all(" " <= letter <= "~" or letter == "\t" for letter in found.tracestate)


@pytest.mark.parametrize("damaged", [None, 1, [], {"config": 1}, {"config": {"configurable": {"run_id": 1}}}])
def test_a_damaged_run_has_no_request(damaged: Any) -> None:
    assert request_id_of(damaged) is None


def test_a_run_of_a_cron_is_known_by_its_own_id() -> None:
    configurable = {"run_id": "r", "langgraph_request_id": None}
    assert request_id_of({"config": {"configurable": configurable}}) == "r"
    assert request_id_of({"config": {"configurable": {**configurable, "langgraph_request_id": "q"}}}) == "q"


async def seen_by_a_request(*headers: tuple[bytes, bytes], **scope: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        record = logging.makeLogRecord({"run_id": "its own"})
        await asyncio.create_task(asyncio.sleep(0))
        Context().filter(record)
        trace = tracing.current()
        seen.update(record.__dict__, trace=trace and trace.headers, of_state=scope["state"]["request_id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(_: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [*headers], **scope}
    await Observed(app, RequestCounter())(scope, None, send)  # type: ignore[arg-type]
    assert said("request_id") is None
    return seen


async def test_a_request_says_its_id_and_its_trace_in_every_line() -> None:
    seen = await seen_by_a_request((b"x-request-id", b"mine"), (b"traceparent", PARENT.encode()))
    assert (seen["request_id"], seen["trace_id"], seen["of_state"]) == ("mine", TRACE, "mine")
    assert seen["trace"] == {"traceparent": PARENT}
    assert seen["run_id"] == "its own"


async def test_a_function_takes_the_id_of_its_gateway_or_of_the_function_that_asks() -> None:
    event: dict[str, Any] = {"requestContext": {"requestId": "of the gateway"}}
    assert (await seen_by_a_request(**{"aws.event": event}))["request_id"] == "of the gateway"
    passed = {"request_id": "first", "trace": {"traceparent": PARENT}}
    event["langgraph_serverless_correlation"] = passed
    seen = await seen_by_a_request((b"traceparent", b"00-nonsense"), **{"aws.event": event})
    assert (seen["request_id"], seen["trace_id"]) == ("first", TRACE)


async def test_a_socket_says_them_too_and_nobody_is_left_without_an_id() -> None:
    seen = await seen_by_a_request((b"x-request-id", b""), type="websocket")
    assert len(seen["request_id"]) == 36
    assert "trace_id" not in seen


def test_what_is_said_ends_with_its_block() -> None:
    with saying({"a": 1}, lambda: {"node": "n"}):
        record = logging.makeLogRecord({})
        assert Context().filter(record)
        assert (record.a, record.node) == (1, "n")  # type: ignore[attr-defined]
    record = logging.makeLogRecord({})
    Context().filter(record)
    assert not hasattr(record, "a")


def test_the_node_of_an_error_is_named_with_those_around_it() -> None:
    error = ValueError("x")
    assert failed_node(error) is None
    for note in (
        "During task with name 'summarize' and id 'a'",
        "of the user's",
        "During task with name 'team' and id 'b'",
    ):
        error.add_note(note)
    assert failed_node(error) == "team|summarize"
