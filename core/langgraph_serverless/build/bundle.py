"""Puts the two bundles together: ``api`` for the functions that never run a graph, ``worker`` for those that do.

::

    <output>/api, <output>/worker
        langgraph_serverless/             this package
        langgraph_serverless_functions/   the handlers; the name is unique, a user's project may own "functions"
        project/                          the user's project, langgraph.json on top
        libraries/                        its local dependencies from elsewhere
        langgraph_manifest.json           graphs described, for functions without langgraph
        ...                               dependencies, unless left out; those of the project in the worker's only, or in both if it
                                          has code for every function: ``auth``, ``encryption``, ``http.app``
    <output>/build.json                   what was built, for ``deploy`` and for whoever asks later
    <output>/sbom.json                    whose software that is, in which versions and under which licences (CycloneDX)

The same inputs give the same bytes, so that a second deployment uploads nothing. Relies on the project being importable here,
since its graphs are loaded to describe them. Never touches a folder that it has not made.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langgraph_serverless import __version__
from langgraph_serverless.build.bytecode import compile_bundle
from langgraph_serverless.build.installer import install
from langgraph_serverless.build.measuring import BundleSize, check_budget, measure
from langgraph_serverless.build.project_copy import copy_project
from langgraph_serverless.build.pruning import prune
from langgraph_serverless.build.requirements import Requirements, project_requirements
from langgraph_serverless.build.sbom import SBOM_NAME, write_sbom
from langgraph_serverless.build.sources import (
    allowed_requirements,
    handlers_folder,
    package_folder,
    pinned_requirements,
    tracing_requirements,
)
from langgraph_serverless.build.target import BuildTarget
from langgraph_serverless.domain.manifest import Manifest, encode
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project
from langgraph_serverless.execution.project_files import MANIFEST_NAME

BUNDLES = ("api", "worker")
HANDLERS_PACKAGE = "langgraph_serverless_functions"
RECORD_NAME = "build.json"
#: Parts of our package that only commands use.
COMMANDS = frozenset({"build", "cli", "deploy", "planning"})


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What has been built."""

    output: Path
    target: BuildTarget
    graph_ids: tuple[str, ...]
    #: of all of the project, see ``domain/manifest.py``
    manifest_hash: str
    has_env: bool
    compiled: bool
    #: Without them a bundle is for functions beside a virtual environment, as LocalStack's.
    with_dependencies: bool
    #: The project has an application of its own.
    has_app: bool
    sizes: Mapping[str, BundleSize]
    warnings: tuple[str, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(self.output / name for name in self.sizes)

    def to_json(self) -> dict[str, Any]:
        """What ``build.json`` says. No time, no path: a second build of the same writes the same."""
        return {
            "version": __version__,
            "python": self.target.python,
            "architecture": self.target.architecture,
            "graphs": list(self.graph_ids),
            "manifest": self.manifest_hash,
            "compiled": self.compiled,
            "dependencies": self.with_dependencies,
            "app": self.has_app,
            "bundles": {name: size.to_json() for name, size in self.sizes.items()},
        }


def build_bundles(
    config_path: Path,
    output: Path,
    *,
    target: BuildTarget,
    with_dependencies: bool = True,
    for_image: bool = False,
    for_traces: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> BuildReport:
    """Builds both bundles of the project at ``config_path`` into ``output``; ``say`` gets a line per step.

    Args:
        for_traces: with what it takes to send them (``OTEL_EXPORTER_OTLP_ENDPOINT``).
        for_image: the worker's bundle becomes a container image, which may be larger than an archive.
    """
    project = read_project(config_path)
    say(f"Describing the graphs of {project.config_path}")
    manifest = _manifest(project)
    for name in BUNDLES:
        _make_room(output / name)
    for name in (RECORD_NAME, SBOM_NAME):
        (output / name).unlink(missing_ok=True)  # until everything is done there is nothing to deploy
    compiled = True
    with tempfile.TemporaryDirectory(prefix="langgraph-serverless-") as scratch:
        wanted = project_requirements(project, Path(scratch), say) if with_dependencies else None
        for name in BUNDLES:
            say(f"Building {output / name}")
            _fill(output / name, project, manifest, output)
            if wanted is not None:
                # where API functions import nothing of the project, its dependencies would only be weight there
                like = "worker" if manifest.has_code_for_all else name
                theirs = wanted if like == "worker" else Requirements()
                if for_traces:
                    theirs = replace(theirs, wanted=[*theirs.wanted, *tracing_requirements()])
                say(f"Installing the dependencies of {output / name}")
                _install(output / name, theirs, target, Path(scratch) / name, say, like=like)
            compiled = compile_bundle(output / name, target.python) and compiled
            _open_to_all(output / name)
    say("Measuring")
    report = _report(
        project, output, target, manifest, compiled=compiled, with_dependencies=with_dependencies, for_image=for_image
    )
    write_sbom(output, BUNDLES)
    (output / RECORD_NAME).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    return report


def _report(
    project: ProjectConfig,
    output: Path,
    target: BuildTarget,
    manifest: Manifest,
    *,
    compiled: bool,
    with_dependencies: bool,
    for_image: bool,
) -> BuildReport:
    sizes = {name: measure(output / name) for name in BUNDLES}
    archives = {name: size for name, size in sizes.items() if not (for_image and name == "worker")}
    warnings = [check_budget(name, size) for name, size in archives.items()]
    return BuildReport(
        output=output,
        target=target,
        graph_ids=tuple(manifest.graphs),
        manifest_hash=manifest.hash,
        has_env=bool(project.env),
        compiled=compiled,
        with_dependencies=with_dependencies,
        has_app=manifest.http.app is not None,
        sizes=sizes,
        warnings=tuple(warning for warning in warnings if warning),
    )


def _make_room(folder: Path) -> None:
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
        raise ProjectError(f"{folder} exists and is not a bundle; move it away or choose another --output.")
    shutil.rmtree(folder)


def _manifest(project: ProjectConfig) -> Manifest:
    # imported here: they bring langgraph, which nothing but this step needs
    from langgraph_serverless.execution.loader import GraphRegistry  # noqa: PLC0415
    from langgraph_serverless.execution.manifest import build_manifest  # noqa: PLC0415

    project.apply_env(os.environ)
    return asyncio.run(build_manifest(GraphRegistry.load(project), files=True))


def _fill(folder: Path, project: ProjectConfig, manifest: Manifest, output: Path) -> None:
    folder.mkdir(parents=True)
    # written first: it is also what marks the folder as ours if a later step fails
    (folder / MANIFEST_NAME).write_text(encode(manifest), encoding="utf-8")
    shutil.copytree(package_folder(), folder / "langgraph_serverless", ignore=_not_in_functions)
    shutil.copytree(handlers_folder(), folder / HANDLERS_PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    copy_project(project, folder, output)


def _open_to_all(folder: Path) -> None:
    """Functions run as another user, whatever this one's umask is; and modes are part of an archive."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _not_in_functions(folder: str, names: list[str]) -> set[str]:
    left_out = {"__pycache__"} | (COMMANDS if Path(folder) == package_folder() else frozenset())
    return left_out.intersection(names)


def _install(
    folder: Path,
    wanted: Requirements,
    target: BuildTarget,
    scratch: Path,
    say: Callable[[str], None],
    *,
    like: str,
) -> None:
    """What the project wants and what we do, which is that of the bundle ``like``."""
    scratch.mkdir()
    install(
        folder,
        pins=pinned_requirements(like),
        ranges=allowed_requirements(like),
        wanted=wanted.wanted,
        locked=wanted.locked,
        target=target,
        scratch=scratch,
        say=say,
    )
    prune(folder)
