"""One signed request to AWS, without boto3, whose import and clients cost each cold start 0.2 s of CPU.

For functions that read a secret before anything else. Knows what Lambda gives a function: credentials and region in its variables, the public
endpoints or one that ``AWS_ENDPOINT_URL`` names, TLS with the system's authorities. Whatever is otherwise (other credentials, as under SnapStart;
proxies, FIPS, other partitions), or goes wrong, is ``NotAnsweredError``: whoever asks then asks boto3, which knows all of it, tries again, and says what the
matter is. Never shows a credential or an answer in an error.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

#: Variables that change where or how boto3 asks, in any of their values.
_SPECIAL = (
    "HTTPS_PROXY",
    "https_proxy",
    "AWS_CA_BUNDLE",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
#: Regions of other partitions, whose endpoints have another domain.
_ELSEWHERE = ("cn-", "us-iso", "eu-isoe", "eusc-")
_SIGNED = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"


class NotAnsweredError(Exception):
    """Nothing that can be used has come back."""


def ask_aws(
    service: str, target: str, body: Mapping[str, Any], environ: Mapping[str, str], *, within: float
) -> dict[str, Any]:
    """The answer of a service that speaks JSON 1.1.

    Args:
        service: as it is signed for, which is also the first part of its host's name.
        target: the operation, as ``secretsmanager.GetSecretValue``.
        within: seconds for each step of it.

    Raises:
        NotAnsweredError: there is none, for whatever reason.
    """
    region, asked = (environ.get(name) or "" for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    if region and asked and region != asked:
        raise NotAnsweredError  # boto3 goes by the second, and another region may have a secret of the same name
    region = region or asked
    if not region or region.startswith(_ELSEWHERE) or any(environ.get(name) for name in _SPECIAL):
        raise NotAnsweredError
    own = "SECRETS_MANAGER" if service == "secretsmanager" else service.upper()
    endpoint = environ.get(f"AWS_ENDPOINT_URL_{own}") or environ.get("AWS_ENDPOINT_URL")
    address = urlsplit(endpoint or f"https://{service}.{region}.amazonaws.com")
    if address.path.strip("/") or address.query or "@" in address.netloc:
        raise NotAnsweredError
    content = json.dumps(body).encode()
    headers = {"content-type": "application/x-amz-json-1.1", "host": address.netloc, "x-amz-target": target}
    signed = _signed(headers, content, environ, f"{region}/{service}/aws4_request", datetime.now(UTC))
    kind = HTTPConnection if address.scheme == "http" else HTTPSConnection
    connection = kind(address.netloc, timeout=within)
    try:
        connection.request("POST", "/", content, signed)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        raise NotAnsweredError from error
    finally:
        connection.close()
    if answer.status != 200 or not isinstance(found, dict):
        raise NotAnsweredError
    return found


def _signed(
    headers: Mapping[str, str], content: bytes, environ: Mapping[str, str], scope: str, now: datetime
) -> dict[str, str]:
    """The headers with AWS's signature of version 4.

    Raises:
        NotAnsweredError: the environment has no credentials.
    """
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise NotAnsweredError
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    found = {**headers, "x-amz-date": moment}
    if token := environ.get("AWS_SESSION_TOKEN"):
        found["x-amz-security-token"] = token
    names = ";".join(name for name in _SIGNED.split(";") if name in found)
    lines = "".join(f"{name}:{found[name]}\n" for name in names.split(";"))
    request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(content).hexdigest()}"
    scope = f"{moment[:8]}/{scope}"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing = _hmac(signing, part)
    signature = _hmac(signing, to_sign).hex()
    found["authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return found


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
