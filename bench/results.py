"""Results as data, and what the documents show of them.

A result file holds every figure of every visit with the machine and the versions; table, picture and page are made from it, now or
later, so that nobody copies a number by hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.picture import groups, svg
from bench.rounds import Report
from bench.table import Row, rows, table
from bench.targets import judged, summary, target_table
from bench.workloads import Figure

#: Where published results are kept, and the page and the picture that show them.
PUBLISHED = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "design" / "benchmarks.md"
PICTURE = ROOT / "docs" / "design" / "benchmarks.svg"
BEGIN, END = "<!-- figures: python -m bench --publish -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Results:
    """What one run of the harness came to."""

    #: UTC.
    at: str
    rounds: int
    scale: float
    machine: Mapping[str, Any]
    versions: Mapping[str, Mapping[str, str]]
    reports: Sequence[Report]

    def rows(self) -> list[Row]:
        return rows(self.reports)

    def shown(self) -> str:
        """Everything that can be read on a terminal."""
        found = self.rows()
        verdicts = judged(found)
        parts = [
            f"median of {_rounds(self.rounds)} (least..most); a ratio above 1 means that ours is better",
            table(found),
        ]
        if verdicts:
            parts += [target_table(verdicts), summary(verdicts)]
        if self.scale != 1:
            parts.append(
                f"At scale {self.scale:g} sums and counts are those of less work; only a whole round can be judged."
            )
        return "\n\n".join(parts)

    def keep(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def _rounds(number: int) -> str:
    return f"{number} round{'s' if number > 1 else ''}"


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def read(path: Path) -> Results:
    """Of a file that ``keep`` has written."""
    content = json.loads(path.read_text())
    reports = [
        Report(
            **{
                **report,
                "figures": {
                    workload: [Figure(**figure) for figure in figures]
                    for workload, figures in report["figures"].items()
                },
            }
        )
        for report in content.pop("reports")
    ]
    return Results(**content, reports=reports)


def publish(results: Results, what: str) -> list[Path]:
    """Write the result file, the picture and the figures on the page; what was written."""
    path = results.keep(PUBLISHED / f"{results.at[:10]}-{what}.json")
    verdicts = judged(results.rows())
    PICTURE.write_text(
        svg(groups(verdicts), f"How many times better ours is ({results.at[:10]}, median of {_rounds(results.rounds)})")
    )
    PAGE.write_text(with_figures(PAGE.read_text(), page_text(results, path)))
    return [path, PICTURE, PAGE]


def page_text(results: Results, path: Path) -> str:
    """What stands between the marks of the page."""
    found = results.rows()
    verdicts = judged(found)
    return "\n\n".join(
        [
            _provenance(results, path),
            f"![how many times better ours is than each peer]({PICTURE.name})",
            summary(verdicts),
            target_table(verdicts),
            _spoiled(results.reports),
            f"<details><summary>All {len(found)} figures</summary>\n\n{table(found)}\n\n</details>",
        ]
    )


def with_figures(page: str, figures: str) -> str:
    """The page with other figures between its marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, began, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (began and ended):
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def _provenance(results: Results, path: Path) -> str:
    machine, versions = results.machine, results.versions
    memory, kernel = machine["memory_gib"], machine["kernel"]
    named = [
        f"{server} ({', '.join(f'{name} {each}' for name, each in versions[server].items() if name in _NAMED)})"
        for server in dict.fromkeys(report.server for report in results.reports)
        if server in versions
    ]
    busy = [report.others for report in results.reports]
    databases = ", ".join(f"{name} {version}" for name, version in versions.get("databases", {}).items())
    return (
        f"Measured on {results.at[:10]}: {machine['processors']} processors ({machine['cpu']}), {memory} GiB, {machine['system']}"
        f" {kernel}; {databases or 'no databases'}; {_rounds(results.rounds)}{'' if results.scale == 1 else f' at scale {results.scale:g}'}."
        f" Others kept {min(busy):.2f} to {max(busy):.2f} processors busy meanwhile. {'; '.join(named)}."
        f" Every figure of every visit, with all versions, is in [{path.name}](../../{path.relative_to(ROOT)})."
    )


#: Packages that the page names; the result file has more.
_NAMED = (
    "python",
    "langgraph",
    "langgraph-api",
    "langgraph-serverless",
    "aegra-api",
    "langhost",
    "langgraph-runtime-pg",
)


def _spoiled(reports: Sequence[Report]) -> str:
    """Why cells are empty."""
    served: dict[str, list[str]] = {}
    for report in reports:
        for workload in report.not_served:
            served.setdefault(report.server, []).append(workload)
    said = [f"* {server} does not serve {', '.join(dict.fromkeys(names))}." for server, names in served.items()]
    failed = dict.fromkeys(
        (report.server, workload, how) for report in reports for workload, how in report.failed.items()
    )
    said += [f"* {server}, {workload}: {how:.300}" for server, workload, how in failed]
    return "\n".join(["Cells without a figure:", "", *said]) if said else "Every server came to every figure."
