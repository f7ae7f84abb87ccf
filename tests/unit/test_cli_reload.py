"""Which edits start the server again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from langgraph_serverless.cli.laptop.reload import Edits

DEADLINE = 15


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("app", ".venv/lib", "node_modules/x", ".data/postgres", "app/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "langgraph.json").write_text("{}")
    (tmp_path / "app" / "graph.py").write_text("")
    return tmp_path


@pytest.fixture
async def edits(project: Path) -> AsyncIterator[Edits]:
    complaints: list[str] = []
    watched = Edits([project, project / "app"], project / "langgraph.json", project / "data")
    async with watched.watching(complaints.append):
        # A watch has begun once it sees something: touch until it does, in a root and below it.
        for path in (project / "begin.py", project / "app" / "begin.py"):
            await _seen(watched, path)
        yield watched
    assert complaints == []


async def _seen(watched: Edits, path: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        for attempt in range(1000):
            path.write_text(f"# {attempt}")
            try:
                while path not in await asyncio.wait_for(watched.wait(), 1):
                    pass
            except TimeoutError:
                continue
            break
    # what the touching left behind
    await asyncio.sleep(0)
    watched.forget()


async def test_source_counts(edits: Edits, project: Path) -> None:
    for name in ("app/graph.py", "app/new/module.py", "langgraph.json", ".env", "fresh/module.py"):
        (project / name).parent.mkdir(exist_ok=True)
        await _seen(edits, project / name)


async def test_what_is_no_source_does_not_count(edits: Edits, project: Path) -> None:
    (project / "data").mkdir()
    for name in (
        ".venv/lib/a.py",
        "node_modules/x/a.py",
        ".data/postgres/1.py",
        "data/a.py",
        "app/x.txt",
        "app/langgraph.json",
    ):
        (project / name).write_text("x")
    # an edit that counts comes after them, alone
    last = project / "app" / "last.py"
    last.write_text("")
    async with asyncio.timeout(DEADLINE):
        seen = await edits.wait()
        while last not in seen:
            seen |= await edits.wait()
    assert {path for path in seen if path.name != "begin.py"} == {last}


async def test_a_system_that_allows_no_watch_says_so_once(tmp_path: Path) -> None:
    complaints: list[str] = []
    gone = Edits([tmp_path / "gone"], tmp_path / "gone" / "langgraph.json", tmp_path / "data")
    async with gone.watching(complaints.append), asyncio.timeout(DEADLINE):
        while not complaints:
            await asyncio.sleep(0.01)
    assert complaints[0].startswith("Edits of the project are not seen")
