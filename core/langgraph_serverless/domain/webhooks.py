"""Webhooks: where they may go, when they are tried again, and how they are signed.

A client names the URL, so a deployment would otherwise fetch whatever its network reaches on behalf of anyone. The rules
are about addresses and are asked twice: when the run is created, and about the address that is connected to when it is
sent. Only what an operator lists in ``WEBHOOK_ALLOWED_HOSTS`` is exempt. Tries are spread over about a day; every try of
one delivery carries the same ``webhook-id``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from langgraph_serverless.domain.users import FIELDS
from langgraph_serverless.errors import InvalidInputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Seconds until the next try, after the first, the second, and so on: about 23 hours in all.
RETRY_AFTER = (5.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0, 50400.0)
MOST_TRIES = len(RETRY_AFTER) + 1
#: Each pause is made longer by up to this part of it, so that the receiver's return does not meet everything at once.
JITTER = 0.2
LONGEST_URL = 8192
#: Inward although they are not listed as private: Azure's metadata service, and what IPv6 had before fc00::/7.
INTERNAL = (ipaddress.ip_network("168.63.129.16"), ipaddress.ip_network("fec0::/10"))
#: IPv6 networks whose addresses carry an IPv4 address in their last 32 bits (NAT64).
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
#: What a path and a query may hold as it is; a percent sign counts as the beginning of an escape.
_AS_IT_IS = "/?:@!$&'()*+,;=%~-._"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """A webhook's URL, taken apart."""

    secure: bool
    #: A name in ASCII, or an address in its canonical spelling without brackets.
    host: str
    port: int
    #: Path and query, as the request line has them.
    path: str
    #: Of the URL's user and password.
    authorization: str | None = None
    #: This server itself, wherever it is: the operator has said so.
    own: bool = False

    @property
    def address(self) -> Address | None:
        """The host, if it is an address and not a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """What an operator exempts from the rules: names, addresses and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: Sequence[str]) -> AllowedHosts:
        """Raises: ValueError: naming the entry that is neither."""
        names: set[str] = set()
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                name = entry.lower().rstrip(".")
                if not _HOST.fullmatch(name):
                    raise ValueError(f"{entry!r} is neither a host name nor an address nor a network") from None
                names.add(name)
        return cls(frozenset(names), tuple(networks))

    def name(self, host: str) -> bool:
        return host.rstrip(".") in self.names

    def address(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def parse_url(url: str) -> WebhookTarget:
    """Take a URL apart, and refuse what servers and resolvers read in more than one way.

    Raises:
        InvalidInputError: with the texts of the official server where it has one.
    """
    if len(url) > LONGEST_URL:
        raise InvalidInputError("Webhook URL too long")
    if url.startswith("/"):
        raise InvalidInputError(
            "Loopback webhooks (relative URLs and localhost) are disabled: a webhook is an absolute http(s) URL"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidInputError(f"Invalid webhook URL: {error}") from error
    if not parts.netloc or not host:
        raise InvalidInputError("Invalid webhook hostname ''")
    if parts.scheme not in ("http", "https"):
        raise InvalidInputError(f"Webhook host blocked: scheme '{parts.scheme}' not allowed")
    if _UNPRINTABLE.search(url):
        raise InvalidInputError("Invalid webhook URL: it holds spaces, control characters or backslashes")
    secure = parts.scheme == "https"
    path = parts.path or "/"
    return WebhookTarget(
        secure=secure,
        host=_host(host, bracketed="[" in parts.netloc),
        port=port if port is not None else (443 if secure else 80),
        path=quote(f"{path}?{parts.query}" if parts.query else path, safe=_AS_IT_IS),
        authorization=_basic(parts.username, parts.password),
    )


def _host(host: str, *, bracketed: bool) -> str:
    if bracketed and "%" in host:
        # a scope, as in "fe80::1%eth0", means something on one machine only, and may be any text
        raise InvalidInputError(f"Invalid webhook hostname '[{host}]'")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if bracketed:
            raise InvalidInputError(f"Invalid webhook hostname '[{host}]'") from None
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name.rstrip(".")):
        raise InvalidInputError(f"Invalid webhook hostname '{host}'")
    try:
        # "127.1", "0x7f.1" and "2130706433" are addresses for a resolver, and full-width digits have become such by now
        canonical = socket.inet_ntoa(socket.inet_aton(name.rstrip(".")))
    except OSError:
        return name
    if blocked := refusal(ipaddress.ip_address(canonical)):
        raise InvalidInputError(blocked)
    raise InvalidInputError(f"Webhook host blocked: '{host}' is not how an address is written")


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None and password is None:
        return None
    pair = f"{unquote(user or '')}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def refused_name(host: str) -> str | None:
    """Why a name is not even looked up; None if it may be."""
    name = host.rstrip(".")
    return "Webhook host blocked: localhost address" if name == "localhost" or name.endswith(".localhost") else None


def refusal(address: Address) -> str | None:
    """Why nothing is sent to an address; None if it is a public one."""
    if isinstance(address, ipaddress.IPv4Address) and address.is_loopback:
        return "Webhook host blocked: loopback IP range"
    for each in (address, *_embedded(address)):
        if not each.is_global or each.is_multicast or each.is_reserved or any(each in network for network in INTERNAL):
            return "Webhook host blocked: blocked IP range"
    return None


def _embedded(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in NAT64) or int(address) >> 32 == 0:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in inner if each is not None]


#: Where a run keeps its caller, and the form of it that is more than null.
_USER = "langgraph_auth_user"
_HAS_USER = re.compile(rf'"{_USER}": ?{{')


def for_receivers(body: str) -> str:
    """The body of a webhook as strangers may have it: of the run's user what every user has.

    What else the project's authentication returns is for its graphs, tokens of partners for example.
    """
    if not _HAS_USER.search(body):
        return body
    document = json.loads(body)
    configurable = document
    for key in ("kwargs", "config", "configurable"):
        configurable = configurable.get(key) if isinstance(configurable, dict) else None
    user = configurable.get(_USER) if isinstance(configurable, dict) else None
    if not isinstance(user, dict) or set(user) <= set(FIELDS):
        return body
    configurable[_USER] = {name: user[name] for name in FIELDS if name in user}
    return json.dumps(document, ensure_ascii=False)


def retry_delay(tries: int, chance: float) -> float | None:
    """Seconds until the next try after this many; None if there is none. ``chance`` is between 0 and 1."""
    return None if tries >= MOST_TRIES else RETRY_AFTER[max(0, tries - 1)] * (1 + JITTER * chance)


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str | None:
    """The ``webhook-signature`` header after Standard Webhooks, one signature per secret; None without a secret."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return (
        " ".join(
            f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}" for secret in secrets
        )
        or None
    )


def parse_secret(text: str) -> bytes:
    """A signing secret as Standard Webhooks write it: ``whsec_`` and base64.

    Raises:
        ValueError: it is written otherwise, or shorter than the standard asks for.
    """
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        secret = b""
    if len(secret) < 24:
        raise ValueError("must be whsec_ and the base64 of at least 24 bytes, several separated by commas")
    return secret
