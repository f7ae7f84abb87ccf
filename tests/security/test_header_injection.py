"""S9: line breaks, NUL and other controls in whatever becomes a header, and in whatever becomes a line of the log.

Raw bytes on a socket, as clients' libraries would not send them; then what is decoded or comes in a body, which no parser of HTTP
has looked at.
"""

from __future__ import annotations

import logging
import re
import socket
from typing import Any
from urllib.parse import quote

import pytest
from hostile import PATIENCE, Hostile

from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.http.run_locations import run_headers
from langgraph_serverless.telemetry import JsonFormatter, TextFormatter

#: What would end a header, or the value of one.
BREAKS = {
    "CR LF": b"\r\n",
    "LF": b"\n",
    "CR": b"\r",
    "NUL": b"\0",
    "CR LF and space": b"\r\n ",
    "VT": b"\x0b",
    "DEL": b"\x7f",
}
EVIL = b"x-evil: 1"
HEADERS = ("x-request-id", "idempotency-key", "last-event-id", "origin", "traceparent", "content-type", "authorization")


def exchange(hostile: Hostile, head: bytes, body: bytes = b"") -> bytes:
    with socket.create_connection(("127.0.0.1", hostile.server.port), timeout=PATIENCE) as client:
        length = b"content-length: %d\r\n" % len(body)
        client.sendall(head + b"host: x\r\nconnection: close\r\n" + length + b"\r\n" + body)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_of_a_request_becomes_one_of_an_answer(hostile: Hostile, header: str) -> None:
    for about, broken in BREAKS.items():
        for path in (b"POST /threads", b"GET /ok", b"GET /nowhere"):
            head = path + b" HTTP/1.1\r\n" + header.encode() + b": a" + broken + EVIL + b"\r\n"
            answer = exchange(hostile, head, b"{}")
            fields = answer.split(b"\r\n\r\n")[0].lower()
            assert b"x-evil" not in fields, (about, answer)
            assert re.match(rb"HTTP/1.1 (2|4)\d\d ", answer), (about, answer)
            assert answer.count(b"HTTP/1.1 ") == 1, (about, answer)


def test_none_in_a_path_or_a_query_becomes_one(hostile: Hostile) -> None:
    thread_id = hostile.make("POST", "/threads", {})["thread_id"]
    for broken in BREAKS.values():
        evil = quote(b"a" + broken + EVIL)
        for method, path, body in (
            ("GET", f"/threads/{evil}", None),
            ("GET", f"/threads/{thread_id}/runs?status={evil}", None),
            ("GET", f"/threads/{thread_id}/stream?last_event_id={evil}&stream_modes={evil}", None),
            ("GET", f"/assistants/{evil}/graph?xray={evil}", None),
            ("GET", f"/store/items?key={evil}&namespace={evil}", None),
            ("POST", f"/threads/{thread_id}/runs/stream?x={evil}", b'{"assistant_id": "line", "input": {}}'),
        ):
            if body is None:
                response = hostile.send(method, path)
            else:
                response = hostile.client.request(method, path, content=body)
            assert response.status_code < 500
            assert "x-evil" not in {name.lower() for name in response.headers}


def test_none_in_a_body_becomes_one(hostile: Hostile) -> None:
    """Modes and ids of a run are in ``Location``."""
    for broken in BREAKS.values():
        text = (b"values" + broken + EVIL).decode("latin-1")
        run: dict[str, Any] = {"assistant_id": "line", "input": {}}
        for change in (
            {"stream_mode": text},
            {"stream_mode": [text]},
            {"assistant_id": text},
            {"feedback_keys": [text]},
        ):
            response = hostile.client.post("/runs/stream", json=run | change)
            assert response.status_code < 500
            assert "x-evil" not in {name.lower() for name in response.headers}
    evil = {"stream_mode": "values\r\nx-evil: 1"}
    for value in run_headers("/runs/1", "join", evil).values():
        assert value.isprintable()


@pytest.mark.parametrize("about", BREAKS)
def test_none_in_the_headers_of_webhooks(about: str) -> None:
    broken = BREAKS[about].decode("latin-1")
    for headers in ({"x-a": f"a{broken}b"}, {f"x-a{broken}": "b"}, {f"x-a{broken}x-evil": "b"}):
        with pytest.raises(ProjectError):
            WebhookRules.of({"headers": headers}).headers({})
    rules = WebhookRules.of({"headers": {"x-a": "Bearer ${{ env.LG_WEBHOOK_T }}"}})
    with pytest.raises(ProjectError) as refused:
        rules.headers({"LG_WEBHOOK_T": f"hunter2{broken}x-evil: 1"})
    assert "hunter2" not in str(refused.value)


def test_nothing_begins_a_line_of_the_log(hostile: Hostile) -> None:
    forged = "00:00:00 error   the database is gone"
    hostile.client.get(f"/threads/{quote(chr(10) + forged)}")
    hostile.client.get("/nowhere", headers={"x-request-id": "r" * 20})
    hostile.client.get(f"/%1b[2J%0d{quote(forged)}%c2%85%e2%80%a8{quote(forged)}")
    lines = re.split("[\n\r\x85\u2028]", hostile.server.output)
    assert any("the database is gone" in line for line in lines)
    assert not [line for line in lines if line.startswith("00:00:00")]
    assert "\x1b[2J" not in hostile.server.output


def test_records_are_one_line_to_whoever_looks() -> None:
    record = logging.makeLogRecord(
        {"msg": "first\nsecond\x1b[31m\rthird", "levelname": "INFO", "path": "/a\n00:00:00 error x", "levelno": 20}
    )
    text = TextFormatter().format(record)
    head, continued = text.split("\n")
    assert head.endswith("first")
    assert continued.startswith("                 | second\\x1b[31m\\x0dthird")
    assert "\\n00:00:00 error x" in continued
    assert "\n" not in JsonFormatter().format(record)
