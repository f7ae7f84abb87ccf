"""What the README shows, run as a reader would: its Python programs print what is pasted below them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from dev_server import DevServer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["five_minutes.py", "streams.py"])
def test_its_python_programs(examples_server: DevServer, file: str) -> None:
    page, program = (ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "docs" / "examples" / file
    assert f"```python\n{program.read_text(encoding='utf-8')}```\n" in page
    command = [sys.executable, program, examples_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```\n" in page, done.stdout


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/mcp", {}, 404),
    ],
)
def test_what_it_says_does_not_work_does_not(
    examples_server: DevServer, method: str, path: str, body: Any, status: int
) -> None:
    """Fails when something is built: the README's table and docs/design/architecture.md then want another look."""
    with httpx.Client(base_url=examples_server.url) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        assert client.request(method, path.format(thread=thread), json=body).status_code == status
