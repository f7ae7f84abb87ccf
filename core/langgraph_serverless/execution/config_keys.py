"""Every key of langgraph.json as data: what it may hold and what it does here.

From the one table (``config_table.py``) come the JSON schema that editors use, the warnings about keys that nobody knows with the
nearest known name, what ``doctor`` says of a project, and the reference (``docs/reference/configuration.md``). The readers of the sections
(``*_section.py``) check values by themselves, as they know more than a schema can say; tests hold the two together.

Relies on nothing. Never reads a file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"
#: In a path: any name, chosen by the project.
ANY = "*"


class Effect(StrEnum):
    """What becomes of a key."""

    #: it does what it does on the official server, or what its sentence says
    WORKS = "works"
    #: when something is built of the project; no server looks at it
    BUILDS = "builds"
    #: known, and without effect; the sentence says why
    NOTHING = "nothing"
    #: the project is not served with it
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Key:
    """One key; of a section, also what is said of the section as a whole."""

    #: with dots; ``*`` is a name that the project chooses
    path: str
    #: JSON schema of the value, without that of keys below
    value: Mapping[str, Any]
    effect: Effect
    #: one sentence
    does: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split("."))


class KeyTable:
    """All keys, with what can be asked of them."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        self._exact = {key.parts: key for key in keys}
        self._patterns = [key for key in keys if ANY in key.parts]
        self._above = {key.parts[:depth] for key in keys for depth in range(len(key.parts))}

    def find(self, parts: Sequence[str]) -> Key | None:
        """The key at a place of a document."""
        if (key := self._exact.get(tuple(parts))) is not None:
            return key
        return next((key for key in self._patterns if _fits(key.parts, parts)), None)

    def present(self, document: Mapping[str, Any]) -> Iterator[tuple[str, Key | None]]:
        """Every key that a document has, with its path; None for one that nobody knows, and nothing is said of what is in it."""
        yield from self._present(document, ())

    def nearest(self, path: str) -> str | None:
        """The known key that one may have meant."""
        *above, name = path.split(".")
        siblings = {
            key.parts[-1]: key.path for key in self.keys if list(key.parts[:-1]) == above and key.parts[-1] != ANY
        }
        if near := difflib.get_close_matches(name, siblings, n=1):
            return siblings[near[0]]
        elsewhere = [key.path for key in self.keys if key.parts[-1] == name]
        return elsewhere[0] if elsewhere else None

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the whole file; it allows no key that nobody knows, for an editor to mark."""
        root: dict[str, Any] = {"type": "object", "required": ["graphs"]}
        self._fill(root, ())
        return {"$schema": SCHEMA_ID, "title": "langgraph.json of langgraph-serverless", **root}

    def _present(
        self, value: Any, parts: tuple[str, ...], known: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, Key | None]]:
        # where no keys are known below, the value is the project's own
        if not isinstance(value, Mapping) or known not in self._above:
            return
        for name, item in value.items():
            key = self.find((*known, name))
            yield ".".join((*parts, name)), key
            if key is not None:
                yield from self._present(item, (*parts, name), key.parts)

    def _fill(self, schema: dict[str, Any], parts: tuple[str, ...]) -> None:
        children = [key for key in self.keys if key.parts[:-1] == parts]
        if not children:
            return
        properties: dict[str, Any] = {}
        for key in children:
            child = _copied(key.value)
            child["description"] = (
                key.does if key.effect in (Effect.WORKS, Effect.BUILDS) else f"({key.effect}) {key.does}"
            )
            # one of several forms may be the one with keys
            form = next((each for each in child.get("anyOf", ()) if each.get("type") == "object"), child)
            self._fill(form, key.parts)
            if key.parts[-1] == ANY:
                schema["additionalProperties"] = child
            else:
                properties[key.parts[-1]] = child
        if properties:
            schema["properties"] = properties
            schema.setdefault("additionalProperties", False)


def _fits(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return len(pattern) == len(parts) and all(known in (ANY, part) for known, part in zip(pattern, parts, strict=True))


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value
