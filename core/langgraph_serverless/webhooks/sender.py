"""One POST to a receiver, on a connection of its own.

HTTP/1.1 is written by hand on asyncio's streams, for three reasons: the connection goes to an address that has been checked,
while certificate and ``Host`` are those of the name; the time and the size of the whole exchange are bounded; and the
scheduler's bundle has no HTTP client. No redirect is followed, no proxy is used, no cookie is kept. What counts is the status; of the rest of an answer
up to 64 KB are read and thrown away.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langgraph_serverless import __version__, tracing
from langgraph_serverless.domain.webhooks import WebhookTarget, signature
from langgraph_serverless.errors import DeliveryError, InvalidInputError
from langgraph_serverless.webhooks.addresses import AddressBook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: For the whole exchange, from the name to the status (seconds).
PATIENCE = 10.0
#: Most bytes of an answer that are read.
LONGEST_ANSWER = 64 * 1024
#: For the rest of an answer once its status is known (seconds).
COURTESY = 1.0
#: Interim answers before the real one.
MOST_INTERIM = 5
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r)")


class WebhookSender:
    """Sends bodies to URLs; keeps nothing between them but the certificates that it trusts."""

    def __init__(
        self,
        addresses: AddressBook,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Sequence[bytes] = (),
        patience: float = PATIENCE,
    ) -> None:
        self._addresses = addresses
        self._static = headers or {}
        self._secrets = secrets
        self._patience = patience

    async def send(self, url: str, message_id: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Deliver ``body``; returns if the receiver answered with a 2xx. ``headers`` are of this message alone, and have been checked.

        Raises:
            DeliveryError: it did not, or could not be reached, or must not be.
        """
        if not self._addresses.sends:
            raise DeliveryError("webhooks are disabled (http.disable_webhooks)", final=True)
        try:
            target = self._addresses.target(url)
            async with asyncio.timeout(self._patience):
                sent = self._headers(target, message_id, body, headers or {})
                status = await self._exchange(target, sent, body)
        except InvalidInputError as error:
            raise DeliveryError(str(error)) from error
        except TimeoutError as error:
            raise DeliveryError(f"no answer within {self._patience:g} seconds") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise DeliveryError(f"the receiver answered {status}", final=status == 410)

    def _headers(
        self, target: WebhookTarget, message_id: str, body: bytes, own: Mapping[str, str]
    ) -> Mapping[str, str]:
        now = int(time.time())
        headers = {
            "Host": target.authority,
            "User-Agent": f"langgraph-serverless/{__version__}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Accept": "*/*",
            "Connection": "close",
            # Standard Webhooks: the id tells a repeated try from a new message
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
        }
        if (signed := signature(self._secrets, message_id, now, body)) is not None:
            headers["webhook-signature"] = signed
        if (place := tracing.current()) is not None:
            headers |= place.headers
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        headers |= own
        # one of each name: what the operator says replaces what is only a habit of ours
        static = {name.lower() for name in self._static}
        return {name: value for name, value in headers.items() if name.lower() not in static} | dict(self._static)

    async def _exchange(self, target: WebhookTarget, headers: Mapping[str, str], body: bytes) -> int:
        async with self._connected(target) as (reader, writer):
            head = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(head).encode("ascii") + body)
            # an answer may come before all has been sent, and then the rest is of no interest
            sending = asyncio.create_task(writer.drain())
            try:
                return await _status(reader)
            finally:
                sending.cancel()
                await asyncio.wait([sending])
                if not sending.cancelled():
                    sending.exception()

    @asynccontextmanager
    async def _connected(
        self, target: WebhookTarget
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        secure: dict[str, Any] = {"ssl": self._tls, "server_hostname": target.host.rstrip(".")} if target.secure else {}
        failure: OSError = OSError("the host has no address")
        for address in await self._addresses.addresses(target):
            try:
                reader, writer = await asyncio.open_connection(address, target.port, limit=LONGEST_ANSWER, **secure)
            except OSError as error:
                failure = error
                continue
            try:
                yield reader, writer
            finally:
                writer.transport.abort()  # a receiver that says goodbye slowly must not hold us up
            return
        raise failure

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


async def _status(reader: asyncio.StreamReader) -> int:
    for _ in range(MOST_INTERIM):
        head = await reader.readuntil(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise DeliveryError("the receiver does not speak HTTP")
        if (status := int(found[1])) >= 200:
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(COURTESY):
                    await reader.readexactly(LONGEST_ANSWER)
            return status
    raise DeliveryError("the receiver sends interim answers only")
