"""S18: what is installed is named exactly, and comes with a sum where the tool takes one.

Vulnerabilities that are known of it are looked for by ``make audit``, which asks the network and is no part of ``make test``.
"""

from __future__ import annotations

import json
import re

import pytest
from dev_server import ROOT

PINNED = sorted((ROOT / "requirements").glob("*.txt"))
#: ``name[extra]==version ; marker``, and nothing from elsewhere.
PIN = re.compile(r"([A-Za-z0-9._-]+)(\[[a-z0-9,._-]+\])?==[0-9][A-Za-z0-9.!+_-]*( ; .+)?")
WANTED = re.compile(r"([A-Za-z0-9._-]+)(\[[A-Za-z0-9,._-]+\])?([<>=!~]=?[^#]*)?")


def lines(text: str) -> list[str]:
    return [line for each in text.splitlines() if (line := each.split("  #")[0].strip()) and not line.startswith("#")]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("file", PINNED, ids=lambda file: file.name)
def test_every_requirement_is_one_version(file: object) -> None:
    """No ranges, no addresses, no other index, nothing twice unless for other machines."""
    pins = [PIN.fullmatch(line) for line in lines(file.read_text())]  # type: ignore[attr-defined]
    assert all(pins), [line for line, pin in zip(lines(file.read_text()), pins, strict=True) if pin is None]  # type: ignore[attr-defined]
    plain = [normal(pin[1]) for pin in pins if pin is not None and pin[3] is None]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("name", ["base", "worker", "dev", "compat"])
def test_what_is_wanted_is_pinned(name: str) -> None:
    pinned = {
        normal(line.split("==")[0].split("[")[0]) for line in lines((ROOT / f"requirements/{name}.txt").read_text())
    }
    wanted = lines((ROOT / f"requirements/{name}.in").read_text())
    for line in wanted:
        if line.startswith(("-r ", "-c ")):
            assert (ROOT / "requirements" / line.split()[1]).is_file()
            continue
        found = WANTED.fullmatch(line)
        assert found is not None, line
        assert normal(found[1]) in pinned, line


def test_the_functions_run_what_was_tested() -> None:
    """One version of each, in all that is compiled together."""
    versions: dict[str, set[str]] = {}
    for name in ("base", "worker", "dev"):
        for line in lines((ROOT / f"requirements/{name}.txt").read_text()):
            pin, _, marker = line.partition(" ; ")
            package, version = pin.split("==")
            versions.setdefault(f"{normal(package.split('[')[0])} {marker}", set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_packages_of_the_javascript_tests_have_sums() -> None:
    lock = json.loads((ROOT / "tests/js/package-lock.json").read_text())
    wanted = json.loads((ROOT / "tests/js/package.json").read_text())
    assert all(re.fullmatch(r"(npm:.+@)?\d+\.\d+\.\d+", version) for version in wanted["devDependencies"].values())
    packages = {place: package for place, package in lock["packages"].items() if place}
    assert packages
    for place, package in packages.items():
        assert re.match(r"sha(512|1)-", package["integrity"]), place
        assert not package.get("hasInstallScript"), f"{place} runs code when it is installed"
