"""A transaction pooler with one connection to Postgres, in the test's own event loop: what PgBouncer and RDS Proxy do, and no more.

Whoever sends something gets the connection until Postgres says that no transaction is open, as others wait. Nothing is reset in between, so
whatever a client leaves behind is the next one's. A client that goes away in the midst of a transaction has it rolled back. For clients
that prepare no statements and send no COPY.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

_VERSION = 3 << 16
_ENCRYPTION = {80877103, 80877104}
_CANCEL = 80877102


class TransactionPooler:
    """Counts what it has lent."""

    def __init__(self) -> None:
        self.transactions = 0
        self.clients = 0
        self._turn = asyncio.Lock()
        self._greeting = b""

    async def connect(self, uri: str) -> None:
        place = {name: str(value) for name, value in conninfo_to_dict(uri).items()}
        host, port = place.get("host", "127.0.0.1"), place.get("port", "5432")
        if host.startswith("/"):
            self._server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            self._server = await asyncio.open_connection(host, int(port))
        said = {"user": place.get("user", "postgres"), "database": place["dbname"]}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in said.items()) + b"\0"
        self._server[1].write(struct.pack("!II", len(body) + 8, _VERSION) + body)
        self._greeting, _ = await self._answer()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from its first message to its last."""
        mine = False
        try:
            while True:
                size, code = struct.unpack("!II", await reader.readexactly(8))
                await reader.readexactly(size - 8)
                if code == _CANCEL:
                    return  # what it is about goes on to its end
                if code not in _ENCRYPTION:
                    break
                writer.write(b"N")
            self.clients += 1
            writer.write(self._greeting)
            while True:
                kind = await reader.readexactly(1)
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
                if kind == b"X":
                    return
                if not mine:
                    await self._turn.acquire()
                    mine = True
                self._server[1].write(kind + size + body)
                if kind in b"QS":
                    answer, status = await self._answer()
                    if status == b"I":
                        mine = False
                        self.transactions += 1
                        self._turn.release()
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has gone
        finally:
            if mine:
                # with whatever of it Postgres has got so far
                self._server[1].write(b"S" + struct.pack("!I", 4) + b"Q" + struct.pack("!I", 13) + b"ROLLBACK\0")
                await self._answer()
                await self._answer()
                self._turn.release()
            writer.close()

    async def _answer(self) -> tuple[bytes, bytes]:
        """What Postgres says until it is ready again, and whether a transaction is open then."""
        said = b""
        while True:
            head = await self._server[0].readexactly(5)
            body = await self._server[0].readexactly(struct.unpack("!I", head[1:])[0] - 4)
            said += head + body
            if head[:1] == b"Z":
                return said, body

    def close(self) -> None:
        self._server[1].close()


@asynccontextmanager
async def transaction_pooler(uri: str) -> AsyncIterator[tuple[str, TransactionPooler]]:
    """Its address, for the database of ``uri``, which asks for no password."""
    pooler = TransactionPooler()
    await pooler.connect(uri)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    name = quote(str(conninfo_to_dict(uri)["dbname"]))
    try:
        yield f"postgresql://anybody@{host}:{port}/{name}?sslmode=disable&gssencmode=disable", pooler
    finally:
        server.close()
        pooler.close()
