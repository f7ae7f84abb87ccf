"""What the README shows, run as a reader would: its Python programs print what is pasted below them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
