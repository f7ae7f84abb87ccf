"""The guide to clients, run as a reader would: its programs print what is pasted below them; README's JavaScript too."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dev_server import ROOT, DevServer
from javascript import PACKAGES

pytestmark = pytest.mark.timeout(90)

EXAMPLES = ROOT / "docs" / "examples"
GUIDE = ROOT / "docs" / "guides" / "clients.md"
#: Ids differ from run to run.
ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\b[0-9a-f]{32}\b")
#: Comes where a busy machine took a second, which is when the tests' server sends them.
HEARTBEAT = ": heartbeat\n\n"


def printed(command: list[str | Path], url: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([*command, url], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace(HEARTBEAT, "")


def shows(page: Path, output: str) -> bool:
    return f"```\n{ID.sub('ID', output)}```\n" in ID.sub("ID", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "file", ["python_client.py", "javascript_client.mjs", "remote_graph.py", "thread_stream.py", "curl.sh"]
)
def test_the_guide_shows_the_files_that_are_run(file: str) -> None:
    language = {".py": "python", ".mjs": "js", ".sh": "sh"}[Path(file).suffix]
    assert f"```{language}\n{(EXAMPLES / file).read_text()}```\n" in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["python_client.py", "remote_graph.py", "thread_stream.py"])
def test_python(examples_server: DevServer, file: str) -> None:
    output = printed([sys.executable, EXAMPLES / file], examples_server.url)
    assert shows(GUIDE, output), output


def test_curl(examples_server: DevServer) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on the PATH")
    output = printed(["sh", EXAMPLES / "curl.sh"], examples_server.url)
    assert shows(GUIDE, output), output


@pytest.mark.parametrize(
    ("page", "file"), [("README.md", "five_minutes.mjs"), ("docs/guides/clients.md", "javascript_client.mjs")]
)
@pytest.mark.usefixtures("node")
def test_javascript(examples_server: DevServer, tmp_path: Path, page: str, file: str) -> None:
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    shutil.copy(EXAMPLES / file, tmp_path)
    output = printed(["node", file], examples_server.url, cwd=tmp_path)
    assert shows(ROOT / page, output), output
