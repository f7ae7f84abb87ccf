"""Requests that are carried out once, however often they are sent: the key that a client gives one, and its first answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from langgraph_serverless.errors import InvalidInputError

HEADER = "Idempotency-Key"
#: Marks an answer that was given before.
REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A client's name for one request. It counts per caller and route: ``POST /threads/{thread_id}/runs``."""

    route: str
    key: str
    #: Of the request; another one under the same key is the client's mistake.
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered, as it went out."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check_key(key: str) -> str:
    """Raises: InvalidInputError: unless it is 1 to 255 visible ASCII characters."""
    if not _KEY.fullmatch(key):
        raise InvalidInputError(f"'{HEADER}' must be 1 to 255 visible ASCII characters, without spaces")
    return key


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """What tells two requests apart."""
    # neither a method nor a path can hold a NUL, so no two requests are one text
    return hashlib.sha256(b"\0".join((method.encode(), path.encode("utf-8", "surrogateescape"), body))).digest()
