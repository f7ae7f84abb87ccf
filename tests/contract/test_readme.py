"""What the README shows, run as a reader would: its Python program prints what is pasted below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from dev_server import DevServer

ROOT = Path(__file__).parents[2]


def test_five_minutes_with_the_python_sdk(examples_server: DevServer) -> None:
    command = [sys.executable, ROOT / "docs" / "examples" / "five_minutes.py", examples_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```\n" in (ROOT / "README.md").read_text(encoding="utf-8"), done.stdout


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/mcp", {}, 404),
        ("POST", "/a2a/minimal", {}, 404),
    ],
)
def test_what_it_says_does_not_work_does_not(
    examples_server: DevServer, method: str, path: str, body: Any, status: int
) -> None:
    """Fails when something is built: the README's table and docs/design/architecture.md then want another look."""
    with httpx.Client(base_url=examples_server.url) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        assert client.request(method, path.format(thread=thread), json=body).status_code == status
