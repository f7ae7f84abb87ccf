"""Server-sent events over a bare socket, for tests that cut it at exactly one event: what is behind that was never received.

A cut is a reset, as of a client whose machine is gone, and not the orderly goodbye of an HTTP library. Nothing here knows
what the events are about: streams of runs and of threads, by any method, are cut alike.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from dev_server import PATIENCE


@dataclass(frozen=True, slots=True)
class Received:
    """One event, as it came."""

    event: str
    data: str
    id: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one connection has given."""

    events: list[Received]
    #: The server ended the stream; else it was cut after ``most`` events.
    ended: bool


async def read_part(
    url: str,
    path: str,
    *,
    most: int | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Part:
    """Open a stream and read it to its end, or cut it once ``most`` events are there (0: once its headers are)."""
    address = urlsplit(url)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            said = {"Host": address.netloc, "Accept": "text/event-stream", **(headers or {})}
            if body:
                said |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
            lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert " 200 " in head.partition("\r\n")[0], head
            found: list[Received] = []
            if most == 0:
                return Part(found, ended=False)
            async for event in _events(reader):
                found.append(event)
                if len(found) == most:
                    return Part(found, ended=False)
            return Part(found, ended=True)
        finally:
            # nothing is said any more, and what is still on its way is answered by a reset
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[Received]:
    """The events in a chunked body, up to its last chunk; comments are skipped."""
    text = b""
    while size := int(await reader.readline(), 16):
        text += (await reader.readexactly(size + 2))[:-2]
        *frames, text = text.split(b"\r\n\r\n")
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.decode().split("\r\n") if not line.startswith(":"))
            if "data" in fields:
                yield Received(fields.get("event", ""), fields["data"], fields.get("id", ""))
    assert not text, "the stream ended within an event"


@dataclass(slots=True)
class Resumed:
    """A stream that was read over many connections."""

    events: list[Received]
    cuts: int = 0


async def read_resuming(url: str, path: str, *, every: int = 1, begin: str = "-1") -> Resumed:
    """A stream that is cut after each ``every`` events, and gone on with from the last id, until the server ends it."""
    whole = Resumed([])
    last = begin
    while True:
        part = await read_part(url, path, most=every, headers={"Last-Event-ID": last})
        whole.events += part.events
        if part.ended:
            return whole
        whole.cuts += 1
        assert part.events[-1].id not in {"", last}, f"nobody gets past {last}"
        last = part.events[-1].id


def missing_and_repeated(received: list[Received], whole: list[Received]) -> tuple[int, int]:
    """How many events of the whole never came, and how many came again."""
    ids = [event.id for event in received]
    return len({event.id for event in whole} - set(ids)), len(ids) - len(set(ids))
