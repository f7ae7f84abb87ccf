"""What the JavaScript clients are held to: ``tests/js``, run by Node's own test runner against the real ``dev`` command.

``LANGGRAPH_URL`` and ``LANGGRAPH_SDK`` tell its files whom to ask, and with which package.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from dev_server import DevServer
from javascript import FOLDER
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

#: The line that LangGraph itself depends on, and what npm installs if no version is named.
SDKS = ("@langchain/langgraph-sdk", "langgraph-sdk-latest")


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("sdk", SDKS)
def test_the_javascript_sdk(sample_server: DevServer, sdk: str) -> None:
    files = sorted(FOLDER.glob("*.test.mjs"))
    assert files
    if sdk != SDKS[0]:  # RemoteGraph brings its own
        files = [file for file in files if file.name != "remote_graph.test.mjs"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "NODE"))}
    done = subprocess.run(
        ["node", "--test", "--test-concurrency=6", "--test-reporter=spec", *files],
        cwd=FOLDER,
        # Node 20 has browsers' WebSocket behind a flag that later versions still know
        env={
            **environ,
            "LANGGRAPH_URL": sample_server.url,
            "LANGGRAPH_SDK": sdk,
            "NODE_OPTIONS": "--experimental-websocket",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 20
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)


@pytest.mark.usefixtures("node")
async def test_nothing_is_left_inconsistent(sample_server: DevServer) -> None:
    """Must stay the last one of this file."""
    await assert_invariants(sample_server.database_uri, worker=True)
    for trouble in ("could not be executed", "A stream failed", "A wait failed", "never retrieved", "request failed"):
        assert trouble not in sample_server.output
