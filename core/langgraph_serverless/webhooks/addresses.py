"""Looks up where a webhook goes, and refuses what a client must not reach through this server.

Asked when a run is created, so that a wrong URL is answered at once, and again by the sender, which connects to the very
addresses that it was given: a name that changes its mind in between gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial

from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.domain.webhooks import AllowedHosts, WebhookTarget, refusal, refused_name
from langgraph_serverless.errors import InvalidInputError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: Longest wait for a name server (seconds).
PATIENCE = 5.0


#: Threads that wait for name servers.
MOST_LOOKUPS = 4


class Resolver:
    """The addresses of a name, as this machine's resolver knows them.

    On threads of its own: the event loop's are for the synchronous nodes of graphs, which may hold all of them for as long as
    they like; and a name server that does not answer must not take theirs.
    """

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="names")


class AddressBook:
    """Where webhooks may go."""

    def __init__(
        self,
        allowed: AllowedHosts,
        *,
        rules: WebhookRules | None = None,
        own_address: str = "",
        resolver: Resolve | None = None,
    ) -> None:
        self._allowed = allowed
        self._rules = rules or WebhookRules()
        self._own_address = own_address
        self._resolve = resolver or Resolver()

    @property
    def sends(self) -> bool:
        """False where webhooks are accepted and never sent."""
        return not self._rules.disabled

    async def check(self, url: str) -> None:
        """Raises: InvalidInputError: if nothing would be sent to this URL by the rules."""
        if self.sends:
            await self.addresses(self.target(url))

    def target(self, url: str) -> WebhookTarget:
        """Raises: InvalidInputError: if the rules or the URL itself forbid it."""
        return self._rules.target(url, self._own_address)

    async def addresses(self, target: WebhookTarget) -> Sequence[str]:
        """Addresses that may be connected to, in the resolver's order; one that may not refuses them all.

        Raises:
            InvalidInputError: the host is refused or has no address.
        """
        if target.own or self._allowed.name(target.host):
            return await self._look_up(target)
        if blocked := refused_name(target.host):
            raise InvalidInputError(blocked)
        found = await self._look_up(target)
        for text in found:
            # a scope, as in fe80::1%eth0, says which wire; the address is what counts
            address = ipaddress.ip_address(text.partition("%")[0])
            if not self._allowed.address(address) and (blocked := refusal(address)):
                raise InvalidInputError(blocked)
        return found

    async def _look_up(self, target: WebhookTarget) -> Sequence[str]:
        if target.address is not None:
            return [target.host]
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise InvalidInputError("Webhook host blocked: DNS resolution failed") from error
        if not found:
            raise InvalidInputError("Webhook host blocked: DNS resolution failed")
        return found
