"""The list of what bundles are made of: complete, the same again, and after the specification's rules."""

from __future__ import annotations

import json
import re
import sysconfig
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.build.sbom import sbom, write_sbom


def install(folder: Path, name: str, version: str, *lines: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}", *lines]
    (info / "METADATA").write_text("\n".join(metadata) + "\n")


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, Path]:
    api, worker = tmp_path / "api", tmp_path / "worker"
    for folder in (api, worker):
        install(folder, "Some.Thing", "1.0", "License-Expression: MIT OR Apache-2.0", "Requires-Dist: other_one>=2")
        install(folder, "other-one", "2.1", "Classifier: License :: OSI Approved :: BSD License", "License: BSD")
    install(worker, "model", "3", "License: Terms\n        of many lines", 'Requires-Dist: other-one; extra == "x"')
    install(worker, "nothing-said", "0.1")
    return {"api": api, "worker": worker}


def test_what_is_there_is_listed(bundles: dict[str, Path]) -> None:
    document = sbom(bundles)
    assert_valid(document)
    by_name = {component["name"]: component for component in document["components"]}
    assert {name: one["version"] for name, one in by_name.items()} == {
        "Some.Thing": "1.0",
        "other-one": "2.1",
        "model": "3",
        "nothing-said": "0.1",
    }
    assert by_name["Some.Thing"]["purl"] == "pkg:pypi/some-thing@1.0"
    assert by_name["Some.Thing"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert by_name["other-one"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert by_name["model"]["licenses"] == [{"license": {"name": "Terms"}}]
    assert "licenses" not in by_name["nothing-said"]
    assert [one["value"] for one in by_name["Some.Thing"]["properties"]] == ["api", "worker"]
    assert [one["value"] for one in by_name["model"]["properties"]] == ["worker"]
    needs = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert needs["pkg:pypi/some-thing@1.0"] == ["pkg:pypi/other-one@2.1"]
    assert needs["pkg:pypi/model@3"] == []


def test_the_same_bundles_give_the_same_bytes(bundles: dict[str, Path], tmp_path: Path) -> None:
    write_sbom(tmp_path, bundles)
    first = (tmp_path / "sbom.json").read_bytes()
    write_sbom(tmp_path, bundles)
    assert (tmp_path / "sbom.json").read_bytes() == first
    assert str(tmp_path).encode() not in first
    install(bundles["api"], "another", "1")
    write_sbom(tmp_path, bundles)
    assert json.loads(first)["serialNumber"] != json.loads((tmp_path / "sbom.json").read_bytes())["serialNumber"]


def test_a_real_environment() -> None:
    folder = Path(sysconfig.get_paths()["purelib"])
    document = sbom({"worker": folder})
    assert_valid(document)
    names = {one.metadata["Name"] for one in distributions(path=[str(folder)])} - {"langgraph-serverless"}
    assert {component["name"] for component in document["components"]} == names
    assert all("licenses" in one for one in document["components"] if one["name"] in {"langgraph", "orjson", "psycopg"})


def assert_valid(document: dict[str, Any]) -> None:
    """What CycloneDX 1.6's schema asks of the parts that we write."""
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", document["serialNumber"])
    assert set(document) <= {
        *("$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "dependencies")
    }
    for component in [document["metadata"]["component"], *document["components"]]:
        assert component["type"] in {"library", "application"}
        assert component["name"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[^\s]+", component["purl"])
        licenses = component.get("licenses", [{"expression": "MIT"}])
        assert licenses
        # one expression, or any number of licences with an id or a name
        if any("expression" in one for one in licenses):
            assert len(licenses) == 1
        else:
            assert all(set(one["license"]) in ({"id"}, {"name"}) for one in licenses)
    refs = [document["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in document["components"])]
    assert max(Counter(refs).values()) == 1
    dependencies = document["dependencies"]
    assert sorted(entry["ref"] for entry in dependencies) == sorted(refs)
    for entry in dependencies:
        assert set(entry["dependsOn"]) <= set(refs)
        assert len(set(entry["dependsOn"])) == len(entry["dependsOn"])
