"""Whole bodies that are hostile: no JSON, too large, too deep, too many, compressed, of another kind.

Every operation that takes a body is sent all of them. The server's memory is as it was when all is over.
"""

from __future__ import annotations

import gzip
import http.client
import zlib
from collections.abc import Iterator
from contextlib import closing

import httpx
import orjson
import pytest
from hostile import PATIENCE, Hostile, assert_rpc_error

from langgraph_serverless.errors import TooLargeError
from langgraph_serverless.http.body import DEEPEST_NESTING, MOST_CONTAINERS, MOST_VALUES, _refuse_bomb
from langgraph_serverless.settings import Settings

LIMIT = Settings(database_uri="postgresql://nowhere").max_body_bytes
MEGABYTE = b"x" * 2**20

#: Less than a megabyte each, and a hundred of them inflated.
_INFLATED = b'{"a":"' + b"x" * 100 * 2**20 + b'"}'
GZIPPED, DEFLATED = gzip.compress(_INFLATED, 1), zlib.compress(_INFLATED, 1)

#: Bodies that no operation takes, with the status of the refusal.
REFUSED: dict[str, tuple[bytes, int]] = {
    "nothing but space": (b"  \n ", 422),
    "half an object": (b'{"metadata": {', 422),
    "two documents": (b"{}{}", 422),
    "a comment": (b"{} // a comment", 422),
    "single quotes": (b"{'a': 1}", 422),
    "a byte order mark": (b"\xef\xbb\xbf{}", 422),
    "UTF-16": ("{}".encode("utf-16"), 422),
    "an invalid byte": (b'{"metadata": {"a": "\xc3\x28"}}', 422),
    "a raw NUL": (b'{"metadata": {"a": "\x00"}}', 422),
    "NaN": (b'{"metadata": {"a": NaN}}', 422),
    "Infinity": (b'{"metadata": {"a": -Infinity}}', 422),
    "1e400": (b'{"limit": 1e400, "metadata": 1e400}', 422),
    "a lone surrogate in a value": (b'{"metadata": {"a": "\\udc00"}}', 422),
    "a lone surrogate in a key": (b'{"\\ud800": 1}', 422),
    "depth 202": (b'{"a":' * (DEEPEST_NESTING + 2) + b"1" + b"}" * (DEEPEST_NESTING + 2), 422),
    "depth 10,000": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 422),
    "depth 10,000 of lists": (b'{"metadata":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422),
    "brackets that never close": (b"[" * 100_000, 422),
    "a number": (b"7", 422),
    "a text": (b'"text"', 422),
    "null": (b"null", 422),
    "gzip": (gzip.compress(b"{}"), 422),
    "a form": (b"metadata=1&limit=2", 422),
}

#: Bombs: few bytes for us to send, much work for whoever does not look first.
BOMBS: dict[str, tuple[bytes, int]] = {
    "a million keys": (b'{"metadata":{' + b",".join(b'"%x":1' % number for number in range(1_000_001)) + b"}}", 413),
    "a million lists": (b'{"metadata":[' + b"[]," * 1_000_000 + b"[]]}", 413),
    "a million objects": (b'{"metadata":[' + b"{}," * 1_000_000 + b"{}]}", 413),
    "five million numbers": (b'{"metadata":[' + b"0," * 5_000_000 + b"0]}", 413),
    "a text that is full of quotes": (b'{"metadata":"' + b'\\",' * 2_000_000, 422),
}


@pytest.fixture(scope="module")
def targets(hostile: Hostile) -> list[tuple[str, str]]:
    """Method and path of every operation that takes a body, with ids of nothing."""
    document = hostile.make("GET", "/openapi.json")
    nobody = "00000000-0000-4000-8000-000000000000"
    ids = dict.fromkeys(("assistant_id", "thread_id", "run_id", "cron_id", "checkpoint_id"), nobody)
    found = [
        (method.upper(), path.format(**ids))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    ]
    assert len(found) > 25
    return found


@pytest.mark.parametrize("about", REFUSED)
def test_no_operation_takes_it(hostile: Hostile, targets: list[tuple[str, str]], about: str) -> None:
    body, status = REFUSED[about]
    for method, path in targets:
        response = hostile.send(method, path, body)
        # the words of protocols for what is none of theirs
        refused = {status, 400} if path.endswith(("/commands", "/stream/events", "/mcp", "/mcp/")) else {status}
        if path.startswith("/a2a/") and response.status_code == 200:
            assert_rpc_error(response.json(), path)
            continue
        assert response.status_code in refused, (method, path, response.text[:200])


def test_bombs_are_refused_before_they_are_read(hostile: Hostile) -> None:
    with hostile.flat_memory():
        for _ in range(2):
            for about, (body, status) in BOMBS.items():
                for method, path in (("POST", "/threads"), ("POST", "/runs"), ("PUT", "/store/items")):
                    assert hostile.send(method, path, body).status_code == status, about


def test_a_body_that_is_too_large_is_not_read(hostile: Hostile, targets: list[tuple[str, str]]) -> None:
    with hostile.flat_memory():
        for method, path in targets:
            # its length is enough: not one byte of it is sent
            connection = http.client.HTTPConnection("127.0.0.1", hostile.server.port, timeout=PATIENCE)
            with closing(connection):
                connection.putrequest(method, path)
                connection.putheader("content-length", str(LIMIT + 1))
                connection.endheaders()
                response = connection.getresponse()
                assert response.status == 413, (method, path)
                assert str(LIMIT) in orjson.loads(response.read())["detail"]


def test_a_body_of_unknown_length_is_counted(hostile: Hostile) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"metadata": {"a": "'
        for _ in range(LIMIT // len(MEGABYTE) + 2):
            yield MEGABYTE

    with hostile.flat_memory():
        for _ in range(3):
            # the server may hang up while the rest is still being sent, as it has every right to
            try:
                response = hostile.client.post("/threads", content=endless())
            except (httpx.WriteError, httpx.RemoteProtocolError):
                continue
            assert response.status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
def test_compressed_bodies_are_never_inflated(hostile: Hostile, encoding: str) -> None:
    bomb = DEFLATED if encoding == "deflate" else GZIPPED
    with hostile.flat_memory():
        response = hostile.send("POST", "/threads", bomb, headers={"content-encoding": encoding})
    assert response.status_code == 422
    assert response.json() == {"detail": "Invalid JSON in request body"}


def test_what_is_large_and_in_order_is_taken(hostile: Hostile) -> None:
    """A megabyte of metadata, config, values; ten megabytes of text; many small things."""
    megabyte = {f"key {number}": "x" * 1000 for number in range(1000)}
    thread_id = hostile.make("POST", "/threads", {"metadata": megabyte})["thread_id"]
    hostile.make("PATCH", f"/threads/{thread_id}", {"metadata": megabyte})
    assert hostile.make("POST", "/threads/count", {"metadata": megabyte}) >= 1
    config = {"configurable": megabyte}
    assistant = hostile.make("POST", "/assistants", {"graph_id": "line", "config": config, "metadata": megabyte})
    assert assistant["config"]["configurable"] == megabyte
    run = {"assistant_id": "line", "input": {"log": ["x" * 10_000_000]}, "config": config, "metadata": megabyte}
    made = hostile.make("POST", f"/threads/{thread_id}/runs/wait", run)
    assert len(made["log"][0]) == 10_000_000
    hostile.make("PUT", "/store/items", {"namespace": ["large"], "key": "k", "value": megabyte})
    hostile.make("PUT", "/store/items", {"namespace": ["large"], "key": "v", "value": {"v": [0.125] * 500_000}})
    other = hostile.make("POST", "/threads", {"metadata": {"text": "[{," * 1_000_000}})
    # tests that come after it look at every row after every refusal
    for thread in (thread_id, other["thread_id"]):
        hostile.make("DELETE", f"/threads/{thread}")
    hostile.make("DELETE", f"/assistants/{assistant['assistant_id']}")
    for key in ("k", "v"):
        hostile.make("DELETE", "/store/items", {"namespace": ["large"], "key": key})


def test_texts_do_not_count_as_values() -> None:
    _refuse_bomb(orjson.dumps({"text": "{" * (MOST_CONTAINERS + 1), 'quote " and \\': "," * (MOST_VALUES + 1)}))
    _refuse_bomb(b"[" + b"[]," * (MOST_CONTAINERS - 2) + b"[]]")
    for body in (
        b"[" + b"[]," * MOST_CONTAINERS + b"[]]",
        b"[" + b"0," * MOST_VALUES + b"0]",
        b'{"\\\\":[' + b'"",' * MOST_VALUES + b'""]}',
    ):
        with pytest.raises(TooLargeError):
            _refuse_bomb(body)
