"""The tables on disk: ``cases/<resource>.json``, ``recorded/<resource>.json`` and ``differences.json``.

A case is named ``resource/name`` everywhere. Recorded answers have one line per step, so that a change is readable, and
stand in the order of the cases; an answer whose case is gone is dropped when its resource is recorded again.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESOURCES = (
    "assistants",
    "threads",
    "state",
    "runs",
    "streams",
    "modes",
    "protocol",
    "crons",
    "store",
    "system",
    "errors",
)


def load_cases(resources: Collection[str] = RESOURCES, only: str = "*") -> list[dict[str, Any]]:
    """The cases of these resources whose name, with or without the resource, matches ``only``."""
    found = []
    for resource in RESOURCES:
        for case in _read("cases", resource, []) if resource in resources else []:
            name = f"{resource}/{case['name']}"
            if fnmatch.fnmatchcase(case["name"], only) or fnmatch.fnmatchcase(name, only):
                found.append(case | {"name": name})
    return found


def load_recorded(resources: Collection[str] = RESOURCES) -> dict[str, Any]:
    """The recorded answers of the official server by the names of their cases."""
    return {
        f"{resource}/{name}": answers
        for resource in RESOURCES
        if resource in resources
        for name, answers in _read("recorded", resource, {}).items()
    }


def load_differences() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((HERE / "differences.json").read_text())
    return entries


def record(answers: Mapping[str, Any]) -> list[str]:
    """Write these answers and say which of them are new or not what they were."""
    changed = []
    for resource in RESOURCES:
        given = {name.partition("/")[2]: said for name, said in answers.items() if name.startswith(f"{resource}/")}
        if not given:
            continue
        before = _read("recorded", resource, {})
        changed += [f"{resource}/{name}" for name, said in given.items() if before.get(name) != said]
        after = before | given
        names = [case["name"] for case in _read("cases", resource, [])]
        text = ",\n".join(f"{json.dumps(name)}: {_lines(after[name])}" for name in names if name in after)
        (HERE / "recorded" / f"{resource}.json").write_text(f"{{\n{text}\n}}\n")
    return changed


def _read(kind: str, resource: str, otherwise: Any) -> Any:
    path = HERE / kind / f"{resource}.json"
    return json.loads(path.read_text()) if path.exists() else otherwise


def _lines(answers: Sequence[Any]) -> str:
    return (
        "[\n" + ",\n".join(f"  {json.dumps(answer, sort_keys=True, ensure_ascii=False)}" for answer in answers) + "\n]"
    )
