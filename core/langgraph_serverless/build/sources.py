"""Where the parts of a bundle that are ours come from.

Promises the same three things from a checkout and from an installed wheel: the package, the handlers, and the pinned
requirements. Relies on the wheel carrying the last two beside this file (``force-include`` in pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path

import langgraph_serverless

HERE = Path(__file__).resolve().parent


def package_folder() -> Path:
    """The ``langgraph_serverless`` package."""
    return Path(langgraph_serverless.__file__).resolve().parent


def handlers_folder() -> Path:
    """The folder with ``<function>/handler.py`` of every function."""
    return _packaged_or_checkout("functions")


def requirements_file(bundle: str) -> Path:
    """Pinned requirements of a bundle: ``base.txt`` for the API, ``worker.txt`` for what executes graphs."""
    return _packaged_or_checkout("requirements") / {"api": "base.txt", "worker": "worker.txt"}[bundle]


def _packaged_or_checkout(name: str) -> Path:
    packaged = HERE / name
    return packaged if packaged.is_dir() else package_folder().parents[1] / name
