"""How the text of one variable becomes a value. Each raises a ``ValueError`` that says what the variable must be, and shows no secret.

``settings.py`` has the variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.http_settings import is_origin
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.domain.webhooks import AllowedHosts, parse_secret, parse_url
from langgraph_serverless.errors import InvalidInputError, ProjectError


def text(value: str) -> str:
    return value.strip()


def path(value: str) -> Path:
    return Path(value).expanduser()


def flag(value: str) -> bool:
    word = value.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("must be true or false")


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if number < minimum or (maximum is not None and number > maximum):
            upper = f" and at most {maximum}" if maximum is not None else ""
            raise ValueError(f"must be at least {minimum}{upper}")
        return number

    return parse


def seconds(minimum: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        number = float(value)
        if not number >= minimum:
            raise ValueError(f"must be at least {minimum:g}")
        return number

    return parse


def choice(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return parse


def postgres_uri(value: str) -> str:
    uri = value.strip()
    if "+" in uri.split("://", 1)[0]:  # the SQLAlchemy spelling, which peers of ours ask for
        scheme, rest = uri.split("://", 1)
        uri = f"{scheme.split('+', 1)[0]}://{rest}"
    if not uri.startswith(("postgres://", "postgresql://")):
        raise ValueError("must start with postgresql://")
    return uri


def redis_uri(value: str) -> str:
    uri = value.strip()
    if uri and not uri.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return uri


def listed(value: str) -> tuple[str, ...]:
    return tuple(entry for part in value.split(",") if (entry := part.strip()))


def origins(value: str) -> tuple[str, ...]:
    origins = listed(value)
    for origin in origins:
        # a browser sends exactly this, so anything else would never match
        if origin != "*" and not is_origin(origin):
            raise ValueError("must be origins like https://chat.example.com, without a path, or *")
    return origins


def prefix(value: str) -> str:
    prefix = value.strip().rstrip("/")
    if prefix and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise ValueError("must be a path that begins with a slash, as /api does")
    return prefix


def hosts(value: str) -> tuple[str, ...]:
    entries = listed(value)
    AllowedHosts.parse(entries)
    return entries


#: Of ``LANGGRAPH_AES_KEY``.
AES_KEY_LENGTHS = (16, 24, 32)


def secrets(value: str) -> tuple[bytes, ...]:
    return tuple(parse_secret(entry) for entry in listed(value))


def parse_aes_key(value: str) -> bytes:
    """The key of ``LANGGRAPH_AES_KEY``; empty: none."""
    key = value.strip().encode()
    if key and len(key) not in AES_KEY_LENGTHS:
        # never the value: it is the key
        raise ValueError(f"must be 16, 24 or 32 bytes long (AES-128, AES-192, AES-256), and has {len(key)}")
    return key


def aes_keys(value: str) -> tuple[bytes, ...]:
    return tuple(parse_aes_key(entry) for entry in listed(value))


def json_object(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        found = None  # the decoder's own text shows the value
    if isinstance(found, dict):
        return found
    raise ValueError("must be a JSON object")


def webhook_rules(value: str) -> WebhookRules:
    try:
        return WebhookRules.of(json_object(value))
    except ProjectError as error:
        raise ValueError(str(error).removesuffix(".")) from error


def variables(value: str) -> dict[str, str]:
    found = json_object(value)
    if not all(isinstance(item, str) for item in found.values()):
        raise ValueError("must be a JSON object of strings")
    return found


#: Of one fairness group.
MOST_RUNS = 1_000_000


def limits(value: str) -> dict[str, int]:
    found = json_object(value)
    # a number that the claim's SQL cannot hold would stop every worker
    if not all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= MOST_RUNS for item in found.values()
    ):
        raise ValueError(f"must be a JSON object of whole numbers from 0 to {MOST_RUNS}")
    return found


def address(value: str) -> str:
    try:
        parse_url(value.strip())
    except InvalidInputError as error:
        raise ValueError(str(error)) from error
    return value.strip()
