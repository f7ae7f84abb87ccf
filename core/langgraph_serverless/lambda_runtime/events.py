"""Lambda's HTTP events as ASGI requests, and ASGI's status and headers as Lambda wants them before a streamed body.

API Gateway's REST events and function URLs (payload version 2.0) are what a streaming function can be behind. Mangum
translates; what it does not do is said in comments. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mangum.handlers import APIGateway, HTTPGateway
from mangum.types import LambdaConfig

Scope = dict[str, Any]
Headers = Iterable[tuple[bytes, bytes]]

_CONFIG = LambdaConfig(api_gateway_base_path="/", text_mime_types=[], exclude_headers=[])
#: Of one connection each, and this is not the client's; the length is not known to whoever passes the body on in chunks.
_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


def is_request(event: Any) -> bool:
    """Whether an event is an HTTP request."""
    return isinstance(event, dict) and "requestContext" in event and ("httpMethod" in event or "rawPath" in event)


def to_asgi(event: dict[str, Any], context: Any) -> tuple[Scope, bytes]:
    """The scope and the whole body of a request."""
    translated: Any = (HTTPGateway if "version" in event else APIGateway)(event, context, _CONFIG)
    scope: Scope = dict(translated.scope)
    repeated: Mapping[str, list[str]] = event.get("multiValueHeaders") or {}
    # Mangum joins repeated headers with commas, which takes cookies apart at the wrong places
    headers = [
        (name, value) for name, value in ((bytes(n), bytes(v)) for n, v in scope["headers"]) if name != b"cookie"
    ]
    cookies = [value for name, values in repeated.items() if name.lower() == "cookie" for value in values]
    if not cookies:
        cookies = [bytes(value).decode() for name, value in scope["headers"] if bytes(name) == b"cookie"]
    if cookies:
        headers.append((b"cookie", "; ".join(cookies).encode()))
    return {**scope, "headers": headers}, translated.body


def to_metadata(event: Mapping[str, Any], status: int, headers: Headers) -> dict[str, Any]:
    """What comes before the body. REST APIs take repeated headers as lists, function URLs take cookies apart."""
    values: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in _NOT_PASSED_ON:
            values.setdefault(name, []).append(raw_value.decode("latin-1"))
    metadata: dict[str, Any] = {"statusCode": status}
    if event.get("version") == "2.0":
        if cookies := values.pop("set-cookie", None):
            metadata["cookies"] = cookies
        return {**metadata, "headers": {name: ", ".join(several) for name, several in values.items()}}
    metadata["headers"] = {name: several[0] for name, several in values.items() if len(several) == 1}
    if repeated := {name: several for name, several in values.items() if len(several) > 1}:
        metadata["multiValueHeaders"] = repeated
    return metadata
