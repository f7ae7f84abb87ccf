"""What was compared, endpoint by endpoint: the table that ``make compat`` prints and docs/reference/compatibility.md.

An endpoint is a method and the template of a route of our application. Requests with a method that the path does not have,
preflights and paths that nobody has are counted under names of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from case_files import RESOURCES as CASE_FILES
from comparison import Verdict, places

from langgraph_serverless import __version__
from langgraph_serverless.http.app import RESOURCES, ROUTERS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "compatibility.md"
PINS = ROOT / "requirements" / "compat.txt"
COLUMNS = ("requests", "equal", "different on purpose", "different")
STREAMED = ("streams", "in this mode alone", "events", "equal", "different on purpose", "different")
MODES = ("values", "updates", "messages", "messages-tuple", "custom", "tasks", "checkpoints", "debug", "events")
#: Routes that FastAPI adds to the application.
PAGES = (("GET", re.compile("^/docs$"), "/docs"), ("GET", re.compile("^/openapi.json$"), "/openapi.json"))


class Endpoints:
    """Names the endpoint that a request is for."""

    def __init__(self) -> None:
        self._routes = [*PAGES]
        for name in (name for resource in RESOURCES for name in ROUTERS.get(resource, (resource,))):
            for route in import_module(f"langgraph_serverless.http.routers.{name}").router.routes:
                # a WebSocket has no method
                self._routes += [
                    (method, route.path_regex, re.sub(r":\w+}", "}", route.path))
                    for method in getattr(route, "methods", ())
                ]
        # what is spelled out goes before what has parameters
        self._routes.sort(key=lambda route: route[2].count("{"))

    def of(self, sent: str) -> str:
        """``GET /threads/{thread_id}`` for ``GET /threads/{thread}?select=values``."""
        method, _, target = sent.partition(" ")
        path = target.partition("?")[0]
        if method == "OPTIONS":
            return "OPTIONS (preflights)"
        found = [(known, template) for known, pattern, template in self._routes if pattern.match(path)]
        for known, template in found:
            if known == method:
                return f"{method} {template}"
        return "(methods that a path does not have)" if found else "(unknown paths)"


def table(verdicts: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """The counts per endpoint, in the order of paths."""
    endpoints = Endpoints()
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        row = counts.setdefault(endpoints.of(verdict.sent), Counter())
        row["requests"] += 1
        row["different" if verdict.left else "different on purpose" if verdict.meant else "equal"] += 1
    return dict(sorted(counts.items(), key=lambda item: item[0].partition(" ")[::-1]))


def streamed(verdicts: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """The counts per stream mode: the streams of runs that were asked for it, and the events in it of all streams."""
    counts = {mode: Counter[str]() for mode in (*MODES, OTHER)}
    for verdict in verdicts:
        if verdict.sent.endswith("/stream/events"):
            continue  # these have channels, not modes
        for mode in (
            {*verdict.modes, OTHER} & counts.keys() if verdict.events and verdict.sent.startswith("POST ") else ()
        ):
            counts[mode]["streams"] += 1
            counts[mode]["in this mode alone"] += len(verdict.modes) == 1 and mode != OTHER
        for number, (name, _) in enumerate(verdict.events):
            places = (f"{verdict.at}/events/{number}/", f"{verdict.at}/events/names")
            row = counts[_mode(name)]
            row["events"] += 1
            left, meant = (any(each.at.startswith(places) for each in some) for some in (verdict.left, verdict.meant))
            row["different" if left else "different on purpose" if meant else "equal"] += 1
    return counts


#: What is in no mode.
OTHER = "metadata and error"


def _mode(name: str) -> str:
    """The mode of an event: ``messages`` for ``messages/partial|child:...``, ``messages-tuple`` for ``messages``."""
    mode, slash, _ = name.partition("|")[0].partition("/")
    if mode == "messages":
        return mode if slash else "messages-tuple"
    return mode if mode in MODES else OTHER


def total(counts: Mapping[str, Counter[str]]) -> Counter[str]:
    return sum(counts.values(), Counter[str]())


def printed(counts: Mapping[str, Counter[str]]) -> str:
    """The table for a terminal."""
    rows = [*counts.items(), ("total", total(counts))]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'  '.join(COLUMNS)}"]
    for name, row in rows:
        lines.append(f"{name:{width}}  {'  '.join(f'{row[column]:>{len(column)}}' for column in COLUMNS)}")
    return "\n".join(lines)


def page(verdicts: Sequence[Verdict], entries: Sequence[Mapping[str, Any]]) -> str:
    """The text of docs/reference/compatibility.md."""
    counts = table(verdicts)
    all_of_them = total(counts)
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", PINS.read_text(), re.MULTILINE))
    rows = [
        f"| {'total' if name is None else f'`{name}`'} | {' | '.join(str(row[column]) for column in COLUMNS)} |"
        for name, row in [*counts.items(), (None, all_of_them)]
    ]
    modes = [
        f"| {name if name == OTHER else f'`{name}`'} | {' | '.join(str(row[column]) for column in STREAMED)} |"
        for name, row in streamed(verdicts).items()
    ]
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        reasons.setdefault(entry["reason"], []).extend(places(entry))
    listed: dict[str, list[str]] = {"Several": [], **{name.capitalize(): [] for name in CASE_FILES}}
    for reason, ats in reasons.items():
        lines = listed[_heading(ats)]
        lines.append(f"* {reason}\n  {', '.join(f'`{at}`' for at in sorted(ats))}")
    sections = [f"### {heading}\n\n{chr(10).join(lines)}" for heading, lines in listed.items() if lines]
    return f"""# Compatibility with the official server

<!-- Written by `make compat`. -->

The same {all_of_them["requests"]} requests were sent to the official development server (langgraph-api {pins["langgraph-api"]}, langgraph-cli
{pins["langgraph-cli"]}, langgraph {pins["langgraph"]}) and to langgraph-serverless {__version__}, on the same project. Compared are status, headers
(`content-type`, `location`, `content-location`, `x-pagination-*`, `allow`), and the whole body or every event of a stream, after
ids and times were replaced by what they are. **{all_of_them["equal"]} answers are equal, {all_of_them["different on purpose"]} differ on purpose, {all_of_them["different"]} differ otherwise.**

`make compat` asks both servers; `make test` compares with the recorded answers of the official one. The requests are in
`tests/contract/differential/cases`, one file per resource, each group with a sentence that says what it shows.

## Per endpoint

| endpoint | {" | ".join(COLUMNS)} |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

## Per stream mode

Every event of every stream is compared: its name, its data and its place in the order (events of parallel nodes: their number).
A stream in several modes counts in each of them; joins count with their events.

| mode | {" | ".join(STREAMED)} |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(modes)}

## What differs on purpose

Each with the places where it is seen, as patterns for `resource/case/step/path` (`differences.json` there).

{f"{chr(10)}{chr(10)}".join(sections)}
"""


def _heading(ats: Sequence[str]) -> str:
    """The resource, of which all places are, or ``Several``."""
    names = {at.partition("/")[0] for at in ats}
    return next(iter(names)).capitalize() if len(names) == 1 and names <= set(CASE_FILES) else "Several"
