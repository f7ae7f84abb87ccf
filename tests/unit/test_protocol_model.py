"""The quick part of ``make model``: the protocol's model, and a safeguard whose absence it must notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "docs" / "design" / "protocol" / "check.py"


@pytest.mark.skipif(not (shutil.which("spin") and shutil.which("cc")), reason="needs spin and a C compiler")
def test_the_model_keeps_its_promises_and_notices_what_is_taken_away() -> None:
    checked = subprocess.run(
        [sys.executable, str(CHECK), "--quick"], capture_output=True, text=True, timeout=120, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 of 2 as expected" in checked.stdout


def test_without_the_tool_it_says_so(tmp_path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, str(CHECK), "--quick"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(tmp_path)},
    )
    assert checked.returncode == 2
    assert "no spin" in checked.stdout
