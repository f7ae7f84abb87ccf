"""What the JavaScript clients are held to: ``tests/js``, run by Node's own test runner against the real ``dev`` command.

``make test`` installs the packages when Node is there. Without Node these tests are skipped with the reason, but never in
CI, where they fail. ``LANGGRAPH_SDK`` and ``LANGGRAPH_URL`` tell the files which package to use and whom to ask.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from dev_server import ROOT, DevServer
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

FOLDER = ROOT / "tests" / "js"
#: The line that LangGraph itself depends on, and what npm installs if no version is named.
SDKS = ("@langchain/langgraph-sdk", "langgraph-sdk-latest")
OLDEST_NODE = 20


def trouble_with_node() -> str | None:
    """Why the JavaScript tests cannot run, in a sentence."""
    node = shutil.which("node")
    if node is None:
        return f"The JavaScript tests need Node {OLDEST_NODE} or later, and there is no node on the PATH."
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        return f"The JavaScript tests need Node {OLDEST_NODE} or later, and this one is {version}."
    if not (FOLDER / "node_modules" / ".package-lock.json").exists():
        return "The JavaScript tests need their packages: make setup-js."
    return None


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    if trouble := trouble_with_node():
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{trouble} In CI they are not left out.", pytrace=False)
        pytest.skip(trouble)


def node(*arguments: str | Path, url: str, sdk: str = SDKS[0]) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "NODE"))}
    return subprocess.run(
        ["node", *map(str, arguments)],
        cwd=FOLDER,
        env={**environ, "LANGGRAPH_URL": url, "LANGGRAPH_SDK": sdk},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@pytest.mark.parametrize("sdk", SDKS)
def test_the_javascript_sdk(sample_server: DevServer, sdk: str) -> None:
    files = sorted(FOLDER.glob("*.test.mjs"))
    assert files
    if sdk != SDKS[0]:  # RemoteGraph brings its own
        files = [file for file in files if file.name != "remote_graph.test.mjs"]
    done = node("--test", "--test-concurrency=6", "--test-reporter=spec", *files, url=sample_server.url, sdk=sdk)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    for trouble in ("could not be executed", "A stream failed", "A wait failed", "never retrieved", "request failed"):
        assert trouble not in sample_server.output
