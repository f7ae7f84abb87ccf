"""Clients of the long-lived server that take nothing any more are cut off, also after the response; slow ones are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from langgraph_serverless.cli.server.slow_clients import patient_for


class App:
    """Sends pieces: without an end, or as many as are asked for."""

    def __init__(self, pieces: int | None) -> None:
        self.pieces, self.sent, self.ended = pieces, 0, asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(self._send(send))
        while not sending.done() and (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        self.ended.set()

    async def _send(self, send: Any) -> None:
        while self.pieces is None or self.sent < self.pieces:
            await send({"type": "http.response.body", "body": b"x" * 30_000, "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def served(app: App, *, patience: float) -> AsyncIterator[tuple[uvicorn.Server, socket.socket]]:
    """The server, and a client with small buffers that has asked."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="error",
        lifespan="off",
        http=patient_for(patience),
        timeout_keep_alive=0,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    loop = asyncio.get_running_loop()
    while not server.started:
        await asyncio.sleep(0.01)
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        await loop.sock_connect(client, server.servers[0].sockets[0].getsockname())
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        yield server, client
    server.should_exit = True
    await serving


async def gone(server: uvicorn.Server) -> None:
    async with asyncio.timeout(20):
        while server.server_state.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pieces", [None, 130])
async def test_who_takes_nothing_is_cut_off(pieces: int | None) -> None:
    """In the midst of a response, and after it: a megabyte is with the kernel, and the rest is with us."""
    app = App(pieces)
    async with served(app, patience=0.3) as (server, _):
        await gone(server)
        async with asyncio.timeout(20):
            await app.ended.wait()


async def test_who_is_slow_is_not() -> None:
    app = App(None)
    async with served(app, patience=0.7) as (server, client):
        loop = asyncio.get_running_loop()
        until = loop.time() + 2.2
        while loop.time() < until:
            # a few kilobytes: nothing that would show in what is left with us
            assert await loop.sock_recv(client, 100_000)
            await asyncio.sleep(0.02)
        assert server.server_state.connections
