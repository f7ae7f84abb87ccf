"""Node and the packages of ``tests/js``, for tests that run JavaScript. A pytest plugin: ``node`` is the fixture.

``make setup-js`` installs the packages where npm is. Without Node these tests are skipped with the reason, but never in CI,
where they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from dev_server import ROOT

FOLDER = ROOT / "tests" / "js"
PACKAGES = FOLDER / "node_modules"
OLDEST_NODE = 20


def trouble_with_node() -> str | None:
    """Why JavaScript cannot be run, in a sentence."""
    node = shutil.which("node")
    if node is None:
        return f"The JavaScript tests need Node {OLDEST_NODE} or later, and there is no node on the PATH."
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        return f"The JavaScript tests need Node {OLDEST_NODE} or later, and this one is {version}."
    if not (PACKAGES / ".package-lock.json").exists():
        return "The JavaScript tests need their packages: make setup-js."
    return None


@pytest.fixture(scope="session")
def node() -> None:
    """There is a Node that can run the tests."""
    if trouble := trouble_with_node():
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{trouble} In CI they are not left out.", pytrace=False)
        pytest.skip(trouble)
