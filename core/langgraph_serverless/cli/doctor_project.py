"""What ``doctor`` says of a project's langgraph.json and of variables: each key, and what it does here.

Reads no file and imports nothing of the project. Shows no value, as one may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langgraph_serverless.execution.config_keys import Effect
from langgraph_serverless.execution.config_table import TABLE
from langgraph_serverless.other_variables import OTHER_VARIABLES
from langgraph_serverless.services.doctor import Finding, Level


def key_findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    """One for all keys that do something, one for each that does not."""
    works: dict[str, str] = {}
    for path, key in TABLE.present(document):
        if key is None:
            near = TABLE.nearest(path)
            do = f"Did you mean '{near}'?" if near else "Remove it, or see docs/reference/configuration.md."
            yield _finding(Level.NOTE, f"langgraph.json: '{path}' is not known and is ignored.", do)
        elif key.effect is Effect.NOTHING:
            if path != "$schema" and "." not in path:
                yield _finding(Level.NOTE, f"langgraph.json: '{path}' has no effect. {_plain(key.does)}")
        elif key.effect is not Effect.REFUSED:
            works[key.path] = _plain(key.does)  # once for all graphs
    says = f"langgraph.json: {len(works)} key{'s are' if len(works) != 1 else ' is'} taken."
    yield Finding(area="project", level=Level.OK, says=says, rows=tuple({path: does} for path, does in works.items()))


def variable_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that are set, and do something on the official server only."""
    for name, why in OTHER_VARIABLES.items():
        if environ.get(name):
            yield Finding(area="settings", level=Level.NOTE, says=f"{name} has no effect: {why}.")


def _finding(level: Level, says: str, do: str = "") -> Finding:
    return Finding(area="project", level=level, says=says, do=do)


def _plain(sentence: str) -> str:
    return sentence.replace("`", "'")
