"""Runs the SAM CLI, quietly: its output goes to a file, and what matters of it to whoever waits.

Relies on ``sam`` on the PATH and on its own configuration. Never puts a secret on its command line, apart from parameters that the
user has given there, nor into its environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from langgraph_serverless.errors import DeploymentError

#: A line of the SAM CLI's table of events: a resource has come to where it should be.
_DONE = re.compile(r"^(?:CREATE|UPDATE|DELETE)_COMPLETE\b")
REPORT_EVERY_S = 30.0
TAIL = 25
#: Variables with addresses, passwords included, that it has no use for.
SECRETS = ("DATABASE_URI", "REDIS_URI")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went."""

    code: int
    lines: tuple[str, ...]

    @property
    def nothing_to_do(self) -> bool:
        return any("No changes to deploy" in line for line in self.lines)

    @property
    def words(self) -> str:
        """What it said of its failure, or else last."""
        lines = [line for line in self.lines if line.strip()]
        errors = [number for number, line in enumerate(lines) if line.startswith("Error:")]
        return "\n".join(lines[errors[-1] :] if errors else lines[-TAIL:])


def find_sam() -> str:
    """The SAM CLI's path."""
    found = shutil.which("sam")
    if found is None:
        raise DeploymentError(
            "The SAM CLI is not on the PATH. Install it ('pipx install aws-sam-cli', 'uv tool install aws-sam-cli' or"
            " 'brew install aws-sam-cli'; it does not go together with other packages in one environment), and try again."
        )
    return found


def deploy_command(
    sam: str,
    template: Path,
    config_file: Path,
    environment: str,
    *,
    parameters: Sequence[str],
    options: Mapping[str, str | None],
    confirm: bool,
    image_repository: str | None = None,
) -> list[str]:
    """``sam deploy`` with everything said, so that nothing is asked."""
    command = [sam, "deploy", "--template-file", str(template.resolve())]
    command += ["--config-file", str(config_file.resolve()), "--config-env", environment]
    command += ["--confirm-changeset" if confirm else "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    command += ["--no-progressbar", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    for name, value in options.items():
        command += [f"--{name}", value] if value else []
    command += ["--image-repository", image_repository] if image_repository else []
    return [*command, "--parameter-overrides", *parameters] if parameters else command


def run_quietly(command: Sequence[str], folder: Path, log: Path, say: Callable[[str], None]) -> Outcome:
    """Runs it to its end; says now and then how far it is, also while a database is made and nothing else happens."""
    began, over = time.monotonic(), threading.Event()
    lines: list[str] = []

    def report() -> None:
        while not over.wait(REPORT_EVERY_S):
            done = sum(_DONE.match(line) is not None for line in list(lines))
            say(f"      {time.monotonic() - began:.0f} s, {done} resources are ready")

    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            for line in process.stdout:
                file.write(line)
                lines.append(line.rstrip())
            code = process.wait()
        finally:
            over.set()
            reporter.join()
    return Outcome(code=code, lines=tuple(lines))


def run_openly(command: Sequence[str], folder: Path) -> Outcome:
    """Runs it in this terminal, questions included."""
    done = subprocess.run(list(command), cwd=folder, env=_environment(), check=False)
    return Outcome(code=done.returncode, lines=())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def shown(command: Sequence[str], hidden: frozenset[str]) -> str:
    """The command for a reader, without the values of hidden parameters."""
    words = []
    for word in command:
        name, equals, _ = word.partition("=")
        words.append(f"{name}=***" if equals and name in hidden else word)
    return " ".join(f"'{word}'" if re.search(r"[\s\"*]", word) else word for word in words)
