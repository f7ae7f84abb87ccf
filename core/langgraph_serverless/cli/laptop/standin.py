"""Answers while there is no server: 503 with the reason, to everybody.

The supervisor keeps the port while the user's project is broken. Without this, clients would hang in the socket's queue
until the project is mended; so they read what is wrong with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

_PATIENCE = 5.0


@contextlib.asynccontextmanager
async def answering(listener: socket.socket, reason: str) -> AsyncIterator[None]:
    """Answer every request on ``listener`` until the block ends. The listener itself stays open."""
    body = json.dumps({"detail": reason}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # whatever a client sends or stops sending is its own affair
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE)
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, sock=listener.dup())
    try:
        yield
    finally:
        server.close()
