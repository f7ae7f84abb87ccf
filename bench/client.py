"""A small HTTP/1.1 client: what it costs is much less than what it measures, and the same for every server.

Requests are JSON; answers are JSON or server-sent events, whose frames are told apart and counted, never parsed. Connections
are kept and used again. Only plain HTTP to the address given; redirects and compression are unknown to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import orjson

#: Bytes that may wait to be looked at.
_BUFFER = 4 * 2**20


class WrongAnswerError(Exception):
    """The server answered otherwise than it should; no figure is worth anything then."""


class NotServedError(WrongAnswerError):
    """The server has no such path."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event."""

    #: When it was read (seconds; only differences mean something).
    at: float
    name: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Tally:
    """The events of one name in a stream, counted."""

    began: float
    #: When the first and the last of them were read.
    first: float
    last: float
    count: int


class Client:
    """Asks one server. To be closed in the end."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._idle: list[_Connection] = []

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().writer.close()

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request.

        Raises:
            WrongAnswerError: it is no success.
        """
        whole = b"".join([piece async for piece in self._pieces(method, path, body)])
        return orjson.loads(whole) if whole.strip() else None

    async def events(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        opened: asyncio.Event | None = None,
    ) -> AsyncIterator[Frame]:
        """The events of a stream, each with the time at which it came; comments are left out. Close it if it has no end.

        Args:
            opened: set once the server has begun its answer.

        Raises:
            WrongAnswerError: there is no stream, or it says that something failed.
        """
        rest = b""
        async with aclosing(self._pieces(method, path, body, headers or {}, opened)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                at = time.perf_counter()
                rest += piece
                end = b"\r\n" if b"\r\n" in rest else b"\n"
                *frames, rest = rest.split(end + end)
                for text in frames:
                    # some servers send the id before the name
                    before, found, named = text.partition(b"event: ")
                    if not found or (before and not before.startswith(b"id: ")):
                        continue
                    first, _, others = named.partition(end)
                    frame = Frame(at, first, others)
                    if frame.name == b"error":
                        raise WrongAnswerError(f"{method} {path}: {others[:300].decode(errors='replace')}")
                    yield frame

    async def tally(self, method: str, path: str, body: Any, name: bytes) -> Tally:
        """Read a stream to its end and only count the events whose names begin so: nothing is cheaper.

        Raises:
            WrongAnswerError: there are none, or one says that something failed.
        """
        mark, count, kept = b"event: " + name, 0, b""
        began = first = last = time.perf_counter()
        async for piece in self._pieces(method, path, body):
            at, rest = time.perf_counter(), kept + piece
            if found := rest.count(mark):
                first, last, count = first if count else at, at, count + found
            if b"event: error" in rest:
                raise WrongAnswerError(f"{method} {path}: {rest[:300].decode(errors='replace')}")
            kept = rest[1 - len(mark) :]
        if not count:
            raise WrongAnswerError(f"{method} {path}: no event {name.decode()!r}")
        return Tally(began, first, last, count)

    async def _pieces(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] = MappingProxyType({}),
        opened: asyncio.Event | None = None,
    ) -> AsyncIterator[bytes]:
        connection = await self._connection()
        whole = False
        try:
            content = b"" if body is None else orjson.dumps(body)
            lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}:{self._port}", f"content-length: {len(content)}"]
            lines += ["content-type: application/json"] if body is not None else []
            lines += [f"{name}: {value}" for name, value in headers.items()]
            connection.writer.write("\r\n".join([*lines, "", ""]).encode() + content)
            status, answered = await _head(connection.reader)
            if status >= 400:
                text = b"".join([piece async for piece in _content(connection.reader, answered)])
                kind = NotServedError if status in {404, 405} else WrongAnswerError
                raise kind(f"{method} {path}: {status} {text[:300].decode(errors='replace')}")
            if opened is not None:
                opened.set()
            async for piece in _content(connection.reader, answered):
                yield piece
            whole = answered.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        finally:
            if whole:
                self._idle.append(connection)
            else:
                connection.writer.close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof():
                return connection
            connection.writer.close()  # the server has grown tired of it
        return _Connection(*await asyncio.open_connection(self._host, self._port, limit=_BUFFER))


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    named = (line.partition(b":") for line in lines if line)
    return int(first.split(b" ", 2)[1]), {name.lower(): value.strip() for name, _, value in named}


async def _content(reader: asyncio.StreamReader, headers: Mapping[bytes, bytes]) -> AsyncIterator[bytes]:
    if headers.get(b"transfer-encoding") != b"chunked":
        if length := int(headers.get(b"content-length", b"0")):
            yield await reader.readexactly(length)
        return
    while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
