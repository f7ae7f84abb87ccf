"""What tests of bad input share: a client that holds every answer to the rules, and the values that it sends.

The rules: 2xx or 4xx, never 5xx; an error is ``{"detail": text}`` of a bounded length (or the one plain text that the wire
knows); a request that was refused has left every row of every table as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import psutil
import psycopg
import pytest
from dev_server import DevServer, until
from psycopg import sql

#: Longest a single request may take (seconds) on a machine that is busy with others. No hostile input needs this long.
PATIENCE = 15.0
LONGEST_DETAIL = 4000
#: Streams of what happens on a thread, for ever.
ENDLESS = re.compile(r"/threads/[^/]*/stream(/events)?(\?|$)")

#: JSON texts to put in the place of a field, each with a name. Those that are no JSON are refused as such.
VALUES: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "zero": b"0",
    "minus one": b"-1",
    "a fraction": b"0.5",
    "2**31": str(2**31).encode(),
    "2**63": str(2**63).encode(),
    "2**64": str(2**64).encode(),
    "-2**63 - 1": str(-(2**63) - 1).encode(),
    "400 digits": b"1" * 400,
    "1e308": b"1e308",
    "1e400": b"1e400",
    "NaN": b"NaN",
    "-Infinity": b"-Infinity",
    "empty text": b'""',
    "a word": b'"word"',
    "NUL": b'"\\u0000"',
    "NUL inside": b'"a\\u0000b"',
    "a raw control character": b'"a\x01b"',
    "a lone surrogate": b'"\\ud800"',
    "an invalid byte": b'"\xff"',
    "bidi and emoji": '"\u202e\U0001f3f3\ufe0f\u200d\U0001f308\ufffe"'.encode(),
    "line breaks": b'"a\\r\\nx-evil: 1"',
    "SQL": b'"\'; DROP TABLE lgs.thread; --"',
    "SQL in a name": b'"id\\" = 1 OR \\"1\\" = \\"1"',
    "wildcards": b'"%_\\\\*"',
    "a path": b'"../../etc/passwd"',
    "50 kB": b'"' + b"x" * 50_000 + b'"',
    "empty list": b"[]",
    "list of null": b"[null]",
    "list of text with NUL": b'["a\\u0000"]',
    "list of lists": b"[[[[]]]]",
    "empty object": b"{}",
    "object with NUL in its key": b'{"a\\u0000b": 1}',
    "object with an empty key": b'{"": null}',
    "object with SQL in its key": b"{\"a' = 1 OR '1' = '1\": 1}",
    "object with operators": b'{"$gt": {"$ne": null}}',
    "object with duplicate keys": b'{"a": 1, "a": {"b": 2}, "a": null}',
    "object with an engine's keys": b'{"__pregel_send": 1, "__proto__": {"a": 1}, "constructor": 1}',
    "object with a huge number": b'{"a": 1e308, "b": 123456789012345678901234567890, "c": 1e-320}',
}


class Hostile:
    """Sends requests to a server and holds the answers to the rules."""

    def __init__(self, server: DevServer) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=PATIENCE)
        self._database = psycopg.connect(server.database_uri, autocommit=True)
        self._counts: Any = None
        self._tables: list[Any] = []
        #: A thread with a state, for those who make one.
        self.thread_id = ""

    def close(self) -> None:
        self.client.close()
        self._database.close()

    def make(self, method: str, path: str, body: Any = None) -> Any:
        """A request of a friendly client; its answer."""
        response = self.client.request(method, path, content=None if body is None else orjson.dumps(body))
        assert response.is_success, response.text
        self._counts = None
        return response.json() if response.content else None

    def send(
        self, method: str, path: str, content: Any = None, *, may_write: bool = False, **more: Any
    ) -> httpx.Response:
        """A hostile request, held to the rules.

        Args:
            may_write: whether the request may leave rows although it is refused.
        """
        if self._counts is None:
            # a run that the last request made is on its way
            until(self._is_quiet, "runs to end")
            self._counts = self._count()
        transaction = self._transaction()
        response = self._request(method, path, content, **more)
        note = f"{method} {path[:200]} {_shown(content)} -> {response.status_code} {response.text[:300]}"
        assert response.status_code < 500, note
        if not response.is_error:
            self._counts = None
            return response
        assert_error(response, note)
        # locks and rolled-back writes take a transaction's number too, so a new one only means to look closer
        if may_write:
            self._counts = None
        elif self._transaction() != transaction:
            assert self._count() == self._counts, f"refused, but rows were written: {note}"
            before = self.digest()
            assert self._request(method, path, content, **more).status_code == response.status_code
            assert self.digest() == before, f"refused, but something was written: {note}"
        return response

    def _request(self, method: str, path: str, content: Any, **more: Any) -> httpx.Response:
        if not ENDLESS.match(path):
            return self.client.request(method, path, content=content, **more)
        with self.client.stream(method, path, content=content, **more) as response:
            if response.is_error:
                response.read()
                return response
            # that it has begun is all there is to see of a stream that never ends
            return httpx.Response(response.status_code, headers=response.headers)

    def _transaction(self) -> Any:
        row = self._database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
        assert row is not None
        return row[0]

    def _is_quiet(self) -> bool:
        due = (
            "SELECT 1 FROM lgs.run WHERE status = 'running'"
            " OR (status = 'pending' AND available_at < now() + interval '1 minute') LIMIT 1"
        )
        return self._database.execute(due).fetchone() is None

    def _count(self) -> dict[str, Any]:
        """Table -> number of rows."""
        return self._of_each_table("count(*)::text")

    def digest(self) -> dict[str, Any]:
        """Table -> a sum over the contents of its rows."""
        return self._of_each_table("coalesce(sum(hashtext(t::text)::bigint), 0)::text")

    def _of_each_table(self, about: str) -> dict[str, Any]:
        """An aggregate over the rows ``t`` of each table, in one query."""
        if not self._tables:
            self._tables = self._database.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, {} FROM {} AS t").format(".".join(table), sql.SQL(about), sql.Identifier(*table))
            for table in self._tables
        )
        return dict(self._database.execute(query).fetchall())

    @contextmanager
    def flat_memory(self, megabytes: int = 64) -> Iterator[None]:
        """The server's memory is at most that much larger after what happens in between."""
        process = psutil.Process(self.server.server_pid)
        before = process.memory_info().rss
        yield
        rise = (process.memory_info().rss - before) / 2**20
        assert rise < megabytes, f"the server's memory rose by {rise:.0f} MB"


def _shown(content: Any) -> str:
    if not isinstance(content, bytes):
        return ""
    return repr(content if len(content) < 300 else content[:200] + b"...")


def assert_error(response: httpx.Response, note: str) -> None:
    """The body of an error is as the contract says."""
    if (
        response.url.path.startswith("/mcp") and not response.content
    ):  # a way to ask that MCP has and we have no use for
        return
    if response.headers["content-type"].startswith("text/plain"):
        assert response.status_code == 422, note
        assert response.text.startswith("Namespace label '"), note
        return
    body = response.json()
    if body == {"error": "Key is required"}:
        return
    if "detail" not in body and response.url.path.startswith(("/mcp", "/a2a/", "/.well-known/")):
        assert_rpc_error(body, note)
        return
    if body.get("type") == "error":  # the thread protocol's form
        assert body["error"] == "invalid_argument", note
        assert body["message"], note
        return
    assert isinstance(body["detail"], str), note
    assert 0 < len(body["detail"]) < LONGEST_DETAIL, note
    for word in ("psycopg", "Traceback", 'File "'):
        assert word not in body["detail"], note


def assert_rpc_error(body: Any, note: str) -> None:
    """JSON-RPC's form, or MCP's for what is none of its messages."""
    told = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
    assert isinstance(told, str), note
    assert 0 < len(told) < LONGEST_DETAIL, note
    for word in ("psycopg", "Traceback", 'File "'):
        assert word not in told, note


@pytest.fixture(scope="session")
def hostile(hostile_server: DevServer) -> Iterator[Hostile]:
    found = Hostile(hostile_server)
    yield found
    found.close()
