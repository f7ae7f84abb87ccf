"""The user's own application on Lambda: every API function has it, so its routes win and its middleware is around all of them there too.

One process plays functions of a bundle, one event after the other, as the managed runtime calls them; the application's own function is
under the runtime that streams.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE, ROOT
from streaming_function import Sandbox, answer_of, rest_event

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "custom_app"
PLAY = """
import importlib, json, os, sys, types

context = types.SimpleNamespace(
    function_name="x", memory_limit_in_mb=1, invoked_function_arn="arn:aws:lambda:x:1:function:x", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 60_000,
)
handlers = {}
for name, event in json.loads(sys.argv[1]):
    if name not in handlers:
        handlers[name] = importlib.import_module(f"langgraph_serverless_functions.{name}.handler").handler
    answer = handlers[name](event, context)
    headers = {key.lower(): value for key, value in answer["headers"].items()}
    print(json.dumps([answer["statusCode"], headers.get("x-marked"), answer["body"]]), flush=True)
print(json.dumps(["langgraph" in sys.modules]), flush=True)
os._exit(0)  # as a sandbox ends
"""
#: The function, the path, the status, what the middleware has said and what is answered.
REQUESTS: list[tuple[str, str, int, str | None, Any]] = [
    ("system", "/nowhere", 404, "42", {"detail": "Not Found"}),
    ("system", "/hello", 200, "42", None),
    ("system", "/info", 200, "42", {"mine": True}),
    ("system", "/orders/0", 418, "42", {"order": "failed"}),
    ("system", "/orders/500", 500, None, "Internal Server Error"),
    ("threads", "/threads/mine", 200, "42", "one of mine"),
    ("threads", "/threads/nobody", 422, "42", {"detail": "Invalid thread ID: must be a UUID"}),
    ("threads", "/api/threads/mine", 200, "42", "one of mine"),
    ("system", "/ask", 200, "42", None),
    ("system", "/openapi.json", 200, "42", None),
]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    config = tmp_path / "project" / "langgraph.json"
    section = json.loads(config.read_text())
    section["http"]["mount_prefix"] = "/api"
    config.write_text(json.dumps(section))
    command = [sys.executable, "-c", "from langgraph_serverless.cli.main import main; main()", "manifest"]
    options = ["--config", "project/langgraph.json", "--output", "langgraph_manifest.json"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    return tmp_path


@pytest.fixture
def environ(bundle: Path, databases: Any, redis_uri: str) -> Iterator[dict[str, str]]:
    uri = databases.create()
    yield {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{bundle}:{ROOT / 'core'}",
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"app-{bundle.name}",
        "LANGGRAPH_CONFIG": str(bundle / "project" / "langgraph.json"),
        "LANGGRAPH_MANIFEST": str(bundle / "langgraph_manifest.json"),
    }
    databases.drop(uri)


def test_every_function_has_the_application(environ: dict[str, str]) -> None:
    events = [(name, rest_event(path)) for name, path, *_ in REQUESTS]
    done = subprocess.run(
        [sys.executable, "-c", PLAY, json.dumps(events)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-3000:]
    *answers, _ = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    bodies = {}
    for (name, path, status, marked, expected), (found, header, body) in zip(REQUESTS, answers, strict=True):
        assert (found, header) == (status, marked), (name, path, body)
        bodies[path] = json.loads(body) if body.startswith(("{", "[", '"')) else body
        assert expected is None or bodies[path] == expected
    # started once, before the first request, with a client of this process; the others got what it has left
    assert bodies["/hello"]["state"] == 7
    assert bodies["/ask"]["values"] == {"said": "hello"}
    assert bodies["/ask"]["happened"][0].startswith("started with ")
    assert {"/orders/{number}", "/ok"} <= set(bodies["/openapi.json"]["paths"])


def test_its_own_function_streams(bundle: Path, environ: dict[str, str]) -> None:
    sandbox = Sandbox("langgraph_serverless_functions.app.handler.handler", bundle, environ, bundle / "output")
    try:
        sandbox.started()
        metadata, body = answer_of(sandbox.invoke(rest_event("/hello")))
        assert (metadata["statusCode"], metadata["headers"]["x-marked"]) == (200, "42"), body
        assert json.loads(body)["state"] == 7
        _, body = answer_of(sandbox.invoke(rest_event("/ask")))
        assert json.loads(body)["values"] == {"said": "hello"}
        # half a minute before its end
        pieces = sandbox.invoke(rest_event("/slowly")).chunks()
        found = b""
        while b"first" not in found:
            found += next(pieces)
        assert b"last" not in found
    finally:
        sandbox.process.kill()
        sandbox.close()
