"""A Dockerfile for the user's project: one image, whose processes are told by their command what they are.

Two stages on one base: the first installs into a virtual environment and compiles, the second has that, the project, and no
installer's leftovers. What ``langgraph.json`` says about images is used where it makes sense here: ``python_version``,
``base_image``, ``image_distro``, ``dockerfile_lines``, ``pip_config_file``. Nothing of a dotenv file gets in: an empty file stands
in its place, and containers get their variables when they start.

Only writes text, and reads the project as its files are: what the image is built of is decided by Docker.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless import __version__
from langgraph_serverless.build.requirements import names_folders
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.project_files import EXCLUDED

PYTHONS = ("3.11", "3.12", "3.13")
#: Suffixes of the official image ``python``, by the names of ``image_distro``.
DISTROS = {"debian": "slim", "bookworm": "slim-bookworm"}
#: Images that contain the official server, which is not ours to add to.
FOREIGN_BASES = ("langchain/langgraph-api", "langchain/langgraph-server", "langchain/langgraphjs-api")
PACKAGE = f"langgraph-serverless[server]=={__version__}"
PORT = 8000
_APP, _PROJECT, _VENV = "/app", "/app/project", "/app/venv"
#: In the first stage only.
_PACKAGE = "/package"


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """What is to be written."""

    #: The folder that ``docker build`` is given.
    context: Path
    text: str
    #: What is not to be sent from the context: the file beside it that BuildKit looks for.
    ignore: str
    #: What whoever asked for it has to know.
    notes: tuple[str, ...]


def dockerfile_of(project: ProjectConfig, *, package: str = PACKAGE, base_image: str | None = None) -> Dockerfile:
    """The Dockerfile of a project.

    Args:
        package: how this package is installed: a requirement, or a path (wheel or folder) in the context.
        base_image: an image with Python, instead of what the project says.

    Raises:
        ProjectError: one sentence.
    """
    raw: Mapping[str, Any] = json.loads(project.config_path.read_text(encoding="utf-8-sig"))
    notes: list[str] = []
    folders = [project.root, *project.local_dependencies]
    own = Path(package.partition("[")[0])
    if own.exists():
        folders.append(own.resolve() if own.is_dir() else own.resolve().parent)
    context = Path(os.path.commonpath(folders))
    place = project.root.relative_to(context)
    config = project.config_path.relative_to(context)
    dotenv = _dotenv(raw, project, context)
    pip_config = _pip_config(raw, project, context)
    if isinstance(raw.get("env"), dict) and raw["env"]:
        notes.append(f"The variables of 'env' are part of the image: {', '.join(sorted(raw['env']))}.")
    base = base_image or _base_image(raw, project, notes)
    lines = [
        f"# Written by 'langgraph-serverless dockerfile'; write it again when {config} or what a pyproject.toml requires changes.",
        "#",
        "#   docker build -f Dockerfile -t my-agent CONTEXT",
        "#   docker run my-agent serve --host 0.0.0.0      # the API; also: worker --port 8000, migrate",
        "#",
        f"# The context, seen from the folder of {config.name}, is {os.path.relpath(context, project.root)}",
        f"ARG BASE_IMAGE={base}",
        "FROM ${BASE_IMAGE} AS base",
        *_custom_lines(raw, project),
        "",
        "FROM base AS build",
        "ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore",
        f"RUN python -m venv {_VENV}",
        f"WORKDIR {_PROJECT}",
        *_install(project, context, package, own if own.exists() else None, pip_config),
        "# a file that is not Python of this version says so when it is imported",
        f"RUN {_VENV}/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash {_VENV}/lib {_PROJECT} || true",
        *([f"# variables come with the container\nRUN : > {shlex.quote(f'{_PROJECT}/{dotenv}')}"] if dotenv else []),
        "# files keep the modes that they have where the image is built, which may be the owner's only",
        f"RUN chmod -R a+rX {_PROJECT}",
        "",
        "FROM base",
        f"ENV PATH={_VENV}/bin:$PATH HOME=/tmp USER=agent PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \\",
        f"    LANGGRAPH_CONFIG={_PROJECT}/{config.as_posix()}",
        f"COPY --from=build {_APP} {_APP}",
        f"WORKDIR {_PROJECT if place == Path() else f'{_PROJECT}/{place.as_posix()}'}",
        "# nobody in particular; nothing in the image is theirs to write, so the root file system may be read-only",
        "USER 10001:10001",
        f"EXPOSE {PORT}",
        "# for both roles, if a worker is given --port 8000",
        "HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD "
        + json.dumps(
            [
                "python",
                "-c",
                "import os, urllib.request as r;"
                f" r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '{PORT}') + '/ok', timeout=4)",
            ]
        ),
        'ENTRYPOINT ["langgraph-serverless"]',
        'CMD ["serve", "--host", "0.0.0.0"]',
    ]
    return Dockerfile(
        context=context, text="\n".join(lines) + "\n", ignore=_ignore(dotenv, pip_config), notes=tuple(notes)
    )


def _base_image(raw: Mapping[str, Any], project: ProjectConfig, notes: list[str]) -> str:
    given = raw.get("base_image")
    if given and not str(given).startswith(FOREIGN_BASES):
        return str(given)
    if given:
        notes.append(f"'base_image' is passed over: {given} holds the official server.")
    python = str(raw.get("python_version") or f"{sys.version_info.major}.{sys.version_info.minor}")
    if python not in PYTHONS:
        raise ProjectError(f"{project.config_path}: 'python_version' must be one of {', '.join(PYTHONS)}.")
    distro = str(raw.get("image_distro") or "debian")
    if distro not in DISTROS:
        raise ProjectError(
            f"{project.config_path}: 'image_distro' is one of {', '.join(DISTROS)} here; for '{distro}' name an image"
            " with Python as 'base_image'."
        )
    return f"python:{python}-{DISTROS[distro]}"


def _custom_lines(raw: Mapping[str, Any], project: ProjectConfig) -> list[str]:
    lines = raw.get("dockerfile_lines") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ProjectError(f"{project.config_path}: 'dockerfile_lines' must be a list of strings.")
    return list(lines)


def _install(
    project: ProjectConfig, context: Path, package: str, own: Path | None, pip_config: str | None
) -> list[str]:
    mount = f"--mount=type=bind,source={pip_config},target=/etc/pip.conf " if pip_config else ""
    pip = f"RUN {mount}{_VENV}/bin/pip install"
    lines: list[str] = []
    wanted = [entry for entry in project.dependencies if not entry.startswith((".", "/"))]
    files: list[str] = []
    packages: list[str] = []
    afterwards: list[str] = []
    for folder in project.local_dependencies:
        place = folder.relative_to(context).as_posix()
        requirements = folder / "requirements.txt"
        if requirements.is_file() and names_folders(requirements):  # which are in the context, and seen from its own
            afterwards += [f"cd {shlex.quote(place)} && {_VENV}/bin/pip install -r requirements.txt"]
        elif requirements.is_file():
            path = requirements.relative_to(context).as_posix()
            lines.append(f"COPY {json.dumps([path, path])}")
            if "--hash=" in requirements.read_text(encoding="utf-8"):  # pip wants hashes for everything or for nothing
                lines.append(f"{pip} --require-hashes -r {shlex.quote(path)}")
            else:
                files += ["-r", path]
        pyproject = _read(folder / "pyproject.toml")
        if "build-system" in pyproject or (folder / "setup.py").is_file():
            packages.append(f"./{place}" if place != "." else ".")
        else:  # importable from its folder; what it declares is all there is to install
            wanted += [str(entry) for entry in pyproject.get("project", {}).get("dependencies", [])]
    ours = package
    if own is not None:
        path = own.resolve().relative_to(context).as_posix()
        target = f"{_PACKAGE}/{own.name}" if own.is_file() else _PACKAGE
        ours = f"{target}[server]"
        lines.append(f"COPY {json.dumps([path, target if own.is_file() else f'{target}/'])}")
    lines.append(f"{pip} {shlex.join([ours, *wanted, *files])}")
    lines.append("COPY . .")
    if packages:
        lines.append(f"{pip} {shlex.join(packages)}")
    return [*lines, *(f"RUN {mount}{command}" for command in afterwards)]


def _read(pyproject: Path) -> dict[str, Any]:
    if not pyproject.is_file():
        return {}
    try:
        return tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{pyproject} cannot be read: {error}.") from error


def _dotenv(raw: Mapping[str, Any], project: ProjectConfig, context: Path) -> str | None:
    value = raw.get("env")
    if not isinstance(value, str) or not value:
        return None
    return (project.root / value).resolve().relative_to(context).as_posix()


def _pip_config(raw: Mapping[str, Any], project: ProjectConfig, context: Path) -> str | None:
    value = raw.get("pip_config_file")
    if not value:
        return None
    path = (project.root / str(value)).resolve()
    if not path.is_file() or not path.is_relative_to(context):
        raise ProjectError(f"{project.config_path}: 'pip_config_file' {value} is no file in {context}.")
    return path.relative_to(context).as_posix()


def _ignore(dotenv: str | None, pip_config: str | None) -> str:
    """Like the bundles for Lambda: no tool's state, no secret, no environment of another machine."""
    patterns: Sequence[str] = [f"**/{pattern}" for pattern in EXCLUDED]
    lines = [
        "# Written by 'langgraph-serverless dockerfile'.",
        *patterns,
        *([dotenv] if dotenv else []),
        *([f"!{pip_config}"] if pip_config else []),
    ]
    return "\n".join(lines) + "\n"
