"""``sbom.json``: what is in the bundles that others have made, with versions and licences, as CycloneDX 1.6.

Read from the metadata of what is installed there, so it says what is deployed and not what was asked for. One document for all
bundles; each component names those that it is in. The same bundles give the same bytes: no time, and a serial number that is
made of the content. Licences are the packages' own words: an SPDX expression where there is one, else the names they give.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from langgraph_serverless import __version__

SBOM_NAME = "sbom.json"
SPEC_VERSION = "1.6"
_NAMESPACE = uuid.UUID("5a3e9c1e-7c1f-4c0e-9d0b-2f1d6a3b9e77")
_OURS = "langgraph-serverless"
_BUNDLE = "langgraph-serverless:bundle"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENSE = "License :: "
#: Of a licence's name; some packages put all of its text there.
_LONGEST_NAME = 100

Component = dict[str, Any]


def sbom(bundles: Mapping[str, Path]) -> dict[str, Any]:
    """The document for these bundles: name to folder."""
    found: dict[str, Component] = {}
    wanted: dict[str, set[str]] = {}
    for bundle, folder in bundles.items():
        others = [one for one in distributions(path=[str(folder)]) if _normal(one.name) != _OURS]
        installed = sorted(others, key=lambda one: _normal(one.name))
        refs = {_normal(one.name): _purl(one) for one in installed}
        for one in installed:
            component = found.setdefault(_purl(one), _component(one))
            component["properties"].append({"name": _BUNDLE, "value": bundle})
            needs = {refs[name] for name in _required(one) if name in refs}
            wanted.setdefault(_purl(one), set()).update(needs)
    components = [found[ref] for ref in sorted(found)]
    ours: Component = {
        "type": "application",
        "bom-ref": f"pkg:pypi/{_OURS}@{__version__}",
        "name": _OURS,
        "version": __version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": f"pkg:pypi/{_OURS}@{__version__}",
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps([__version__, components, {ref: sorted(wanted[ref]) for ref in wanted}]))
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": ours},
        "components": components,
        "dependencies": [
            {"ref": ours["bom-ref"], "dependsOn": sorted(found)},
            *({"ref": ref, "dependsOn": sorted(wanted[ref])} for ref in sorted(wanted)),
        ],
    }


def write_sbom(output: Path, bundles: Iterable[str]) -> None:
    """Writes the document beside the bundles."""
    document = sbom({name: output / name for name in bundles})
    (output / SBOM_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _component(one: Distribution) -> Component:
    component: Component = {
        "type": "library",
        "bom-ref": _purl(one),
        "name": one.name,
        "version": one.version,
        "purl": _purl(one),
        "properties": [],
    }
    if licenses := _licenses(one):
        component["licenses"] = licenses
    return component


def _licenses(one: Distribution) -> list[dict[str, Any]]:
    metadata = one.metadata
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    classifiers = [word for word in metadata.get_all("Classifier") or () if word.startswith(_LICENSE)]
    names = [word.rpartition(" :: ")[2] for word in classifiers]
    if not names and "License" in metadata and (said := metadata["License"].strip()):
        names = [said.splitlines()[0][:_LONGEST_NAME]]
    return [{"license": {"name": name}} for name in dict.fromkeys(names)]


def _required(one: Distribution) -> list[str]:
    # what an extra asks for is there for another reason, if it is
    return [
        _normal(found[0])
        for line in one.requires or ()
        if "extra ==" not in line and (found := _REQUIREMENT.match(line)) is not None
    ]


def _purl(one: Distribution) -> str:
    return f"pkg:pypi/{_normal(one.name)}@{one.version}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
