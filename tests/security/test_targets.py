"""Hostile paths, query parameters and headers, on every operation that has them."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

import pytest
from hostile import PATIENCE, Hostile

#: Not UUIDs, in a path; percent-encoded where a client would.
IDS = {
    "a word": "nope",
    "a number": "1",
    "half a UUID": "019ac1f2-6f5e-7d05",
    "a UUID in braces": quote("{019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10}"),
    "a URN": "urn:uuid:019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10",
    "a UUID and more": "019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10x",
    "36 hyphens": "-" * 36,
    "full-width digits": quote("０" * 32),
    "NUL": "%00",
    "NUL after a UUID": "019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10%00",
    "invalid UTF-8": "%ff%fe",
    "an encoded surrogate": "%ed%a0%80",
    "line breaks": "a%0d%0ax-evil:%201",
    "underscores": "0" + "_0" * 15 + "0",
    "a sign": "+" + "0" * 31,
    "SQL": quote("' OR 1=1 --"),
    "wildcards": "%25_%25",
    "50 kB": "a" * 50_000,
    "dots": "%2e%2e",
}
PARAMETERS = {
    **{about: value for about, value in IDS.items() if about != "a UUID in braces"},
    "nothing": "",
    "minus one": "-1",
    "2**63": str(2**63),
    "400 digits": "9" * 400,
    "5,000 digits": "9" * 5000,
    "1e400": "1e400",
    "NaN": "nan",
    "a list": "%5B1%5D",
    "true": "true",
    "spaces": "%20%09+",
}
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def operations(hostile: Hostile) -> list[tuple[str, str, dict[str, Any]]]:
    document = hostile.make("GET", "/openapi.json")
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.fixture(scope="module")
def ids(hostile: Hostile) -> dict[str, str]:
    thread_id = hostile.make("POST", "/threads", {"metadata": {"graph_id": "line"}})["thread_id"]
    awaited = hostile.client.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "line", "input": {"log": []}}
    )
    return {
        "thread_id": thread_id,
        "run_id": awaited.headers["content-location"].rpartition("/")[2],
        "assistant_id": hostile.make("POST", "/assistants", {"graph_id": "nested"})["assistant_id"],
        "cron_id": hostile.make("POST", "/runs/crons", {"assistant_id": "line", "schedule": "@yearly"})["cron_id"],
        "checkpoint_id": NOBODY,
        "namespace": "child",
    }


def places(operation: dict[str, Any], where: str) -> list[str]:
    return [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == where]


def body(operation: dict[str, Any]) -> Any:
    """The documented example: a body that is read, so that the path is."""
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("example")


@pytest.mark.parametrize("about", IDS)
def test_ids_in_paths(hostile: Hostile, operations: Any, ids: dict[str, str], about: str) -> None:
    for method, path, operation in operations:
        for name in places(operation, "path"):
            target = path.format(**{**ids, name: IDS[about]})
            response = hostile.send(method, target, json=body(operation))
            if path.endswith("/commands"):  # HTTP says 200, the answer what it is
                assert response.is_error or response.json()["type"] == "error", about
            elif path.startswith("/a2a/"):  # the same in JSON-RPC
                assert response.is_error or "error" in response.json(), about
            elif name not in ("namespace", "checkpoint_id"):
                assert response.is_error, (method, path, name, about)


@pytest.mark.parametrize("about", PARAMETERS)
def test_query_parameters(hostile: Hostile, operations: Any, ids: dict[str, str], about: str) -> None:
    for method, path, operation in operations:
        # what succeeds must leave the ids usable, and not wait
        target = path.format(**ids) if method == "GET" else path.format(**dict.fromkeys(ids, NOBODY))
        for name in places(operation, "query"):
            for query in (
                f"{name}={PARAMETERS[about]}",
                f"{name}={PARAMETERS[about]}&{name}=2",
                f"{name}[]=1&{name}.a=1",
            ):
                response = hostile.send(method, f"{target}?{query}", json=body(operation))
                if response.status_code == 422 and "%00" in query:
                    assert f"'{name}'" in response.json()["detail"]
        response = hostile.send(method, f"{target}?{PARAMETERS[about]}=1&=&&;", json=body(operation))


def test_negative_and_huge_pages(hostile: Hostile, ids: dict[str, str]) -> None:
    for path in (f"/threads/{ids['thread_id']}/runs", f"/threads/{ids['thread_id']}/history"):
        for value in (-1, -(2**63), 2**31, 2**63, 10**30):
            hostile.send("GET", path, params={"limit": value})
            hostile.send("GET", path, params={"offset": value})
    for path in (
        "/assistants/search",
        "/threads/search",
        "/runs/crons/search",
        "/store/items/search",
        "/store/namespaces",
    ):
        for value in (-1, -(2**63), 2**31, 2**63 - 1):
            hostile.send("POST", path, json={"limit": value})
            hostile.send("POST", path, json={"offset": value})


#: Lines to put into a request as they are, and what is allowed to come back: the HTTP parser sees most of them first.
HEADERS = {
    "a line break in a value": b"x-request-id: a\r\nx-evil: 1",
    "a bare carriage return": b"x-request-id: a\rx-evil: 1",
    "a bare line feed": b"x-request-id: a\nx-evil: 1",
    "NUL in a value": b"x-request-id: a\x00b",
    "NUL in a name": b"x-\x00id: a",
    "a value of bytes": b"x-request-id: \xff\xfe\x80",
    "a name with a space": b"x request: a",
    "no colon": b"nothing",
    "a folded line": b"x-request-id: a\r\n b",
    "60 kB": b"x-request-id: " + b"a" * 60_000,
    "a thousand headers": b"\r\n".join(b"x-%d: 1" % number for number in range(1000)),
    "an event id": b"last-event-id: ' OR 1=1 --",
    "an event id of bytes": b"last-event-id: \xff\xfe",
    "an origin": b"origin: http://evil\x7f",
    "a host": b"x-forwarded-host: evil\r\nx-forwarded-proto: javascript",
    "two lengths": b"content-length: 5\r\ncontent-length: 2",
    "a negative length": b"content-length: -5",
    "a length that is no number": b"content-length: 0x10",
    "a huge length": b"content-length: " + b"9" * 40,
    "a digit that is not ASCII": "content-length: ²".encode(),
    "chunked and a length": b"transfer-encoding: chunked\r\ncontent-length: 5",
    "an encoding that is unknown": b"transfer-encoding: zip",
}


@pytest.mark.parametrize("about", HEADERS)
def test_headers(hostile: Hostile, ids: dict[str, str], about: str) -> None:
    line = HEADERS[about]
    length = b"" if b"length" in line or b"transfer" in line else b"content-length: 2\r\n"
    for target in (b"POST /threads/search", f"GET /threads/{ids['thread_id']}/runs/{ids['run_id']}/stream".encode()):
        answer = exchange(
            hostile, target + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n" + length + line + b"\r\n\r\n{}"
        )
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")) or not answer, (about, answer[:300])
        assert b"\nx-evil" not in head
    assert hostile.client.get("/ok").status_code == 200


@pytest.mark.parametrize(
    "line",
    [
        b"GET /threads/\x00 HTTP/1.1",
        b"GET /\xff\xfe HTTP/1.1",
        b"GET http://evil/threads HTTP/1.1",
        b"GET //evil/ok HTTP/1.1",
        b"GET /../../etc/passwd HTTP/1.1",
        b"GET /ok HTTP/9.9",
        b"EVIL /threads/search HTTP/1.1",
        b"POST * HTTP/1.1",
        b"CONNECT evil:443 HTTP/1.1",
        b"GET /" + b"a" * 60_000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_request_lines(hostile: Hostile, line: bytes) -> None:
    answer = exchange(hostile, line + b"\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4")) or not answer, answer[:300]
    assert b"evil" not in answer.partition(b"\r\n\r\n")[0]
    assert hostile.client.get("/ok").status_code == 200


def exchange(hostile: Hostile, request: bytes) -> bytes:
    """What the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", hostile.server.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_what_a_client_sends_does_not_come_back_in_headers(hostile: Hostile, ids: dict[str, str]) -> None:
    for value in ("a%0d%0aset-cookie:%20x=1", "%E2%80%A8", "a%00"):
        response = hostile.send("GET", f"/threads/{ids['thread_id']}/history?before={value}")
        assert "set-cookie" not in response.headers
    response = hostile.send("POST", "/threads/search", json={}, headers={"x-request-id": "mine", "origin": "http://ui"})
    assert "mine" not in str(response.headers)


def test_a_request_id_is_kept_and_cut_off(hostile: Hostile, ids: dict[str, str]) -> None:
    run = {"assistant_id": "line", "input": {}, "after_seconds": 1e8}
    made = hostile.client.post("/runs", json=run, headers={"x-request-id": "r" * 10_000}).json()
    assert made["kwargs"]["config"]["configurable"]["langgraph_request_id"] == "r" * 256
    hostile.make("POST", "/runs/cancel?action=rollback", {"thread_id": made["thread_id"], "run_ids": [made["run_id"]]})
