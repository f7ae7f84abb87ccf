"""One streamed answer on its way to the Runtime API: JSON with status and headers, eight NUL bytes, then the body in chunks.

A piece that was handed over is sent whole or not at all, so whoever gives whole events can be stopped between any two of
them. ``break_off`` ends the answer with error trailers, upon which the connection to the client is cut: that is how a client
tells that there is more to come, as an answer that ends in order is complete. That the Runtime API no longer takes the answer
is all that a function may ever learn about its client (``ClientGoneError``).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from langgraph_serverless.lambda_runtime.client import API_PREFIX, describe_error

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
DELIMITER = b"\0" * 8
_ERROR_TYPE, _ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"
#: Servers in Go, as AWS's emulator of the Runtime API is, read 4 KB of trailers and take more of them for an attack.
_LONGEST_ERROR, _LONGEST_MESSAGE = 3000, 300
#: For the answer to what has been sent; Lambda keeps the time of the invocation itself.
_LONGEST_REPLY = 10.0


class ClientGoneError(ConnectionError):
    """Nobody takes this answer any more."""


class StreamedResponse:
    """The answer to one invocation. Used by one task at a time."""

    def __init__(self, address: str, request_id: str) -> None:
        self._address, self._request_id = address, request_id
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        #: It is settled, whichever way. Not before: who hears of it while the end is on its way takes it for the client's leaving.
        self.closed = asyncio.Event()
        self.begun = self.ending = self.complete = self.gone = False

    async def begin(self, metadata: Mapping[str, Any]) -> None:
        """Send status and headers."""
        self.begun = True
        host, _, port = self._address.rpartition(":")
        try:
            reader, self._writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise self._lost() from error
        self._listening = asyncio.create_task(self._listen(reader))
        head = [
            f"POST {API_PREFIX}/invocation/{self._request_id}/response HTTP/1.1",
            f"Host: {self._address}",
            "Connection: close",
            f"Content-Type: {CONTENT_TYPE}",
            "Lambda-Runtime-Function-Response-Mode: streaming",
            "Transfer-Encoding: chunked",
            f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}",
        ]
        first = json.dumps(metadata).encode() + DELIMITER
        await self._send("\r\n".join([*head, "", ""]).encode("latin-1") + _chunk(first))

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body.

        Raises:
            ClientGoneError: nobody takes it.
        """
        if self.ending or self.closed.is_set():
            raise ClientGoneError("The answer has ended")
        if piece:
            await self._send(_chunk(piece))

    async def finish(self) -> None:
        """The answer is complete."""
        self.complete = await self._end(b"")

    async def break_off(self, error: BaseException, *, patience: float = _LONGEST_REPLY) -> None:
        """Nothing more can be sent, and the answer is not complete. Does nothing where nobody takes it any more.

        Args:
            patience: seconds for what is on its way to a client that reads slowly; then the connection is closed on it.
        """
        trailers = f"{_ERROR_TYPE}: {type(error).__name__}\r\n{_ERROR_BODY}: {_in_short(error)}\r\n"
        with contextlib.suppress(ClientGoneError, TimeoutError):
            async with asyncio.timeout(patience):
                await self._end(trailers.encode("latin-1"))

    async def _end(self, trailers: bytes) -> bool:
        if self.ending or self.closed.is_set() or self._listening is None:
            return self.complete
        self.ending = True
        try:
            await self._send(b"0\r\n" + trailers + b"\r\n")
            # an event that is asked for before this one is settled would be the same one
            await asyncio.wait([self._listening], timeout=_LONGEST_REPLY)
        finally:
            self._close()
            self.closed.set()
        return True

    async def _send(self, data: bytes) -> None:
        assert self._writer is not None
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise self._lost() from error

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Wait for the answer, which comes at the end; if it comes earlier, nobody wants the rest."""
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.readline()
        if not answer.startswith(b"HTTP/1.1 2"):
            logger.warning("The Runtime API says to a streamed answer: %r", answer, extra={"action": "stream"})
        if not self.ending:
            self._lost()

    def _lost(self) -> ClientGoneError:
        self.gone = True
        self.closed.set()
        self._close()
        return ClientGoneError("The Runtime API does not take the answer any more")

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


def _in_short(error: BaseException) -> str:
    described = describe_error(error)
    described["errorMessage"] = described["errorMessage"][:_LONGEST_MESSAGE]
    while len(body := base64.b64encode(json.dumps(described).encode())) > _LONGEST_ERROR and described["stackTrace"]:
        del described["stackTrace"][0]
    return body.decode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
