"""Which values a stack's parameters get, and in whose words the SAM CLI wants them.

In this order, the later one wins: ``samconfig.toml`` for the environment, what the build recorded, ``--parameter`` of the command line.
They are put together here because the SAM CLI takes the file's or the command line's, not both. What none of them names keeps the
value that the stack has (the SAM CLI asks CloudFormation for the previous one), and counts wherever values decide how to deploy.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless.build.target import PYTHONS
from langgraph_serverless.errors import DeploymentError

_DECLARATION = re.compile(r"^  (\w+):\n((?:^    .*\n|^\n)++)", re.MULTILINE)
_SECTION = re.compile(r"^Parameters:\n(.*?)^\S", re.MULTILINE | re.DOTALL)
_NEEDS_QUOTES = re.compile(r"[\s\"'\\,]")
#: With either of them functions have versions, and a deployment needs a name for its own.
VERSIONED = {"SnapStart": "false", "ProvisionedConcurrency": "0"}


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What ``samconfig.toml`` says of one environment."""

    stack_name: str | None
    region: str | None
    profile: str | None
    confirms: bool
    parameters: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The parameters of a template."""

    defaults: Mapping[str, str]
    hidden: frozenset[str]


def read_environment(path: Path, name: str) -> Environment:
    """The section ``[<name>.deploy.parameters]``, over ``[<name>.global.parameters]``."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{path} cannot be read: {error}.") from error
    section = document.get(name)
    if not isinstance(section, dict):
        known = ", ".join(key for key, value in document.items() if isinstance(value, dict))
        raise DeploymentError(f"{path} has no environment '{name}'; it has {known}.")
    values: dict[str, Any] = {
        **section.get("global", {}).get("parameters", {}),
        **section.get("deploy", {}).get("parameters", {}),
    }
    overrides = values.get("parameter_overrides") or []
    return Environment(
        stack_name=values.get("stack_name"),
        region=values.get("region"),
        profile=values.get("profile"),
        confirms=bool(values.get("confirm_changeset", False)),
        parameters=split_parameters(overrides if isinstance(overrides, list) else shlex.split(overrides)),
    )


def read_declared(template: Path) -> Declared:
    """What the template says of its parameters; only what decides how to deploy."""
    section = _SECTION.search(template.read_text(encoding="utf-8"))
    defaults, hidden = {}, set()
    for name, body in _DECLARATION.findall(section.group(1) if section else ""):
        default = re.search(r"^    Default: *\"?(.*?)\"? *$", body, re.MULTILINE)
        defaults[name] = default.group(1) if default else ""
        if re.search(r"^    NoEcho: *true", body, re.MULTILINE):
            hidden.add(name)
    return Declared(defaults=defaults, hidden=frozenset(hidden))


def split_parameters(entries: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` entries as a map."""
    values = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name.isalnum():
            raise DeploymentError(f"The parameter '{entry}' needs the form NAME=VALUE.")
        values[name] = value
    return values


def choose_parameters(
    declared: Declared,
    environment: Environment,
    build: Mapping[str, Any],
    given: Mapping[str, str],
    deployed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The values to be given; ``deployed`` are those that the stack has."""
    for name in [*environment.parameters, *given]:
        if name not in declared.defaults:
            raise DeploymentError(
                f"The template has no parameter '{name}'; it has {', '.join(sorted(declared.defaults))}."
            )
    built = {"Architecture": build["architecture"], "ProjectApp": str(build.get("app", False)).lower()}
    if build["python"] in PYTHONS:  # functions beside an environment of their own may run on any other
        built["PythonVersion"] = build["python"]
    for name, value in built.items():
        if given.get(name, value) != value:
            raise DeploymentError(f"The bundles were built for {name}={value}, not {given[name]}; build them anew.")
    chosen = {**environment.parameters, **built, **given}
    there_will_be = stack_parameters(declared, chosen, deployed or {})
    if any(there_will_be[name] != default for name, default in VERSIONED.items()) and not chosen.get("Release"):
        chosen["Release"] = _release(declared, build, there_will_be)
    return chosen


def stack_parameters(declared: Declared, chosen: Mapping[str, str], deployed: Mapping[str, str]) -> dict[str, str]:
    """Every parameter as the stack will have it. One that is hidden, and stays, counts as its default: nobody can read it."""
    stay = {
        name: value for name, value in deployed.items() if name in declared.defaults and name not in declared.hidden
    }
    return {**declared.defaults, **stay, **chosen}


def _release(declared: Declared, build: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
    """A name that only this code with these parameters has."""
    differing = {
        name: value for name, value in parameters.items() if name != "Release" and value != declared.defaults[name]
    }
    content = [[bundle["sha256"] for bundle in build["bundles"].values()], sorted(differing.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def sam_arguments(parameters: Mapping[str, str]) -> list[str]:
    """As the SAM CLI parses them: values with blanks, commas or quotes in double quotes, inner ones escaped."""
    arguments = []
    for name, value in sorted(parameters.items()):
        if not value or _NEEDS_QUOTES.search(value):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            value = f'"{escaped}"'  # noqa: PLW2901
        arguments.append(f"{name}={value}")
    return arguments
