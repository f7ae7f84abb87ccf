"""Runs pip, or uv where there is no pip: wheels of the target's kind, into a folder.

Promises wheels that load on Lambda. Whatever has none is built here, if this machine is of the target's kind; for another
machine nothing can be. Our own requirements are the versions that our tests ran with, as long as the project's allow them; else
whatever fits both. Requirements with hashes are downloaded and checked first, and then installed from those files.

Relies on the installer's own configuration of indexes, and for a Python that is not this one on ``pythonX.Y`` on the PATH or on uv:
with neither, markers are about the wrong version. Prints the installer's words only when it has failed.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from langgraph_serverless.build.bytecode import interpreter
from langgraph_serverless.build.target import GLIBC_MINOR, BuildTarget, host_python
from langgraph_serverless.errors import ProjectError

#: What pip and uv say when versions exclude each other, and when nothing fits the machine. uv has one sentence for both.
CONFLICT = re.compile(r"conflicting dependencies|No solution found")
NO_WHEEL = re.compile(r"No matching distribution found|Could not find a version|No solution found")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to go about it."""

    pinned: bool
    build: bool


def install(
    folder: Path,
    *,
    pins: Path,
    ranges: Sequence[str],
    wanted: Sequence[str],
    locked: Iterable[Path],
    target: BuildTarget,
    scratch: Path,
    say: Callable[[str], None],
) -> None:
    """Installs into ``folder`` what the file ``pins`` has (or ``ranges``, if those do not go with the rest), and ``wanted``.

    Raises:
        ProjectError: when it cannot be done; the installer's own message has been printed.
    """
    installer = _installer(target)
    attempt = Attempt(pinned=True, build=False)
    held = _checked(locked, installer, target, scratch, say)
    while True:
        arguments = [*(["-r", str(pins)] if attempt.pinned else ranges), *held, *wanted]
        failure = _install(installer, folder, arguments, target, build=attempt.build)
        if failure is None:
            return
        if attempt.pinned and CONFLICT.search(failure):
            say(
                "The versions that this server was tested with and the project's requirements exclude each other; choosing anew."
            )
            attempt = Attempt(pinned=False, build=attempt.build)
        elif not attempt.build and target.is_host and NO_WHEEL.search(failure):
            say("Not everything has a wheel for Lambda; building the rest on this machine.")
            attempt = Attempt(pinned=attempt.pinned, build=True)
        else:
            say(failure)
            raise ProjectError(_advice(folder, failure, target))


def build_wheel(source: Path, place: Path) -> Path:
    """Builds the wheel of the package in ``source``."""
    installer = _installer(BuildTarget(python=host_python()))
    if installer[0] != sys.executable:
        command = [installer[0], "build", "--quiet", "--wheel", "--out-dir", str(place), str(source)]
    else:
        command = [*installer, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(place.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise ProjectError(f"{source} cannot be built as a package: {_last_line(done.stderr)}")
    return wheels[0]


def _installer(target: BuildTarget) -> list[str]:
    """pip, under the target's Python, since markers such as ``python_version >= "3.13"`` are about the one that it runs under; or uv."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    has_pip, uv, python = importlib.util.find_spec("pip") is not None, shutil.which("uv"), interpreter(target.python)
    if has_pip and python is not None:
        return pip if python == sys.executable else [*pip, "--python", python]
    if uv is not None:
        return [uv]
    if has_pip:
        return pip
    raise ProjectError("There is neither pip in this environment nor uv on the PATH: run 'python -m ensurepip'.")


def _install(
    installer: list[str], folder: Path, arguments: list[str], target: BuildTarget, *, build: bool
) -> str | None:
    """What the installer said, if it failed."""
    if installer[0] == sys.executable:
        command = [*installer, "install", "--quiet", "--no-compile", "--no-warn-conflicts", "--target", str(folder)]
        command += [] if build else _pip_platform(target)
    else:
        command = [*installer, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
        command += ["--python-version", target.python]
        command += ["--python-platform", f"{target.machine}-manylinux_2_{GLIBC_MINOR}"]
        command += [] if build else ["--only-binary", ":all:"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode != 0 else None


def _pip_platform(target: BuildTarget) -> list[str]:
    platforms = [option for tag in target.wheel_platforms() for option in ("--platform", tag)]
    return [*platforms, "--implementation", "cp", "--python-version", target.python, "--only-binary", ":all:"]


def _checked(
    locked: Iterable[Path], installer: list[str], target: BuildTarget, scratch: Path, say: Callable[[str], None]
) -> list[str]:
    """Arguments that hold the installation to what lock files name, checked against their hashes."""
    files = [option for path in locked for option in ("-r", str(path))]
    if not files or installer[0] != sys.executable:
        return files  # uv checks those hashes that there are
    say("Downloading what is locked, and checking it against its hashes")
    place = scratch / "locked"
    command = [*installer, "download", "--quiet", "--require-hashes", "--no-deps", "--dest", str(place), *files]
    for options in [_pip_platform(target)] if not target.is_host else [_pip_platform(target), []]:
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if done.returncode == 0 or not NO_WHEEL.search(done.stdout + done.stderr):
            break
    if done.returncode != 0:
        say(done.stdout + done.stderr)
        raise ProjectError("What the project has locked could not be downloaded; the installer's message is above.")
    constraints = scratch / "locked.txt"
    lines = sorted(f"{_project_name(file)} @ {file.resolve().as_uri()}" for file in place.iterdir())
    constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # both: as constraints they also hold for what our own requirements ask for
    return ["-c", str(constraints), "-r", str(constraints)]


def _project_name(archive: Path) -> str:
    # a wheel's name has no dash, a source archive's ends at its version
    if archive.suffix == ".whl":
        return archive.name.partition("-")[0]
    return re.sub(r"-\d.*", "", archive.name)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "no reason given."


def _advice(folder: Path, failure: str, target: BuildTarget) -> str:
    sentence = (
        f"The dependencies of the {folder.name} functions could not be installed; the installer's message is above."
    )
    only_versions = "No solution found" in failure and "wheel" not in failure
    if target.is_host or only_versions or not NO_WHEEL.search(failure):
        return sentence
    return (
        f"{sentence} Nothing can be built here for Python {target.python} on {target.architecture}: everything needs a wheel."
        " Choose a version that has one, or another --architecture, or build on a machine of that kind."
    )
