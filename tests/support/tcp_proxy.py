"""A TCP proxy that breaks connections where a test says so: after a number of bytes, or at a word on its way.

Runs on the event loop of the test. ``rule`` is asked about each piece of data; what it lets through arrives, and then both
sides of that connection are cut. Postgres behind it must be asked with ``sslmode=disable``, or no word can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

#: Given what came, whether the client sent it, and the number of the connection: how many bytes of it arrive before the cut;
#: None for no cut.
Rule = Callable[[bytes, bool, int], int | None]


def untouched(_data: bytes, _from_client: bool, _connection: int) -> int | None:
    return None


class TcpProxy:
    """Forwards to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.rule: Rule = untouched
        #: Cleared: nothing passes and nothing is closed, as when packets are dropped.
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.cuts = 0
        #: Connections over which nothing passes for so long (seconds) are cut, as load balancers do it.
        self.idle: float | None = None
        #: How many were.
        self.idle_cuts = 0
        self._passed: dict[int, float] = {}
        self._connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncIterator[Self]:
        """``host`` may be the folder of a Unix socket, as libpq has it."""
        proxy = cls(host, port)
        server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.flowing.set()
            for writer in proxy._writers:
                writer.transport.abort()
            if proxy._tasks:
                await asyncio.wait(proxy._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target
        try:
            if host.startswith("/"):
                there = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                there = await asyncio.open_connection(host, port)
        except OSError:  # nobody is there: nor are we
            writer.transport.abort()
            return
        self._connections += 1
        number, pair = self._connections, (writer, there[1])
        self._writers.update(pair)
        for source, sink, from_client in ((reader, there[1], True), (there[0], writer, False)):
            self._keep(self._forward(source, sink, pair, number, from_client=from_client))
        if self.idle is not None:
            self._keep(self._watch(number, pair, self.idle))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, number: int, pair: tuple[asyncio.StreamWriter, ...], idle: float) -> None:
        loop = asyncio.get_running_loop()
        self._passed[number] = loop.time()
        while not any(writer.is_closing() for writer in pair):
            if loop.time() - self._passed[number] > idle:
                self.idle_cuts += 1
                for writer in pair:
                    writer.transport.abort()
            await asyncio.sleep(idle / 20)

    async def _forward(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        number: int,
        *,
        from_client: bool,
    ) -> None:
        try:
            while data := await source.read(65536):
                await self.flowing.wait()
                arrives = self.rule(data, from_client, number)
                sink.write(data[:arrives])
                await sink.drain()
                self._passed[number] = asyncio.get_running_loop().time()
                if arrives is not None:
                    self.cuts += 1
                    break
        except OSError:
            pass  # the other direction has been cut: so is this one
        finally:
            for writer in pair:
                # what was let through arrives first
                writer.close()
                self._writers.discard(writer)
