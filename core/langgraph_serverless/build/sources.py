"""Where the parts of a bundle that are ours come from.

Promises the same from a checkout and from an installed wheel: the package, the handlers, the requirements, and what is
deployed with (templates, ``samconfig.toml``, ``Dockerfile``). Relies on the wheel carrying all but the first beside this file
(``force-include`` in pyproject.toml).
"""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

import langgraph_serverless

HERE = Path(__file__).resolve().parent


def package_folder() -> Path:
    """The ``langgraph_serverless`` package."""
    return Path(langgraph_serverless.__file__).resolve().parent


def handlers_folder() -> Path:
    """The folder with ``<function>/handler.py`` of every function."""
    return _packaged_or_checkout("functions")


def pinned_requirements(bundle: str) -> Path:
    """The versions that our tests run with: ``base.txt`` for the API, ``worker.txt`` for what executes graphs."""
    return _packaged_or_checkout("requirements") / {"api": "base.txt", "worker": "worker.txt"}[bundle]


def allowed_requirements(bundle: str) -> list[str]:
    """The versions that we go together with, as our own package declares them."""
    wanted = []
    for requirement in requires("langgraph-serverless") or ():
        specifier, _, marker = requirement.partition(";")
        extra = marker.partition("extra == ")[2].strip("\"' ")
        if not extra or (extra == "worker" and bundle == "worker"):
            wanted.append(specifier.strip())
    return wanted


def tracing_requirements() -> list[str]:
    """What a bundle needs besides to send traces: the extra ``otel`` of our own package."""
    declared = (requirement.partition(";") for requirement in requires("langgraph-serverless") or ())
    return [each.strip() for each, _, marker in declared if marker.partition("extra == ")[2].strip("\"' ") == "otel"]


def deployment_folder() -> Path:
    """The folder with ``template.yaml``, ``samconfig.toml`` and ``infra``."""
    packaged = HERE / "deployment"
    return packaged if packaged.is_dir() else package_folder().parents[1]


def _packaged_or_checkout(name: str) -> Path:
    packaged = HERE / name
    return packaged if packaged.is_dir() else package_folder().parents[1] / name
