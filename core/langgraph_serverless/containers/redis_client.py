"""The client of Redis or Valkey that a process has: one pool of connections, opened at first use.

Where the address can be read again (``addresses``), a connection whose password is refused reads it and tries once more, so that a
password may change while a process lives. Also those that the hub and the bell have outside of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_serverless.addresses import Address


def make_client(address: Address) -> Redis:
    """A client; it gives bytes, and connects when it is first asked something."""
    options: Mapping[str, Any] = {
        "decode_responses": False,
        "socket_connect_timeout": 2.0,
        # For a Redis that hangs instead of refusing: with the retries, requests wait for about ten seconds and are
        # answered, as nothing that counts is in Redis. What blocks on purpose has connections of its own.
        "socket_timeout": 3.0,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=2),
        "health_check_interval": 15,
    }
    pool: Any = ConnectionPool.from_url(address.current, **options)
    if address.changes:
        for name in ("username", "password"):
            pool.connection_kwargs.pop(name, None)
        pool.connection_kwargs["credential_provider"] = _Credentials(address)
        pool.connection_class = _renewing(pool.connection_class, address)
    return Redis.from_pool(pool)


class _Credentials(CredentialProvider):
    """User and password of the newest address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        parts = parse_url(self._address.current)
        user, password = parts.get("username"), parts.get("password")
        if user:
            return user, password or ""
        return (password,) if password else ()  # type: ignore[return-value]  # redis-py then gives none

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()  # the base class has a warning for each connection otherwise


def _renewing(base: type[Any], address: Address) -> type[Any]:
    class Renewing(base):  # type: ignore[misc]
        async def connect_check_health(self, *args: Any, **options: Any) -> None:
            uri = address.current
            try:
                await super().connect_check_health(*args, **options)
            except RedisConnectionError as error:
                # who has no password at all hears of it in other words
                refused = isinstance(error, AuthenticationError) or "NOAUTH" in str(error)
                if not refused or await address.instead_of_soon(uri) is None:
                    raise
                await super().connect_check_health(*args, **options)

    return Renewing
