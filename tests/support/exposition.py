"""Prometheus's text format, read strictly: what a scrape would take, and what Prometheus's own linter asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (-?[0-9.eE+-]+|NaN|[+-]Inf)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')

Key = tuple[tuple[str, str], ...]


@dataclass
class Family:
    kind: str
    about: str
    #: Name of the sample and its labels to its value.
    samples: dict[tuple[str, Key], float] = field(default_factory=dict)


def read(text: str) -> dict[str, Family]:
    """Every family by name; fails on anything that is not as the format has it."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    current, about = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, about = line.split(" ", 3)
            assert name not in families, f"{name} comes twice"
            assert about.endswith("."), line
            current = name
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current, line
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total"), name
            families[name] = Family(kind, about)
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            family = families[current]
            ends = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
            assert name in {current + end for end in ends}, line
            pairs = tuple(_LABEL.findall(labels or ""))
            assert ",".join(f'{key}="{text}"' for key, text in pairs) == (labels or ""), line
            assert (name, pairs) not in family.samples, line
            family.samples[name, pairs] = float(value)
    for name, family in families.items():
        if family.kind == "histogram":
            _check_histogram(name, family)
    return families


def _check_histogram(name: str, family: Family) -> None:
    buckets: dict[Key, list[tuple[float, float]]] = {}
    for (sample, pairs), value in family.samples.items():
        if sample.endswith("_bucket"):
            (end,) = [float(text) for key, text in pairs if key == "le"]
            buckets.setdefault(tuple(pair for pair in pairs if pair[0] != "le"), []).append((end, value))
    for labels, found in buckets.items():
        ends, counts = zip(*found, strict=True)
        assert list(ends) == sorted(ends)
        assert ends[-1] == float("inf")
        assert list(counts) == sorted(counts), f"{name} is not cumulative"
        assert family.samples[f"{name}_count", labels] == counts[-1]
        assert family.samples[f"{name}_sum", labels] >= 0
