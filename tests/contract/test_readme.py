"""What the README shows, run as a reader would: its Python program prints what is pasted below it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dev_server import DevServer

ROOT = Path(__file__).parents[2]


def test_five_minutes_with_the_python_sdk(examples_server: DevServer) -> None:
    command = [sys.executable, ROOT / "docs" / "examples" / "five_minutes.py", examples_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```\n" in (ROOT / "README.md").read_text(encoding="utf-8"), done.stdout
