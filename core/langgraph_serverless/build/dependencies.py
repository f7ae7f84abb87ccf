"""Installs a bundle's dependencies beside its code, for the machine that will run it.

Promises wheels for the target's Python and architecture, also when this machine has others (then everything must have
a wheel: nothing can be compiled for a foreign machine). Relies on pip and its own configuration of indexes.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
WHEEL_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}


def host_python() -> str:
    """The running interpreter's version, as in ``3.13``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def host_architecture() -> str:
    """This machine's architecture in Lambda's words."""
    return MACHINES.get(platform.machine().lower(), "x86_64")


@dataclass(frozen=True, kw_only=True)
class BuildTarget:
    """What the functions will run on."""

    python: str = field(default_factory=host_python)
    architecture: str = field(default_factory=host_architecture)

    @property
    def is_host(self) -> bool:
        """Whether this machine is of the target's kind."""
        return (sys.platform, self.python, self.architecture) == ("linux", host_python(), host_architecture())

    def pip_options(self) -> list[str]:
        """What makes pip choose the target's wheels; nothing if they are this machine's."""
        if self.is_host:
            return []
        machine = WHEEL_MACHINES[self.architecture]
        # Amazon Linux 2023 (Python 3.12 and later) has glibc 2.34, Amazon Linux 2 (3.11) has 2.26
        libraries = ["manylinux_2_17", "manylinux2014"]
        if self.python != "3.11":
            libraries.insert(0, "manylinux_2_28")
        platforms = [option for library in libraries for option in ("--platform", f"{library}_{machine}")]
        return [*platforms, "--implementation", "cp", "--python-version", self.python, "--only-binary", ":all:"]


def project_requirements(project: ProjectConfig) -> list[str]:
    """pip's arguments for what the user's project asks for."""
    arguments = [entry for entry in project.dependencies if not entry.startswith((".", "/"))]
    for folder in project.local_dependencies:
        if (requirements := folder / "requirements.txt").is_file():
            arguments += ["-r", str(requirements)]
        if (pyproject := folder / "pyproject.toml").is_file():
            arguments += _declared(pyproject)
    return arguments


def _declared(pyproject: Path) -> list[str]:
    # the package itself is copied, not installed: its folder is on the path
    try:
        declared = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {}).get("dependencies", [])
    except (OSError, ValueError) as error:
        raise ProjectError(f"{pyproject} cannot be read: {error}.") from error
    return [str(requirement) for requirement in declared]


def install(folder: Path, requirements: Path, extra: list[str], target: BuildTarget) -> None:
    """Installs into ``folder``.

    Raises:
        ProjectError: when pip fails; its own message has been printed.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(folder), *target.pip_options(), "-r", str(requirements), *extra]
    if subprocess.run(command, check=False).returncode != 0:
        raise ProjectError(
            f"pip could not install the dependencies of the {folder.name} functions; its message is above."
        )
