"""What the client of ``make bench`` makes of streams as different servers write them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from bench.client import Client, WrongAnswerError

#: As ours and the official server write events, and as one does that ends lines otherwise and puts the id first.
OURS = "event: metadata\r\ndata: {}\r\nid: 1\r\n\r\n: heartbeat\r\n\r\nevent: messages\r\ndata: [1]\r\n\r\nevent: messages|sub\r\ndata: [2]\r\n\r\n"
OTHERS = "id: 1\nevent: metadata\ndata: {}\n\n: heartbeat\n\nid: 2\nevent: messages\ndata: [1]\n\nevent: messages|sub\ndata: [2]\n\n"


@asynccontextmanager
async def serving(pieces: Sequence[str]) -> AsyncIterator[Client]:
    """A server that answers everything with a stream of these pieces."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        for piece in pieces:
            writer.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield client
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("text", [OURS, OTHERS], ids=["ours", "others"])
@pytest.mark.parametrize("size", [1000, 7, 1], ids=["whole", "in pieces", "byte by byte"])
async def test_events_are_the_same_however_they_come(text: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    async with serving(pieces) as client:
        frames = [frame async for frame in client.events("GET", "/")]
        counted = await client.tally("GET", "/", None, b"messages")
    assert [frame.name for frame in frames] == [b"metadata", b"messages", b"messages|sub"]
    assert b"[2]" in frames[-1].data
    assert counted.count == 2
    assert counted.began <= counted.first <= counted.last


@pytest.mark.parametrize("text", ["event: error\r\ndata: broken\r\n\r\n", OURS.replace("messages", "values")])
async def test_a_stream_without_what_was_asked_for_is_wrong(text: str) -> None:
    async with serving([text]) as client:
        with pytest.raises(WrongAnswerError, match=r"error|no event"):
            await client.tally("GET", "/", None, b"messages")
