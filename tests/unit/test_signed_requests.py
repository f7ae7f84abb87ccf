"""A secret is read by one request that boto3 would have signed alike; whatever is not simple is left to boto3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from langgraph_serverless import signed_requests
from langgraph_serverless.function_secrets import SecretReader
from langgraph_serverless.signed_requests import NotAnsweredError, ask_aws

ENVIRON = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI"}
SECRETS = {"app/db": "postgresql://db/app", "app/redis": "redis://cache"}


class Aws(BaseHTTPRequestHandler):
    """Answers as Secrets Manager and SSM do; ``asked`` has what came."""

    asked: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(({name.lower(): value for name, value in self.headers.items()}, content))
        wanted = json.loads(content)
        name = wanted.get("SecretId") or wanted["Name"]
        value = SECRETS.get(name)
        status = 200 if value else 400
        answer: Any = {"__type": "ResourceNotFoundException"}
        if value:
            answer = {"SecretString": value} if "SecretId" in wanted else {"Parameter": {"Value": value}}
        self.send_response(status)
        text = b"no JSON" if name == "broken" else json.dumps(answer).encode()
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def aws() -> Iterator[tuple[dict[str, str], list[tuple[dict[str, str], bytes]]]]:
    """Variables of a function, and what the service was asked."""
    asked: list[Any] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Service", (Aws,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield {**ENVIRON, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}, asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_the_signature_is_that_of_the_sdk(aws: Any, token: str) -> None:
    environ, asked = aws
    if token:
        environ["AWS_SESSION_TOKEN"] = token
    ask_aws("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": "app/db"}, environ, within=5)
    ((headers, content),) = asked
    names = ("content-type", "x-amz-target", "host")
    request = AWSRequest("POST", environ["AWS_ENDPOINT_URL"] + "/", {name: headers[name] for name in names}, content)
    credentials = Credentials(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], token or None)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(credentials, "secretsmanager", "eu-central-1")
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.headers["X-Amz-Date"] = headers["x-amz-date"]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert headers["authorization"].endswith(f"Signature={signature}")
    assert f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}," in headers["authorization"]
    moment = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60


def test_secrets_and_parameters_are_read_without_the_sdk(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environ, asked = aws
    monkeypatch.setattr(SecretReader, "_fetch_by_boto3", lambda *_, **__: pytest.fail("boto3 was asked"))
    reader = SecretReader({**environ, "DATABASE_URI_SECRET": "app/db", "REDIS_URI_PARAMETER": "app/redis"})
    found, addresses = reader.read_all()
    assert (found["DATABASE_URI"], found["REDIS_URI"]) == ("postgresql://db/app", "redis://cache")
    assert len(asked) == 2, "each of them once"
    addresses["database_uri"].instead_of("postgresql://db/app")
    assert len(asked) == 3, "and again when it was refused"


def test_boto3_is_not_imported_for_it(aws: Any) -> None:
    script = "from langgraph_serverless.function_secrets import SecretReader; import os, sys\n"
    script += "print(SecretReader(os.environ).read_all()[0]['DATABASE_URI'], 'botocore' in sys.modules)"
    environ = {
        **aws[0],
        "DATABASE_URI_SECRET": "app/db",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout == "postgresql://db/app False\n", done.stderr


@pytest.mark.parametrize(
    "changed",
    [
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_REGION": "cn-north-1"},
        {"AWS_REGION": ""},
        {"HTTPS_PROXY": "http://127.0.0.1:1"},
        {"AWS_DEFAULT_REGION": "us-east-1"},
        {"AWS_DEFAULT_PROFILE": "other"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"DATABASE_URI_SECRET": "gone"},
        {"DATABASE_URI_SECRET": "broken"},
    ],
    ids=lambda changed: "-".join(f"{name}={value}" for name, value in changed.items()),
)
def test_whatever_is_not_simple_is_left_to_the_sdk(
    aws: Any, changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Provider:
        def get(self, name: str, **_: object) -> str:
            return f"postgresql://by-boto3/{name.replace('/', '')}"

    monkeypatch.setattr(SecretReader, "_secrets", Provider())
    environ = {**aws[0], "DATABASE_URI_SECRET": "app/db", **changed}
    found, _ = SecretReader(environ).read_all()
    assert found["DATABASE_URI"].startswith("postgresql://by-boto3/")


def test_an_endpoint_below_a_path_is_left_to_the_sdk(aws: Any) -> None:
    environ, asked = aws
    environ["AWS_ENDPOINT_URL"] += "/below"
    with pytest.raises(NotAnsweredError):
        ask_aws("ssm", "AmazonSSM.GetParameter", {"Name": "app/redis"}, environ, within=5)
    assert not asked


def test_an_error_shows_no_credential() -> None:
    with pytest.raises(NotAnsweredError) as raised:
        ask_aws("ssm", "AmazonSSM.GetParameter", {}, ENVIRON | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, within=2)
    assert "XUtn" not in repr(raised.value.__cause__)
    assert signed_requests.__doc__
