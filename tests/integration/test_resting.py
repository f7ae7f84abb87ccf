"""A function's process stands still between requests, for as long as nobody asks anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.settings import Settings


class Network:
    """In front of Redis; forgets connections without a word, as NAT does."""

    def __init__(self) -> None:
        self.connections = 0
        self.forgotten = 0

    @asynccontextmanager
    async def to(self, redis_uri: str) -> AsyncIterator[str]:
        target = urlsplit(redis_uri)
        tasks: set[asyncio.Task[None]] = set()

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
            try:
                while data := await source.read(65536):
                    if number > self.forgotten:
                        sink.write(data)
                        await sink.drain()
            finally:
                sink.close()
                await sink.wait_closed()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            there, back = await (
                asyncio.open_unix_connection(target.path)
                if target.scheme == "unix"
                else asyncio.open_connection(target.hostname, target.port)
            )
            for source, sink in ((reader, back), (there, writer)):
                tasks.add(asyncio.create_task(pump(source, sink, self.connections)))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_the_network_has_forgotten_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network()
    async with network.to(settings.redis_uri) as address:
        container = ApiContainer(replace(settings, redis_uri=address))
        redis = container.redis
        assert redis is not None
        await redis.ping()
        await container.rest()
        await container.wake()
        await redis.ping()
        assert network.connections == 1, "after a short rest it is still good"
        await container.rest()
        network.forgotten = network.connections
        later = time.time() + 400
        monkeypatch.setattr(time, "time", lambda: later)
        await container.wake()
        before = time.monotonic()
        await redis.ping()
        assert network.connections == 2
        assert time.monotonic() - before < 2, "it has waited for an answer"
        await container.aclose()
