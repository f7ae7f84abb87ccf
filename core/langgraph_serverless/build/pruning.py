"""Takes out of installed dependencies what no function needs, and whatever differs between two installations of the same.

Out go command-line scripts, byte code that installers wrote, folders named ``tests``, type stubs, and notes of the installer (which
hold this machine's paths). ``METADATA``, entry points, licences and ``RECORD`` stay, the latter without what is gone, so that
``importlib.metadata`` answers as before. A package whose own code imports from its ``tests`` keeps them (astropy does), and one
that reads its stubs at run time (``lazy_loader.attach_stub``) keeps those. Never touches the user's project or our package.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

#: Parts of a bundle that pip has not made.
OURS = ("langgraph_serverless", "langgraph_serverless_functions", "project", "libraries")
TESTS = "tests"
INSTALLER_NOTES = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
_IMPORTS_TESTS = re.compile(rb"^[ \t]*(?:from|import)\b[^#\n]*\btests\b", re.MULTILINE)
_READS_STUBS = b"attach_stub"


def prune(bundle: Path) -> None:
    """Takes out what is not needed; repeating it changes nothing."""
    shutil.rmtree(bundle / "bin", ignore_errors=True)
    for entry in sorted(bundle.iterdir()):
        if entry.name in OURS or not entry.is_dir():
            continue
        if entry.name.endswith("-stubs"):
            shutil.rmtree(entry)
        elif entry.suffix == ".dist-info":
            for name in INSTALLER_NOTES:
                (entry / name).unlink(missing_ok=True)
        else:
            _prune_package(entry)
    for record in sorted(bundle.glob("*.dist-info/RECORD")):
        _rewrite(record, bundle)


def _prune_package(package: Path) -> None:
    for cache in list(package.rglob("__pycache__")):
        shutil.rmtree(cache)
    tests = [path for path in package.rglob(TESTS) if path.is_dir()]
    stubs = list(package.rglob("*.pyi"))
    keeps_tests = keeps_stubs = False
    if tests or stubs:
        for source in package.rglob("*.py"):
            if TESTS in source.relative_to(package).parts:
                continue
            text = source.read_bytes()
            keeps_tests = keeps_tests or _IMPORTS_TESTS.search(text) is not None
            keeps_stubs = keeps_stubs or _READS_STUBS in text
    if not keeps_tests:
        for folder in tests:
            shutil.rmtree(folder, ignore_errors=True)  # one may lie in another
    if not keeps_stubs:
        for stub in stubs:
            stub.unlink(missing_ok=True)


def _rewrite(record: Path, bundle: Path) -> None:
    """Without what is gone, and without hashes: those of scripts hold this machine's paths."""
    rows = csv.reader(record.read_text(encoding="utf-8").splitlines())
    kept = sorted(row[0] for row in rows if row and _is_in(bundle, row[0]))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((name, "", "") for name in kept)
    record.write_text(text.getvalue(), encoding="utf-8")


def _is_in(bundle: Path, name: str) -> bool:
    return not name.startswith(("..", "/")) and (bundle / name).is_file()
