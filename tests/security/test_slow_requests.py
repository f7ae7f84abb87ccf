"""Requests that never come to their end (slowloris), heads and trailers without one, frames of sockets that are too large.

The first ones at a server of this process whose patience is short; memory and frames at the real one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from dev_server import until
from hostile import Hostile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from langgraph_serverless.cli.server.slow_clients import patient_for
from langgraph_serverless.cli.server.slow_requests import MOST_SILENT, PromptRequests

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
DEADLINE = 30.0


class App:
    """Reads the whole body and answers with its length and the names of the headers."""

    def __init__(self) -> None:
        self.disconnected = 0
        self.reads = asyncio.Event()
        self.reads.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length, more = 0, True
        while more:
            await self.reads.wait()
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            length, more = length + len(message.get("body", b"")), message.get("more_body", False)
        body = f"{length} {b' '.join(name for name, _ in scope['headers']).decode()}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(app: App, *, patience: float) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    protocol = type("Short", (PromptRequests, patient_for(60)), {"request_patience": patience})
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", lifespan="off", http=protocol, timeout_keep_alive=0
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    try:
        yield reader, writer
        async with asyncio.timeout(DEADLINE):
            while server.server_state.connections:
                await asyncio.sleep(0.01)
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """A byte now and then, for as long as the server takes it."""
    try:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
    except OSError:
        pass


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"", b""),
        (b"P", b""),
        (HEAD, b""),
        (HEAD, b"x-a: b\r\n"),
        (HEAD + b"content-length: 1000000\r\n\r\n", b""),
        (HEAD + b"content-length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
async def test_a_request_that_does_not_come_is_not_waited_for(begin: bytes, piece: bytes) -> None:
    app = App()
    async with served(app, patience=0.3) as (reader, writer):
        writer.write(begin)
        dripping = asyncio.create_task(drip(writer, piece)) if piece else None
        async with asyncio.timeout(DEADLINE):
            # what it says may be lost with what was still on its way to it
            with suppress(ConnectionError):
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 408") if begin else not answer
        if dripping is not None:
            dripping.cancel()
    assert app.disconnected == (b"\r\n\r\n" in begin)


@pytest.mark.parametrize(
    "begin", [b"GET /", HEAD + b"x-a: ", HEAD, HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-trailer: "]
)
async def test_a_head_without_an_end_is_refused(begin: bytes) -> None:
    """Also one of many headers, and one behind the body."""
    async with served(App(), patience=60) as (reader, writer):
        writer.write(begin)
        piece = (b"x-a: b\r\n" if begin == HEAD else b"a") * 1000
        for _ in range(2 + (MOST_SILENT + 2**20) // len(piece)):
            if writer.transport.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            # it may hang up while there is more to come, as it has every right to
            with suppress(ConnectionError):
                assert (await reader.read()).startswith(b"HTTP/1.1 431")


async def test_a_header_behind_the_body_is_none() -> None:
    async with served(App(), patience=60) as (reader, writer):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-user: mallory\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        assert answer.endswith(b"1 host transfer-encoding"), answer


async def test_an_application_that_does_not_read_takes_its_time() -> None:
    """What has come is not read for many times the client's patience, and the rest may come afterwards."""
    app = App()
    app.reads.clear()
    async with served(app, patience=0.1) as (reader, writer):
        body = b"x" * 1_000_000
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(0.5)
        app.reads.set()
        async with asyncio.timeout(DEADLINE):
            assert (await reader.read()).split(b"\r\n\r\n")[1].startswith(b"1000000 ")


def test_a_head_of_the_real_server(hostile: Hostile) -> None:
    """A hundred megabytes of header are refused before they are kept."""

    def endless() -> Iterator[bytes]:
        for _ in range(1600):
            yield b"a" * 65536

    with hostile.flat_memory(), socket.create_connection(("127.0.0.1", hostile.server.port)) as client:
        client.settimeout(DEADLINE)
        client.sendall(b"GET /ok HTTP/1.1\r\nhost: x\r\nx-a: ")
        try:
            for piece in endless():
                client.sendall(piece)
        except OSError:
            return
    raise AssertionError("all of it was taken")


def test_frames_that_are_too_large_close_the_socket(hostile: Hostile) -> None:
    limit = 20 * 2**20
    url = f"ws://127.0.0.1:{hostile.server.port}/threads/00000000-0000-4000-8000-00000000beef/stream/events"
    with hostile.flat_memory():
        for _ in range(2):
            with connect(url, max_size=None) as client:
                with suppress(ConnectionClosed):
                    client.send("x" * (limit + 1))
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(timeout=DEADLINE)
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    until(lambda: hostile.make("GET", "/ok"), "an answer")
