"""Where the normalised answers to a case differ, and which of these differences are meant.

Nothing is left out: what is equal is equal in status, headers and body. A difference is meant if an entry of
``differences.json`` covers it; an entry without a use is a mistake, and the test and ``make compat`` fail for it.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "<absent>"


@dataclass(frozen=True)
class Difference:
    """One place where two answers differ, as ``resource/case/step/path/to/value``."""

    at: str
    reference: Any
    ours: Any

    @property
    def is_status(self) -> bool:
        """Whether it is the answer's status, at ``resource/case/step/status``."""
        return self.at.endswith("/status") and self.at.count("/") == 3

    def __str__(self) -> str:
        return f"{self.at}\n    reference {_short(self.reference)}\n    ours      {_short(self.ours)}"


def differences(reference: Any, ours: Any, at: str) -> Iterator[Difference]:
    """Where two documents differ, as deep as can be said."""
    if isinstance(reference, dict) and isinstance(ours, dict):
        for key in sorted(reference.keys() | ours.keys()):
            yield from differences(reference.get(key, ABSENT), ours.get(key, ABSENT), f"{at}/{key}")
    elif isinstance(reference, list) and isinstance(ours, list) and len(reference) == len(ours):
        for number, pair in enumerate(zip(reference, ours, strict=True)):
            yield from differences(*pair, f"{at}/{number}")
    elif _is_stream(reference) and _is_stream(ours):
        yield Difference(f"{at}/names", [event[0] for event in reference], [event[0] for event in ours])
    elif reference != ours or isinstance(reference, bool) != isinstance(ours, bool):
        yield Difference(at, reference, ours)


def _is_stream(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value)


class Deliberate:
    """The differences that are meant."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = [(at, entry) for entry in entries for at in places(entry)]
        self._used: set[int] = set()

    def covers(self, difference: Difference) -> bool:
        """Whether it is meant: its place matches, and its values are those that the entry names, if it names any."""
        for number, (at, entry) in enumerate(self._entries):
            if (
                fnmatch.fnmatchcase(difference.at, at)
                and entry.get("reference", difference.reference) == difference.reference
                and entry.get("ours", difference.ours) == difference.ours
                and re.search(entry.get("reference_like", ""), str(difference.reference))
                and re.search(entry.get("ours_like", ""), str(difference.ours))
                and (not difference.is_status or "ours" in entry or difference.ours in _statuses(entry))
            ):
                self._used.add(number)
                return True
        return False

    @property
    def unused(self) -> list[str]:
        return [at for number, (at, _) in enumerate(self._entries) if number not in self._used]


def _statuses(entry: Mapping[str, Any]) -> Sequence[int]:
    """The statuses of ours that an entry means: another one, such as a 500, is never covered by a pattern."""
    status = entry.get("status", ())
    return (status,) if isinstance(status, int) else status


def places(entry: Mapping[str, Any]) -> list[str]:
    """The patterns of an entry, which may be one or several that have the same reason."""
    return [entry["at"]] if isinstance(entry["at"], str) else entry["at"]


@dataclass(frozen=True)
class Verdict:
    """One request of a case, asked of both servers."""

    sent: str
    meant: Sequence[Difference]
    left: Sequence[Difference]
    #: ``resource/case/step``.
    at: str = ""
    #: The stream modes that a run was asked for, and the official server's events, if it answered with a stream.
    modes: Sequence[str] = ()
    events: Sequence[Any] = ()


def judge(case: Mapping[str, Any], reference: Any, ours: Any, deliberate: Deliberate) -> list[Verdict]:
    """A verdict for every step of the case; if a server could not be asked, it is against all of them."""
    name, steps = case["name"], case["steps"]
    whole = isinstance(reference, list) and len(reference) == len(ours) == len(steps)
    verdicts = []
    for number, step in enumerate(steps):
        pair = (reference[number], ours[number]) if whole else (reference, ours)
        found = list(differences(*pair, f"{name}/{number}")) if whole else [Difference(name, *pair)]
        left = [difference for difference in found if not deliberate.covers(difference)]
        meant = [difference for difference in found if difference not in left]
        streamed = pair[0].get("events", ()) if isinstance(pair[0], dict) else ()
        verdicts.append(Verdict(step["send"], meant, left, f"{name}/{number}", _modes(step), streamed))
    return verdicts


def _modes(step: Mapping[str, Any]) -> Sequence[str]:
    body = step.get("json")
    modes = body.get("stream_mode") if isinstance(body, dict) else None
    if isinstance(modes, list):
        return tuple(dict.fromkeys(mode for mode in modes if isinstance(mode, str))) or ("values",)
    return (modes,) if isinstance(modes, str) else ("values",)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 700 else f"{text[:700]}..."
