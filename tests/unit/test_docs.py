"""The documents say what is true, as far as a machine can tell: links, names, settings, dependencies, pasted code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from langgraph_serverless.persistence.invariants import INVARIANTS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
#: Named, as other folders may hold whole environments.
FOLDERS = ("core", "docs", "examples", "functions", "infra", "tests")
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
    if "node_modules" not in page.parts
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def test_the_pages_are_found() -> None:
    expected = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/design/architecture.md"}
    assert expected <= {name(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(found), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_names_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.])(?:/work|/root|/opt|/tmp/\w|/Users)(?:/\S*|\b)", text)
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b|@@", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_exist(page: Path) -> None:
    makefiles = [
        ROOT / "Makefile",
        *(ROOT / "infra").rglob("*.mk"),
        *(ROOT / "bench").glob("*.mk"),
        *(ROOT / "tests").glob("contract/*/*.mk"),
    ]
    targets = set(re.findall(r"^([a-z-]+):.*##", "\n".join(path.read_text() for path in makefiles), re.MULTILINE))
    # in code: the word is common in prose
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(block for _, block in CODE_BLOCK.findall(text))])
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_tests_exist(page: Path) -> None:
    for path, function in TEST_NAME.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{function}"


@pytest.mark.parametrize("script", ["generate_settings.py", "generate_configuration.py"])
def test_pages_that_are_made_are_current(script: str) -> None:
    """That of langgraph.json's keys cannot be made while one of them has no test."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("language", "file"), [("python", "five_minutes.py"), ("js", "five_minutes.mjs")])
def test_the_readme_shows_the_files_that_are_run(language: str, file: str) -> None:
    shown = [block for kind, block in CODE_BLOCK.findall(README.read_text(encoding="utf-8")) if kind == language]
    assert (ROOT / "docs" / "examples" / file).read_text(encoding="utf-8") in shown


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text(encoding="utf-8")
    for requirements in sorted((ROOT / "requirements").glob("*.in")):
        for line in requirements.read_text(encoding="utf-8").splitlines():
            if (found := re.match(r"[\w-]+", line)) and not line.startswith("-"):
                assert re.search(rf"(?<![\w-]){found[0]}(?![\w-])", page), f"{found[0]} of {requirements.name}"


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    for decision in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md")):
        title = decision.read_text(encoding="utf-8").splitlines()[0].removeprefix(f"# {decision.name[:4]} ")
        assert f"| [{decision.name[:4]}]({decision.name}) | {title} |" in index


def test_every_invariant_is_explained() -> None:
    page = (ROOT / "docs" / "design" / "invariants.md").read_text(encoding="utf-8")
    listed = {number for row in re.findall(r"^\| ([\d, ab]+) \|", page, re.MULTILINE) for number in row.split(", ")}
    assert {invariant.number for invariant in INVARIANTS} == listed - {"14"}


def test_every_attack_has_a_row() -> None:
    """And a rule, a test that exists (``test_named_tests_exist`` looks), and a figure."""
    table = (ROOT / "docs" / "reference" / "security.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if re.match(r"\| S\d", line)]
    assert [row[0] for row in rows] == [f"S{number}" for number in range(1, 21)]
    for number, attack, rule, tests, figure in rows:
        assert attack, number
        assert rule, number
        assert figure, number
        assert TEST_NAME.search(tests), number


def test_every_promise_has_an_id_of_its_own() -> None:
    """They are stable: other pages, issues and tests may name them."""
    page = (ROOT / "docs" / "design" / "invariants.md").read_text(encoding="utf-8")
    ids = [int(number) for number in re.findall(r"^\| P(\d+) \|", page, re.MULTILINE)]
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("page", ["README.md", "docs/guides/operations.md"])
def test_the_number_of_migrations_is_told_as_it_is(page: str) -> None:
    told = re.findall(r"(\d+) migrations (?:are )?applied", (ROOT / page).read_text(encoding="utf-8"))
    files = ROOT.glob("core/langgraph_serverless/persistence/migrations/[0-9]*.sql")
    assert told == [str(len(list(files)))]
